//! Whether Citrix accepts the requests of a customer. One whose requests all get 401 or 403 although
//! it has a token is reported: its customer id is wrong, or its API client lost its access.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::Instant;

use super::metrics::RejectionMetrics;
use crate::limit::scope::Scope;

/// The action to take if Citrix rejects a customer.
pub(crate) const REJECTION_ADVICE: &str =
    "check customer_id, and the API client and its access in the Citrix Cloud console";
/// Rejections in a row from which a customer counts as rejected, if one of the conditions of
/// [`Streak::is_conclusive`] holds as well.
const MIN_REJECTIONS: u64 = 3;
/// Rejections in a row that are conclusive by themselves.
const CONCLUSIVE_REJECTIONS: u64 = 10;
/// Duration of a streak that is conclusive.
const CONCLUSIVE_TIME: Duration = Duration::from_secs(60);
/// Maximum number of remembered scopes that Citrix rejects while it accepts others.
const MAX_FORBIDDEN: usize = 16;
/// Time for which such a scope is remembered.
const FORBIDDEN_TIME: Duration = Duration::from_hours(24);

/// The last conclusive response was a success.
const ACCEPTED: u8 = 1;
/// The last conclusive response was a rejection.
const REJECTED: u8 = 2;

/// The acceptance of one credential's requests, shared by all workers. A success reads one atomic;
/// only the first after a rejection locks.
#[derive(Debug, Default)]
pub struct Acceptance {
    /// [`ACCEPTED`], [`REJECTED`], or 0 before the first conclusive response.
    state: AtomicU8,
    history: Mutex<History>,
    metrics: OnceLock<RejectionMetrics>,
}

/// Rejections in a row, without a success in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Local time of the first.
    pub since: SystemTime,
    /// Local time of the last.
    pub last: SystemTime,
    pub requests: u64,
    /// Status of the last, 401 or 403.
    pub code: StatusCode,
}

impl Acceptance {
    /// Sets the metrics that count rejections. Only the first call has an effect.
    pub fn set_metrics(&self, metrics: RejectionMetrics) {
        // A slot has one keeper at a time, and each has the same series.
        let _ = self.metrics.set(metrics);
    }

    /// Returns `true` if a success must be recorded with [`Acceptance::accept`]. No success after
    /// another one must be.
    pub fn awaits_success(&self) -> bool {
        self.state.load(Ordering::Relaxed) != ACCEPTED
    }

    /// Records a success in `scope`. Returns the rejection that it ends.
    pub fn accept(&self, scope: Scope, now: Instant) -> Option<Rejection> {
        let mut history = self.lock();
        let ended = history.accept(scope, now);
        self.state.store(ACCEPTED, Ordering::Relaxed);
        if let Some(metrics) = self.metrics.get().filter(|_| ended.is_some()) {
            metrics.set_since(None);
        }
        ended
    }

    /// Counts a response 401 or 403 that proves nothing about the current token.
    pub fn count(&self, code: StatusCode) {
        if let Some(metrics) = self.metrics.get() {
            metrics.count(code);
        }
    }

    /// Records a rejection in `scope`. Returns it if the customer counts as rejected from now on.
    pub fn reject(
        &self,
        scope: Scope,
        code: StatusCode,
        now: Instant,
        at: SystemTime,
    ) -> Option<Rejection> {
        self.count(code);
        let mut history = self.lock();
        let begun = history.reject(scope, code, now, at);
        self.state.store(REJECTED, Ordering::Relaxed);
        if let Some((metrics, begun)) = self.metrics.get().zip(begun) {
            metrics.set_since(Some(begun.since));
        }
        begun
    }

    /// Returns the rejections in a row if the customer counts as rejected; with `is_conclusive`,
    /// however few they are.
    pub(super) fn rejection(&self, is_conclusive: bool) -> Option<Rejection> {
        if self.state.load(Ordering::Relaxed) != REJECTED {
            return None;
        }
        let streak = self.lock().streak?;
        (streak.reported || is_conclusive).then_some(streak.rejection)
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The responses of one customer, as far as they matter. Bounded.
#[derive(Debug, Default)]
struct History {
    /// Citrix accepted a request.
    ever_accepted: bool,
    streak: Option<Streak>,
    /// Scopes that Citrix rejects while it accepts others, the oldest first: a caller requests a
    /// path that the API client has no right to.
    forbidden: VecDeque<(Scope, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Streak {
    rejection: Rejection,
    began: Instant,
    lasted: Duration,
    /// The scope of the first rejection.
    scope: Scope,
    has_other_scopes: bool,
    reported: bool,
}

impl History {
    fn accept(&mut self, scope: Scope, now: Instant) -> Option<Rejection> {
        self.ever_accepted = true;
        self.forbidden.retain(|(forbidden, since)| {
            *forbidden != scope && now.duration_since(*since) < FORBIDDEN_TIME
        });
        let streak = self.streak.take()?;
        if !streak.has_other_scopes && streak.scope != scope {
            if self.forbidden.len() >= MAX_FORBIDDEN {
                self.forbidden.pop_front();
            }
            self.forbidden.push_back((streak.scope, now));
        }
        streak.reported.then_some(streak.rejection)
    }

    fn reject(
        &mut self,
        scope: Scope,
        code: StatusCode,
        now: Instant,
        at: SystemTime,
    ) -> Option<Rejection> {
        if self.is_forbidden(scope, now) {
            return None;
        }
        let streak = self
            .streak
            .get_or_insert_with(|| Streak::new(scope, code, now, at));
        streak.rejection.requests += 1;
        streak.rejection.code = code;
        streak.rejection.last = at;
        streak.lasted = now.saturating_duration_since(streak.began);
        streak.has_other_scopes |= streak.scope != scope;
        if streak.reported || !streak.is_conclusive(self.ever_accepted) {
            return None;
        }
        streak.reported = true;
        Some(streak.rejection)
    }

    fn is_forbidden(&self, scope: Scope, now: Instant) -> bool {
        self.forbidden.iter().any(|(forbidden, since)| {
            *forbidden == scope && now.duration_since(*since) < FORBIDDEN_TIME
        })
    }
}

impl Streak {
    fn new(scope: Scope, code: StatusCode, now: Instant, at: SystemTime) -> Self {
        Self {
            rejection: Rejection {
                since: at,
                last: at,
                requests: 0,
                code,
            },
            began: now,
            lasted: Duration::ZERO,
            scope,
            has_other_scopes: false,
            reported: false,
        }
    }

    /// Returns `true` if the streak shows that Citrix rejects the customer, not one path.
    fn is_conclusive(&self, ever_accepted: bool) -> bool {
        let requests = self.rejection.requests;
        requests >= MIN_REJECTIONS
            && (!ever_accepted
                || self.has_other_scopes
                || requests >= CONCLUSIVE_REJECTIONS
                || self.lasted >= CONCLUSIVE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Scope = Scope(1);
    const B: Scope = Scope(2);
    const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
    const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

    /// A response: the seconds since the start, its scope, and the status if it is a rejection.
    type Response = (u64, Scope, Option<StatusCode>);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn record(acceptance: &Acceptance, start: Instant, (seconds, scope, code): Response) {
        let now = start + Duration::from_secs(seconds);
        match code {
            Some(code) => drop(acceptance.reject(scope, code, now, at(seconds))),
            None if acceptance.awaits_success() => drop(acceptance.accept(scope, now)),
            None => {}
        }
    }

    fn after(responses: &[Response]) -> Option<Rejection> {
        let (acceptance, start) = (Acceptance::default(), Instant::now());
        for response in responses {
            record(&acceptance, start, *response);
        }
        acceptance.rejection(false)
    }

    /// `count` rejections of one scope, one a second.
    fn rejections(from: u64, count: u64, scope: Scope) -> Vec<Response> {
        (from..from + count)
            .map(|second| (second, scope, Some(FORBIDDEN)))
            .collect()
    }

    #[test]
    fn rejections_alone_are_conclusive_after_three_requests() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&rejections(0, 2, A)), None);
        let expected = Rejection {
            since: at(0),
            last: at(2),
            requests: 3,
            code: FORBIDDEN,
        };
        assert_eq!(after(&rejections(0, 3, A)), Some(expected));
    }

    #[test]
    fn each_evidence_after_a_success_is_conclusive() {
        let accepted: Response = (0, A, None);
        for (name, rejected, expected) in [
            ("three in one scope", rejections(1, 3, A), None),
            ("nine in one scope", rejections(1, 9, A), None),
            ("ten in one scope", rejections(1, 10, A), Some(10)),
            (
                "three in two scopes",
                [rejections(1, 2, A), rejections(3, 1, B)].concat(),
                Some(3),
            ),
            (
                "two in two scopes",
                [rejections(1, 1, A), rejections(2, 1, B)].concat(),
                None,
            ),
            (
                "three within a minute",
                [rejections(1, 2, A), rejections(60, 1, A)].concat(),
                None,
            ),
            (
                "three in more than a minute",
                [rejections(1, 2, A), rejections(61, 1, A)].concat(),
                Some(3),
            ),
        ] {
            let rejection = after(&[vec![accepted], rejected].concat());
            assert_eq!(
                rejection.map(|rejection| rejection.requests),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn one_rejection_is_enough_if_it_is_conclusive() {
        let (acceptance, start) = (Acceptance::default(), Instant::now());
        assert_eq!(acceptance.rejection(true), None);
        record(&acceptance, start, (0, A, None));
        assert_eq!(acceptance.rejection(true), None);
        record(&acceptance, start, (5, A, Some(UNAUTHORIZED)));
        assert_eq!(acceptance.rejection(false), None);
        let rejection = acceptance.rejection(true);
        assert_eq!(
            rejection.map(|it| (it.since, it.requests)),
            Some((at(5), 1))
        );
    }

    #[test]
    fn success_ends_the_rejection_whatever_its_scope() {
        for scope in [A, B] {
            let responses = [rejections(0, 20, A), vec![(20, scope, None)]].concat();
            assert_eq!(after(&responses), None);
        }
    }

    #[test]
    fn code_and_times_are_those_of_the_streak() {
        let mut responses = rejections(10, 9, A);
        responses.insert(0, (5, A, None));
        responses.push((40, B, Some(UNAUTHORIZED)));
        let expected = Rejection {
            since: at(10),
            last: at(40),
            requests: 10,
            code: UNAUTHORIZED,
        };
        assert_eq!(after(&responses), Some(expected));
    }

    #[test]
    fn scope_that_is_rejected_between_successes_of_others_never_marks_the_customer() {
        let learned = [
            vec![(0, A, None)],
            rejections(1, 3, B),
            vec![(5, A, None)],
            rejections(100, 1000, B),
        ]
        .concat();
        assert_eq!(after(&learned), None);
        // Another scope does, and the known one does not count.
        let responses = [learned.clone(), rejections(1100, 10, A)].concat();
        assert_eq!(after(&responses).map(|it| it.since), Some(at(1100)));
        // A day later the rejection is evidence again.
        let day = 24 * 3600;
        let responses = [learned, rejections(5 + day, 10, B)].concat();
        assert_eq!(after(&responses).map(|it| it.since), Some(at(5 + day)));
    }

    #[test]
    fn rejected_scope_that_succeeds_again_is_not_remembered() {
        let responses = [
            vec![(0, A, None)],
            rejections(1, 10, A),
            vec![(20, A, None)],
            rejections(30, 10, A),
        ]
        .concat();
        assert_eq!(after(&responses).map(|it| it.since), Some(at(30)));
    }

    #[test]
    fn begin_and_end_are_returned_once() {
        let (acceptance, now) = (Acceptance::default(), Instant::now());
        let reject = || acceptance.reject(A, FORBIDDEN, now, at(0)).is_some();
        assert_eq!(
            [(); 5].map(|()| reject()),
            [false, false, true, false, false]
        );
        assert!(acceptance.awaits_success());
        assert!(acceptance.accept(A, now).is_some());
        assert!(!acceptance.awaits_success());
        assert!(acceptance.accept(A, now).is_none());
    }

    #[test]
    fn remembered_scopes_are_bounded() {
        let (acceptance, start) = (Acceptance::default(), Instant::now());
        for number in 0..100 {
            record(
                &acceptance,
                start,
                (0, Scope(100 + number), Some(FORBIDDEN)),
            );
            record(&acceptance, start, (0, A, None));
        }
        assert_eq!(acceptance.lock().forbidden.len(), MAX_FORBIDDEN);
    }
}
