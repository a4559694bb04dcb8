//! What a caller may do (interface §3.1): methods, paths and customers, and how much of it. No I/O here.
//!
//! There are only rules that allow. A path is judged as every upstream may read it: a spelling that could be read in
//! two ways is refused, so that what a rule admits is inside the rule wherever it arrives ([`path`]).

pub mod batch;
pub mod path;
pub mod pattern;
pub mod shape;

use http::Method;

use self::path::{Ambiguous, ParsedPath, evaluate};
use self::pattern::PathRules;
use crate::citrix::headers::customers_in_path;

/// What `methods` may name: those that are forwarded (RFC 9110 section 9.3, RFC 5789), but for extensions, of which
/// Citrix has none.
pub const RULE_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// What one caller may do. What is empty sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    methods: Vec<Method>,
    paths: PathRules,
    customers: Vec<Box<str>>,
}

/// What the rules say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is inside the rules, however the upstream reads it.
    Allowed,
    /// It is outside.
    Denied(Restriction),
    /// Nobody can tell; to be refused like what is outside.
    Ambiguous(Ambiguous),
}

/// Which rule a request is outside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Restriction {
    /// `methods`
    #[error("the caller may not use this method (methods)")]
    Methods,
    /// `paths`
    #[error("the caller may not use this path (paths)")]
    Paths,
    /// `customers`
    #[error("the caller may not act for this customer (customers)")]
    Customers,
}

impl Rules {
    /// Rules that allow these methods, paths and customers; of an empty list, all.
    pub fn new(methods: Vec<Method>, paths: PathRules, customers: Vec<Box<str>>) -> Self {
        Self {
            methods,
            paths,
            customers,
        }
    }

    /// Whether everything is allowed. Then no path is judged either, and all go on byte for byte.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.customers.is_empty()
    }

    /// Judges a request by its method, its path without the query, and the customer it is for.
    ///
    /// The path is the caller's, after a retired address was translated and before a route's prefix is taken off
    /// (interface §4.3). While there is any rule, also one of methods or customers alone, a path must be judgeable: it
    /// may name a customer, or a batch of other requests ([`batch::batch_base`]).
    pub fn evaluate(&self, method: &str, path: &str, customer: &str) -> Decision {
        if self.is_empty() {
            return Decision::Allowed;
        }
        // First: whatever is said of a path or a method says that the gateway has the customer.
        if !self.allows_customer(customer) {
            return Decision::Denied(Restriction::Customers);
        }
        match evaluate(path) {
            Ok(path) => self.evaluate_parsed(method, &path, customer),
            Err(why) => Decision::Ambiguous(why),
        }
    }

    /// Judges a request whose path was judged.
    pub fn evaluate_parsed(&self, method: &str, path: &ParsedPath<'_>, customer: &str) -> Decision {
        if !self.customers.is_empty() && !self.cover_customer(path, customer) {
            return Decision::Denied(Restriction::Customers);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|allowed| allowed == method) {
            return Decision::Denied(Restriction::Methods);
        }
        if self.paths.is_empty() {
            return Decision::Allowed;
        }
        match (
            self.paths.cover(path.decoded()),
            self.paths.cover(path.written()),
        ) {
            (true, true) => Decision::Allowed,
            (false, false) if self.paths.cover_in_another_case(path.decoded()) => {
                Decision::Ambiguous(Ambiguous::LetterCase)
            }
            (false, false) => Decision::Denied(Restriction::Paths),
            _ => Decision::Ambiguous(Ambiguous::Escapes),
        }
    }

    /// Whether the caller may act for this customer.
    pub fn allows_customer(&self, customer: &str) -> bool {
        self.customers.is_empty()
            || self
                .customers
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(customer))
    }

    /// Whether the customer is allowed, and the path, once its escapes are decoded, names no other.
    fn cover_customer(&self, path: &ParsedPath<'_>, customer: &str) -> bool {
        let is_same = |other: &str| other.eq_ignore_ascii_case(customer);
        self.allows_customer(customer) && customers_in_path(path.decoded()).all(is_same)
    }
}
