//! One request to the customer's API gateway, which shows its region and its site.

use http::uri::Authority;
use http::{Method, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::check::{Check, CheckKind, CheckState};
use crate::config::{Credential, InstanceId};
use crate::site::api::{Api as _, ApiRequest, ApiResponse, HttpApi};
use crate::site::response::{self, Sites};
use citrix_wire::citrix::SITE_FROZEN;
use citrix_wire::citrix::clouds::Cloud;

/// Text of a 403 from a gateway of the wrong region (contract §1.6).
const WRONG_REGION: &str = "User is not authenticated for the specified resource";
/// Routes of the worldwide cloud that do not follow the customer's region.
const US_HOSTS: &str = "/wem and /applayering lead to hosts in the United States";
/// Advice for customers without a site.
const NO_DAAS: &str = "if the customer has no DaaS, set instance_id = \"\"";

/// Sends `GET /cvad/manage/me`, as the gateway does when a request first needs the site.
pub(super) async fn examine(
    credential: &Credential,
    token: &Result<SecretString, &'static str>,
    gateway_fails: Option<CheckKind>,
    api: &HttpApi,
    report: &mut dyn FnMut(Check),
) {
    let of = credential.customer();
    let mut skip = |why: &str| {
        for kind in [CheckKind::Region, CheckKind::Site] {
            report(Check::skipped(kind, &of, why));
        }
    };
    if credential.instance_id == InstanceId::None {
        return skip("no site needed: instance_id = \"\"");
    }
    if let Some(failed) = gateway_fails {
        return skip(&format!("{} failed at the API gateway", failed.name()));
    }
    let call = match token {
        Ok(token) => call(credential, token),
        Err(why) => return skip(why),
    };
    let Some(call) = call else {
        return skip("the token cannot be sent to api_url");
    };
    let began = Instant::now();
    match api.call(call).await {
        Ok(reply) => {
            let region = region(credential, &reply).took(began.elapsed());
            let found = match region.state {
                CheckState::Ok => site(credential, &reply),
                _ => Check::skipped(CheckKind::Site, &of, "requested in the wrong region"),
            };
            report(region);
            report(found);
        }
        Err(error) => {
            let detail = format!("no response to GET /cvad/manage/me: {error}");
            report(Check::failed(
                CheckKind::Region,
                &of,
                detail,
                "try again; then look at Citrix Cloud's health page",
            ));
            report(Check::skipped(CheckKind::Site, &of, "region failed"));
        }
    }
}

fn call(credential: &Credential, token: &SecretString) -> Option<ApiRequest> {
    Some(ApiRequest {
        method: Method::GET,
        url: format!("{}/cvad/manage/me", credential.api.url)
            .parse()
            .ok()?,
        authorization: credential
            .api
            .authorization
            .header_value(token.expose_secret())
            .ok()?,
        customer_id: credential.customer_id.clone(),
    })
}

fn region(credential: &Credential, reply: &ApiResponse) -> Check {
    let of = credential.customer();
    let gateway = &credential.api.url.authority;
    match reply.status {
        status if status.is_redirection() => {
            let to = reply.location.as_ref().and_then(|to| to.to_str().ok());
            let host = to
                .and_then(|to| to.parse::<Uri>().ok())
                .and_then(|to| to.authority().cloned());
            let target = host
                .as_ref()
                .map_or("another host".to_owned(), ToString::to_string);
            let detail = format!("{gateway} redirects to {target}{}", exchange_ids(reply));
            let advice = match host.as_ref().and_then(cloud_at) {
                Some(cloud) if credential.cloud == Cloud::Commercial => format!(
                    "the customer's data is there: set cloud = \"{cloud}\"; until then {US_HOSTS}"
                ),
                Some(cloud) => format!("the customer's data is there: set cloud = \"{cloud}\""),
                None => "set cloud, or api_url, to the customer's region".to_owned(),
            };
            Check::warning(CheckKind::Region, &of, detail, advice).fact("sends_to", target)
        }
        StatusCode::FORBIDDEN if contains(&reply.body, WRONG_REGION) => Check::failed(
            CheckKind::Region,
            &of,
            format!(
                "{gateway} responds like a gateway of the wrong region{}",
                exchange_ids(reply)
            ),
            "set cloud to the customer's region; if it is correct, check customer_id and the client's permissions",
        ),
        _ => Check::ok(
            CheckKind::Region,
            &of,
            format!("{gateway} serves this customer"),
        ),
    }
}

/// Warns of the services whose hosts differ by region: the worldwide API gateway finds a customer's
/// region, their hosts do not.
pub(super) fn warn_of_us_hosts(credential: &Credential) -> Option<Check> {
    let url = credential.api.url.to_string();
    if credential.cloud != Cloud::Commercial || url != Cloud::Commercial.api_url() {
        return None;
    }
    Some(Check::warning(
        CheckKind::Region,
        &credential.customer(),
        format!("{US_HOSTS} with cloud = \"commercial\""),
        "for a customer in another region set cloud to it, or use /region/eu/wem and the like; for one in the United \
         States set cloud = \"us\"",
    ))
}

fn contains(body: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(body).contains(text)
}

/// Returns the configuration name of the cloud whose API gateway is `host`.
fn cloud_at(host: &Authority) -> Option<&'static str> {
    let is_it = |cloud: &Cloud| cloud.api_url().strip_prefix("https://") == Some(host.as_str());
    Cloud::ALL
        .into_iter()
        .find(|(_, cloud)| is_it(cloud))
        .map(|(name, _)| name)
}

fn site(credential: &Credential, reply: &ApiResponse) -> Check {
    let of = credential.customer();
    let failed = |what: &str, advice: &str| {
        Check::failed(
            CheckKind::Site,
            &of,
            format!("{what}{}", exchange_ids(reply)),
            format!("{advice}; {NO_DAAS}"),
        )
    };
    match reply.status {
        StatusCode::OK => match response::parse(of, &reply.body) {
            Some(sites) => known(credential, &sites),
            None => failed(
                "GET /cvad/manage/me returned an unknown format",
                "check api_url",
            ),
        },
        StatusCode::UNAUTHORIZED => failed(
            "Citrix rejected the token",
            "check that customer_id is that of the API client, and that api_url and token_url are of one cloud",
        ),
        StatusCode::FORBIDDEN => failed(
            "the client may not read the site",
            "assign the client a role in DaaS",
        ),
        StatusCode::NOT_FOUND => failed("no DaaS at this gateway", "check api_url"),
        status if status.as_u16() == SITE_FROZEN => Check::warning(
            CheckKind::Site,
            &of,
            format!("the site is frozen{}", exchange_ids(reply)),
            "the first request activates it, which takes some minutes",
        ),
        status if status.is_server_error() => failed(
            "Citrix returned a server error",
            "try again; then look at Citrix Cloud's health page",
        ),
        _ => failed(
            "Citrix did not return the site",
            "contact Citrix with the transaction id",
        ),
    }
}

fn known(credential: &Credential, sites: &Sites) -> Check {
    let of = credential.customer();
    let ids: Vec<String> = match sites {
        Sites::None => Vec::new(),
        Sites::One(id) => vec![id.to_str().unwrap_or_default().to_owned()],
        Sites::Several(ids) => ids.clone(),
    };
    let listed = ids.join(", ");
    let check = match (&credential.instance_id, ids.len()) {
        (_, 0) => Check::warning(CheckKind::Site, &of, "the customer has no site", NO_DAAS),
        (InstanceId::Fixed(id), _)
            if !ids
                .iter()
                .any(|each| id.as_bytes().eq_ignore_ascii_case(each.as_bytes())) =>
        {
            let detail = format!("instance_id is not among the customer's sites: {listed}");
            Check::failed(
                CheckKind::Site,
                &of,
                detail,
                "set instance_id to one of them, or \"auto\"",
            )
        }
        (InstanceId::Auto, 2..) => {
            let advice = "set instance_id to one of them, or have callers send Citrix-InstanceId";
            Check::warning(
                CheckKind::Site,
                &of,
                format!("the customer has several sites: {listed}"),
                advice,
            )
        }
        _ => Check::ok(CheckKind::Site, &of, listed),
    };
    check.fact("sites", ids)
}

/// Status and transaction id, for a support case.
fn exchange_ids(reply: &ApiResponse) -> String {
    let id = reply.transaction_id.to_str().unwrap_or_default();
    format!(" (status {}, transaction {id})", reply.status.as_u16())
}
