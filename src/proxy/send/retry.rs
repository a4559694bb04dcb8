//! What follows a 429 or 503 of Citrix: a wait as long as its hint says, and the request once more, or the answer for
//! the caller (design 4.4).

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use tokio::time::Instant;

use super::outgoing::{Outgoing, ReplayCopy};
use super::{Sent, Upstream};
use crate::exchange::Exchange;
use crate::limit::gate::GateWait;
use crate::observe::metrics::Replay;
use crate::state::snapshot::Customer;
use crate::upstream::body::ResponseBody;
use citrix_wire::retry_after;

/// How often a request is sent because of these answers.
const MAX_TRIES: u32 = 5;
/// No wait is shorter, whatever the hint. Without a hint it is the first one.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// A hint beyond this is handed on like any that is too long, but closes its gate no longer.
const LONGEST_GATE: Duration = Duration::from_mins(10);
/// Where a hint in a body is looked for. Citrix's errors have a few hundred bytes.
const PEEKED_BYTES: usize = 16 * 1024;
/// How long is waited for such a body.
const PEEK_TIME: Duration = Duration::from_secs(1);

/// How long one request will still wait, and how often it was told to.
pub(super) struct RetryBudget {
    left: Duration,
    told: u32,
    /// The wait that comes before it is sent again.
    stay: Option<GateWait>,
}

impl RetryBudget {
    pub(super) const fn new(budget: Duration) -> Self {
        Self {
            left: budget,
            told: 0,
            stay: None,
        }
    }

    /// Whether a wait is ahead.
    pub(super) const fn must_wait(&self) -> bool {
        self.stay.is_some()
    }

    /// Whether it waited and was sent again.
    pub(super) const fn was_told(&self) -> bool {
        self.told > 0
    }
}

/// Whether it is an answer that may ask one to wait.
pub(super) fn may_ask_to_wait(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

impl Upstream<'_> {
    /// The request once more, when the wait that its answer asks for can be made. [`Upstream::wait`] makes it. The
    /// gate closes in any case, for the others.
    ///
    /// # Errors
    /// With the answer when it is the caller's.
    pub(super) async fn wait_out(
        &self,
        told: Sent,
        spare: &ReplayCopy,
        customer: &Customer,
        patience: &mut RetryBudget,
        exchange: &mut Exchange,
    ) -> Result<Outgoing, Sent> {
        // The rest of an answer is Citrix's time like its head.
        exchange.upstream_begins();
        let again = self.again(told, spare, customer, patience).await;
        exchange.upstream_ends();
        again
    }

    async fn again(
        &self,
        mut told: Sent,
        spare: &ReplayCopy,
        customer: &Customer,
        patience: &mut RetryBudget,
    ) -> Result<Outgoing, Sent> {
        if self.live.upstream.retry_budget.is_zero() {
            return Err(told);
        }
        let too_many = told.response.status() == StatusCode::TOO_MANY_REQUESTS;
        let wait = match self.hint(&mut told.response).await {
            Some(hint) => hint.max(SHORTEST_WAIT),
            None if too_many => SHORTEST_WAIT * 2_u32.pow(patience.told.min(MAX_TRIES)),
            // It may be down for long, and nobody says that it was not acted upon.
            None => return Err(told),
        };
        patience.told += 1;
        let scope = self.shared.gates.scope(
            customer.id.as_bytes(),
            self.route.config.name(),
            spare.path(),
        );
        let until = Instant::now() + wait.min(self.live.upstream.retry_budget.max(LONGEST_GATE));
        self.shared.gates.close(scope, until);
        let again = if too_many || spare.is_idempotent() {
            spare.again()
        } else {
            None
        };
        let outcome = match again {
            None => Replay::NotReplayable,
            Some(_) if patience.told >= MAX_TRIES || wait > patience.left => Replay::WaitTooLong,
            Some(again) => match self
                .shared
                .gates
                .stay(scope, until, self.live.limits.max_queued)
            {
                None => Replay::TooManyWait,
                stay => {
                    patience.stay = stay;
                    told.response.into_body().discard().await;
                    return Ok(again);
                }
            },
        };
        self.shared
            .metrics
            .replayed(self.route.config.name(), outcome);
        Err(told)
    }

    /// Waits as long as an answer asked for, and while the request's gate is closed, as far as its patience goes;
    /// then it goes anyway and gets Citrix's own answer. Its place in flight is given up for a wait; its turn it
    /// keeps.
    pub(super) async fn wait(
        &self,
        spare: &ReplayCopy,
        customer: &Customer,
        patience: &mut RetryBudget,
        exchange: &mut Exchange,
    ) {
        let scope = self.shared.gates.scope(
            customer.id.as_bytes(),
            self.route.config.name(),
            spare.path(),
        );
        let at_the_gate = |left: Duration| {
            let opens = self.shared.gates.opens(scope)?;
            let affordable = opens.duration_since(Instant::now()) <= left;
            let room = self.live.limits.max_queued;
            if affordable {
                self.shared.gates.stay(scope, opens, room)
            } else {
                None
            }
        };
        let Some(mut stay) = patience.stay.take().or_else(|| at_the_gate(patience.left)) else {
            return;
        };
        exchange.place = None;
        let _waiting = exchange.begin_wait();
        loop {
            let began = Instant::now();
            tokio::time::sleep_until(stay.until).await;
            patience.left = patience.left.saturating_sub(began.elapsed());
            // Others may have been told to wait for longer.
            let Some(more) = at_the_gate(patience.left) else {
                break;
            };
            stay = more;
        }
    }

    /// How long an answer asks one to wait. Its body is looked into where the head does not say.
    async fn hint(&self, answer: &mut Response<ResponseBody>) -> Option<Duration> {
        let now = retry_after::date(answer.headers()).unwrap_or_else(|| self.shared.clock.now());
        if let Some(wait) = retry_after::from_header(answer.headers(), now) {
            return Some(wait);
        }
        if !may_be_json(answer.headers()) {
            return None;
        }
        retry_after::from_body(&answer.body_mut().peek(PEEKED_BYTES, PEEK_TIME).await)
    }
}

/// Monitor OData calls its JSON plain text (contract 3, "Error bodies").
fn may_be_json(headers: &HeaderMap) -> bool {
    let json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let essence = value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase();
            matches!(essence.as_str(), "application/json" | "text/plain")
                || essence.ends_with("+json")
        });
    json && !headers.contains_key(CONTENT_ENCODING)
}
