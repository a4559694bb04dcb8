//! Limits that all workers share: those of Citrix per customer, with a fair queue instead of a 429,
//! and those of callers.

pub mod caller;
mod fair_queue;
pub mod gate;
pub mod owner;
pub mod permits;
pub mod rate;
pub mod scope;
pub mod spacing;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use tokio::time::Instant;

use self::fair_queue::{Acquired, FairQueue};
use crate::config::Quota;
use crate::limit::owner::{Exceeded, OwnerKey};
use crate::limit::rate::RateLimiter;

pub use self::fair_queue::{QueuePermit, QueueWatch};

/// One customer's limit at one service.
#[derive(Debug)]
pub struct Limit {
    queue: Arc<FairQueue>,
    /// Without a rate limiter, a queue permit is held until the response ends. With one, the single
    /// permit is held by the request that waits for the limiter, so that waiting is fair and
    /// bounded, and no admission is lost when a caller disconnects. A permit that rests is held in
    /// the same way.
    rate: Option<RateLimiter>,
}

/// The result of [`Limit::acquire`].
#[derive(Debug)]
pub enum Admission<'l> {
    /// Admitted. The permit, if any, must be held until the response ends.
    Immediate(Option<QueuePermit>),
    /// Admitted after [`QueuedRequest::wait`].
    Queued(QueuedRequest<'l>),
}

/// A request in a limit's queue; removed on drop.
#[derive(Debug)]
pub struct QueuedRequest<'l> {
    limit: &'l Limit,
    acquired: Acquired,
    replicas: NonZeroU32,
}

/// A wait that exceeded its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeout;

impl Limit {
    /// Creates an unused limit.
    pub fn new(quota: Quota) -> Self {
        match quota {
            Quota::AtOnce(count) => Self {
                queue: FairQueue::new(count),
                rate: None,
            },
            Quota::PerSecond(count) => Self {
                queue: FairQueue::new(NonZeroUsize::MIN),
                rate: Some(RateLimiter::new(count)),
            },
        }
    }

    /// Admits or queues a request. A rate is divided among `replicas`; the permits of a concurrency
    /// rest between uses ([`QueuePermit::begin_use`]).
    ///
    /// # Errors
    /// If `max_queued` requests, or too many of the owner, are queued.
    pub fn acquire(
        &self,
        key: OwnerKey,
        max_queued: usize,
        replicas: NonZeroU32,
    ) -> Result<Admission<'_>, Exceeded> {
        let acquired = self.queue.acquire(key, max_queued)?;
        Ok(match (acquired, &self.rate) {
            (Acquired::Permit(permit), None) if permit.rests_until().is_none() => {
                Admission::Immediate(Some(permit))
            }
            (Acquired::Permit(_), Some(rate))
                if rate.acquire_share(Instant::now(), replicas).is_ok() =>
            {
                Admission::Immediate(None)
            }
            (acquired, _) => Admission::Queued(QueuedRequest {
                limit: self,
                acquired,
                replicas,
            }),
        })
    }
}

impl QueuedRequest<'_> {
    /// Waits until the request is admitted. The permit, if any, must be held until the response
    /// ends.
    ///
    /// # Errors
    /// If the request is not admitted by `deadline`; at once if the rate, or the rest of the permit,
    /// cannot admit it by then.
    pub async fn wait(self, deadline: Instant) -> Result<Option<QueuePermit>, WaitTimeout> {
        let permit = match self.acquired {
            Acquired::Permit(permit) => permit,
            Acquired::Queued(waiter) => waiter.wait(deadline).await.ok_or(WaitTimeout)?,
        };
        let Some(rate) = &self.limit.rate else {
            if let Some(end) = permit.rests_until() {
                sleep_until(end, deadline).await?;
            }
            return Ok(Some(permit));
        };
        while let Err(wait) = rate.acquire_share(Instant::now(), self.replicas) {
            sleep_until(Instant::now() + wait, deadline).await?;
        }
        // The next request in the queue waits for the limiter from here on.
        drop(permit);
        Ok(None)
    }
}

/// Sleeps until `end`; fails at once if that is after `deadline`.
async fn sleep_until(end: Instant, deadline: Instant) -> Result<(), WaitTimeout> {
    if end > deadline {
        return Err(WaitTimeout);
    }
    tokio::time::sleep_until(end).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::spacing::Spacing;

    const ALONE: NonZeroU32 = NonZeroU32::MIN;

    fn per_second(count: u32) -> Limit {
        Limit::new(Quota::PerSecond(NonZeroU32::new(count).unwrap()))
    }

    /// Waits as a request does; returns the time it took.
    async fn wait(limit: &Limit, timeout: Duration) -> Result<Duration, WaitTimeout> {
        let began = Instant::now();
        match limit.acquire(OwnerKey::at(None), 100, ALONE).unwrap() {
            Admission::Immediate(permit) => assert!(permit.is_none()),
            Admission::Queued(request) => assert!(request.wait(began + timeout).await?.is_none()),
        }
        Ok(began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn rate_admits_the_burst_at_once_and_later_requests_evenly() {
        let limit = per_second(10);
        let timeout = Duration::from_secs(60);
        let waits = futures_util::future::join_all((0..15).map(|_| wait(&limit, timeout))).await;
        for (number, wait) in (0_u32..).zip(waits) {
            let even = Duration::from_millis(100) * number.saturating_sub(9);
            // Timers have a resolution of 1 ms.
            assert!(
                wait.unwrap().abs_diff(even) < Duration::from_millis(10),
                "{number} {wait:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_times_out_uses_nothing_of_the_rate() {
        let limit = per_second(1);
        let second = Duration::from_secs(1);
        assert_eq!(wait(&limit, second).await, Ok(Duration::ZERO));
        assert_eq!(wait(&limit, second / 2).await, Err(WaitTimeout));
        let waited = wait(&limit, second * 2).await.unwrap();
        assert!(waited <= second + Duration::from_millis(2), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn request_beyond_max_queued_is_rejected_at_a_rate() {
        let limit = per_second(1);
        assert!(matches!(
            limit.acquire(OwnerKey::at(None), 1, ALONE),
            Ok(Admission::Immediate(None))
        ));
        let first = limit.acquire(OwnerKey::at(None), 1, ALONE).unwrap();
        let second = limit.acquire(OwnerKey::at(None), 1, ALONE).unwrap();
        assert_eq!(
            limit.acquire(OwnerKey::at(None), 1, ALONE).unwrap_err(),
            Exceeded::Limit
        );
        drop((first, second));
        assert!(limit.acquire(OwnerKey::at(None), 1, ALONE).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn request_waits_for_the_rest_of_its_permit_unless_it_exceeds_the_deadline() {
        let limit = Limit::new(Quota::AtOnce(NonZeroUsize::MIN));
        let three = NonZeroU32::new(3).unwrap();
        let acquire = || limit.acquire(OwnerKey::Unix, 100, three).unwrap();
        let Admission::Immediate(Some(mut permit)) = acquire() else {
            panic!("the first permit need not rest");
        };
        permit.begin_use(Spacing::new(three, Duration::from_secs(60)));
        tokio::time::sleep(Duration::from_secs(4)).await;
        let Admission::Queued(patient) = ({
            drop(permit);
            acquire()
        }) else {
            panic!("the permit rests");
        };
        let Admission::Queued(next) = acquire() else {
            panic!("the first waits with the permit");
        };
        let released = Instant::now();
        let early = released + Duration::from_secs(3);
        assert_eq!(patient.wait(early).await.unwrap_err(), WaitTimeout);
        assert_eq!(Instant::now(), released, "it fails at once");
        let late = released + Duration::from_secs(60);
        let permit = next.wait(late).await.unwrap().unwrap();
        let waited = released.elapsed().as_secs_f64();
        assert!((4.0..12.1).contains(&waited), "{waited}");
        drop(permit);
        assert!(
            matches!(acquire(), Admission::Immediate(Some(_))),
            "it was not used"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn three_replicas_together_stay_within_the_rate() {
        let three = NonZeroU32::new(3).unwrap();
        let replicas = [(); 3].map(|()| per_second(15));
        let until = Instant::now() + Duration::from_mins(1);
        let poll = |limit| async move {
            let limit: &Limit = limit;
            let mut admitted = 0_u32;
            while Instant::now() < until {
                if let Admission::Queued(request) =
                    limit.acquire(OwnerKey::Unix, 100, three).unwrap()
                {
                    request.wait(until + Duration::from_secs(1)).await.unwrap();
                }
                admitted += 1;
            }
            admitted
        };
        let counts = futures_util::future::join_all(replicas.iter().map(poll)).await;
        let total: u32 = counts.iter().sum();
        assert!((880..=920).contains(&total), "{counts:?}");
    }
}
