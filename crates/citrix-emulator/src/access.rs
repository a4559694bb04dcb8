//! Access checks in the order length, token, `Accept`, customer. A request that fails one is
//! rejected in the error format of the service (contract §2, §3 and §7).

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use serde_json::{Value, json};

use super::bearer_status::BearerStatus;
use super::responses::{self, Response};
use super::state::State;
use super::stats::count;
use super::tenants::{Identity, Tenant};
use citrix_wire::citrix::headers::CITRIX_CUSTOMER_ID;

/// Requirements of a service for its requests.
#[derive(Clone, Copy)]
pub(super) struct Access {
    /// `Bearer <token>` is accepted in addition to `CwsAuth`.
    pub(super) plain_bearer: bool,
    /// `Accept` must be exactly `application/json`.
    pub(super) exact_accept: bool,
    pub(super) customer: CustomerIn,
    pub(super) dialect: Dialect,
}

/// The part of a request that names the customer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CustomerIn {
    /// `Citrix-CustomerId`.
    Header,
    Path,
    /// None required, but a wrong `Citrix-CustomerId` is rejected.
    Optional,
}

/// A family of error formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The standard error body.
    Standard,
    /// Like `Standard`, but a wrong customer is a 401 (contract §3, "401 responses").
    SystemLog,
    /// The three formats of CVAD.
    Cvad,
    Monitor,
    /// The standard error body with the transaction id as parameter.
    AccessSecurity,
}

/// Returns the owner of a request's token, or the response that rejects the request.
/// `path_customer` is the customer in its path.
pub(super) fn admit(
    state: &State,
    access: Access,
    parts: &Parts,
    path_customer: Option<&str>,
    transaction: &str,
) -> Result<Identity, Box<Response>> {
    if lacks_length(parts) {
        let page = "<h2>Length Required</h2><hr><p>HTTP Error 411. The request must have a content length.</p>";
        return Err(Box::new(responses::html(StatusCode::LENGTH_REQUIRED, page)));
    }
    let access = match access.dialect {
        Dialect::SystemLog if state.system_log_forbids => Access {
            dialect: Dialect::Standard,
            ..access
        },
        _ => access,
    };
    let (status, identity) = request_token_status(state, &parts.headers, access.plain_bearer);
    state.counters.status(status);
    let named = named_customer(state, parts, path_customer);
    if let Some(tenant) = named.or(identity.as_ref().map(|identity| &identity.tenant)) {
        tenant.count_token(status);
    }
    let Some(identity) = identity.filter(|_| status == BearerStatus::Valid) else {
        return Err(Box::new(access.dialect.no_token(status, transaction)));
    };
    if access.exact_accept && !accepts_exactly_json(&parts.headers) {
        let detail = "The requested media type is not acceptable.";
        let kind = "common/notAcceptable";
        return Err(Box::new(responses::standard_error(
            StatusCode::NOT_ACCEPTABLE,
            kind,
            detail,
            json!([]),
        )));
    }
    if let Some(rejection) = wrong_customer(
        &identity.tenant,
        access,
        &parts.headers,
        path_customer,
        transaction,
    ) {
        count(&state.counters.refused_customer);
        if let Some(foreign) = named.filter(|named| !Arc::ptr_eq(named, &identity.tenant)) {
            count(&state.counters.foreign_token);
            foreign.stats().tokens.foreign_token += 1;
        }
        return Err(Box::new(rejection));
    }
    Ok(identity)
}

/// Returns the existing customer that a request names.
fn named_customer<'a>(
    state: &'a State,
    parts: &Parts,
    in_path: Option<&str>,
) -> Option<&'a Arc<Tenant>> {
    let in_header = parts
        .headers
        .get(CITRIX_CUSTOMER_ID)
        .map(HeaderValue::as_bytes);
    state.tenant(in_path.map(str::as_bytes).or(in_header)?)
}

fn wrong_customer(
    tenant: &Tenant,
    access: Access,
    headers: &HeaderMap,
    path_customer: Option<&str>,
    transaction: &str,
) -> Option<Response> {
    let is_owner = |name: &[u8]| tenant.has_id(name);
    let mut named = headers.get_all(CITRIX_CUSTOMER_ID).iter();
    match (access.customer, path_customer, named.next()) {
        (CustomerIn::Path, Some(customer), _) if !is_owner(customer.as_bytes()) => {
            Some(access.dialect.forbidden())
        }
        (CustomerIn::Header, _, None) => Some(access.dialect.no_customer(transaction)),
        (_, _, Some(customer)) if !is_owner(customer.as_bytes()) || named.next().is_some() => {
            Some(access.dialect.forbidden())
        }
        _ => None,
    }
}

impl Dialect {
    pub(super) fn no_token(self, status: BearerStatus, transaction: &str) -> Response {
        let missing = status == BearerStatus::Missing;
        let reason = if missing { "missing" } else { "invalid" };
        match self {
            Self::Standard | Self::SystemLog => unauthenticated(
                "Missing or invalid authentication details.",
                reason_list(reason),
            ),
            Self::Cvad if missing => responses::cws_auth_exception("Missing Authorization Header"),
            // In Citrix's example of this error, `parameters` is an object.
            Self::Cvad => unauthenticated(
                "Missing or invalid authentication details.",
                json!({ "reason": reason }),
            ),
            Self::Monitor => {
                // Monitor sends JSON as `text/plain`.
                let message = format!("The bearer token is {reason}.");
                let body = json!({ "error": { "code": "Unauthorized", "message": message } });
                responses::text(StatusCode::UNAUTHORIZED, body.to_string())
            }
            Self::AccessSecurity => unauthenticated(
                "Validate Identity Error: <Invalid Bearer Token>",
                json!([{ "name": "Citrix-TransactionId", "value": transaction }]),
            ),
        }
    }

    fn no_customer(self, transaction: &str) -> Response {
        match self {
            Self::Standard | Self::SystemLog | Self::Monitor => self.forbidden(),
            Self::Cvad => {
                responses::apim_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            }
            Self::AccessSecurity => self.no_token(BearerStatus::Malformed, transaction),
        }
    }

    fn forbidden(self) -> Response {
        match self {
            Self::SystemLog => unauthenticated(
                "Missing or invalid authentication details.",
                reason_list("invalid"),
            ),
            Self::Monitor => responses::text(
                StatusCode::FORBIDDEN,
                "Access denied to query Monitor objects : Invalid Customer.",
            ),
            Self::Standard | Self::Cvad | Self::AccessSecurity => responses::not_authorized(),
        }
    }
}

fn unauthenticated(detail: &str, parameters: Value) -> Response {
    responses::standard_error(
        StatusCode::UNAUTHORIZED,
        "common/authentication",
        detail,
        parameters,
    )
}

fn reason_list(reason: &str) -> Value {
    json!([{ "name": "reason", "value": reason }])
}

/// Returns `true` for an HTTP/1.1 request that the web server in front of the services rejects for
/// its missing length.
fn lacks_length(parts: &Parts) -> bool {
    parts.version <= Version::HTTP_11
        && [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method)
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && !parts.headers.contains_key(TRANSFER_ENCODING)
}

fn accepts_exactly_json(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter();
    accepts
        .next()
        .is_some_and(|accept| accept == "application/json")
        && accepts.next().is_none()
}

fn request_token_status(
    state: &State,
    headers: &HeaderMap,
    plain_bearer: bool,
) -> (BearerStatus, Option<Identity>) {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (None, _) => (BearerStatus::Missing, None),
        (Some(field), None) => field_token_status(state, field.as_bytes(), plain_bearer),
        (Some(_), Some(_)) => (BearerStatus::Malformed, None),
    }
}

/// Returns the status of the token in a field value, and its owner if it was ever issued.
pub(super) fn field_token_status(
    state: &State,
    field: &[u8],
    plain_bearer: bool,
) -> (BearerStatus, Option<Identity>) {
    match std::str::from_utf8(field)
        .ok()
        .and_then(|text| bearer_token(text, plain_bearer))
    {
        Some(token) => state.tokens.status(token),
        None => (BearerStatus::Malformed, None),
    }
}

/// Parses the token of `(?i)cwsauth\s+bearer=\s*"?tok"?` or, if `plain_bearer`, of
/// `(?i)bearer\s+tok` (contract §8).
fn bearer_token(text: &str, plain_bearer: bool) -> Option<&str> {
    let (scheme, rest) = text.trim().split_once([' ', '\t'])?;
    let rest = rest.trim_start();
    if plain_bearer && scheme.eq_ignore_ascii_case("bearer") {
        return is_token(rest).then_some(rest);
    }
    if !scheme.eq_ignore_ascii_case("cwsauth") {
        return None;
    }
    let (key, token) = rest.split_once('=')?;
    let token = token.trim_start();
    let token = token
        .strip_prefix('"')
        .and_then(|token| token.strip_suffix('"'))
        .unwrap_or(token);
    (key.eq_ignore_ascii_case("bearer") && is_token(token)).then_some(token)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_authorization_forms_are_parsed() {
        for text in [
            "CwsAuth Bearer=t.o-k_n",
            "CWSAuth bearer=t.o-k_n",
            "cwsauth BEARER= t.o-k_n",
            "CwsAuth   Bearer=   t.o-k_n",
            "CWSAuth bearer=\"t.o-k_n\"",
        ] {
            assert_eq!(bearer_token(text, false), Some("t.o-k_n"), "{text}");
        }
        assert_eq!(bearer_token("Bearer  t", true), Some("t"));
    }

    #[test]
    fn other_authorization_forms_are_malformed() {
        for text in [
            "",
            "t",
            "Bearer t",
            "CwsAuth t",
            "CwsAuth Bearer=",
            "CwsAuth Bearer=\"\"",
            "CwsAuth service=t",
            "CwsAuth Bearer=a b",
        ] {
            assert_eq!(bearer_token(text, false), None, "{text}");
        }
        assert_eq!(bearer_token("bearer bearer t", true), None);
    }
}
