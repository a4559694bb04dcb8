//! The customer that a token names.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Keeper, NewToken};
use crate::token::issuer::Issuer;
use crate::token::response::{NamedCustomer, OTHER_CUSTOMER_ADVICE, named_customer};

impl<I: Issuer> Keeper<I> {
    /// Returns the customer that a token names, if it is not the configured one. Logs a change.
    pub(super) fn other_customer(&self, new: &NewToken) -> Option<Arc<str>> {
        let customer = self.credential.customer();
        let other = match named_customer(&new.text, customer) {
            NamedCustomer::Other(other) => Some(Arc::from(other)),
            NamedCustomer::None | NamedCustomer::Configured(_) => None,
        };
        if other != self.slot.status().other_customer {
            log(customer, other.as_deref());
        }
        other
    }
}

fn log(customer: &str, other: Option<&str>) {
    match other {
        Some(token_customer) => warn!(
            customer,
            token_customer,
            advice = OTHER_CUSTOMER_ADVICE,
            "token belongs to another customer; Citrix will reject requests"
        ),
        None => info!(customer, "token no longer belongs to another customer"),
    }
}
