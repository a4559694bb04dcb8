//! A caller's rules: permitted methods, paths and customers (interface §3.1).
//!
//! Rules only permit. A path is evaluated as every upstream may read it, and rejected if upstreams
//! may read it in several ways ([`path`]), so that a request within the rules stays within them
//! wherever it arrives.

pub mod batch;
pub mod fold;
pub mod path;
pub mod pattern;

use http::Method;

use self::path::{Ambiguous, ParsedPath, evaluate};
use self::pattern::PathRules;
use crate::citrix::headers::customers_in_path;

/// Methods that `methods` may contain: all that are forwarded (RFC 9110 section 9.3, RFC 5789),
/// without extension methods, which Citrix does not use.
pub const RULE_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The rules of one caller. An empty list permits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    methods: Vec<Method>,
    paths: PathRules,
    customers: Vec<Box<str>>,
}

/// The result of evaluating a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Within the rules in every reading of its path.
    Allowed,
    /// Outside the rules.
    Denied(Restriction),
    /// Upstreams may read the request in several ways; to be rejected like a denied one.
    Ambiguous(Ambiguous),
}

/// The list that denies a request.
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
    /// Creates rules from lists, of which empty ones permit everything.
    pub fn new(methods: Vec<Method>, paths: PathRules, customers: Vec<Box<str>>) -> Self {
        Self {
            methods,
            paths,
            customers,
        }
    }

    /// Returns `true` if everything is permitted. Paths are not evaluated then and are forwarded
    /// unchanged.
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.customers.is_empty()
    }

    /// Evaluates a request with its path (without query) and customer.
    ///
    /// `path` is the caller's, after the translation of a retired address and before a route's
    /// prefix is stripped (interface §4.3). It must be unambiguous under any rule, even one for
    /// methods or customers alone, since it may name a customer or a batch ([`batch::batch_base`]).
    pub fn evaluate(&self, method: &str, path: &str, customer: &str) -> Decision {
        if self.is_empty() {
            return Decision::Allowed;
        }
        // First, because any other decision would reveal that credentials of the customer exist.
        if !self.allows_customer(customer) {
            return Decision::Denied(Restriction::Customers);
        }
        match evaluate(path) {
            Ok(path) => self.evaluate_parsed(method, &path, customer),
            Err(ambiguous) => Decision::Ambiguous(ambiguous),
        }
    }

    /// Evaluates a request whose path has several forms, of which any may be within the rules.
    /// Returns `Allowed`, or the decision on the first form.
    pub fn evaluate_any<'p>(
        &self,
        method: &str,
        paths: impl IntoIterator<Item = &'p str>,
        customer: &str,
    ) -> Decision {
        let mut first = None;
        for path in paths {
            let decision = self.evaluate(method, path, customer);
            if decision == Decision::Allowed {
                return decision;
            }
            first.get_or_insert(decision);
        }
        first.unwrap_or(Decision::Denied(Restriction::Paths))
    }

    fn evaluate_parsed(&self, method: &str, path: &ParsedPath<'_>, customer: &str) -> Decision {
        if !self.customers.is_empty() && !self.allows_customers(path, customer) {
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
            (false, false) if self.paths.cover_ignoring_case(path.decoded()) => {
                Decision::Ambiguous(Ambiguous::LetterCase)
            }
            (false, false) => Decision::Denied(Restriction::Paths),
            _ => Decision::Ambiguous(Ambiguous::Escapes),
        }
    }

    /// Returns `true` if the caller may act for this customer.
    pub fn allows_customer(&self, customer: &str) -> bool {
        self.customers.is_empty()
            || self
                .customers
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(customer))
    }

    /// Returns `true` if the customer is permitted and the decoded path names no other.
    fn allows_customers(&self, path: &ParsedPath<'_>, customer: &str) -> bool {
        let is_same = |other: &str| other.eq_ignore_ascii_case(customer);
        self.allows_customer(customer) && customers_in_path(path.decoded()).all(is_same)
    }
}
