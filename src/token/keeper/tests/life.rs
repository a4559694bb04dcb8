//! InProgress, failing and recovering.

use super::*;
use crate::token::TokenState;
use crate::token::status::Skew;

#[tokio::test(start_paused = true)]
async fn a_token_is_published_and_renewed_before_its_end() {
    let kept = Kept::start(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!((kept.usable(), kept.state()), (1, TokenState::Fresh));
    let status = kept.slot.status();
    let start = SystemTime::UNIX_EPOCH + EPOCH;
    assert_eq!(status.expires_at, Some(start + Duration::from_secs(3600)));
    assert_eq!(status.usable_until, Some(start + Duration::from_secs(3540)));
    assert_eq!(kept.metric("token_generation{customer=\"acme\"}"), "1");
    assert_eq!(
        kept.metric("token_expiry_timestamp_seconds{customer=\"acme\"}"),
        "1767229200"
    );
    seconds(2388.0).await;
    assert_eq!(
        kept.usable(),
        1,
        "not before 75 % of the usable life less a tenth"
    );
    seconds(267.0).await;
    assert_eq!(kept.usable(), 2);
    assert_eq!(
        kept.metric("token_refreshes_total{customer=\"acme\",outcome=\"ok\"}"),
        "2"
    );
}

#[tokio::test(start_paused = true)]
async fn every_class_of_failure_is_recovered_from() {
    for outcome in Outcome::ALL {
        if matches!(outcome, Outcome::Ok | Outcome::SecretUnreadable) {
            continue;
        }
        let kept = Kept::start(move |call| {
            if call.number <= 5 {
                refused(outcome)
            } else {
                granted(3600)
            }
        });
        seconds(6.0).await;
        assert_eq!(kept.usable(), 0, "{outcome}");
        let status = kept.slot.status();
        assert!(status.consecutive_failures > 0, "{outcome}");
        assert_eq!(status.last_failure.unwrap().outcome, outcome);
        seconds(300.0).await;
        assert_eq!((kept.usable(), kept.logins()), (1, 6), "{outcome}");
        assert_eq!(kept.state(), TokenState::Fresh);
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(kept.metric(&series), "5");
        assert_eq!(
            kept.metric("token_consecutive_failures{customer=\"acme\"}"),
            "0"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_never_evicts_a_good_token_and_an_expired_one_is_never_handed_out() {
    let kept = Kept::start(|call| {
        if (2..150).contains(&call.number) {
            refused(Outcome::Http5xx)
        } else {
            granted(3600)
        }
    });
    seconds(0.5).await;
    for second in 1..3540 {
        seconds(1.0).await;
        assert_eq!(kept.usable(), 1, "after {second} s");
    }
    assert_eq!(kept.state(), TokenState::Stale);
    assert_eq!(kept.metric("token_generation{customer=\"acme\"}"), "1");
    seconds(1.0).await;
    assert_eq!((kept.usable(), kept.state()), (0, TokenState::Unusable));
    let gaps = kept.gaps();
    assert!(
        gaps[1..].iter().all(|gap| (0.8..=60.0).contains(gap)),
        "{gaps:?}"
    );
    seconds(1800.0).await;
    let gaps = kept.gaps();
    assert!(
        gaps[gaps.len() - 50..].iter().all(|gap| *gap <= 15.0),
        "{gaps:?}"
    );
    seconds(600.0).await;
    assert_eq!((kept.usable(), kept.state()), (2, TokenState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_when_the_token_does() {
    // Failures grow the pause to a minute while the token lasts; its end must not be slept through.
    let kept = Kept::start(|call| {
        if call.number == 1 {
            granted(600)
        } else {
            refused(Outcome::Http5xx)
        }
    });
    seconds(545.0).await;
    let until_end = kept.calls.lock().unwrap().last().unwrap().at.as_secs_f64();
    assert!((525.0..=545.0).contains(&until_end), "{until_end}");
}

#[tokio::test(start_paused = true)]
async fn a_life_of_two_seconds_leaves_no_gap() {
    let kept = Kept::with(secret("s"), None, Duration::from_millis(100), |_| {
        granted(2)
    });
    seconds(0.2).await;
    for _ in 0..1200 {
        seconds(0.05).await;
        assert_ne!(kept.usable(), 0);
    }
    assert!(
        kept.gaps().iter().all(|gap| (1.0..=1.36).contains(gap)),
        "{:?}",
        kept.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn a_life_of_a_day_is_asked_for_once_in_most_of_a_day() {
    let kept = Kept::start(|_| granted(86_400));
    seconds(10.0 * 86_400.0).await;
    assert!((13..=16).contains(&kept.logins()), "{}", kept.logins());
    assert_ne!(kept.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn seconds_count_from_the_moment_the_request_left() {
    let kept = Kept::with(secret("s"), None, Duration::from_secs(10), |_| {
        granted(3600)
    });
    seconds(11.0).await;
    let left = kept
        .slot
        .status()
        .expires_at
        .unwrap()
        .duration_since(kept.clock.now())
        .unwrap();
    assert_eq!(left.as_secs(), 3589);
}

#[tokio::test(start_paused = true)]
async fn a_time_of_citrixs_clock_is_corrected_by_the_skew() {
    // Our clock is an hour ahead: taken as it is, the token would be dead on arrival.
    let start = SystemTime::UNIX_EPOCH + EPOCH;
    let kept = Kept::start(move |_| {
        let mut answer = issued("t", Lifetime::Until(start))?;
        answer.skew = Some(Skew::measure(
            start - Duration::from_secs(3600),
            start,
            Duration::ZERO,
        ));
        Ok(answer)
    });
    seconds(1.0).await;
    assert_eq!(kept.usable(), 1);
    assert_eq!(kept.slot.status().skew.map(Skew::seconds), Some(3600.0));
    assert_eq!(
        kept.metric("token_clock_skew_seconds{customer=\"acme\"}"),
        "3600"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_sent_is_a_failure() {
    let past = SystemTime::UNIX_EPOCH + EPOCH - Duration::from_secs(1);
    let kept = Kept::start(move |call| match call.number {
        1 => issued("a\nb", Lifetime::Assumed),
        2 => issued("t", Lifetime::Until(past)),
        _ => granted(3600),
    });
    seconds(30.0).await;
    assert_eq!((kept.usable(), kept.logins()), (1, 3));
    for outcome in ["bad_token", "expired", "ok"] {
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(kept.metric(&series), "1", "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_to() {
    let kept = Kept::start(|call| match call.number {
        1 => refused(Outcome::RateLimited).map_err(|f| LoginError {
            retry_after: Some(Duration::from_secs(40)),
            ..f
        }),
        2..=4 => refused(Outcome::RateLimited),
        _ => granted(3600),
    });
    seconds(300.0).await;
    let gaps = kept.gaps();
    assert!((40.0..=44.1).contains(&gaps[0]), "{gaps:?}");
    assert!((16.0..=24.1).contains(&gaps[1]), "{gaps:?}");
    assert!((32.0..=48.1).contains(&gaps[2]), "{gaps:?}");
    assert_eq!(kept.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_never_sends_what_expired_and_wakes_to_a_login() {
    let kept = Kept::start(|_| granted(3600));
    seconds(1.0).await;
    set_clock_by(7200);
    assert_eq!((kept.usable(), kept.state()), (0, TokenState::Unusable));
    seconds(30.0).await;
    assert_eq!(kept.usable(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_neither_delays_the_refresh_nor_revives_the_token() {
    let kept = Kept::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            refused(Outcome::Timeout)
        }
    });
    seconds(1.0).await;
    set_clock_by(-86_400);
    seconds(2700.0).await;
    assert!(
        kept.logins() > 1,
        "the refresh is due by the time that passed"
    );
    assert_eq!(kept.usable(), 1);
    seconds(900.0).await;
    assert_eq!(kept.usable(), 0, "its life is over, whatever the date says");
}
