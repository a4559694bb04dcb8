//! What a caller may do (design 3.1): methods, paths and customers, and how much of it. No I/O here.
//!
//! There are only rules that allow. A path is judged as every upstream may read it: a spelling that could be read in
//! two ways is refused, so that what a rule admits is inside the rule wherever it arrives ([`path`]).

pub mod batch;
pub mod path;
pub mod pattern;
pub mod shape;

use http::Method;

use self::path::{Judged, Unjudgeable, judge};
use self::pattern::PathRules;
use crate::citrix::headers::customers_in_path;

/// What `methods` may name: those that are forwarded (RFC 9110 section 9.3, RFC 5789), but for extensions, of which
/// Citrix has none.
pub const METHODS_OF_RULES: [Method; 7] = [
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
pub enum Verdict {
    /// It is inside the rules, however the upstream reads it.
    Allowed,
    /// It is outside.
    Denied(Outside),
    /// Nobody can tell; to be refused like what is outside.
    Unjudgeable(Unjudgeable),
}

/// Which rule a request is outside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
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
    pub fn are_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.customers.is_empty()
    }

    /// Judges a request by its method, its path without the query, and the customer it is for.
    ///
    /// The path is the caller's, after a retired address was translated and before a route's prefix is taken off
    /// (design 4.3). While there is any rule, also one of methods or customers alone, a path must be judgeable: it
    /// may name a customer, or a batch of other requests ([`batch::base_of`]).
    pub fn verdict(&self, method: &str, path: &str, customer: &str) -> Verdict {
        if self.are_empty() {
            return Verdict::Allowed;
        }
        // First: whatever is said of a path or a method says that the gateway has the customer.
        if !self.allow_customer(customer) {
            return Verdict::Denied(Outside::Customers);
        }
        match judge(path) {
            Ok(path) => self.allows(method, &path, customer),
            Err(why) => Verdict::Unjudgeable(why),
        }
    }

    /// Judges a request whose path was judged.
    pub fn allows(&self, method: &str, path: &Judged<'_>, customer: &str) -> Verdict {
        if !self.customers.is_empty() && !self.cover_customer(path, customer) {
            return Verdict::Denied(Outside::Customers);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|allowed| allowed == method) {
            return Verdict::Denied(Outside::Methods);
        }
        if self.paths.is_empty() {
            return Verdict::Allowed;
        }
        match (
            self.paths.cover(path.decoded()),
            self.paths.cover(path.written()),
        ) {
            (true, true) => Verdict::Allowed,
            (false, false) if self.paths.cover_in_another_case(path.decoded()) => {
                Verdict::Unjudgeable(Unjudgeable::LetterCase)
            }
            (false, false) => Verdict::Denied(Outside::Paths),
            _ => Verdict::Unjudgeable(Unjudgeable::Escapes),
        }
    }

    /// Whether the caller may act for this customer.
    pub fn allow_customer(&self, customer: &str) -> bool {
        self.customers.is_empty()
            || self
                .customers
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(customer))
    }

    /// Whether the customer is allowed, and the path, once its escapes are decoded, names no other.
    fn cover_customer(&self, path: &Judged<'_>, customer: &str) -> bool {
        let is_same = |other: &str| other.eq_ignore_ascii_case(customer);
        self.allow_customer(customer) && customers_in_path(path.decoded()).all(is_same)
    }
}
