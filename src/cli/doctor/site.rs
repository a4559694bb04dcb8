//! One question to the customer's API gateway, which tells its region and its site.

use http::uri::Authority;
use http::{Method, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::check::{Check, Kind, State};
use crate::config::{Credential, InstanceId};
use crate::site::api::{Api as _, ApiRequest, ApiResponse, HttpApi};
use crate::site::response::{self, Sites};
use citrix_wire::citrix::SITE_FROZEN;
use citrix_wire::citrix::clouds::Cloud;

/// What a gateway of the wrong region says in a 403 (contract §1.6).
const WRONG_REGION: &str = "User is not authenticated for the specified resource";
/// For whoever has nothing that has a site.
const NO_DAAS: &str = "where the customer has no DaaS, set instance_id = \"\"";

/// Asks `GET /cvad/manage/me`, as the gateway does when a request first needs the site.
pub(super) async fn examine(
    credential: &Credential,
    token: &Result<SecretString, &'static str>,
    gateway_fails: Option<Kind>,
    api: &HttpApi,
    tell: &mut dyn FnMut(Check),
) {
    let of = credential.customer();
    let mut skip = |why: &str| {
        for kind in [Kind::Region, Kind::Site] {
            tell(Check::skipped(kind, &of, why));
        }
    };
    if credential.instance_id == InstanceId::None {
        return skip("instance_id = \"\": no site is asked for");
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
                State::Ok => site(credential, &reply),
                _ => Check::skipped(Kind::Site, &of, "asked in the wrong region"),
            };
            tell(region);
            tell(found);
        }
        Err(error) => {
            let detail = format!("no answer to GET /cvad/manage/me: {error}");
            tell(Check::failed(
                Kind::Region,
                &of,
                detail,
                "try again; then look at Citrix Cloud's health page",
            ));
            tell(Check::skipped(Kind::Site, &of, "region failed"));
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
            let place = host
                .as_ref()
                .map_or("another place".to_owned(), ToString::to_string);
            let detail = format!("{gateway} sends to {place}{}", told(reply));
            let advice = match host.as_ref().and_then(cloud_at) {
                Some(cloud) => format!("the customer's data is there: set cloud = \"{cloud}\""),
                None => "set cloud, or api_url, to the customer's region".to_owned(),
            };
            Check::warning(Kind::Region, &of, detail, advice).fact("sends_to", place)
        }
        StatusCode::FORBIDDEN if contains(&reply.body, WRONG_REGION) => Check::failed(
            Kind::Region,
            &of,
            format!(
                "{gateway} answers as a gateway of the wrong region does{}",
                told(reply)
            ),
            "set cloud to the customer's region; if it is right, check customer_id and the client's rights",
        ),
        _ => Check::ok(
            Kind::Region,
            &of,
            format!("{gateway} answers for the customer itself"),
        ),
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(body).contains(text)
}

/// The cloud whose API gateway is at `host`, by its name in a configuration.
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
            Kind::Site,
            &of,
            format!("{what}{}", told(reply)),
            format!("{advice}; {NO_DAAS}"),
        )
    };
    match reply.status {
        StatusCode::OK => match response::parse(of, &reply.body) {
            Some(sites) => known(credential, &sites),
            None => failed(
                "GET /cvad/manage/me answers in an unknown shape",
                "check api_url",
            ),
        },
        StatusCode::UNAUTHORIZED => failed(
            "Citrix does not take the token",
            "check that customer_id is that of the API client, and that api_url and token_url are of one cloud",
        ),
        StatusCode::FORBIDDEN => failed(
            "Citrix does not let the client see the site",
            "give it a role in DaaS",
        ),
        StatusCode::NOT_FOUND => failed("Citrix knows no DaaS here", "check api_url"),
        status if status.as_u16() == SITE_FROZEN => Check::warning(
            Kind::Site,
            &of,
            format!("Citrix has put the site to sleep{}", told(reply)),
            "the first request wakes it up, which takes some minutes",
        ),
        status if status.is_server_error() => failed(
            "Citrix fails",
            "try again; then look at Citrix Cloud's health page",
        ),
        _ => failed(
            "Citrix does not tell the site",
            "tell Citrix the transaction id",
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
        (_, 0) => Check::warning(Kind::Site, &of, "the customer has no site", NO_DAAS),
        (InstanceId::Fixed(id), _)
            if !ids
                .iter()
                .any(|each| id.as_bytes().eq_ignore_ascii_case(each.as_bytes())) =>
        {
            let detail = format!("instance_id is none of the customer's sites: {listed}");
            Check::failed(
                Kind::Site,
                &of,
                detail,
                "set instance_id to one of them, or \"auto\"",
            )
        }
        (InstanceId::Auto, 2..) => {
            let advice =
                "set instance_id to the one that is meant, or have callers send Citrix-InstanceId";
            Check::warning(
                Kind::Site,
                &of,
                format!("the customer has several: {listed}"),
                advice,
            )
        }
        _ => Check::ok(Kind::Site, &of, listed),
    };
    check.fact("sites", ids)
}

/// What the answer was, for whoever asks Citrix.
fn told(reply: &ApiResponse) -> String {
    let id = reply.transaction_id.to_str().unwrap_or_default();
    format!(" (status {}, transaction {id})", reply.status.as_u16())
}
