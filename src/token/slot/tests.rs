//! Reads and waits.

use std::cell::Cell;
use std::time::SystemTime;

use super::*;
use crate::token::status::{FailedLogin, TokenState};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A wall clock fixed at 100 s.
const CLOCK: Clock = Clock::custom(|| SystemTime::UNIX_EPOCH + Duration::from_secs(100));
const WAIT: Duration = Duration::from_secs(5);

/// A moment at which the wall clock reads `seconds`, and the monotonic clock what it reads now.
fn moment(seconds: u64) -> Moment {
    Moment {
        wall: at(seconds),
        instant: Instant::now(),
    }
}

/// A token that ends on the wall clock.
fn token(generation: u64, usable_until: u64) -> Token {
    let usable_until = Moment {
        instant: Instant::now() + Duration::from_hours(1),
        ..moment(usable_until)
    };
    Token::new(generation, &SecretString::from("t"), usable_until).unwrap()
}

fn put(slot: &TokenSlot, generation: u64, usable_until: u64) {
    slot.publish(token(generation, usable_until), |status| {
        status.generation = generation;
        status.usable_until = Some(at(usable_until));
    });
}

fn fail(slot: &TokenSlot, pause: f64) {
    fail_with(slot, pause, Outcome::Http5xx);
}

fn fail_with(slot: &TokenSlot, pause: f64, outcome: Outcome) {
    slot.update(|status| {
        status.in_progress = false;
        status.consecutive_failures += 1;
        status.due = Some(Instant::now() + Duration::from_secs_f64(pause));
        status.last_failure = Some(FailedLogin {
            outcome,
            transaction_id: Some(HeaderValue::from_static("id-1")),
            at: CLOCK.now(),
        });
    });
}

#[test]
fn token_is_usable_until_its_end_exclusive() {
    let slot = TokenSlot::new();
    assert!(slot.usable(moment(0)).is_none());
    put(&slot, 1, 100);
    assert!(slot.usable(moment(99)).is_some());
    assert!(slot.usable(moment(100)).is_none());
    assert!(slot.usable(moment(101)).is_none());
}

#[test]
fn token_ends_on_the_monotonic_clock_if_the_wall_clock_was_set_back() {
    let slot = TokenSlot::holding(token(1, 4000));
    let later = |seconds| Moment {
        wall: at(100),
        instant: Instant::now() + Duration::from_secs(seconds),
    };
    assert!(slot.usable(later(3500)).is_some());
    assert!(slot.usable(later(3601)).is_none());
}

thread_local! {
    /// What the wall clock of a test reads.
    static SECONDS: Cell<u64> = const { Cell::new(200) };
}

#[tokio::test(start_paused = true)]
async fn wait_finds_a_token_that_a_clock_set_back_made_valid_again() {
    let slot = TokenSlot::holding(token(1, 150));
    let clock = Clock::custom(|| at(SECONDS.get()));
    let set_back = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        SECONDS.set(100);
    };
    let (token, ()) = tokio::join!(slot.wait_usable(clock, WAIT), set_back);
    assert_eq!(token.unwrap().generation(), 1);
}

#[test]
fn token_invalid_in_a_header_is_rejected() {
    assert!(Token::new(1, &SecretString::from("a\r\nb"), moment(1)).is_err());
}

#[test]
fn withdrawn_token_stays_unusable_on_a_clock_set_back() {
    let slot = TokenSlot::holding(token(1, 1000));
    assert!(slot.usable(moment(400)).is_some());
    slot.withdraw();
    let later = Moment {
        instant: Instant::now() + Duration::from_hours(1),
        ..moment(400)
    };
    assert!(slot.usable(later).is_none());
    assert_eq!(slot.status().state(at(400)), TokenState::Unusable);
    assert_eq!(slot.generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn usable_token_is_returned_without_a_wait() {
    let slot = TokenSlot::new();
    put(&slot, 1, 200);
    let before = Instant::now();
    assert!(slot.wait_usable(CLOCK, Duration::ZERO).await.is_ok());
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn new_token_wakes_all_waiters_and_failures_do_not() {
    let slot = Arc::new(TokenSlot::new());
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                let before = Instant::now();
                slot.wait_usable(CLOCK, WAIT)
                    .await
                    .map(|token| (token.generation(), before.elapsed()))
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fail(&slot, 1.0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    put(&slot, 1, 200);
    for waiter in waiters {
        let (generation, waited) = waiter.await.unwrap().unwrap();
        assert_eq!((generation, waited.as_secs()), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn wait_timeout_returns_time_until_the_next_login() {
    let slot = TokenSlot::new();
    let before = Instant::now();
    let unavailable = slot.wait_usable(CLOCK, WAIT).await.unwrap_err();
    assert!(
        (5000..5010).contains(&before.elapsed().as_millis()),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(unavailable.retry_after, Duration::from_secs(1));
    assert_eq!(
        (unavailable.transaction_id.as_ref(), unavailable.outcome),
        (None, None)
    );

    put(&slot, 1, 50);
    fail(&slot, 12.0);
    let unavailable = slot.wait_usable(CLOCK, WAIT).await.unwrap_err();
    assert_eq!(unavailable.retry_after.as_secs_f64(), 12.0);
    assert_eq!(unavailable.transaction_id.unwrap(), "id-1");
    assert_eq!(
        unavailable.reason,
        "no usable token: the last login failed (http_5xx)"
    );
}

/// Waits for a token and returns the milliseconds until the wait ended without one.
async fn waited(slot: &TokenSlot) -> u128 {
    let before = Instant::now();
    assert!(slot.wait_usable(CLOCK, WAIT).await.is_err());
    before.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn rejected_login_ends_the_wait_at_once() {
    for outcome in Outcome::ALL.into_iter().filter(|it| it.is_rejection()) {
        let slot = TokenSlot::new();
        fail_with(&slot, 2.0, outcome);
        assert_eq!(waited(&slot).await, 0, "{outcome}");
        let retry_after = slot.unavailable().retry_after;
        assert_eq!(retry_after, Duration::from_secs(2), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn login_after_a_rejected_one_is_waited_for_until_it_fails() {
    let slot = Arc::new(TokenSlot::new());
    fail_with(&slot, 0.0, Outcome::InvalidClient);
    slot.begin_login();
    let keeper = {
        let slot = Arc::clone(&slot);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            fail_with(&slot, 4.0, Outcome::InvalidClient);
        })
    };
    assert_eq!(waited(&slot).await, 2000);
    keeper.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn network_failure_is_waited_out_only_if_the_next_login_is_due_in_time() {
    for (next_login, expected) in [(4.0, 5000..5010), (5.0, 5000..5010), (6.0, 0..1)] {
        let slot = TokenSlot::new();
        fail_with(&slot, next_login, Outcome::Refused);
        assert!(expected.contains(&waited(&slot).await), "{next_login}");
    }
    // The wait ends once a failure shows that the next login is too late.
    let slot = Arc::new(TokenSlot::new());
    fail_with(&slot, 2.0, Outcome::Timeout);
    let keeper = {
        let slot = Arc::clone(&slot);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            fail_with(&slot, 4.0, Outcome::Timeout);
        })
    };
    assert_eq!(waited(&slot).await, 2000);
    keeper.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wait_newer_ignores_the_same_generation() {
    let slot = TokenSlot::new();
    put(&slot, 3, 200);
    assert!(slot.wait_newer(3, CLOCK, WAIT).await.is_err());
    assert_eq!(
        slot.wait_newer(2, CLOCK, WAIT).await.unwrap().generation(),
        3
    );
}

#[tokio::test]
async fn waiter_on_another_runtime_wakes() {
    let slot = Arc::new(TokenSlot::new());
    let (ready, began) = tokio::sync::oneshot::channel();
    let waiter = {
        let slot = Arc::clone(&slot);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                ready.send(()).unwrap();
                slot.wait_usable(CLOCK, Duration::from_secs(60))
                    .await
                    .is_ok()
            })
        })
    };
    began.await.unwrap();
    put(&slot, 1, 200);
    assert!(waiter.join().unwrap());
}
