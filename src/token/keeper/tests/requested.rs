//! Logins that an operator requests.

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn request_starts_a_login_that_concurrent_requests_share() {
    let keeper = TestKeeper::with(secret("s"), None, Duration::from_millis(200), |_| {
        granted(3600)
    });
    seconds(1.0).await;
    let began = Instant::now();
    assert_eq!(keeper.slot.request_login(), Ok(()));
    seconds(0.1).await;
    assert_eq!(keeper.slot.request_login(), Ok(()), "in progress");
    let token = keeper
        .slot
        .wait_newer(1, keeper.clock, TIMEOUT)
        .await
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((token.generation(), keeper.logins()), (2, 2));
    seconds(60.0).await;
    assert_eq!(keeper.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn requested_and_forced_logins_share_the_interval() {
    let keeper = TestKeeper::start(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!(keeper.slot.request_login(), Ok(()));
    seconds(3.0).await;
    let wait = keeper.slot.request_login().unwrap_err();
    assert!((6.9..=7.0).contains(&wait.as_secs_f64()), "{wait:?}");
    assert!(matches!(
        keeper.slot.report_rejected(2),
        crate::token::ForcedRefresh::Deferred(_)
    ));
    seconds(6.0).await;
    assert_eq!(keeper.logins(), 2);
    // The deferred 401 took effect at the end of the interval; the rejected request did not.
    seconds(2.0).await;
    assert_eq!(keeper.logins(), 3);
    seconds(3000.0).await;
    assert_eq!(
        keeper.slot.request_login(),
        Ok(()),
        "long after the last one"
    );
}

#[tokio::test(start_paused = true)]
async fn request_during_the_backoff_is_rejected_without_a_token() {
    // The first backoffs are shorter than min_forced_interval.
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            login_error(Outcome::Http5xx)
        } else {
            granted(3600)
        }
    });
    seconds(0.1).await;
    let wait = keeper.slot.request_login().unwrap_err();
    assert!(wait < Duration::from_secs(2), "{wait:?}");
    assert_eq!(keeper.logins(), 1);
    seconds(2.0).await;
    assert_eq!((keeper.logins(), keeper.usable()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn failed_request_returns_at_once_and_the_token_stays() {
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            login_error(Outcome::Http5xx)
        }
    });
    seconds(1.0).await;
    keeper.slot.request_login().unwrap();
    let began = Instant::now();
    let unavailable = keeper
        .slot
        .wait_newer(1, keeper.clock, TIMEOUT)
        .await
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        (unavailable.outcome, keeper.usable()),
        (Some(Outcome::Http5xx), 1)
    );
    assert_eq!(keeper.state(), crate::token::TokenState::Stale);
}

#[tokio::test(start_paused = true)]
async fn request_during_a_long_backoff_waits_for_the_short_one() {
    // With a usable token the backoff grows to a minute; a request waits for at most the 15 s that
    // apply without one.
    let keeper = TestKeeper::start(|call| match call.number {
        1 => granted(3600),
        2..=9 => login_error(Outcome::Http5xx),
        _ => granted(3600),
    });
    while keeper.logins() < 9 {
        seconds(1.0).await;
    }
    assert!(
        keeper.slot.request_login().is_err(),
        "the endpoint has just failed"
    );
    seconds(19.0).await;
    assert_eq!((keeper.logins(), keeper.slot.request_login()), (9, Ok(())));
    seconds(0.1).await;
    assert_eq!((keeper.logins(), keeper.usable()), (10, 2));
}
