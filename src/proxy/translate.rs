//! Step 7: turns Citrix's response into the one for the caller.
//!
//! The gateway's own version replaces the upstream's, hop-by-hop fields and policies for Citrix's
//! host name are removed, links and the scope of cookies are rewritten; everything else is forwarded
//! unchanged.

mod links;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderValue, Response, StatusCode, Version};

use super::send::Received;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::exchange::body::ForwardedBody;
use crate::upstream::exchange::UpstreamResponse;
use citrix_wire::citrix::headers::transaction_ids;
use citrix_wire::hop_by_hop;
use citrix_wire::known_fields::KnownFields;

pub use self::links::LinkContext;

/// Citrix's fields that are not forwarded.
const NOT_FORWARDED: KnownFields = KnownFields::HOP_BY_HOP.and(KnownFields::UPSTREAM_ONLY);

const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// Translates a response head and wraps the body.
///
/// # Errors
/// `upstream_broken` for a final response with a 1xx status.
pub fn translate(
    received: Received,
    links: &LinkContext<'_>,
    exchange: &mut Exchange,
) -> Result<Response<ForwardedBody>, Failure> {
    let Received {
        response,
        token,
        redirected_to,
    } = received;
    let UpstreamResponse {
        message: mut response,
        fields,
    } = response;
    let status = response.status();
    if status.is_informational() {
        let detail = format!("unexpected response {status} from the upstream");
        return Err(Failure::new(Reason::UpstreamBroken, detail));
    }
    // The version is of one connection (RFC 9110 section 6.2). With the upstream's, hyper would
    // delimit the body of an HTTP/1.0 response by the close.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        headers.remove(CONTENT_LENGTH);
    }
    if fields.has(NOT_FORWARDED) && hop_by_hop::remove_set(headers, NOT_FORWARDED) {
        exchange.drop_trailers();
    }
    if let Some(token) = token {
        token.remove_echoes(headers);
        exchange.set_sent_token(token);
    }
    if !exchange.is_admitted_by_authorization() {
        // A shared cache may otherwise store the response (RFC 9111 section 3.5).
        headers.entry(CACHE_CONTROL).or_insert(PRIVATE);
    }
    if fields.has(KnownFields::TRANSACTION_ID) {
        exchange.set_citrix_ids(transaction_ids(headers));
    }
    let redirected_to = redirected_to.as_deref();
    if fields.has(KnownFields::SET_COOKIE) {
        links.rewrite_cookies(headers, exchange.path(), redirected_to);
    }
    Ok(links.rewrite(response, fields, redirected_to))
}
