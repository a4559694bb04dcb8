//! One request on its way through the steps `queue` and `send`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep};

use super::super::retry::{RequestGate, RetryBudget};
use super::cloud::{REQUEST_TIMEOUT, Request, Response};
use super::gateway::{Gateway, STARTUP_WAIT};
use crate::limit::owner::Owner;
use crate::limit::scope::Scope;
use crate::limit::{Admission, QueuePermit};
use crate::system::moment::Moment;
use crate::token::rejections::Reaction;
use crate::token::slot::ForcedRefresh;
use citrix_wire::citrix::AuthorizationScheme;

/// `upstream.retry_budget`.
const RETRY_BUDGET: Duration = Duration::from_secs(10);
/// As for requests.
const MAX_REPLAYS: u32 = 3;
const ROUTE: &str = "/";
const LIMITED: &str = "/monitorodata/Machines";
const UNLIMITED: &str = "/systemlog/records";

/// A request in progress.
pub(super) struct Exchange<'a> {
    pub(super) gateway: &'a Gateway,
    /// Of its caller.
    pub(super) number: usize,
    pub(super) owner: &'a Arc<Owner>,
    /// Citrix limits and permits it.
    pub(super) is_limited: bool,
    pub(super) is_permitted: bool,
    /// The time for which its caller reads the response.
    pub(super) reading: Duration,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(StatusCode),
    NoToken,
    QueueFull,
    QueueTimeout,
}

impl Outcome {
    /// Returns `true` if it may be due to many requests.
    pub(super) fn is_load(self) -> bool {
        matches!(self, Self::QueueFull | Self::QueueTimeout)
    }

    pub(super) fn code(self) -> u64 {
        match self {
            Self::Status(status) => status.as_u16().into(),
            Self::NoToken => 1,
            Self::QueueFull => 2,
            Self::QueueTimeout => 3,
        }
    }
}

/// A token at hand.
struct Held {
    generation: u64,
    number: usize,
}

impl Exchange<'_> {
    /// Waits and sends as the steps `queue` and `send` do.
    pub(super) async fn run(&self) -> Outcome {
        if self.token().await.is_none() {
            return Outcome::NoToken;
        }
        if !self.is_limited {
            return self.send(None, None).await;
        }
        let deadline = Instant::now() + self.gateway.plan.queue_timeout;
        let permit = match self.permit(deadline).await {
            Ok(permit) => permit,
            Err(outcome) => return outcome,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.send(Some(permit), Some(left)).await
    }

    /// Returns the token in use, after a wait if there is none.
    async fn token(&self) -> Option<Held> {
        let Gateway { slot, clock, .. } = self.gateway;
        loop {
            if let Some(token) = slot.usable(Moment::now(*clock)) {
                let value = token.authorization(AuthorizationScheme::Cws);
                let (_, number) = value.to_str().unwrap().split_once("token-").unwrap();
                return Some(Held {
                    generation: token.generation(),
                    number: number.parse().unwrap(),
                });
            }
            let (owner, max_queued) = (self.owner, self.gateway.plan.max_queued);
            let _slot = slot.waiting().acquire(owner, max_queued).ok()?;
            let pauses = self.gateway.pause.count();
            let waited = slot.wait_usable(*clock, STARTUP_WAIT).await;
            if waited.is_err() {
                self.check_unavailable(pauses, 0);
                return None;
            }
            self.continue_in_order().await;
        }
    }

    /// A wait that failed missed no token.
    fn check_unavailable(&self, pauses: u64, generation: u64) {
        let Gateway { slot, clock, .. } = self.gateway;
        let missed = slot.usable(Moment::now(*clock));
        let missed = missed.filter(|token| token.generation() > generation);
        let was_paused = self.gateway.pause.count() != pauses;
        self.gateway
            .trace
            .check(missed.is_none() || was_paused, || {
                format!("caller {} missed a token", self.number)
            });
    }

    /// Several callers that a token wakes continue one after another, whatever the order in which
    /// the runtime wakes them.
    async fn continue_in_order(&self) {
        let number = u64::try_from(self.number).unwrap();
        sleep(Duration::from_millis(1 + number)).await;
    }

    async fn permit(&self, deadline: Instant) -> Result<QueuePermit, Outcome> {
        let Gateway {
            limit, plan, trace, ..
        } = self.gateway;
        let asker = self.gateway.asker(self.number);
        let fairness = &self.gateway.fairness;
        let pauses = self.gateway.pause.count();
        let acquired = limit.acquire(asker, plan.max_queued, NonZeroU32::MIN);
        let admitted = match acquired.map_err(|_| Outcome::QueueFull)? {
            Admission::Immediate(admitted) => admitted,
            Admission::Queued(queued) => {
                let place = fairness.queued(self.number);
                let admitted = queued.wait(deadline).await;
                let late = Instant::now().saturating_duration_since(deadline);
                let was_paused = self.gateway.pause.count() != pauses;
                trace.check(late <= Duration::from_millis(1) || was_paused, || {
                    format!("caller {} waited {late:?} too long", self.number)
                });
                let Ok(admitted) = admitted else {
                    return Err(Outcome::QueueTimeout);
                };
                let before = place.admitted();
                let most = plan.callers + plan.permits;
                let is_fair = before <= most || plan.is_fleet();
                trace.check(is_fair || was_paused, || {
                    let number = self.number;
                    format!("{before} requests of others were admitted before caller {number}")
                });
                admitted
            }
        };
        fairness.admitted(self.number);
        trace.record("permit", self.number, [0, 0]);
        Ok(admitted.permit.expect("a limit on concurrency has permits"))
    }

    async fn send(&self, mut permit: Option<QueuePermit>, queue_left: Option<Duration>) -> Outcome {
        let Gateway {
            gates,
            rejections,
            cloud,
            ..
        } = self.gateway;
        let granted = permit.as_ref().map(|_| Instant::now());
        let path = if self.is_limited { LIMITED } else { UNLIMITED };
        let mut budget = RetryBudget::new(RETRY_BUDGET, queue_left);
        let mut replays = 0;
        let gate = RequestGate {
            gates,
            fleet: self.gateway.fleet.as_deref(),
            scope: self.gateway.gate_scope(ROUTE, path),
            owner: self.owner,
            max_queued: self.gateway.plan.max_queued,
            retry_budget: RETRY_BUDGET,
        };
        let rejected = rejections.scope(b"acme", ROUTE, path);
        let rejected = rejections.scope_of_caller(rejected, self.owner.key());
        loop {
            if (budget.must_wait() || gates.any_closed())
                && let Some(first) = gate.next_wait(&mut budget)
            {
                gate.wait(first, &mut budget).await;
            }
            let Some(token) = self.token().await else {
                return Outcome::NoToken;
            };
            if let Some(permit) = &mut permit {
                permit.begin_use(None);
            }
            let request = Request {
                caller: self.number,
                token: token.number,
                granted,
                is_permitted: self.is_permitted,
            };
            let response = cloud.send(request).await;
            let again = match response.status {
                StatusCode::UNAUTHORIZED => {
                    replays += 1;
                    replays <= MAX_REPLAYS && self.newer_token(rejected, token.generation).await
                }
                StatusCode::TOO_MANY_REQUESTS => self.wait_again(&gate, &mut budget, response),
                StatusCode::SERVICE_UNAVAILABLE if response.hint.is_some() => {
                    self.wait_again(&gate, &mut budget, response)
                }
                _ => false,
            };
            if again {
                continue;
            }
            if replays > 0 && response.status != StatusCode::UNAUTHORIZED {
                rejections.accepted(rejected);
            }
            sleep(self.reading).await;
            return Outcome::Status(response.status);
        }
    }

    /// Closes the gate. Returns `true` if the request is sent again when it opens.
    fn wait_again(
        &self,
        gate: &RequestGate<'_>,
        budget: &mut RetryBudget,
        response: Response,
    ) -> bool {
        let too_many = response.status == StatusCode::TOO_MANY_REQUESTS;
        let wait = gate.close(budget, too_many, response.hint, fastrand::f64());
        self.gateway.closed(gate.scope, wait.until);
        wait.is_permitted && gate.plan(budget, wait)
    }

    /// Returns `true` if there is a newer token than the rejected one, which may take a login.
    async fn newer_token(&self, scope: Scope, generation: u64) -> bool {
        let Gateway {
            slot,
            clock,
            rejections,
            ..
        } = self.gateway;
        let newest = slot.usable(Moment::now(*clock));
        if newest.is_some_and(|token| token.generation() > generation) {
            return true;
        }
        match rejections.report(slot, scope, generation) {
            Reaction::Reported(ForcedRefresh::Replaced) => true,
            Reaction::Reported(ForcedRefresh::InProgress) => {
                let pauses = self.gateway.pause.count();
                let newer = slot.wait_newer(generation, *clock, REQUEST_TIMEOUT).await;
                if newer.is_err() {
                    self.check_unavailable(pauses, generation);
                    return false;
                }
                self.continue_in_order().await;
                true
            }
            Reaction::Reported(ForcedRefresh::Deferred(_))
            | Reaction::NewlySuppressed
            | Reaction::Suppressed => false,
        }
    }
}
