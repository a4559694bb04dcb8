//! Step 2: may this request come in?
//!
//! Everything that can be refused by looking at the request's head alone is refused here, before anything is
//! spent on it.

mod caller;
mod rules;

use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::Body as _;

use super::pick_route::{self, Addressed};
use crate::callers::head::{check_head, reject_codings};
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::state::Shared;
use crate::state::snapshot::{Customer, Snapshot};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CUSTOMER, customers_in_path};

use self::caller::pick_caller;
pub(super) use rules::Policy;

/// A request that may be forwarded, and for whom.
pub struct Admitted<'s> {
    pub(super) method: Method,
    pub(super) address: Addressed,
    pub(super) headers: HeaderMap,
    pub(super) body: CallerBody,
    pub(super) customer: &'s Customer,
    /// The gateway as the caller named it.
    pub(super) host: Option<HeaderValue>,
    /// Whether the caller waits for `100 Continue` before it sends its body.
    pub(super) expects_continue: bool,
    /// What the caller may do, where its body may tell more of what it does.
    pub(super) policy: Option<Policy<'s>>,
}

/// Checks a request's head against the rules of the front door, and notes who made the request and what became of it.
///
/// # Errors
/// With the reason and what to change.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    shared: &Shared,
    request: Request<CallerBody>,
    exchange: &mut Exchange,
) -> Result<Admitted<'s>, Failure> {
    let (mut head, body) = request.into_parts();
    let judged = judge(snapshot, shared, &mut head, body, exchange);
    match &judged {
        // A batch is admitted when its items were judged.
        Ok(Admitted {
            policy: Some(policy),
            ..
        }) if policy.awaits_items() => {}
        Ok(admitted) => exchange.audit_admission(admitted.customer.name()),
        Err(failure) => exchange.audit_refusal(failure),
    }
    judged
}

fn judge<'s>(
    snapshot: &'s Snapshot,
    shared: &Shared,
    head: &mut Parts,
    mut body: CallerBody,
    exchange: &mut Exchange,
) -> Result<Admitted<'s>, Failure> {
    let live = &snapshot.live;
    let authority = check_head(live, head)?;
    exchange.caller = pick_caller(
        snapshot,
        shared,
        authority.as_ref(),
        &head.headers,
        exchange,
    )?;
    let target = match head.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => target.clone(),
        // An absolute target may have no path; what leaves begins with a slash (RFC 9112 section 3.2.1). A host
        // alone is for CONNECT (section 3.2.3).
        query if head.uri.scheme().is_some() => {
            let query = query.map_or("", PathAndQuery::as_str);
            PathAndQuery::try_from(format!("/{query}")).map_err(|error| {
                Failure::new(Reason::BadRequest, "the request target is not a path")
                    .with_source(error)
            })?
        }
        _ => {
            return Err(Failure::new(
                Reason::BadRequest,
                "the request target is not a path",
            ));
        }
    };
    let host = match head.uri.authority() {
        // It overrides the field (RFC 9112 section 3.2.2).
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => head.headers.remove(HOST),
    };
    reject_codings(&head.headers)?;
    // Whatever else is wrong is told before, or nothing is: it must not tell which customers there are.
    refuse_too_large(live, &head.headers)?;
    rules::check_named(snapshot, target.path(), exchange)?;
    // A name that leads nowhere is told before a customer below it would be.
    let address = pick_route::address(snapshot, target, &mut head.headers)?;
    let customer = pick_customer(snapshot, &head.headers, &address)?;
    exchange.customer = Some(customer.id.clone());
    let path = address.target.path();
    let has_body = !body.is_end_stream();
    let policy = rules::check(
        snapshot,
        &head.method,
        path,
        customer.name(),
        has_body,
        exchange,
    )?;
    body.bound(live.limits.max_body_bytes, live.limits.body_idle_timeout);
    body.keep(live.limits.replay_buffer_bytes);
    let expects_continue = head.version >= Version::HTTP_11
        && head
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok(Admitted {
        method: head.method.clone(),
        address,
        headers: std::mem::take(&mut head.headers),
        body,
        customer,
        host,
        expects_continue,
        policy,
    })
}

/// The customer a request is about: what `Citrix-CustomerId`, the old `Customer` or the path says, else the
/// default.
fn pick_customer<'s>(
    snapshot: &'s Snapshot,
    headers: &HeaderMap,
    address: &Addressed,
) -> Result<&'s Customer, Failure> {
    // Today's services ignore the old header. A foreign name in it says nothing where there is but one customer,
    // unless the address is as old.
    let matters = |id: &&[u8]| {
        address.is_retired()
            || snapshot.customers.are_several()
            || snapshot.customers.named(id).is_some()
    };
    let old = headers
        .get_all(CUSTOMER)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(matters);
    let in_headers = headers
        .get_all(CITRIX_CUSTOMER_ID)
        .iter()
        .map(HeaderValue::as_bytes);
    let in_path = customers_in_path(address.target.path()).map(str::as_bytes);
    let mut named = in_headers.chain(old).chain(in_path);
    let Some(first) = named.next() else {
        return snapshot.customers.default().ok_or_else(|| {
            let detail = "the request names no customer, and the gateway has several; send Citrix-CustomerId, or \
                          give one [[customer]] default = true";
            Failure::new(Reason::BadRequest, detail)
        });
    };
    if named.any(|other| !other.eq_ignore_ascii_case(first)) {
        return Err(Failure::new(
            Reason::CustomerForbidden,
            "the request names two customers",
        ));
    }
    snapshot.customers.named(first).ok_or_else(|| {
        Failure::new(Reason::CustomerForbidden, rules::OTHER_CUSTOMER)
            .with_source("no credential for the customer that is named")
    })
}

fn refuse_too_large(live: &Live, headers: &HeaderMap) -> Result<(), Failure> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = live.limits.max_body_bytes;
    if declared.is_some_and(|length| length > limit) {
        let detail =
            format!("the request body may have {limit} bytes at most (limits.max_body_bytes)");
        return Err(Failure::new(Reason::BodyTooLarge, detail));
    }
    Ok(())
}
