//! Step 4: the request as it will leave, but for the token and what depends on the connection.
//!
//! Only this step makes an [`UpstreamRequest`], so nothing leaves that did not pass its rules.

mod batch;
mod site;

use http::header::{ACCEPT, CONTENT_LENGTH, COOKIE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;

use super::admit::{Admitted, Policy};
use super::pick_route::Picked;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::state::snapshot::Customer;
use citrix_wire::citrix::batch::{Template, is_api_batch, is_batch};
use citrix_wire::citrix::headers::{
    CITRIX_CUSTOMER_ID, CITRIX_TRANSACTION_ID, customer_in_service_path, is_gateway_only,
};
use citrix_wire::policy::path::{ParsedPath, evaluate};
use citrix_wire::{coding, hop_by_hop, link_rewrite, path};

pub(super) use self::batch::read_batch;
pub(super) use self::site::find_site;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request that obeys every rule of design 4.1 but has no token yet.
pub struct UpstreamRequest<'s> {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: CallerBody,
    pub(super) customer: &'s Customer,
    pub(super) expects_continue: bool,
    /// The service wants to know the site, and nobody knows it yet.
    pub(super) wants_site: bool,
    /// Tokens stand in the body as well, which is yet to be read.
    pub(super) is_batch: bool,
    /// The body in which they stand.
    pub(super) batch: Option<Box<Template>>,
    /// What the caller may do, where the body tells more of what it does.
    pub(super) policy: Option<Policy<'s>>,
}

/// Applies the rules for what leaves.
///
/// # Errors
/// When the path with the route's prefix exchanged is no path any more, or names another customer; when it is a batch
/// that the caller's rules cannot be held to.
pub fn prepare<'s>(
    admitted: Admitted<'s>,
    picked: &Picked<'_>,
    exchange: &mut Exchange,
) -> Result<UpstreamRequest<'s>, Failure> {
    let route = picked.route;
    let Admitted {
        method,
        address,
        mut headers,
        body,
        customer,
        expects_continue,
        mut policy,
        ..
    } = admitted;
    let prefix = if route.config.strip_prefix {
        &*route.config.prefix
    } else {
        ""
    };
    let target =
        path::rebase(&address.target, prefix, &picked.destination.base_path).map_err(|error| {
            Failure::new(Reason::BadRequest, "the path cannot be forwarded").with_source(error)
        })?;
    // With and without the upstream's own base path in front.
    let paths = [
        address
            .target
            .path()
            .get(prefix.len()..)
            .unwrap_or_default(),
        target.path(),
    ];
    for path in paths {
        refuse_other_customer(&customer.id, path)?;
    }
    take_out(&mut headers);
    join_cookies(&mut headers);
    let wants_site = site::name(customer, paths, &mut headers);
    headers.insert(CITRIX_CUSTOMER_ID, customer.id.clone());
    headers.insert(CITRIX_TRANSACTION_ID, exchange.transaction_id.clone());
    accept_json(&mut headers);
    if route.config.rewrite_links {
        coding::retain_decodable(&mut headers);
        link_rewrite::add_strong_tags(&mut headers);
    }
    for (name, value) in &route.adds {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    frame(&method, &mut headers, &body);
    exchange.upload = body.progress();
    let has_body = !body.is_end_stream();
    let is_batch = has_body && paths.into_iter().any(is_batch);
    if let Some(policy) = policy.as_mut().filter(|_| has_body) {
        policy.expect_items(target.path(), paths.into_iter().any(is_api_batch), exchange)?;
    }
    Ok(UpstreamRequest {
        method,
        target,
        headers,
        body,
        customer,
        expects_continue,
        wants_site,
        is_batch,
        batch: None,
        policy,
    })
}

/// A route may put a customer's segment where the caller's path had none; what leaves is what counts.
fn refuse_other_customer(customer: &HeaderValue, path: &str) -> Result<(), Failure> {
    // Escapes hide none. What nobody can decode for certain is read as it is written.
    let judged = if path.contains('%') {
        evaluate(path).ok()
    } else {
        None
    };
    match customer_in_service_path(judged.as_ref().map_or(path, ParsedPath::decoded)) {
        Some(named) if !named.as_bytes().eq_ignore_ascii_case(customer.as_bytes()) => {
            Err(Failure::new(
                Reason::CustomerForbidden,
                "the path names another customer than the request",
            ))
        }
        _ => Ok(()),
    }
}

/// What belongs to the caller's connection, and what is for us alone.
fn take_out(headers: &mut HeaderMap) {
    hop_by_hop::remove_with(headers, is_gateway_only);
}

/// HTTP/2 lets cookies come in pieces; HTTP/1.1 wants one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).iter();
    if let (Some(_), Some(_)) = (fields.next(), fields.next()) {
        let all: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// Citrix answers 406 to anything but `application/json`; a caller that asked for something else meant it.
fn accept_json(headers: &mut HeaderMap) {
    let mut values = headers.get_all(ACCEPT).iter();
    let anything = match (values.next(), values.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().trim_ascii() == b"*/*",
        _ => false,
    };
    if anything {
        headers.insert(ACCEPT, JSON);
    }
}

/// Our own framing: the caller's was read by hyper and ends here. To be called again for a body that is sent again,
/// as its length is known then.
pub(super) fn frame(method: &Method, headers: &mut HeaderMap, body: &CallerBody) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    let may_have_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if body.is_end_stream() {
        if may_have_body {
            // Citrix answers 411 without it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = body.size_hint().exact() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else if !may_have_body {
        // hyper sends no body of unknown length with GET or DELETE unless it is told to.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
