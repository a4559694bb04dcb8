//! Refresh, failure and recovery.

use super::*;
use crate::token::TokenState;
use crate::token::status::Skew;

#[tokio::test(start_paused = true)]
async fn token_is_published_and_refreshed_before_its_expiry() {
    let keeper = TestKeeper::start(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!((keeper.usable(), keeper.state()), (1, TokenState::Fresh));
    let status = keeper.slot.status();
    let start = SystemTime::UNIX_EPOCH + EPOCH;
    assert_eq!(status.expires_at, Some(start + Duration::from_secs(3600)));
    assert_eq!(status.usable_until, Some(start + Duration::from_secs(3540)));
    assert_eq!(keeper.metric("token_generation{customer=\"acme\"}"), "1");
    assert_eq!(
        keeper.metric("token_expiry_timestamp_seconds{customer=\"acme\"}"),
        "1767229200"
    );
    seconds(2388.0).await;
    assert_eq!(
        keeper.usable(),
        1,
        "not before 75 % of the usable lifetime minus 10 %"
    );
    seconds(267.0).await;
    assert_eq!(keeper.usable(), 2);
    assert_eq!(
        keeper.metric("token_refreshes_total{customer=\"acme\",outcome=\"ok\"}"),
        "2"
    );
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_recovered_from() {
    for outcome in Outcome::ALL {
        if matches!(outcome, Outcome::Ok | Outcome::SecretUnreadable) {
            continue;
        }
        let keeper = TestKeeper::start(move |call| {
            if call.number <= 5 {
                login_error(outcome)
            } else {
                granted(3600)
            }
        });
        seconds(6.0).await;
        assert_eq!(keeper.usable(), 0, "{outcome}");
        let status = keeper.slot.status();
        assert!(status.consecutive_failures > 0, "{outcome}");
        assert_eq!(status.last_failure.unwrap().outcome, outcome);
        seconds(300.0).await;
        assert_eq!((keeper.usable(), keeper.logins()), (1, 6), "{outcome}");
        assert_eq!(keeper.state(), TokenState::Fresh);
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(keeper.metric(&series), "5");
        assert_eq!(
            keeper.metric("token_consecutive_failures{customer=\"acme\"}"),
            "0"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_keeps_a_valid_token_and_an_expired_one_is_never_used() {
    let keeper = TestKeeper::start(|call| {
        if (2..150).contains(&call.number) {
            login_error(Outcome::Http5xx)
        } else {
            granted(3600)
        }
    });
    seconds(0.5).await;
    for second in 1..3540 {
        seconds(1.0).await;
        assert_eq!(keeper.usable(), 1, "after {second} s");
    }
    assert_eq!(keeper.state(), TokenState::Stale);
    assert_eq!(keeper.metric("token_generation{customer=\"acme\"}"), "1");
    seconds(1.0).await;
    assert_eq!((keeper.usable(), keeper.state()), (0, TokenState::Unusable));
    let gaps = keeper.gaps();
    assert!(
        gaps[1..].iter().all(|gap| (0.8..=60.0).contains(gap)),
        "{gaps:?}"
    );
    seconds(1800.0).await;
    let gaps = keeper.gaps();
    assert!(
        gaps[gaps.len() - 50..].iter().all(|gap| *gap <= 15.0),
        "{gaps:?}"
    );
    seconds(600.0).await;
    assert_eq!((keeper.usable(), keeper.state()), (2, TokenState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn backoff_ends_with_the_token() {
    // The backoff grows to a minute while the token is valid, but must not exceed its expiry.
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            granted(600)
        } else {
            login_error(Outcome::Http5xx)
        }
    });
    seconds(545.0).await;
    let until_end = keeper
        .calls
        .lock()
        .unwrap()
        .last()
        .unwrap()
        .at
        .as_secs_f64();
    assert!((525.0..=545.0).contains(&until_end), "{until_end}");
}

#[tokio::test(start_paused = true)]
async fn lifetime_of_two_seconds_leaves_no_gap() {
    let keeper = TestKeeper::with(secret("s"), None, Duration::from_millis(100), |_| {
        granted(2)
    });
    seconds(0.2).await;
    for _ in 0..1200 {
        seconds(0.05).await;
        assert_ne!(keeper.usable(), 0);
    }
    assert!(
        keeper.gaps().iter().all(|gap| (1.0..=1.36).contains(gap)),
        "{:?}",
        keeper.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn lifetime_of_a_day_needs_a_login_in_most_of_a_day() {
    let keeper = TestKeeper::start(|_| granted(86_400));
    seconds(10.0 * 86_400.0).await;
    assert!((13..=16).contains(&keeper.logins()), "{}", keeper.logins());
    assert_ne!(keeper.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn relative_lifetime_counts_from_the_request() {
    let keeper = TestKeeper::with(secret("s"), None, Duration::from_secs(10), |_| {
        granted(3600)
    });
    seconds(11.0).await;
    let left = keeper
        .slot
        .status()
        .expires_at
        .unwrap()
        .duration_since(keeper.clock.now())
        .unwrap();
    assert_eq!(left.as_secs(), 3589);
}

#[tokio::test(start_paused = true)]
async fn expiry_on_citrix_clock_is_corrected_by_the_skew() {
    // The local clock is an hour ahead: without correction the token would be expired on arrival.
    let start = SystemTime::UNIX_EPOCH + EPOCH;
    let keeper = TestKeeper::start(move |_| {
        let mut result = issued("t", Lifetime::Until(start))?;
        result.skew = Some(Skew::measure(
            start - Duration::from_secs(3600),
            start,
            Duration::ZERO,
        ));
        Ok(result)
    });
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 1);
    assert_eq!(keeper.slot.status().skew.map(Skew::seconds), Some(3600.0));
    assert_eq!(
        keeper.metric("token_clock_skew_seconds{customer=\"acme\"}"),
        "3600"
    );
}

#[tokio::test(start_paused = true)]
async fn expired_or_invalid_token_is_a_failure() {
    let past = SystemTime::UNIX_EPOCH + EPOCH - Duration::from_secs(1);
    let keeper = TestKeeper::start(move |call| match call.number {
        1 => issued("a\nb", Lifetime::Assumed),
        2 => issued("t", Lifetime::Until(past)),
        _ => granted(3600),
    });
    seconds(30.0).await;
    assert_eq!((keeper.usable(), keeper.logins()), (1, 3));
    for outcome in ["bad_token", "expired", "ok"] {
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(keeper.metric(&series), "1", "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn rate_limit_is_respected() {
    let keeper = TestKeeper::start(|call| match call.number {
        1 => login_error(Outcome::RateLimited).map_err(|f| LoginError {
            retry_after: Some(Duration::from_secs(40)),
            ..f
        }),
        2..=4 => login_error(Outcome::RateLimited),
        _ => granted(3600),
    });
    seconds(300.0).await;
    let gaps = keeper.gaps();
    assert!((40.0..=44.1).contains(&gaps[0]), "{gaps:?}");
    assert!((16.0..=24.1).contains(&gaps[1]), "{gaps:?}");
    assert!((32.0..=48.1).contains(&gaps[2]), "{gaps:?}");
    assert_eq!(keeper.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn resume_from_suspension_withdraws_the_expired_token_and_logs_in() {
    let keeper = TestKeeper::start(|_| granted(3600));
    seconds(1.0).await;
    set_clock_by(7200);
    assert_eq!((keeper.usable(), keeper.state()), (0, TokenState::Unusable));
    seconds(30.0).await;
    assert_eq!(keeper.usable(), 2);
}

#[tokio::test(start_paused = true)]
async fn request_after_a_suspension_wakes_the_keeper() {
    let keeper = TestKeeper::start(|_| granted(3600));
    seconds(1.0).await;
    set_clock_by(7200);
    let token = keeper
        .slot
        .wait_usable(keeper.clock, Duration::from_secs(5));
    assert_eq!(token.await.unwrap().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn clock_set_back_neither_delays_the_refresh_nor_extends_the_token() {
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            login_error(Outcome::Timeout)
        }
    });
    seconds(1.0).await;
    set_clock_by(-86_400);
    seconds(2700.0).await;
    assert!(keeper.logins() > 1, "the refresh is due by elapsed time");
    assert_eq!(keeper.usable(), 1);
    seconds(900.0).await;
    assert_eq!(
        keeper.usable(),
        0,
        "the lifetime has elapsed, whatever the wall clock shows"
    );
}

#[tokio::test(start_paused = true)]
async fn login_that_hangs_keeps_no_expired_token_in_use_after_the_clock_was_set_back() {
    let minute = Duration::from_secs(60);
    let keeper = TestKeeper::with(secret("s"), None, minute, |call| {
        if call.number == 1 {
            granted(100)
        } else {
            login_error(Outcome::Timeout)
        }
    });
    seconds(70.0).await;
    assert_eq!((keeper.usable(), keeper.logins()), (1, 2));
    set_clock_by(-3600);
    seconds(19.0).await;
    assert_eq!(keeper.usable(), 1);
    seconds(2.0).await;
    assert_eq!(keeper.usable(), 0, "its usable lifetime has elapsed");
    assert_eq!(keeper.logins(), 2, "the login is in progress");
}

#[tokio::test(start_paused = true)]
async fn token_that_expired_stays_expired_when_the_clock_is_set_back_later() {
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            granted(100)
        } else {
            login_error(Outcome::Timeout)
        }
    });
    seconds(91.0).await;
    assert_eq!(keeper.usable(), 0);
    set_clock_by(-3600);
    assert_eq!(keeper.usable(), 0);
}
