//! Fairness, bounds, and requests that leave the queue.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn queue(permits: usize) -> Arc<FairQueue> {
    FairQueue::new(NonZeroUsize::new(permits).unwrap())
}

fn key(number: u8) -> OwnerKey {
    OwnerKey::at(Some(Ipv4Addr::new(10, 0, 0, number).into()))
}

fn acquire(queue: &Arc<FairQueue>, number: u8) -> OwnPermit {
    match queue.acquire(key(number), 100).unwrap() {
        Acquired::Permit(permit) => permit,
        Acquired::Queued(_) => panic!("queued"),
    }
}

fn enqueue(queue: &Arc<FairQueue>, number: u8) -> Waiter {
    match queue.acquire(key(number), 100).unwrap() {
        Acquired::Permit(_) => panic!("not queued"),
        Acquired::Queued(waiter) => waiter,
    }
}

/// Returns the numbers of permits in use and of queued requests.
fn counts(queue: &FairQueue) -> (usize, usize) {
    let state = queue.lock();
    assert_eq!(
        state.by_key.values().map(VecDeque::len).sum::<usize>(),
        state.queued
    );
    assert_eq!(state.order.len(), state.by_key.len());
    (state.in_use, state.queued)
}

fn received(waiter: &mut Waiter) -> Option<OwnPermit> {
    waiter.permit.try_recv().ok()
}

#[tokio::test(start_paused = true)]
async fn keys_are_served_round_robin_and_each_in_order() {
    let queue = queue(1);
    let mut permit = acquire(&queue, 0);
    let mut waiters: Vec<(&str, Waiter)> = [
        ("a1", 1),
        ("a2", 1),
        ("a3", 1),
        ("b1", 2),
        ("c1", 3),
        ("b2", 2),
    ]
    .map(|(name, number)| (name, enqueue(&queue, number)))
    .into();
    let mut order = Vec::new();
    while !waiters.is_empty() {
        drop(permit);
        let (index, next) = waiters
            .iter_mut()
            .enumerate()
            .find_map(|(index, (_, waiter))| received(waiter).map(|permit| (index, permit)))
            .expect("a permit is passed on at once");
        order.push(waiters.remove(index).0);
        permit = next;
        assert_eq!(counts(&queue), (1, waiters.len()));
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    drop(permit);
    assert_eq!(counts(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn permits_and_queued_requests_are_bounded() {
    let queue = queue(2);
    let permits = [acquire(&queue, 1), acquire(&queue, 1)];
    let waiting = enqueue(&queue, 1);
    assert_eq!(queue.acquire(key(1), 1).unwrap_err(), Exceeded::Limit);
    assert_eq!(queue.acquire(key(2), 0).unwrap_err(), Exceeded::Limit);
    drop(waiting);
    assert_eq!(
        counts(&queue),
        (2, 0),
        "a dropped waiter leaves the queue at once"
    );
    drop(enqueue(&queue, 2));
    drop(permits);
    assert_eq!(counts(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiter_leaves_the_queue_at_its_deadline() {
    let queue = queue(1);
    let permit = acquire(&queue, 1);
    let began = Instant::now();
    let (first, second) = (enqueue(&queue, 1), enqueue(&queue, 1));
    assert!(first.wait(began + Duration::from_secs(60)).await.is_none());
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(counts(&queue), (1, 1));
    drop(permit);
    assert!(second.wait(began + LONG).await.is_some());
    assert_eq!(counts(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn permit_of_a_dropped_waiter_passes_to_the_next() {
    let queue = queue(1);
    let permit = acquire(&queue, 1);
    let [first, second, third] = [1, 2, 3].map(|number| enqueue(&queue, number));
    drop(permit);
    // The permit was sent to the first, which is dropped before it receives; the second is gone by
    // then.
    drop(second);
    drop(first);
    let permit = third.wait(Instant::now() + LONG).await;
    assert!(permit.is_some());
    assert_eq!(counts(&queue), (1, 0));
}

/// Spacing among three replicas: a rest is one to three times as long as the use.
fn spacing() -> Spacing {
    Spacing::new(NonZeroU32::new(3).unwrap(), Duration::from_secs(60))
}

/// Uses a permit for a second and releases it. Returns the time of the release.
async fn use_for_a_second(mut permit: OwnPermit) -> Instant {
    permit.begin_use(spacing());
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(permit);
    Instant::now()
}

/// Returns the rest of a permit after its release at `released`.
fn rest(permit: &OwnPermit, released: Instant) -> Duration {
    permit.rests_until().unwrap() - released
}

#[tokio::test(start_paused = true)]
async fn permit_rests_after_its_use_whether_or_not_a_request_waits() {
    let second = Duration::from_secs(1);
    let queue = queue(1);
    let waiter = {
        let permit = acquire(&queue, 1);
        assert_eq!(permit.rests_until(), None);
        let waiter = enqueue(&queue, 2);
        use_for_a_second(permit).await;
        waiter
    };
    let released = Instant::now();
    let permit = waiter.wait(released + LONG).await.unwrap();
    let first = rest(&permit, released);
    assert!((second..=second * 3).contains(&first), "{first:?}");
    assert_eq!(released, Instant::now(), "the waiter gets it at once");
    tokio::time::sleep(first).await;
    let released = use_for_a_second(permit).await;
    let permit = acquire(&queue, 1);
    let rest = rest(&permit, released);
    assert!((second..=second * 3).contains(&rest), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn rest_continues_when_its_request_leaves_and_ends_in_time() {
    let queue = queue(1);
    let released = use_for_a_second(acquire(&queue, 1)).await;
    let first = acquire(&queue, 1);
    let end = first.rests_until();
    assert!(end > Some(released));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let waiter = enqueue(&queue, 2);
    // Not used, so its rest is neither lost nor longer.
    drop(first);
    let second = waiter.wait(released + LONG).await.unwrap();
    assert_eq!(second.rests_until(), end);
    drop(second);
    assert_eq!(acquire(&queue, 3).rests_until(), end);
    tokio::time::sleep_until(end.unwrap()).await;
    assert_eq!(acquire(&queue, 3).rests_until(), None);
    assert!(queue.lock().resting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn later_attempt_with_the_same_permit_restarts_its_use() {
    let queue = queue(1);
    let mut permit = acquire(&queue, 1);
    permit.begin_use(spacing());
    // The wait for a 429.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let released = use_for_a_second(permit).await;
    assert!(rest(&acquire(&queue, 1), released) <= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn permit_that_need_not_rest_is_used_before_one_that_must() {
    let queue = queue(3);
    let released = use_for_a_second(acquire(&queue, 1)).await;
    use_for_a_second(acquire(&queue, 1)).await;
    let ends = queue.lock().resting.clone();
    assert_eq!(ends.len(), 2);
    let fresh = acquire(&queue, 1);
    assert_eq!(fresh.rests_until(), None);
    let resting = [acquire(&queue, 1), acquire(&queue, 1)];
    let [first, last] = resting
        .each_ref()
        .map(|permit| permit.rests_until().unwrap());
    assert!(released < first && first <= last);
    assert_eq!(counts(&queue), (3, 0));
    assert!(queue.lock().resting.is_empty());
}

#[test]
fn ipv4_mapped_address_has_the_key_of_the_ipv4_address() {
    let mapped = "::ffff:10.0.0.7".parse().unwrap();
    assert_eq!(OwnerKey::at(Some(mapped)), key(7));
    assert_ne!(OwnerKey::at(None), key(7));
}

/// Some requests wait to the end, some leave at random moments; permits pass from thread to thread.
#[test]
fn many_threads_never_exceed_the_permits_and_none_starves() {
    const THREADS: u8 = 4;
    const PERMITS: usize = 3;
    let queue = queue(PERMITS);
    let (running, served, left) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let work = |thread: u8| {
        let (queue, running) = (Arc::clone(&queue), Arc::clone(&running));
        let (served, left) = (Arc::clone(&served), Arc::clone(&left));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for number in 0..500_u32 {
                    let (queue, running) = (Arc::clone(&queue), Arc::clone(&running));
                    let (served, left) = (Arc::clone(&served), Arc::clone(&left));
                    tasks.spawn(async move {
                        let may_time_out = fastrand::bool();
                        let timeout = if may_time_out {
                            Duration::from_micros(fastrand::u64(0..20_000))
                        } else {
                            LONG
                        };
                        let deadline = Instant::now() + timeout;
                        let key = key(thread * 8 + u8::try_from(number % 8).unwrap());
                        let permit = match queue.acquire(key, usize::MAX).unwrap() {
                            Acquired::Permit(permit) => Some(permit),
                            Acquired::Queued(waiter) => waiter.wait(deadline).await,
                        };
                        let Some(permit) = permit else {
                            assert!(may_time_out);
                            left.fetch_add(1, Ordering::SeqCst);
                            return;
                        };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < PERMITS);
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        served.fetch_add(1, Ordering::SeqCst);
                        drop(permit);
                    });
                }
                while let Some(done) = tasks.join_next().await {
                    done.unwrap();
                }
            });
        }
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| std::thread::spawn(work(thread)))
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(
        served.load(Ordering::SeqCst) + left.load(Ordering::SeqCst),
        500 * usize::from(THREADS)
    );
    assert_eq!(counts(&queue), (0, 0));
}
