//! What Citrix allows a customer, shared by all workers: so many requests at a time, or so many a second. Those
//! beyond wait in a fair queue instead of meeting a 429.

pub mod caller;
mod fair_queue;
pub mod gate;
pub mod permits;
pub mod rate;
pub mod scope;

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::time::Instant;

use self::fair_queue::{Asked, FairQueue};
use crate::config::Quota;
use crate::limit::rate::RateLimiter;

pub use self::fair_queue::{QueueFull, QueueKey, QueuePermit};

/// One customer's limit at one service.
#[derive(Debug)]
pub struct Limit {
    lane: Arc<FairQueue>,
    /// Without one, a turn lasts as long as its request. With one, the lane is for those that wait for their moment:
    /// so the waiting is fair, bounded and given up as it is for places, and a moment is never lost with a caller
    /// that left.
    pace: Option<RateLimiter>,
}

/// What a limit says to a request.
#[derive(Debug)]
pub enum Entry<'l> {
    /// Go. The turn is to be kept for as long as it is the request's.
    Now(Option<QueuePermit>),
    /// Wait.
    Later(Waiting<'l>),
}

/// A place in a limit's queue; given up when dropped.
#[derive(Debug)]
pub struct Waiting<'l> {
    limit: &'l Limit,
    asked: Asked,
}

/// The turn did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeout;

impl Limit {
    /// The limit that `allows` says.
    pub fn new(allows: Quota) -> Self {
        match allows {
            Quota::AtOnce(count) => Self {
                lane: FairQueue::new(count),
                pace: None,
            },
            Quota::PerSecond(count) => Self {
                lane: FairQueue::new(NonZeroUsize::MIN),
                pace: Some(RateLimiter::new(count)),
            },
        }
    }

    /// Lets a request of `caller` go, or wait.
    ///
    /// # Errors
    /// When `room` wait already.
    pub fn acquire(&self, caller: QueueKey, room: usize) -> Result<Entry<'_>, QueueFull> {
        let asked = self.lane.ask(caller, room)?;
        Ok(match (asked, &self.pace) {
            (Asked::Now(turn), None) => Entry::Now(Some(turn)),
            (Asked::Now(_), Some(pace)) if pace.acquire(Instant::now()).is_ok() => Entry::Now(None),
            (asked, _) => Entry::Later(Waiting { limit: self, asked }),
        })
    }
}

impl Waiting<'_> {
    /// Waits; what comes is to be kept for as long as it is the request's.
    ///
    /// # Errors
    /// When the turn does not come by `deadline`.
    pub async fn turn(self, deadline: Instant) -> Result<Option<QueuePermit>, WaitTimeout> {
        let turn = match self.asked {
            Asked::Now(turn) => turn,
            Asked::Later(waiter) => waiter.turn(deadline).await.ok_or(WaitTimeout)?,
        };
        let Some(pace) = &self.limit.pace else {
            return Ok(Some(turn));
        };
        while let Err(early) = pace.acquire(Instant::now()) {
            let moment = Instant::now() + early;
            if moment > deadline {
                return Err(WaitTimeout);
            }
            tokio::time::sleep_until(moment).await;
        }
        // The next in line may look for its moment.
        drop(turn);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn per_second(count: u32) -> Limit {
        Limit::new(Quota::PerSecond(NonZeroU32::new(count).unwrap()))
    }

    /// Waits as a request does; how long it was.
    async fn pass(limit: &Limit, patience: Duration) -> Result<Duration, WaitTimeout> {
        let began = Instant::now();
        match limit.acquire(QueueKey::at(None), 100).unwrap() {
            Entry::Now(turn) => assert!(turn.is_none()),
            Entry::Later(waiting) => assert!(waiting.turn(began + patience).await?.is_none()),
        }
        Ok(began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_pace_the_burst_goes_at_once_and_the_others_one_after_another() {
        let limit = per_second(10);
        let patience = Duration::from_secs(60);
        let waits = futures_util::future::join_all((0..15).map(|_| pass(&limit, patience))).await;
        for (number, wait) in (0_u32..).zip(waits) {
            let even = Duration::from_millis(100) * number.saturating_sub(9);
            // Timers are of a millisecond.
            assert!(
                wait.unwrap().abs_diff(even) < Duration::from_millis(10),
                "{number} {wait:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_pace_who_would_come_too_late_leaves_and_costs_the_others_nothing() {
        let limit = per_second(1);
        let second = Duration::from_secs(1);
        assert_eq!(pass(&limit, second).await, Ok(Duration::ZERO));
        assert_eq!(pass(&limit, second / 2).await, Err(WaitTimeout));
        let waited = pass(&limit, second * 2).await.unwrap();
        assert!(waited <= second + Duration::from_millis(2), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_pace_no_more_wait_than_may() {
        let limit = per_second(1);
        assert!(matches!(
            limit.acquire(QueueKey::at(None), 1),
            Ok(Entry::Now(None))
        ));
        let first = limit.acquire(QueueKey::at(None), 1).unwrap();
        let second = limit.acquire(QueueKey::at(None), 1).unwrap();
        assert_eq!(limit.acquire(QueueKey::at(None), 1).unwrap_err(), QueueFull);
        drop((first, second));
        assert!(limit.acquire(QueueKey::at(None), 1).is_ok());
    }
}
