//! Fairness, bounds, and what happens to those that leave.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn lane(at_once: usize) -> Arc<FairQueue> {
    FairQueue::new(NonZeroUsize::new(at_once).unwrap())
}

fn caller(number: u8) -> QueueKey {
    QueueKey::at(Some(Ipv4Addr::new(10, 0, 0, number).into()))
}

fn now(lane: &Arc<FairQueue>, number: u8) -> QueuePermit {
    match lane.ask(caller(number), 100).unwrap() {
        Asked::Now(turn) => turn,
        Asked::Later(_) => panic!("it must wait"),
    }
}

fn later(lane: &Arc<FairQueue>, number: u8) -> Waiter {
    match lane.ask(caller(number), 100).unwrap() {
        Asked::Now(_) => panic!("it need not wait"),
        Asked::Later(waiter) => waiter,
    }
}

fn counts(lane: &FairQueue) -> (usize, usize) {
    let queue = lane.lock();
    assert_eq!(
        queue.lines.values().map(VecDeque::len).sum::<usize>(),
        queue.waiting
    );
    assert_eq!(queue.order.len(), queue.lines.len());
    (queue.running, queue.waiting)
}

/// Who has its turn already, of those that are polled once.
fn came(waiter: &mut Waiter) -> Option<QueuePermit> {
    waiter.turn.try_recv().ok()
}

#[tokio::test(start_paused = true)]
async fn callers_take_turns_and_each_is_served_in_order() {
    let lane = lane(1);
    let mut turn = now(&lane, 0);
    let mut waiters: Vec<(&str, Waiter)> = [
        ("a1", 1),
        ("a2", 1),
        ("a3", 1),
        ("b1", 2),
        ("c1", 3),
        ("b2", 2),
    ]
    .map(|(name, number)| (name, later(&lane, number)))
    .into();
    let mut order = Vec::new();
    while !waiters.is_empty() {
        drop(turn);
        let (at, next) = waiters
            .iter_mut()
            .enumerate()
            .find_map(|(at, (_, waiter))| came(waiter).map(|turn| (at, turn)))
            .expect("a turn is passed on at once");
        order.push(waiters.remove(at).0);
        turn = next;
        assert_eq!(counts(&lane), (1, waiters.len()));
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    drop(turn);
    assert_eq!(counts(&lane), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn so_many_go_at_once_and_so_many_wait() {
    let lane = lane(2);
    let turns = [now(&lane, 1), now(&lane, 1)];
    let waiting = later(&lane, 1);
    assert_eq!(lane.ask(caller(1), 1).unwrap_err(), QueueFull);
    assert_eq!(lane.ask(caller(2), 0).unwrap_err(), QueueFull);
    drop(waiting);
    assert_eq!(
        counts(&lane),
        (2, 0),
        "who leaves gives its place up at once"
    );
    drop(later(&lane, 2));
    drop(turns);
    assert_eq!(counts(&lane), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_leaves() {
    let lane = lane(1);
    let turn = now(&lane, 1);
    let began = Instant::now();
    let (first, second) = (later(&lane, 1), later(&lane, 1));
    assert!(first.turn(began + Duration::from_secs(60)).await.is_none());
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(counts(&lane), (1, 1));
    drop(turn);
    assert!(second.turn(began + LONG).await.is_some());
    assert_eq!(counts(&lane), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_moves_on() {
    let lane = lane(1);
    let turn = now(&lane, 1);
    let [first, second, third] = [1, 2, 3].map(|number| later(&lane, number));
    drop(turn);
    // The turn is first's, which leaves before it looks; second is gone already.
    drop(second);
    drop(first);
    let turn = third.turn(Instant::now() + LONG).await;
    assert!(turn.is_some());
    assert_eq!(counts(&lane), (1, 0));
}

#[test]
fn an_address_is_one_in_either_familys_spelling() {
    let mapped = "::ffff:10.0.0.7".parse().unwrap();
    assert_eq!(QueueKey::at(Some(mapped)), caller(7));
    assert_ne!(QueueKey::at(None), caller(7));
}

/// Some wait to the end, some leave at random moments; turns are handed from thread to thread.
#[test]
fn with_many_threads_there_are_never_too_many_and_nobody_starves() {
    const THREADS: u8 = 4;
    const AT_ONCE: usize = 3;
    let lane = lane(AT_ONCE);
    let (running, served, left) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let work = |thread: u8| {
        let (lane, running) = (Arc::clone(&lane), Arc::clone(&running));
        let (served, left) = (Arc::clone(&served), Arc::clone(&left));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for number in 0..500_u32 {
                    let (lane, running) = (Arc::clone(&lane), Arc::clone(&running));
                    let (served, left) = (Arc::clone(&served), Arc::clone(&left));
                    tasks.spawn(async move {
                        let impatient = fastrand::bool();
                        let patience = Duration::from_micros(fastrand::u64(0..20_000));
                        let deadline = Instant::now() + if impatient { patience } else { LONG };
                        let caller = caller(thread * 8 + u8::try_from(number % 8).unwrap());
                        let turn = match lane.ask(caller, usize::MAX).unwrap() {
                            Asked::Now(turn) => Some(turn),
                            Asked::Later(waiter) => waiter.turn(deadline).await,
                        };
                        let Some(turn) = turn else {
                            assert!(impatient);
                            left.fetch_add(1, Ordering::SeqCst);
                            return;
                        };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < AT_ONCE);
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        served.fetch_add(1, Ordering::SeqCst);
                        drop(turn);
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
    assert_eq!(counts(&lane), (0, 0));
}
