//! The gate of one request: it closes for the wait that a response requests, and holds the request
//! back while it is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::MAX_GATE;
use super::budget::{Allowance, MIN_WAIT, RetryBudget};
use crate::fleet::Fleet;
use crate::limit::gate::{GateWait, Gates};
use crate::limit::owner::Owner;
use crate::limit::scope::Scope;

/// A gate as one request sees it.
pub(in crate::proxy::send) struct RequestGate<'a> {
    pub(in crate::proxy::send) gates: &'a Gates,
    /// The fleet whose other replicas close their gates as well.
    pub(in crate::proxy::send) fleet: Option<&'a Fleet>,
    pub(in crate::proxy::send) scope: Scope,
    pub(in crate::proxy::send) owner: &'a Arc<Owner>,
    /// `limits.max_queued`.
    pub(in crate::proxy::send) max_queued: usize,
    /// `upstream.retry_budget`.
    pub(in crate::proxy::send) retry_budget: Duration,
}

/// A wait that a response requests.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy::send) struct RequestedWait {
    pub(in crate::proxy::send) until: Instant,
    allowance: Allowance,
    /// The request may wait for it.
    pub(in crate::proxy::send) is_permitted: bool,
}

impl RequestedWait {
    /// Returns the wait for the one retry of a failure without a hint.
    pub(super) fn after_failure(budget: &RetryBudget) -> Self {
        let allowance = Allowance::Retry;
        Self {
            until: Instant::now() + MIN_WAIT,
            allowance,
            is_permitted: MIN_WAIT <= budget.left(allowance),
        }
    }
}

impl RequestGate<'_> {
    /// Closes the gate after a 429 (`too_many`) or a 503 with a hint. `random` is from 0 to 1.
    pub(in crate::proxy::send) fn close(
        &self,
        budget: &mut RetryBudget,
        too_many: bool,
        hint: Option<Duration>,
        random: f64,
    ) -> RequestedWait {
        let allowance = budget.allowance(too_many);
        let wait = budget.requested_wait(allowance, hint, random);
        let max_wait = self.retry_budget.max(budget.left(allowance)).max(MAX_GATE);
        let jitter = self.fleet.map(|fleet| fleet.close_gate(self.scope, wait));
        // Within the budget, which `wait` may exhaust.
        let rest = budget.left(allowance).saturating_sub(wait);
        let jitter = jitter.unwrap_or_default().min(rest);
        let until = Instant::now() + wait.min(max_wait) + jitter;
        self.gates.close(self.scope, until);
        RequestedWait {
            until,
            allowance,
            is_permitted: budget.permits(allowance, wait),
        }
    }

    /// Plans a wait before the next attempt. Returns `false` if too many requests wait.
    pub(in crate::proxy::send) fn plan(
        &self,
        budget: &mut RetryBudget,
        wait: RequestedWait,
    ) -> bool {
        let planned = self.acquire_wait(wait.until);
        let planned = planned.map(|next| Box::new((next, wait.allowance)));
        let is_planned = planned.is_some();
        if is_planned {
            budget.next = planned;
        }
        is_planned
    }

    /// Returns the wait before the next attempt: the planned one, or one until the gate opens.
    pub(in crate::proxy::send) fn next_wait(
        &self,
        budget: &mut RetryBudget,
    ) -> Option<(GateWait, Allowance)> {
        let at_gate = budget.allowance_at_gate();
        let planned = budget.next.take().map(|next| *next);
        planned.or_else(|| Some((self.wait_until_open(budget.left(at_gate))?, at_gate)))
    }

    /// Waits as long as a response requested, and then while the gate is closed, within the budget.
    pub(in crate::proxy::send) async fn wait(
        &self,
        first: (GateWait, Allowance),
        budget: &mut RetryBudget,
    ) {
        let (mut wait, mut allowance) = first;
        let at_gate = budget.allowance_at_gate();
        loop {
            let began = Instant::now();
            sleep_until(wait.until).await;
            budget.spend(allowance, began.elapsed());
            // A later response may have closed the gate for longer.
            allowance = at_gate;
            let Some(longer) = self.wait_until_open(budget.left(at_gate)) else {
                break;
            };
            wait = longer;
        }
    }

    /// Returns a wait until the gate opens, if it is closed and opens within `left`.
    fn wait_until_open(&self, left: Duration) -> Option<GateWait> {
        let opens = self.gates.opens(self.scope)?;
        if opens.duration_since(Instant::now()) > left {
            return None;
        }
        self.acquire_wait(opens)
    }

    fn acquire_wait(&self, until: Instant) -> Option<GateWait> {
        let (gates, max_queued) = (self.gates, self.max_queued);
        gates.acquire_wait(self.scope, until, self.owner, max_queued)
    }
}
