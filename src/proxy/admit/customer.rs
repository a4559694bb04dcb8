//! The customer of a request.

use http::{HeaderMap, HeaderValue};

use super::rules::UNKNOWN_CUSTOMER;
use crate::error::{Failure, Reason};
use crate::state::addressing::RouteMatch;
use crate::state::{Customer, Snapshot};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CUSTOMER, customers_in_path};

/// Returns the customer that `Citrix-CustomerId`, the old `Customer` field or the path names, else
/// the default one.
///
/// # Errors
/// `bad_request` if none is named and there is no default, `customer_forbidden` if two are named or
/// there is no credential for the one that is.
pub(super) fn pick_customer<'s>(
    snapshot: &'s Snapshot,
    headers: &HeaderMap,
    route_match: &RouteMatch,
) -> Result<&'s Customer, Failure> {
    // Current services ignore `Customer`. With one customer, a different id in it is ignored here
    // too, unless the address is retired.
    let counts = |id: &&[u8]| {
        route_match.retired.is_some()
            || snapshot.customers.has_several()
            || snapshot.customers.get(id).is_some()
    };
    let old = headers
        .get_all(CUSTOMER)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(counts);
    let in_headers = headers
        .get_all(CITRIX_CUSTOMER_ID)
        .iter()
        .map(HeaderValue::as_bytes);
    let in_path = customers_in_path(route_match.target.path()).map(str::as_bytes);
    let mut named = in_headers.chain(old).chain(in_path);
    let Some(first) = named.next() else {
        return snapshot.customers.default().ok_or_else(|| {
            let detail = "the request names no customer and there are several; send Citrix-CustomerId, or set \
                          default = true in one [[customer]]";
            Failure::new(Reason::BadRequest, detail)
        });
    };
    if named.any(|other| !other.eq_ignore_ascii_case(first)) {
        let detail = "the request names different customers";
        return Err(Failure::new(Reason::CustomerForbidden, detail));
    }
    snapshot.customers.get(first).ok_or_else(|| {
        Failure::new(Reason::CustomerForbidden, UNKNOWN_CUSTOMER)
            .with_source("no credential for the named customer")
    })
}
