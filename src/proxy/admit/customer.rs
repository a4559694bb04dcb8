//! The customer of a request.

use http::{HeaderMap, HeaderName};

use super::rules::UNKNOWN_CUSTOMER;
use crate::error::{Failure, Reason};
use crate::state::addressing::RouteMatch;
use crate::state::{Customer, Snapshot};
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CUSTOMER, customers_in_readings, is_empty};
use citrix_wire::known_fields::KnownFields;

/// Returns the customer that `Citrix-CustomerId`, the old `Customer` field or the path names, else
/// the default one. An empty field counts as absent.
///
/// # Errors
/// `bad_request` if none is named and there is no default, `customer_forbidden` if two are named or
/// there is no credential for the one that is.
pub(super) fn pick_customer<'s>(
    snapshot: &'s Snapshot,
    headers: &HeaderMap,
    fields: KnownFields,
    route_match: &RouteMatch,
) -> Result<&'s Customer, Failure> {
    let headers = fields.has(KnownFields::CUSTOMER).then_some(headers);
    // One pass costs less than two lookups.
    let in_headers = headers
        .into_iter()
        .flatten()
        .filter(|(name, value)| names_customer(name) && !is_empty(value))
        .map(|(_, value)| value.as_bytes());
    let in_path =
        customers_in_readings(route_match.target.path(), &route_match.readings).map(str::as_bytes);
    let mut named = in_headers.chain(in_path);
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

fn names_customer(name: &HeaderName) -> bool {
    *name == CITRIX_CUSTOMER_ID || *name == CUSTOMER
}
