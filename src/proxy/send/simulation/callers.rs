//! Callers, and their requests on the way through the steps `queue` and `send`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep_until, timeout};

use super::exchange::{Exchange, Outcome};
use super::gateway::Gateway;
use crate::limit::owner::{Owner, OwnerKey};

/// A caller of one replica.
pub(super) struct Caller {
    number: usize,
    owner: Arc<Owner>,
    habit: Habit,
    random: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// One request at a time.
    Modest,
    /// Several at a time.
    Greedy,
    /// Leaves soon.
    Impatient,
    /// Reads a response slowly, and holds the permit for as long.
    Stalling,
    /// Requests what Citrix does not permit.
    Forbidden,
    /// Requests what Citrix does not limit.
    Unlimited,
}

impl Caller {
    pub(super) fn new(number: usize, replica: usize, seed: u64) -> Self {
        let identity = 100 * replica + number;
        let mut random = fastrand::Rng::with_seed(seed ^ (identity as u64) << 32);
        let habits = [
            Habit::Modest,
            Habit::Modest,
            Habit::Greedy,
            Habit::Impatient,
            Habit::Stalling,
            Habit::Forbidden,
            Habit::Unlimited,
        ];
        let habit = match number {
            0 => Habit::Modest,
            _ => habits[random.usize(..habits.len())],
        };
        Self {
            number: identity,
            owner: Owner::new(OwnerKey::Caller(identity as u64)),
            habit,
            random,
        }
    }

    /// Returns `true` if its requests succeed without faults.
    fn must_succeed(&self) -> bool {
        matches!(self.habit, Habit::Modest | Habit::Unlimited)
    }

    /// Sends requests until `until`. Those that begin after `recovered` succeed.
    pub(super) async fn run(mut self, gateway: Arc<Gateway>, recovered: Instant, until: Instant) {
        loop {
            let pause = gateway.plan.think.mul_f64(self.random.f64() * 2.0);
            sleep_until(until.min(Instant::now() + pause)).await;
            let began = Instant::now();
            if began >= until {
                return;
            }
            let count = match self.habit {
                Habit::Greedy => self.random.usize(2..8),
                _ => 1,
            };
            let seeds: Vec<u64> = (0..count).map(|_| self.random.u64(..)).collect();
            let requests = seeds.iter().map(|seed| self.request(&gateway, *seed));
            let outcomes = futures_util::future::join_all(requests).await;
            for outcome in outcomes.into_iter().flatten() {
                gateway
                    .trace
                    .record("outcome", self.number, [outcome.code(), 0]);
                let is_excused = began < recovered || !self.must_succeed() || outcome.is_load();
                let is_good = outcome == Outcome::Status(StatusCode::OK);
                gateway.trace.check(is_good || is_excused, || {
                    format!("caller {} got {outcome:?} after all faults", self.number)
                });
            }
        }
    }

    /// Sends a request; `None` if the caller left.
    async fn request(&self, gateway: &Gateway, seed: u64) -> Option<Outcome> {
        let mut random = fastrand::Rng::with_seed(seed);
        let reading = match self.habit {
            Habit::Stalling => 20_000,
            _ => 100,
        };
        let exchange = Exchange {
            gateway,
            number: self.number,
            owner: &self.owner,
            is_limited: self.habit != Habit::Unlimited,
            is_permitted: self.habit != Habit::Forbidden,
            reading: Duration::from_millis(random.u64(..reading)),
        };
        let request = Box::pin(exchange.run());
        if self.habit != Habit::Impatient {
            return Some(request.await);
        }
        let patience = Duration::from_millis(random.u64(1..10_000));
        timeout(patience, request).await.ok()
    }
}
