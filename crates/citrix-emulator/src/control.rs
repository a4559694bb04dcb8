//! `/_emulator`: counters, tokens and faults for tests, without authentication.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum as _;
use http::{Method, StatusCode};
use serde_json::json;

use super::call::Call;
use super::faults::{Faults, TokenFault};
use super::query::decode;
use super::responses::{self, Response};
use super::tenants::Tenant;

/// Maximum number of path faults, including used-up ones, which remain until all are deleted.
const MAX_PATH_FAULTS: usize = 100;

/// Responds to the paths below `/_emulator` (parameters in parentheses):
///
/// `GET stats`; `POST revoke`, `POST expire`, `POST freeze` (`customer`, `thaws_in`),
/// `POST expire-secret` (`customer`, `client`, `secret`); `GET`, `POST` and `DELETE faults`.
pub(super) fn respond(call: &Call<'_>) -> Response {
    let [action] = call.rest[..] else {
        return responses::not_found();
    };
    let state = call.state;
    let done = match (action, &call.parts.method) {
        ("stats", _) if call.is_get() => return responses::json(StatusCode::OK, &state.stats()),
        ("faults", _) if call.is_get() => return faults(call),
        ("revoke", &Method::POST) => {
            named_tenant(call).map(|of| json!({ "revoked": state.tokens.revoke(of) }))
        }
        ("expire", &Method::POST) => {
            named_tenant(call).map(|of| json!({ "expired": state.tokens.expire(of) }))
        }
        ("freeze", &Method::POST) => freeze(call),
        ("expire-secret", &Method::POST) => expire_secret(call),
        ("faults", &Method::POST) => change_faults(call),
        ("faults", &Method::DELETE) => {
            state.set_faults(Faults::default());
            Ok(json!({}))
        }
        ("stats", _) => return responses::method_not_allowed("GET, HEAD"),
        ("faults", _) => return responses::method_not_allowed("GET, HEAD, POST, DELETE"),
        ("revoke" | "expire" | "freeze" | "expire-secret", _) => {
            return responses::method_not_allowed("POST");
        }
        _ => return responses::not_found(),
    };
    match done {
        Ok(done) => responses::ok(&done),
        Err(message) => responses::text(StatusCode::BAD_REQUEST, message),
    }
}

type ActionResult = Result<serde_json::Value, String>;

/// Returns the customer in the query, or `None` for all customers.
fn named_tenant<'a>(call: &Call<'a>) -> Result<Option<&'a Tenant>, String> {
    let Some(id) = call.query().get("customer") else {
        return Ok(None);
    };
    let tenant = call.state.tenant(id.as_bytes()).map(Arc::as_ref);
    tenant
        .map(Some)
        .ok_or_else(|| "There is no such customer.".to_owned())
}

fn freeze(call: &Call<'_>) -> ActionResult {
    let thaws_in = duration(call, "thaws_in")?.unwrap_or_default();
    let named_tenant = named_tenant(call)?;
    let tenants = call
        .state
        .tenants()
        .filter(|tenant| named_tenant.is_none_or(|of| std::ptr::eq(&***tenant, of)));
    Ok(json!({ "frozen": tenants.map(|tenant| tenant.freeze(thaws_in)).count() }))
}

/// Expires a secret; by default the first secret of the first client.
fn expire_secret(call: &Call<'_>) -> ActionResult {
    let tenant = named_tenant(call)?.unwrap_or(call.state.first());
    let first = tenant
        .customer
        .clients
        .first()
        .map(|client| client.id.clone());
    let client = call.query().get("client").or(first).unwrap_or_default();
    let index = call
        .query()
        .number("secret")
        .map_err(|_| "secret is a number, from 0.")?
        .unwrap_or(0);
    if tenant.expire_secret(&client, index) {
        Ok(json!({ "expired": 1 }))
    } else {
        Err("There is no such client or secret.".to_owned())
    }
}

fn duration(call: &Call<'_>, name: &str) -> Result<Option<Duration>, String> {
    let parse = |text: String| {
        humantime::parse_duration(&text).map_err(|_| format!("{name} is such as 90s."))
    };
    call.query().get(name).map(parse).transpose()
}

/// Returns the faults, named like the options of the command line.
fn faults(call: &Call<'_>) -> Response {
    let faults = call.state.faults().clone();
    let token = faults
        .token
        .and_then(|fault| fault.to_possible_value())
        .map(|value| value.get_name().to_owned());
    responses::ok(&json!({
        "fault": faults.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "token-fault": token,
        "latency": humantime::format_duration(faults.latency).to_string(),
        "monitor-latency": humantime::format_duration(faults.monitor_latency).to_string(),
        "no-transaction-ids": faults.no_transaction_ids,
        "region-redirect": faults.region_redirect.is_some(),
        "clock-skew": faults.clock_skew,
    }))
}

/// Applies parameters named like the options of the command line; `fault` adds to the existing
/// faults.
fn change_faults(call: &Call<'_>) -> ActionResult {
    let query = call.query();
    let mut faults = call.state.faults().clone();
    for pair in query.pairs() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        match name {
            "fault" => faults
                .paths
                .push(value.parse().map_err(|error| format!("{error}"))?),
            "token-fault" => faults.token = Some(TokenFault::from_str(&value, false)?),
            "latency" => faults.latency = duration(call, name)?.unwrap_or_default(),
            "monitor-latency" => faults.monitor_latency = duration(call, name)?.unwrap_or_default(),
            "no-transaction-ids" => faults.no_transaction_ids = query.is_true(name),
            "region-redirect" => faults.region_redirect = Some(value.parse()?),
            "clock-skew" => {
                faults.clock_skew = value.parse().map_err(|_| "clock-skew is in seconds.")?
            }
            _ => return Err(format!("There is no fault {name:?}.")),
        }
    }
    if faults.paths.len() > MAX_PATH_FAULTS {
        return Err(format!("No more than {MAX_PATH_FAULTS} faults of paths."));
    }
    call.state.set_faults(faults);
    Ok(json!({}))
}
