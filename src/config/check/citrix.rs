//! The keys of one customer: `[citrix]` or a `[[customer]]` block.

use http::{HeaderValue, Uri};
use uuid::Uuid;

use super::{Report, secret, url};
use crate::config::raw::RawCitrix;
use crate::config::value::{Checked, Leaf};
use crate::config::{Credential, InstanceId, SecretSource, UpstreamEndpoint, UpstreamUrl};
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};

/// The values of `authorization`.
pub(super) const SCHEMES: [(&str, AuthorizationScheme); 2] = [
    ("cws", AuthorizationScheme::Cws),
    ("bearer", AuthorizationScheme::Bearer),
];

const DIALECTS: [(&str, TokenDialect); 2] = [
    ("oauth2", TokenDialect::Oauth2),
    ("trust", TokenDialect::Trust),
];

/// The table that configures a customer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CustomerTable {
    /// `[citrix]`, with short variables.
    Citrix,
    /// A `[[customer]]` block, without variables.
    Block,
}

impl CustomerTable {
    /// Appends the variable that could be set instead.
    fn example(self, value: &str, variable: &str) -> String {
        match self {
            Self::Citrix => format!("{value} (or {variable})"),
            Self::Block => value.to_owned(),
        }
    }

    /// Returns the name of a secret in `$CREDENTIALS_DIRECTORY`: that of a block ends in the
    /// customer id.
    fn credential_name(self, key: &str, customer_id: Option<&HeaderValue>) -> Option<String> {
        match self {
            Self::Citrix => Some(key.to_owned()),
            Self::Block => Some(format!("{key}.{}", customer_id?.to_str().ok()?)),
        }
    }
}

/// Returns `None` if a required key is missing or invalid.
pub(super) fn check_citrix(
    citrix: &RawCitrix,
    table: CustomerTable,
    report: &mut Report<'_>,
) -> Option<Credential> {
    let cloud = report
        .choice(&citrix.cloud, &Cloud::ALL)
        .unwrap_or(Cloud::Commercial);
    let api = check_api(citrix, cloud, report);
    let customer_id = check_customer_id(&citrix.customer_id, table, report);
    let client_id = check_client_id(&citrix.client_id, table, report);
    let (client_secret, client_secret_next) =
        check_secrets(citrix, table, customer_id.as_ref(), report);
    let instance_id = check_instance_id(&citrix.instance_id, report);
    let token_dialect = report
        .choice(&citrix.token_dialect, &DIALECTS)
        .unwrap_or(cloud.token_dialect());
    let token_url = check_token_url(citrix, report).or_else(|| {
        let origin = format!("{}://{}", api.url.scheme, api.url.authority);
        let customer = customer_id.as_ref()?.to_str().ok()?;
        let url = cloud.token_url(&origin, customer, token_dialect);
        default_token_url(&citrix.customer_id, &url, report)
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

fn check_api(citrix: &RawCitrix, cloud: Cloud, report: &mut Report<'_>) -> UpstreamEndpoint {
    let example = format!("{:?}", cloud.api_url());
    let configured = report.read(&citrix.api_url, &example, |leaf| {
        url::upstream(leaf.text()?)
    });
    let authorization = report
        .choice(&citrix.authorization, &SCHEMES)
        .unwrap_or(AuthorizationScheme::Cws);
    UpstreamEndpoint {
        url: configured.unwrap_or_else(|| api_gateway(cloud)),
        authorization,
    }
}

/// Returns the API gateway of a cloud. A test checks that every URL of the table is valid.
#[expect(clippy::expect_used, reason = "a test checks the table")]
pub(super) fn api_gateway(cloud: Cloud) -> UpstreamUrl {
    url::upstream(cloud.api_url()).expect("the table has valid URLs")
}

fn check_customer_id(
    leaf: &Leaf,
    table: CustomerTable,
    report: &mut Report<'_>,
) -> Option<HeaderValue> {
    let example = table.example("\"acme\"", "CITRIX_CUSTOMER_ID=acme");
    report.require(leaf, "the customer id in Citrix Cloud", &example);
    report.read(leaf, &example, customer_id)
}

/// Parses a customer id, which becomes a header field and a segment of the token URL.
fn customer_id(leaf: &Leaf) -> Checked<HeaderValue> {
    let text = leaf.text()?;
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '%');
    if !text.chars().all(allowed) || matches!(text, "." | "..") {
        return Err(format!(
            "invalid customer id {}: use visible ASCII without / ? # %",
            leaf.shown()
        ));
    }
    HeaderValue::from_str(text).map_err(|_| format!("invalid customer id {}", leaf.shown()))
}

fn check_client_id(leaf: &Leaf, table: CustomerTable, report: &mut Report<'_>) -> Option<String> {
    let example = table.example("\"6e4f0b2a-…\"", "CITRIX_CLIENT_ID=6e4f0b2a-…");
    report.require(leaf, "the API client's id", &example);
    report.read(leaf, &example, client_id)
}

/// Parses a client id. It is never quoted: id and secret are easily confused.
fn client_id(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text().map_err(|_| "must be a string".to_owned())?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must not be empty or contain control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn check_secrets(
    citrix: &RawCitrix,
    table: CustomerTable,
    customer_id: Option<&HeaderValue>,
    report: &mut Report<'_>,
) -> (Option<SecretSource>, Option<SecretSource>) {
    let mut check = |leaf: &Leaf, key: &str| {
        let credential = table.credential_name(key, customer_id);
        secret::check_secret(leaf, credential.as_deref(), secret::EXAMPLE, report)
    };
    let current = check(&citrix.client_secret, "client_secret");
    let next = check(&citrix.client_secret_next, "client_secret_next");
    if current.is_none() {
        let example = table.example(secret::EXAMPLE, "CITRIX_CLIENT_SECRET=…");
        report.require(&citrix.client_secret, "the API client's secret", &example);
    }
    (current, next)
}

fn check_instance_id(leaf: &Leaf, report: &mut Report<'_>) -> InstanceId {
    let parse = |leaf: &Leaf| match leaf.text()? {
        "auto" => Ok(InstanceId::Auto),
        "" => Ok(InstanceId::None),
        text => guid(text)
            .map(InstanceId::Fixed)
            .ok_or_else(|| format!("{} is not \"auto\", \"\" or a GUID", leaf.shown())),
    };
    report
        .read(leaf, "\"auto\"", parse)
        .unwrap_or(InstanceId::Auto)
}

fn guid(text: &str) -> Option<HeaderValue> {
    // The parser accepts notations other than this one with hyphens, which Citrix does not.
    const LENGTH: usize = 36;
    (text.len() == LENGTH && Uuid::try_parse(text).is_ok())
        .then(|| HeaderValue::from_str(text).ok())?
}

fn check_token_url(citrix: &RawCitrix, report: &mut Report<'_>) -> Option<Uri> {
    const EXAMPLE: &str = "\"https://api.cloud.com/cctrustoauth2/acme/tokens/clients\"";
    report.read(&citrix.token_url, EXAMPLE, |leaf| {
        url::confidential(leaf.text()?)
    })
}

/// Parses the default token URL, which an unusual customer id can make invalid.
fn default_token_url(customer_id: &Leaf, url: &str, report: &mut Report<'_>) -> Option<Uri> {
    url::confidential(url)
        .map_err(|_| {
            let problem = format!("invalid customer id {} in a URL", customer_id.shown());
            report.invalid(customer_id, problem, "\"acme\"");
        })
        .ok()
}
