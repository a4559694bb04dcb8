//! A caller's rules and limits, applied to its request (docs/configuration.md, "Caller rules").

use http::Method;
use tokio::time::Instant;

use crate::callers::caller_state::CallerState;
use crate::config::{Caller, Mode};
use crate::error::{Failure, LIMIT_RETRY_AFTER, Reason};
use crate::exchange::Exchange;
use crate::limit::caller::CallerLimitExceeded;
use crate::state::{Customer, Snapshot};
use crate::upstream::origin::Origin;
use citrix_wire::citrix::batch::BatchItem;
use citrix_wire::citrix::headers::customers_in_readings;
use citrix_wire::path_readings::PathReadings;
use citrix_wire::policy::batch::{MAX_BASE_LENGTH, batch_base, evaluate_items};
use citrix_wire::policy::path::Ambiguous;
use citrix_wire::policy::{Decision, Restriction};

/// Detail for a customer without a credential and for one the caller may not use. It is the same
/// for both, so that a caller cannot find out which customers exist.
pub(super) const UNKNOWN_CUSTOMER: &str =
    "no credential for the named customer, or none that this caller may use";

/// Batch items evaluated before the worker runs other tasks.
const ITEMS_PER_YIELD: usize = 100;

/// Rejects a path that names a customer the caller may not act for. It precedes the routing,
/// because `/direct` has a route for a configured customer only, and 404 would show that there is
/// none.
///
/// # Errors
/// `customer_forbidden`.
pub(super) fn check_named_customers(
    snapshot: &Snapshot,
    path: &str,
    readings: &PathReadings,
    exchange: &Exchange,
) -> Result<(), Failure> {
    let Some((caller, _)) = exchange.caller().and_then(|index| snapshot.caller(index)) else {
        return Ok(());
    };
    if caller.mode == Mode::Enforce
        && !customers_in_readings(path, readings).all(|named| caller.rules.allows_customer(named))
    {
        return Err(Failure::new(Reason::CustomerForbidden, UNKNOWN_CUSTOMER)
            .with_source(Restriction::Customers));
    }
    Ok(())
}

/// The rules of a caller, as long as parts of its request are not evaluated yet.
pub(in crate::proxy) struct Policy<'s> {
    caller: &'s Caller,
    usage: &'s CallerState,
    customer: &'s str,
    /// The base of the relative URLs, if the path names a batch.
    base: Option<BatchBase>,
}

/// The path of a batch, to which the URLs of its items are relative.
struct BatchBase {
    path: Box<str>,
    /// Length of the region at its beginning; 0 without one.
    region_len: usize,
}

/// Evaluates method, path and customer of a request, and acquires permits of the caller's limits.
/// Returns the policy that applies to the body, if any.
///
/// # Errors
/// If the rules reject the request or a limit is reached; in `mode = "observe"` both are only
/// logged and counted.
pub(super) fn evaluate<'s>(
    snapshot: &'s Snapshot,
    method: &Method,
    path: &str,
    customer: &'s str,
    has_body: bool,
    exchange: &mut Exchange,
) -> Result<Option<Policy<'s>>, Failure> {
    let Some((caller, usage)) = exchange.caller().and_then(|index| snapshot.caller(index)) else {
        return Ok(None);
    };
    let mut policy = Policy {
        caller,
        usage,
        customer,
        base: None,
    };
    if policy.observes() {
        usage.observations.record(method.as_str(), path, customer);
    }
    let region = snapshot.split_region(path).map_or("", |(region, _)| region);
    let decision = policy.evaluate_path(snapshot, method, path);
    policy.apply(decision, "", exchange)?;
    policy.acquire_permits(exchange)?;
    if caller.rules.is_empty() && !policy.observes() {
        return Ok(None);
    }
    // A batch without a body has no items.
    policy.base = batch_base(path).filter(|_| has_body).map(|base| BatchBase {
        path: base.into(),
        region_len: region.len(),
    });
    Ok(Some(policy))
}

impl Policy<'_> {
    /// Evaluates a path at the gateway. That of a region is evaluated without and with it, so that a
    /// link to a region is permitted where its page was (interface §4.3).
    fn evaluate_path(&self, snapshot: &Snapshot, method: &Method, path: &str) -> Decision {
        let rules = &self.caller.rules;
        if rules.is_empty() {
            return Decision::Allowed;
        }
        let behind = snapshot.split_region(path).map(|(_, rest)| rest);
        let forms = behind.into_iter().chain([path]);
        rules.evaluate_any(method.as_str(), forms, self.customer)
    }

    /// Returns `true` if the request may also be sent to `path` of `gateway`, to which it is
    /// redirected.
    pub(in crate::proxy) fn permits(
        &self,
        snapshot: &Snapshot,
        method: &Method,
        (gateway, path): (&Origin, &str),
        customer: &Customer,
    ) -> bool {
        let links = snapshot.links(customer);
        let here = links.path_at_gateway(gateway.url.authority.as_str(), path);
        let path = here.as_deref().unwrap_or(path);
        self.observes() || self.evaluate_path(snapshot, method, path) == Decision::Allowed
    }

    /// Returns `true` for a batch whose items are not evaluated yet.
    pub(in crate::proxy) fn awaits_items(&self) -> bool {
        self.base.is_some()
    }

    /// Returns the id of the request's customer.
    pub(in crate::proxy) fn customer(&self) -> &str {
        self.customer
    }

    /// Checks, for a request with a body, that the items can be evaluated if the forwarded path is
    /// that of a batch. `is_api_batch` is `true` if the body is read and parsed.
    ///
    /// # Errors
    /// If it is a batch whose items cannot be evaluated.
    pub(in crate::proxy) fn expect_items(
        &mut self,
        forwarded_path: &str,
        is_api_batch: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let readable = is_api_batch
            && self
                .base
                .as_ref()
                .is_none_or(|base| base.path.len() <= MAX_BASE_LENGTH);
        // A route may turn a path that is not a batch into one that is.
        let is_batch = is_api_batch || self.base.is_some() || batch_base(forwarded_path).is_some();
        if !is_batch || (readable && self.base.is_some()) {
            return Ok(());
        }
        self.reject_unreadable(exchange)?;
        if self.base.take().is_some() {
            exchange.audit_admission(self.customer);
        }
        Ok(())
    }

    /// Rejects a batch whose items cannot be evaluated, if the caller has rules.
    ///
    /// # Errors
    /// If the rules are enforced.
    pub(in crate::proxy) fn reject_unreadable(
        &self,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        if self.observes() {
            self.usage
                .observations
                .record_ambiguous(Ambiguous::UnreadableBatch);
        }
        if self.caller.rules.is_empty() {
            return Ok(());
        }
        self.apply(
            Decision::Ambiguous(Ambiguous::UnreadableBatch),
            "",
            exchange,
        )
    }

    /// Evaluates each item of a batch like a request of its own.
    ///
    /// # Errors
    /// If the rules reject an item; in `mode = "observe"` the first such item is logged.
    pub(in crate::proxy) async fn evaluate_items(
        &self,
        items: &[BatchItem],
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let Some(base) = &self.base else {
            return Ok(());
        };
        let mut rejected = false;
        for (index, item) in items.iter().enumerate() {
            if (index + 1) % ITEMS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
            if self.observes() {
                self.usage.observations.record_item(
                    &base.path,
                    &item.method,
                    &item.relative_url,
                    self.customer,
                );
            }
            let decision = if rejected {
                Decision::Allowed
            } else {
                self.evaluate_item(base, item)
            };
            if decision != Decision::Allowed {
                rejected = true;
                let which = format!("item {index} of the batch, counted from 0: ");
                self.apply(decision, &which, exchange)?;
            }
        }
        Ok(())
    }

    fn evaluate_item(&self, base: &BatchBase, item: &BatchItem) -> Decision {
        let rules = &self.caller.rules;
        if rules.is_empty() {
            return Decision::Allowed;
        }
        let is_other = |named: &String| !named.eq_ignore_ascii_case(self.customer);
        if item.customers.iter().any(is_other) {
            return Decision::Denied(Restriction::Customers);
        }
        if item.has_misleading_fields {
            return Decision::Ambiguous(Ambiguous::MisleadingField);
        }
        let (region, base) = base.path.split_at(base.region_len);
        evaluate_items(
            rules,
            region,
            base,
            self.customer,
            [(&*item.method, &*item.relative_url)],
        )
    }

    fn observes(&self) -> bool {
        self.caller.mode == Mode::Observe
    }

    /// Acquires permits of the caller's own limits for the rest of the exchange.
    fn acquire_permits(&self, exchange: &mut Exchange) -> Result<(), Failure> {
        match self.usage.limits.acquire(Instant::now()) {
            Ok(permit) => {
                exchange.set_caller_permit(permit);
                Ok(())
            }
            Err(exceeded) => {
                let wait = match exceeded {
                    CallerLimitExceeded::Concurrent(_) => LIMIT_RETRY_AFTER,
                    CallerLimitExceeded::PerSecond { retry_after, .. } => retry_after,
                };
                let failure = Failure::new(Reason::Overloaded, exceeded.to_string());
                self.enforce(failure.with_source(exceeded).retry_after(wait), exchange)
            }
        }
    }

    /// Rejects unless `decision` allows. `which` names the part of the request, if not the whole.
    fn apply(
        &self,
        decision: Decision,
        which: &str,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let failure = match decision {
            Decision::Allowed => return Ok(()),
            Decision::Denied(restriction @ Restriction::Customers) => Failure::new(
                Reason::CustomerForbidden,
                format!("{which}{UNKNOWN_CUSTOMER}"),
            )
            .with_source(format!("{which}{restriction}")),
            Decision::Denied(restriction @ (Restriction::Methods | Restriction::Paths)) => {
                let text = format!("{which}{restriction}");
                Failure::new(Reason::CallerForbidden, text.clone()).with_source(text)
            }
            Decision::Ambiguous(ambiguity) => {
                let reason = if ambiguity.is_malformed() {
                    Reason::BadRequest
                } else {
                    Reason::CallerForbidden
                };
                let detail =
                    format!("{which}{ambiguity}; the caller's rules cannot be applied to it");
                Failure::new(reason, detail).with_source(format!("{which}{ambiguity}"))
            }
        };
        self.enforce(failure, exchange)
    }

    fn enforce(&self, failure: Failure, exchange: &mut Exchange) -> Result<(), Failure> {
        if self.observes() {
            exchange.would_deny(self.customer, &failure);
            return Ok(());
        }
        Err(failure)
    }
}
