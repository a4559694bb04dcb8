//! Limits that all workers share: those of Citrix per customer, with a fair queue instead of a 429,
//! and those of callers.

pub mod caller;
pub mod collapse;
mod fair_queue;
pub mod gate;
pub mod owner;
pub mod permits;
pub mod rate;
pub mod scope;
pub mod shared;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use fleet_protocol::machine::Slot;
use fleet_protocol::spacing::Spacing;
use fleet_protocol::{Name, State};
use tokio::time::Instant;

use self::fair_queue::{Acquired, FairQueue, OwnPermit};
use self::shared::Sharing;
use self::shared::queue::{SharedPermit, SharedQueue, SharedWaiter};
use self::shared::rate::SharedRate;
use crate::config::Quota;
use crate::limit::owner::{Exceeded, OwnerKey, QueueSlots};
use crate::limit::rate::RateLimiter;

/// One customer's limit at one service.
#[derive(Debug)]
pub struct Limit {
    kind: LimitKind,
    /// Requests that left the queue, because they wait for the response of another.
    following: QueueSlots,
}

#[derive(Debug)]
enum LimitKind {
    /// A number of permits, each held until the response ends.
    AtOnce(Arc<FairQueue>),
    /// The same for all replicas.
    SharedAtOnce(Arc<SharedQueue>),
    /// A rate. The single permit is held by the request that waits for the limiter, so that waiting
    /// is fair and bounded, and no admission is lost when a caller disconnects. A permit that rests
    /// is held in the same way.
    Rate(Arc<FairQueue>, LimitRate),
}

#[derive(Debug)]
struct LimitRate {
    limiter: RateLimiter,
    /// While the store decides, the limiter is not used.
    shared: Option<Arc<SharedRate>>,
}

/// A caller as limits see it.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub key: OwnerKey,
    /// Its name in the store of a fleet that shares limits.
    pub name: Option<Name>,
}

impl From<OwnerKey> for Asker {
    fn from(key: OwnerKey) -> Self {
        Self { key, name: None }
    }
}

/// The result of [`Limit::acquire`].
#[derive(Debug)]
pub enum Admission<'l> {
    Immediate(Admitted),
    /// Admitted after [`QueuedRequest::wait`].
    Queued(QueuedRequest<'l>),
}

/// An admitted request.
#[derive(Debug)]
pub struct Admitted {
    /// Must be held until the response ends; `None` at a rate.
    pub permit: Option<QueuePermit>,
    /// `Joined` if the store of a fleet admitted it, else `Alone`.
    pub by: State,
}

/// A permit of a queue, passed on when it is dropped.
#[derive(Debug)]
pub enum QueuePermit {
    Own(OwnPermit),
    Shared(SharedPermit),
}

/// A view of the queue of a [`QueuePermit`].
#[derive(Debug)]
pub struct QueueWatch(Watched);

#[derive(Debug)]
enum Watched {
    Own(Option<Arc<FairQueue>>),
    Shared(Arc<SharedQueue>),
}

/// A request in a limit's queue; removed on drop.
#[derive(Debug)]
pub struct QueuedRequest<'l>(Queued<'l>);

#[derive(Debug)]
enum Queued<'l> {
    AtOnce(Acquired),
    SharedAtOnce(SharedWaiter),
    Rate(Acquired, &'l LimitRate, NonZeroU32),
}

/// A wait that exceeded its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeout;

impl Limit {
    /// Creates an unused limit of this replica.
    pub fn new(quota: Quota) -> Self {
        Self::of_kind(match quota {
            Quota::AtOnce(count) => LimitKind::AtOnce(FairQueue::new(count)),
            Quota::PerSecond(count) => LimitKind::rate(count, None),
        })
    }

    /// Creates an unused limit that replicas share.
    pub fn shared(quota: Quota, sharing: Sharing<'_>) -> Self {
        Self::of_kind(match quota {
            Quota::AtOnce(count) => {
                let count = u32::try_from(count.get()).unwrap_or(u32::MAX);
                LimitKind::SharedAtOnce(SharedQueue::new(count, sharing))
            }
            Quota::PerSecond(count) => {
                LimitKind::rate(count, Some(SharedRate::new(count.get(), sharing)))
            }
        })
    }

    fn of_kind(kind: LimitKind) -> Self {
        Self {
            kind,
            following: QueueSlots::default(),
        }
    }

    /// Returns the slots of requests that wait for the response of another.
    pub fn following(&self) -> &QueueSlots {
        &self.following
    }

    /// Returns `true` if no permit is in use and nothing is kept of any request.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let is_idle = match &self.kind {
            LimitKind::AtOnce(queue) | LimitKind::Rate(queue, _) => queue.is_idle(),
            LimitKind::SharedAtOnce(queue) => queue.is_idle(),
        };
        is_idle && self.following.in_use() == 0
    }

    /// Follows a reload of what replicas share.
    pub fn configure(&self, sharing: Sharing<'_>) {
        match &self.kind {
            LimitKind::SharedAtOnce(queue) => queue.configure(sharing),
            LimitKind::Rate(_, rate) => {
                if let Some(shared) = &rate.shared {
                    shared.configure(sharing);
                }
            }
            LimitKind::AtOnce(_) => {}
        }
    }

    /// Admits or queues a request. Without a store, a rate is divided among `replicas`, and the
    /// permits of a concurrency rest between uses ([`QueuePermit::begin_use`]).
    ///
    /// # Errors
    /// If `max_queued` requests, or too many of the owner, are queued.
    pub fn acquire(
        &self,
        asker: impl Into<Asker>,
        max_queued: usize,
        replicas: NonZeroU32,
    ) -> Result<Admission<'_>, Exceeded> {
        let asker = asker.into();
        let queued = match &self.kind {
            LimitKind::AtOnce(queue) => match queue.acquire(asker.key, max_queued)? {
                Acquired::Permit(permit) if permit.rests_until().is_none() => {
                    return Ok(Admission::Immediate(Admitted::alone(Some(permit))));
                }
                acquired => Queued::AtOnce(acquired),
            },
            LimitKind::SharedAtOnce(queue) => {
                // Callers without a name count as one.
                let caller = asker.name.unwrap_or(Name([0; 16]));
                Queued::SharedAtOnce(queue.acquire(caller, max_queued)?)
            }
            LimitKind::Rate(queue, rate) => {
                let acquired = queue.acquire(asker.key, max_queued)?;
                let is_first = matches!(acquired, Acquired::Permit(_));
                if is_first && rate.admits(replicas) {
                    return Ok(Admission::Immediate(Admitted::alone(None)));
                }
                Queued::Rate(acquired, rate, replicas)
            }
        };
        Ok(Admission::Queued(QueuedRequest(queued)))
    }
}

impl LimitKind {
    fn rate(per_second: NonZeroU32, shared: Option<Arc<SharedRate>>) -> Self {
        let limiter = RateLimiter::new(per_second);
        Self::Rate(
            FairQueue::new(NonZeroUsize::MIN),
            LimitRate { limiter, shared },
        )
    }
}

impl LimitRate {
    /// Returns `true` if a request is admitted at once, without asking the store.
    fn admits(&self, replicas: NonZeroU32) -> bool {
        let share = || self.limiter.acquire_share(Instant::now(), replicas);
        self.shared.is_none() && share().is_ok()
    }

    /// Waits until the rate admits a request.
    async fn wait(&self, replicas: NonZeroU32, deadline: Instant) -> Result<State, WaitTimeout> {
        let replicas = match &self.shared {
            None => replicas,
            Some(shared) => match shared.reserve(deadline).await.ok_or(WaitTimeout)? {
                Slot::After(wait) => {
                    sleep_until(Instant::now() + wait, deadline).await?;
                    return Ok(State::Joined);
                }
                Slot::Never => return Err(WaitTimeout),
                Slot::Share(replicas) => replicas,
            },
        };
        while let Err(wait) = self.limiter.acquire_share(Instant::now(), replicas) {
            sleep_until(Instant::now() + wait, deadline).await?;
        }
        Ok(State::Alone)
    }
}

impl Admitted {
    fn alone(permit: Option<OwnPermit>) -> Self {
        Self {
            permit: permit.map(QueuePermit::Own),
            by: State::Alone,
        }
    }
}

impl QueuedRequest<'_> {
    /// Waits until the request is admitted.
    ///
    /// # Errors
    /// If the request is not admitted by `deadline`; at once if the rate, or the rest of the permit,
    /// cannot admit it by then.
    pub async fn wait(self, deadline: Instant) -> Result<Admitted, WaitTimeout> {
        match self.0 {
            Queued::AtOnce(acquired) => {
                let permit = first(acquired, deadline).await?;
                if let Some(end) = permit.rests_until() {
                    sleep_until(end, deadline).await?;
                }
                Ok(Admitted::alone(Some(permit)))
            }
            Queued::SharedAtOnce(waiter) => {
                let permit = waiter.wait(deadline).await.ok_or(WaitTimeout)?;
                let by = permit.by();
                let permit = Some(QueuePermit::Shared(permit));
                Ok(Admitted { permit, by })
            }
            Queued::Rate(acquired, rate, replicas) => {
                // Until the end of the wait. The next request in the queue waits from then on.
                let _first = first(acquired, deadline).await?;
                let by = rate.wait(replicas, deadline).await?;
                Ok(Admitted { permit: None, by })
            }
        }
    }
}

/// Waits for a permit of this replica.
async fn first(acquired: Acquired, deadline: Instant) -> Result<OwnPermit, WaitTimeout> {
    match acquired {
        Acquired::Permit(permit) => Ok(permit),
        Acquired::Queued(waiter) => waiter.wait(deadline).await.ok_or(WaitTimeout),
    }
}

impl QueuePermit {
    /// Returns a view of the queue that does not hold the permit.
    pub fn watch(&self) -> QueueWatch {
        QueueWatch(match self {
            Self::Own(permit) => Watched::Own(permit.queue().cloned()),
            Self::Shared(permit) => Watched::Shared(Arc::clone(permit.queue())),
        })
    }

    /// Records that a use of the permit begins, in place of an earlier use. With a `spacing`, a
    /// permit of this replica rests after it.
    pub fn begin_use(&mut self, spacing: Option<Spacing>) {
        match (self, spacing) {
            (Self::Own(permit), Some(spacing)) => permit.begin_use(spacing),
            (Self::Own(_), None) => {}
            (Self::Shared(permit), _) => permit.begin_use(),
        }
    }
}

impl QueueWatch {
    /// Returns `true` if requests are queued, here or in another replica.
    pub fn is_contended(&self) -> bool {
        match &self.0 {
            Watched::Own(queue) => queue.as_ref().is_some_and(|queue| queue.is_contended()),
            Watched::Shared(queue) => queue.is_contended(),
        }
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

    const ALONE: NonZeroU32 = NonZeroU32::MIN;

    fn per_second(count: u32) -> Limit {
        Limit::new(Quota::PerSecond(NonZeroU32::new(count).unwrap()))
    }

    /// Waits as a request does; returns the time it took.
    async fn wait(limit: &Limit, timeout: Duration) -> Result<Duration, WaitTimeout> {
        let began = Instant::now();
        match limit.acquire(OwnerKey::at(None), 100, ALONE).unwrap() {
            Admission::Immediate(admitted) => assert!(admitted.permit.is_none()),
            Admission::Queued(request) => {
                assert!(request.wait(began + timeout).await?.permit.is_none());
            }
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
            Ok(Admission::Immediate(Admitted { permit: None, .. }))
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
        let Admission::Immediate(admitted) = acquire() else {
            panic!("the first permit need not rest");
        };
        let mut permit = admitted.permit.unwrap();
        permit.begin_use(Some(Spacing::new(three, Duration::from_secs(60))));
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
        let permit = next.wait(late).await.unwrap().permit.unwrap();
        let waited = released.elapsed().as_secs_f64();
        assert!((4.0..12.1).contains(&waited), "{waited}");
        drop(permit);
        assert!(
            matches!(acquire(), Admission::Immediate(_)),
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
