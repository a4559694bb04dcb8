//! `[citrix]`, or a `[[customer]]` block: one customer, its login, and its API gateway.

use http::{HeaderValue, Uri};
use uuid::Uuid;

use super::{Report, file, secret, url};
use crate::config::value::{Checked, Leaf};
use crate::config::{Credential, InstanceId, SecretSource, UpstreamEndpoint, UpstreamUrl};
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};

/// What `authorization` may be.
pub(super) const SCHEMES: [(&str, AuthorizationScheme); 2] = [
    ("cws", AuthorizationScheme::Cws),
    ("bearer", AuthorizationScheme::Bearer),
];

const DIALECTS: [(&str, TokenDialect); 2] = [
    ("oauth2", TokenDialect::Oauth2),
    ("trust", TokenDialect::Trust),
];

/// Where a customer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[citrix]`: there are short variables for it, and a secret of the service manager is its own.
    Table,
    /// A `[[customer]]` block: no variables, and a secret of the service manager has the customer's id in its name.
    Block,
}

impl Form {
    /// An example, with the variable that may be used instead.
    fn example(self, value: &str, variable: &str) -> String {
        match self {
            Self::Table => format!("{value} (or {variable})"),
            Self::Block => value.to_owned(),
        }
    }

    /// The name of a secret in `$CREDENTIALS_DIRECTORY`, if it can be told.
    fn credential(self, key: &str, customer_id: Option<&HeaderValue>) -> Option<String> {
        match self {
            Self::Table => Some(key.to_owned()),
            Self::Block => Some(format!("{key}.{}", customer_id?.to_str().ok()?)),
        }
    }
}

/// What the keys of one customer mean; `None` when a part of it is missing or wrong.
pub(super) fn check(
    citrix: &file::Citrix,
    form: Form,
    report: &mut Report<'_>,
) -> Option<Credential> {
    let cloud = report
        .choice(&citrix.cloud, &Cloud::ALL)
        .unwrap_or(Cloud::Commercial);
    let api = check_api(citrix, cloud, report);
    let customer_id = check_customer_id(&citrix.customer_id, form, report);
    let client_id = check_client_id(&citrix.client_id, form, report);
    let (client_secret, client_secret_next) =
        check_secrets(citrix, form, customer_id.as_ref(), report);
    let instance_id = check_instance_id(&citrix.instance_id, report);
    let token_dialect = report
        .choice(&citrix.token_dialect, &DIALECTS)
        .unwrap_or(cloud.token_dialect());
    let token_url = check_token_url(citrix, report).or_else(|| {
        let origin = format!("{}://{}", api.url.scheme, api.url.authority);
        let customer = customer_id.as_ref()?.to_str().ok()?;
        default_token_url(
            &citrix.customer_id,
            &cloud.token_url(&origin, customer, token_dialect),
            report,
        )
    });
    Some(Credential {
        customer_id: customer_id?,
        cloud,
        api,
        client_id: client_id?,
        client_secret: client_secret?,
        client_secret_next,
        instance_id,
        token_url: token_url?,
        token_dialect,
    })
}

fn check_api(citrix: &file::Citrix, cloud: Cloud, report: &mut Report<'_>) -> UpstreamEndpoint {
    let example = format!("{:?}", cloud.api_url());
    let written = report.read(&citrix.api_url, &example, |leaf| {
        url::upstream(leaf.text()?)
    });
    let authorization = report
        .choice(&citrix.authorization, &SCHEMES)
        .unwrap_or(AuthorizationScheme::Cws);
    UpstreamEndpoint {
        url: written.unwrap_or_else(|| preset(cloud)),
        authorization,
    }
}

/// The gateway of a cloud. A table of ours that is not a URL would be a bug, which a test looks for.
pub(super) fn preset(cloud: Cloud) -> UpstreamUrl {
    url::upstream(cloud.api_url()).unwrap_or_else(|_| UpstreamUrl {
        scheme: http::uri::Scheme::HTTPS,
        authority: http::uri::Authority::from_static("api.cloud.com"),
        base_path: String::new(),
    })
}

fn check_customer_id(leaf: &Leaf, form: Form, report: &mut Report<'_>) -> Option<HeaderValue> {
    let example = form.example("\"acme\"", "CITRIX_CUSTOMER_ID=acme");
    if leaf.value.is_none() {
        let what = "missing: the customer id that Citrix Cloud shows for its API clients";
        report.missing(leaf, what, &example);
    }
    report.read(leaf, &example, customer_id)
}

fn customer_id(leaf: &Leaf) -> Checked<HeaderValue> {
    let text = leaf.text()?;
    // It becomes a header and a segment of the token URL's path.
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '%');
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.chars().all(fits) || matches!(text, "." | "..") {
        let rule = "only visible ASCII characters other than / ? # % may be in it";
        return Err(format!("{} is not a customer id: {rule}", leaf.shown()));
    }
    HeaderValue::from_str(text).map_err(|_| format!("{} cannot be sent in a header", leaf.shown()))
}

fn check_client_id(leaf: &Leaf, form: Form, report: &mut Report<'_>) -> Option<String> {
    let example = form.example("\"6e4f0b2a-…\"", "CITRIX_CLIENT_ID=6e4f0b2a-…");
    if leaf.value.is_none() {
        report.missing(
            leaf,
            "missing: the id of an API client of Citrix Cloud",
            &example,
        );
    }
    let text = |leaf: &Leaf| {
        // Not repeated: id and secret are easily mixed up.
        let text = leaf
            .text()
            .map_err(|_| "must be a string in quotes".to_owned())?;
        let printable = !text.is_empty() && !text.chars().any(char::is_control);
        printable
            .then(|| text.to_owned())
            .ok_or_else(|| "is empty or has a control character in it".to_owned())
    };
    report.read(leaf, &example, text)
}

fn check_secrets(
    citrix: &file::Citrix,
    form: Form,
    customer_id: Option<&HeaderValue>,
    report: &mut Report<'_>,
) -> (Option<SecretSource>, Option<SecretSource>) {
    let mut check = |leaf: &Leaf, key: &str| {
        let credential = form.credential(key, customer_id);
        secret::check_secret(leaf, credential.as_deref(), secret::EXAMPLE, report)
    };
    let now = check(&citrix.client_secret, "client_secret");
    let next = check(&citrix.client_secret_next, "client_secret_next");
    if now.is_none() && citrix.client_secret.value.is_none() {
        let example = form.example(secret::EXAMPLE, "CITRIX_CLIENT_SECRET=…");
        report.missing(
            &citrix.client_secret,
            "missing: the API client's secret",
            &example,
        );
    }
    (now, next)
}

fn check_instance_id(leaf: &Leaf, report: &mut Report<'_>) -> InstanceId {
    let parse = |leaf: &Leaf| match leaf.text()? {
        "auto" => Ok(InstanceId::Auto),
        "" => Ok(InstanceId::None),
        text => guid(text).map(InstanceId::Fixed).ok_or_else(|| {
            format!(
                "{} is neither \"auto\", nor empty, nor a GUID",
                leaf.shown()
            )
        }),
    };
    report
        .read(leaf, "\"auto\"", parse)
        .unwrap_or(InstanceId::Auto)
}

fn guid(text: &str) -> Option<HeaderValue> {
    const LENGTH: usize = 36; // with hyphens; the parser knows forms that Citrix does not
    (text.len() == LENGTH && Uuid::try_parse(text).is_ok())
        .then(|| HeaderValue::from_str(text).ok())?
}

fn check_token_url(citrix: &file::Citrix, report: &mut Report<'_>) -> Option<Uri> {
    const EXAMPLE: &str = "\"https://api.cloud.com/cctrustoauth2/acme/tokens/clients\"";
    report.read(&citrix.token_url, EXAMPLE, |leaf| {
        url::checked(leaf.text()?)
    })
}

/// The default, which a strange customer id can make unfit.
fn default_token_url(customer_id: &Leaf, written: &str, report: &mut Report<'_>) -> Option<Uri> {
    let wrong = |_| format!("{} does not fit into a URL", customer_id.shown());
    url::checked(written)
        .map_err(|what| report.wrong(customer_id, wrong(what), "\"acme\""))
        .ok()
}
