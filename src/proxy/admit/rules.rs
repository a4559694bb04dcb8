//! What a caller's rules and limits say to its request (design 3.1).

use http::Method;
use tokio::time::Instant;

use crate::callers::caller_state::CallerState;
use crate::config::{Caller, Mode};
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::limit::caller::CallerLimitExceeded;
use crate::proxy::queue::COME_BACK;
use crate::state::snapshot::Snapshot;
use citrix_wire::citrix::batch::BatchItem;
use citrix_wire::citrix::headers::customers_in_path;
use citrix_wire::policy::batch::{MAX_BASE_LENGTH, batch_base, evaluate_items};
use citrix_wire::policy::path::Ambiguous;
use citrix_wire::policy::{Decision, Restriction};

/// The same whether there is no such customer, or the caller may not use it: it shall not find out which there are.
pub(super) const OTHER_CUSTOMER: &str = "the gateway has no credential for the customer that is meant, or none that this caller may use";

/// Refuses a path that names a customer the caller may not act for, before anything tells whether there is one: its
/// own host below `/direct` is there only if there is.
///
/// # Errors
/// `customer_forbidden`.
pub(super) fn check_named(
    snapshot: &Snapshot,
    path: &str,
    exchange: &Exchange,
) -> Result<(), Failure> {
    let Some((caller, _)) = exchange.caller.and_then(|number| snapshot.caller(number)) else {
        return Ok(());
    };
    if caller.mode == Mode::Enforce
        && !customers_in_path(path).all(|named| caller.rules.allows_customer(named))
    {
        return Err(Failure::new(Reason::CustomerForbidden, OTHER_CUSTOMER)
            .with_source(Restriction::Customers));
    }
    Ok(())
}

/// Items of a batch that are judged before other requests of the worker have their turn.
const AT_A_TIME: usize = 100;

/// What a caller may do, for as long as its request is not wholly judged.
pub(in crate::proxy) struct Policy<'s> {
    caller: &'s Caller,
    usage: &'s CallerState,
    customer: &'s str,
    /// What the items of a batch are relative to, if that is where the caller's path leads.
    base: Option<Box<str>>,
}

/// Judges a request by its method, its path as it is today, and its customer, and takes it into account. What is left
/// to be judged is in its body.
///
/// # Errors
/// When it is outside of the caller's rules, or the caller has reached a limit of its own; in `mode = "observe"` both
/// are only told.
pub(super) fn check<'s>(
    snapshot: &'s Snapshot,
    method: &Method,
    path: &str,
    customer: &'s str,
    has_body: bool,
    exchange: &mut Exchange,
) -> Result<Option<Policy<'s>>, Failure> {
    let Some((caller, usage)) = exchange.caller.and_then(|number| snapshot.caller(number)) else {
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
    let verdict = caller.rules.evaluate(method.as_str(), path, customer);
    policy.settle(verdict, "", exchange)?;
    policy.enter(exchange)?;
    if caller.rules.is_empty() && !policy.observes() {
        return Ok(None);
    }
    // A batch without a body has no items.
    policy.base = batch_base(path).filter(|_| has_body).map(Box::from);
    Ok(Some(policy))
}

impl Policy<'_> {
    /// Whether it is a batch, whose items are yet to be judged.
    pub(in crate::proxy) fn awaits_items(&self) -> bool {
        self.base.is_some()
    }

    /// For whom the request is.
    pub(in crate::proxy) fn customer(&self) -> &str {
        self.customer
    }

    /// A request with a body is about to leave to `leaving`. If that is a batch, its items have to be judged;
    /// `is_api_batch` is whether they can be.
    ///
    /// # Errors
    /// When it is a batch of which nobody can tell the items.
    pub(in crate::proxy) fn expect_items(
        &mut self,
        leaving: &str,
        is_api_batch: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let readable = is_api_batch
            && self
                .base
                .as_ref()
                .is_none_or(|base| base.len() <= MAX_BASE_LENGTH);
        // A route may make a batch of what the caller's path does not show to be one.
        let is_batch = is_api_batch || self.base.is_some() || batch_base(leaving).is_some();
        if !is_batch || (readable && self.base.is_some()) {
            return Ok(());
        }
        self.refuse_unreadable(exchange)?;
        if self.base.take().is_some() {
            exchange.audit_admission(self.customer);
        }
        Ok(())
    }

    /// The items of a batch cannot be told.
    ///
    /// # Errors
    /// Unless nothing is enforced, or there is no rule.
    pub(in crate::proxy) fn refuse_unreadable(&self, exchange: &Exchange) -> Result<(), Failure> {
        if self.observes() {
            self.usage
                .observations
                .record_unjudgeable(Ambiguous::UnreadableBatch);
        }
        if self.caller.rules.is_empty() {
            return Ok(());
        }
        self.settle(
            Decision::Ambiguous(Ambiguous::UnreadableBatch),
            "",
            exchange,
        )
    }

    /// Judges each item of a batch like a request of its own.
    ///
    /// # Errors
    /// When one is outside of the caller's rules; in `mode = "observe"` the first such is told.
    pub(in crate::proxy) async fn evaluate_items(
        &self,
        items: &[BatchItem],
        exchange: &Exchange,
    ) -> Result<(), Failure> {
        let Some(base) = self.base.as_deref() else {
            return Ok(());
        };
        let mut told = false;
        for (number, item) in items.iter().enumerate() {
            if (number + 1) % AT_A_TIME == 0 {
                tokio::task::yield_now().await;
            }
            if self.observes() {
                self.usage.observations.record_item(
                    base,
                    &item.method,
                    &item.relative_url,
                    self.customer,
                );
            }
            let verdict = if told {
                Decision::Allowed
            } else {
                self.evaluate_item(base, item)
            };
            if verdict != Decision::Allowed {
                told = true;
                let which = format!("item {number} of the batch, counted from 0: ");
                self.settle(verdict, &which, exchange)?;
            }
        }
        Ok(())
    }

    fn evaluate_item(&self, base: &str, item: &BatchItem) -> Decision {
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
        evaluate_items(
            rules,
            base,
            self.customer,
            [(&*item.method, &*item.relative_url)],
        )
    }

    fn observes(&self) -> bool {
        self.caller.mode == Mode::Observe
    }

    /// Takes up what the caller's own limits leave, until the exchange is over.
    fn enter(&self, exchange: &mut Exchange) -> Result<(), Failure> {
        match self.usage.limits.acquire(Instant::now()) {
            Ok(place) => {
                exchange.caller_place = place;
                Ok(())
            }
            Err(too_much) => {
                let wait = match too_much {
                    CallerLimitExceeded::AtOnce(_) => COME_BACK,
                    CallerLimitExceeded::PerSecond(wait) => wait,
                };
                let failure = Failure::new(Reason::Overloaded, too_much.to_string());
                self.enforce(failure.with_source(too_much).retry_after(wait), exchange)
            }
        }
    }

    /// Refuses what is not allowed. `which` says what of the request is meant, if not all of it.
    fn settle(&self, verdict: Decision, which: &str, exchange: &Exchange) -> Result<(), Failure> {
        let (reason, why) = match verdict {
            Decision::Allowed => return Ok(()),
            Decision::Denied(outside) => {
                let (reason, told) = match outside {
                    Restriction::Customers => {
                        (Reason::CustomerForbidden, OTHER_CUSTOMER.to_owned())
                    }
                    Restriction::Methods | Restriction::Paths => {
                        (Reason::CallerForbidden, outside.to_string())
                    }
                };
                let failure = Failure::new(reason, format!("{which}{told}"));
                return self.enforce(failure.with_source(format!("{which}{outside}")), exchange);
            }
            Decision::Ambiguous(why) if why.is_malformed() => (Reason::BadRequest, why),
            Decision::Ambiguous(why) => (Reason::CallerForbidden, why),
        };
        let detail = format!("{which}{why}; this caller's rules cannot be held to it");
        self.enforce(
            Failure::new(reason, detail).with_source(format!("{which}{why}")),
            exchange,
        )
    }

    fn enforce(&self, refusal: Failure, exchange: &Exchange) -> Result<(), Failure> {
        if self.observes() {
            exchange.would_deny(self.customer, &refusal);
            return Ok(());
        }
        Err(refusal)
    }
}
