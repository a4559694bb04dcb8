//! The time that one request may spend on waits which responses request. Pure, except for the
//! permits to wait.

use std::time::Duration;

use crate::limit::gate::GateWait;

/// Times a request is sent because of responses that count against `upstream.retry_budget`.
const MAX_TRIES: u32 = 5;
/// Minimum wait, whatever the hint says; without a hint, the first wait.
pub(super) const MIN_WAIT: Duration = Duration::from_secs(1);
/// Doublings of a wait without a hint in a queue, where a 429 mostly means that another program's
/// request is in progress.
const MAX_QUEUE_DOUBLINGS: u32 = 2;
/// Part of a wait in a queue that jitter may add from the second one on, so that replicas which
/// collided do not collide again.
const JITTER: f64 = 0.5;

/// The setting that limits a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::send) enum Allowance {
    /// `upstream.retry_budget`, and a number of tries.
    Retry,
    /// The route's `queue_timeout`: a 429 where Citrix limits the customer is part of the wait for
    /// the limit.
    Queue,
}

/// The waits that one request may still make, and the responses that requested one.
pub(in crate::proxy::send) struct RetryBudget {
    /// The rest of `upstream.retry_budget`.
    retry: Duration,
    /// The rest of `queue_timeout`; `None` where Citrix does not limit the customer.
    queue: Option<Duration>,
    /// Responses that counted against each of them.
    retries: u32,
    rejections: u32,
    /// `true` once a failure without a hint was retried.
    pub(super) failure_retried: bool,
    /// The wait before the next attempt. Boxed, because few requests wait.
    pub(super) next: Option<Box<(GateWait, Allowance)>>,
}

impl RetryBudget {
    pub(in crate::proxy::send) const fn new(retry: Duration, queue: Option<Duration>) -> Self {
        Self {
            retry,
            queue,
            retries: 0,
            rejections: 0,
            failure_retried: false,
            next: None,
        }
    }

    /// Returns `true` if a wait precedes the next attempt.
    pub(in crate::proxy::send) const fn must_wait(&self) -> bool {
        self.next.is_some()
    }

    /// Returns `true` if the request waits, or waited, because of a response.
    pub(in crate::proxy::send) const fn wait_requested(&self) -> bool {
        self.retries > 0 || self.rejections > 0 || self.failure_retried
    }

    /// Returns the allowance for the wait that a response requests.
    pub(super) const fn allowance(&self, too_many_requests: bool) -> Allowance {
        match self.queue {
            Some(_) if too_many_requests => Allowance::Queue,
            _ => Allowance::Retry,
        }
    }

    /// Returns the allowance for a wait that the response to another request requested.
    pub(super) const fn allowance_at_gate(&self) -> Allowance {
        self.allowance(true)
    }

    /// Counts a response, and returns the wait that it requests by its `hint`, if it has one.
    /// `random` is from 0 to 1.
    pub(super) fn requested_wait(
        &mut self,
        allowance: Allowance,
        hint: Option<Duration>,
        random: f64,
    ) -> Duration {
        let (count, max_doublings) = match allowance {
            Allowance::Retry => (&mut self.retries, MAX_TRIES),
            Allowance::Queue => (&mut self.rejections, MAX_QUEUE_DOUBLINGS),
        };
        let before = *count;
        *count += 1;
        let wait = match hint {
            Some(hint) => hint.max(MIN_WAIT),
            None => MIN_WAIT * 2_u32.pow(before.min(max_doublings)),
        };
        if allowance == Allowance::Retry || before == 0 {
            return wait;
        }
        let rest = self.left(allowance).saturating_sub(wait);
        wait + wait
            .mul_f64(JITTER)
            .min(rest)
            .mul_f64(random.clamp(0.0, 1.0))
    }

    /// Returns `true` if the request may wait for `wait` and be sent again.
    pub(super) fn permits(&self, allowance: Allowance, wait: Duration) -> bool {
        let left = self.left(allowance);
        match allowance {
            Allowance::Retry => self.retries < MAX_TRIES && wait <= left,
            // A wait for all of it would leave nothing for the next attempt.
            Allowance::Queue => wait < left,
        }
    }

    pub(super) fn left(&self, allowance: Allowance) -> Duration {
        match allowance {
            Allowance::Retry => self.retry,
            Allowance::Queue => self.queue.unwrap_or_default(),
        }
    }

    pub(super) fn spend(&mut self, allowance: Allowance, waited: Duration) {
        match (allowance, &mut self.queue) {
            (Allowance::Queue, Some(queue)) => *queue = queue.saturating_sub(waited),
            _ => self.retry = self.retry.saturating_sub(waited),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the seconds of the waits that a series of 429s with the same hint gets, until one is
    /// not permitted.
    fn waits(mut budget: RetryBudget, hint: Option<Duration>, random: f64) -> Vec<f64> {
        let allowance = budget.allowance(true);
        let mut waits = Vec::new();
        loop {
            let wait = budget.requested_wait(allowance, hint, random);
            if !budget.permits(allowance, wait) {
                return waits;
            }
            budget.spend(allowance, wait);
            waits.push(wait.as_secs_f64());
        }
    }

    fn limited(queue_s: u64) -> RetryBudget {
        RetryBudget::new(
            Duration::ZERO,
            Some(SECOND * u32::try_from(queue_s).unwrap()),
        )
    }

    #[test]
    fn without_a_limit_five_tries_share_the_retry_budget() {
        let budget = |seconds| RetryBudget::new(SECOND * seconds, None);
        assert_eq!(waits(budget(10), Some(SECOND), 1.0), [1.0; 4]);
        assert_eq!(waits(budget(10), None, 1.0), [1.0, 2.0, 4.0]);
        assert_eq!(waits(budget(3), Some(SECOND * 2), 1.0), [2.0]);
        assert_eq!(waits(budget(10), Some(SECOND * 11), 1.0), [0.0; 0]);
        assert_eq!(waits(budget(0), Some(SECOND), 1.0), [0.0; 0]);
    }

    #[test]
    fn with_a_limit_waits_for_a_429_share_the_queue_timeout() {
        assert_eq!(waits(limited(6), Some(SECOND), 0.0), [1.0; 5]);
        // Jitter from the second wait on, within what is left.
        assert_eq!(waits(limited(6), Some(SECOND), 1.0), [1.0, 1.5, 1.5, 1.5]);
        assert_eq!(waits(limited(4), Some(SECOND), 1.0), [1.0, 1.5]);
        assert_eq!(waits(limited(12), None, 0.0), [1.0, 2.0, 4.0, 4.0]);
        assert_eq!(waits(limited(61), Some(SECOND * 30), 0.5), [30.0, 30.5]);
        assert_eq!(waits(limited(60), Some(SECOND * 40), 1.0), [40.0]);
        assert_eq!(waits(limited(60), Some(SECOND * 60), 0.0), [0.0; 0]);
    }

    #[test]
    fn with_a_limit_waits_for_a_503_stay_within_the_retry_budget() {
        let mut budget = RetryBudget::new(SECOND * 2, Some(SECOND * 60));
        let allowance = budget.allowance(false);
        assert_eq!(allowance, Allowance::Retry);
        let wait = budget.requested_wait(allowance, Some(SECOND * 3), 0.0);
        assert!(!budget.permits(allowance, wait));
        budget.spend(allowance, SECOND);
        assert_eq!(budget.left(Allowance::Retry), SECOND);
        assert_eq!(budget.left(Allowance::Queue), SECOND * 60);
    }
}
