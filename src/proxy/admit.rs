//! Step 2: decides from the request head whether the request is admitted.
//!
//! Checks host, caller, customer, the caller's rules and limits, and the declared size. The
//! decision goes to the audit log. Nothing is read, queued or sent before it.

mod caller;
mod customer;
mod rules;

use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use http_body::Body as _;

use super::HeadFacts;
use crate::callers::head::{check_head, reject_codings};
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::intercept::EnteredPath;
use crate::state::Shared;
use crate::state::addressing::{RouteMatch, too_many_readings};
use crate::state::{Customer, Snapshot};
use citrix_wire::known_fields::KnownFields;
use citrix_wire::{host, max_forwards};

use self::caller::pick_caller;
use self::customer::pick_customer;
pub(super) use rules::Policy;

/// A request that may be forwarded.
pub struct Admitted<'s> {
    /// The caller's head, whose method and fields are forwarded.
    pub(super) head: &'s mut Parts,
    pub(super) route_match: RouteMatch,
    /// The fields that the head may have.
    pub(super) fields: KnownFields,
    pub(super) body: CallerBody,
    pub(super) customer: &'s Customer,
    /// Authority by which the caller addressed the gateway.
    pub(super) host: Option<HeaderValue>,
    /// `true` if the caller waits for `100 Continue` before it sends its body.
    pub(super) expects_continue: bool,
    /// The caller's rules, if they still apply to the body.
    pub(super) policy: Option<Policy<'s>>,
}

/// Admits or rejects a request, and logs the decision.
///
/// # Errors
/// A 4xx reason, or `overloaded` at a limit of the caller.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    shared: &Shared,
    request: (&'s mut Parts, CallerBody),
    facts: HeadFacts,
    exchange: &mut Exchange,
) -> Result<Admitted<'s>, Failure> {
    let admitted = check(snapshot, shared, request, facts, exchange);
    if admitted.is_ok() {
        exchange.set_admitted();
    }
    match &admitted {
        // Logged by `queue`, once the items of the batch are evaluated.
        Ok(Admitted {
            policy: Some(policy),
            ..
        }) if policy.awaits_items() => {}
        Ok(admitted) => exchange.audit_admission(admitted.customer.name()),
        Err(failure) => exchange.audit_rejection(failure),
    }
    admitted
}

fn check<'s>(
    snapshot: &'s Snapshot,
    shared: &Shared,
    (head, mut body): (&'s mut Parts, CallerBody),
    facts: HeadFacts,
    exchange: &mut Exchange,
) -> Result<Admitted<'s>, Failure> {
    let live = &snapshot.live;
    let HeadFacts {
        mut fields,
        readings,
    } = facts;
    let paths = exchange.take_paths();
    let intercepted = exchange.intercepted().cloned();
    let authority = check_head(live, head, fields, intercepted.as_deref())?;
    let caller = pick_caller(
        snapshot,
        shared,
        authority.as_ref(),
        &head.headers,
        fields,
        exchange,
    )?;
    exchange.set_caller(caller);
    let entered = paths.map(|paths| EnteredPath::of(*paths)).transpose()?;
    let target = target(head)?;
    let readings = readings.map_err(too_many_readings)?;
    let host = match head.uri.authority() {
        // It overrides the field (RFC 9112 section 3.2.2).
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => host::fields(&head.headers).next().cloned(),
    };
    check_fields(live, head, fields)?;
    // The checks below depend on which customers exist; all others precede them.
    rules::check_named_customers(snapshot, target.path(), &readings, exchange)?;
    // Before the customer is looked up: a path without a route is 404 whichever customer it names.
    let route_match = snapshot.match_route(target, &readings, &mut head.headers)?;
    if route_match.retired.is_some() {
        // Ids of the address have become fields.
        fields = KnownFields::of(&head.headers);
    }
    let customer = pick_customer(snapshot, &head.headers, fields, &route_match)?;
    if let Some((entered, intercepted)) = entered.zip(intercepted) {
        entered.check_customer(snapshot, customer, &intercepted.host)?;
    }
    exchange.set_customer(&customer.id);
    let policy = rules::evaluate(
        snapshot,
        &head.method,
        route_match.target.path(),
        customer.name(),
        !body.is_end_stream(),
        exchange,
    )?;
    if route_match.is_ambiguous {
        let detail = "servers may read the path as that of another service; write it without escapes of its letters, \
                      empty segments and dot segments";
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    body.set_limits(live.limits.max_body_bytes, live.limits.body_idle_timeout);
    body.buffer_for_replay(live.limits.replay_buffer_bytes);
    body.reserve(
        exchange.owner(),
        &shared.body_bytes,
        live.limits.replay_buffer_bytes,
    )?;
    Ok(Admitted {
        expects_continue: fields.has(KnownFields::EXPECT) && expects_continue(head),
        head,
        route_match,
        fields,
        body,
        customer,
        host,
        policy,
    })
}

/// Rejects a request whose fields state that it cannot be forwarded, and counts down
/// `Max-Forwards`.
fn check_fields(live: &Live, head: &mut Parts, fields: KnownFields) -> Result<(), Failure> {
    if fields.has(KnownFields::TRANSFER_ENCODING) {
        reject_codings(&head.headers)?;
    }
    if fields.has(KnownFields::CONTENT_LENGTH) {
        reject_too_large(live, &head.headers)?;
    }
    if head.method == Method::OPTIONS {
        max_forwards::decrement(&mut head.headers)
            .map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
    }
    Ok(())
}

/// Returns the path and query of the request target.
fn target(head: &Parts) -> Result<PathAndQuery, Failure> {
    let not_a_path = || Failure::new(Reason::BadRequest, "the request target is not a path");
    match head.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Ok(target.clone()),
        // A pseudo-header field `:path` is never empty (RFC 9113 section 8.3.1).
        _ if head.version == Version::HTTP_2 => Err(not_a_path()),
        // An absolute target may have no path, an origin-form one always has (RFC 9112
        // section 3.2.1).
        query if head.uri.scheme().is_some() => {
            let query = query.map_or("", PathAndQuery::as_str);
            PathAndQuery::try_from(format!("/{query}"))
                .map_err(|error| not_a_path().with_source(error))
        }
        // A host alone is the target of CONNECT (RFC 9112 section 3.2.3).
        _ => Err(not_a_path()),
    }
}

fn expects_continue(head: &Parts) -> bool {
    head.version >= Version::HTTP_11
        && head
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Rejects a declared length above `limits.max_body_bytes`.
fn reject_too_large(live: &Live, headers: &HeaderMap) -> Result<(), Failure> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = live.limits.max_body_bytes;
    if declared.is_some_and(|length| length > limit) {
        let detail = format!("request body exceeds {limit} bytes (limits.max_body_bytes)");
        return Err(Failure::new(Reason::BodyTooLarge, detail));
    }
    Ok(())
}
