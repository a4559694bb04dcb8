//! What follows when Citrix refuses a token with a 401.

use super::*;
use crate::token::ForcedRefresh;

const LATENCY: Duration = Duration::from_millis(200);

fn hourly() -> Kept {
    Kept::with(secret("s"), None, LATENCY, |_| granted(3600))
}

#[tokio::test(start_paused = true)]
async fn however_many_requests_met_the_401_one_login_is_made() {
    let kept = hourly();
    seconds(1.0).await;
    for _ in 0..1000 {
        assert_eq!(kept.slot.report_rejected(1), ForcedRefresh::InProgress);
    }
    seconds(0.1).await;
    assert_eq!(
        kept.slot.report_rejected(1),
        ForcedRefresh::InProgress,
        "it is on its way"
    );
    assert_eq!(kept.usable(), 1, "and the old one stays until then");
    let token = kept
        .slot
        .wait_newer(1, kept.clock, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((token.generation(), kept.logins()), (2, 2));
    assert_eq!(kept.slot.report_rejected(1), ForcedRefresh::Replaced);
    seconds(60.0).await;
    assert_eq!(kept.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_401_within_the_interval_is_heard_when_it_ends() {
    let kept = hourly();
    seconds(1.0).await;
    kept.slot.report_rejected(1);
    seconds(3.0).await;
    let ForcedRefresh::Deferred(after) = kept.slot.report_rejected(2) else {
        panic!("it is too soon")
    };
    assert!((6.9..=7.0).contains(&after.as_secs_f64()), "{after:?}");
    seconds(6.5).await;
    assert_eq!(kept.logins(), 2);
    seconds(1.0).await;
    assert_eq!((kept.logins(), kept.usable()), (3, 3));
    let gap = kept.gaps()[1];
    assert!((10.0..10.1).contains(&gap), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_tokens_are_all_refused_logs_in_once_an_interval() {
    let kept = hourly();
    for _ in 0..1000 {
        seconds(0.1).await;
        kept.slot.report_rejected(kept.usable());
    }
    assert!((9..=11).contains(&kept.logins()), "{}", kept.logins());
    assert!(
        kept.gaps()[1..].iter().all(|gap| *gap >= 10.0),
        "{:?}",
        kept.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn a_number_that_was_never_given_out_condemns_no_later_token() {
    let kept = hourly();
    assert_eq!(kept.slot.report_rejected(99), ForcedRefresh::InProgress);
    seconds(1.0).await;
    kept.slot.report_rejected(99);
    seconds(100.0).await;
    assert_eq!(kept.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_is_told_at_once_and_not_repeated_at_every_401() {
    let kept = Kept::with(secret("s"), None, LATENCY, |call| {
        if call.number == 1 {
            granted(3600)
        } else {
            refused(Outcome::Http5xx)
        }
    });
    seconds(1.0).await;
    kept.slot.report_rejected(1);
    let asked = Instant::now();
    let unavailable = kept
        .slot
        .wait_newer(1, kept.clock, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(unavailable.outcome, Some(Outcome::Http5xx));
    assert!(matches!(
        kept.slot.report_rejected(1),
        ForcedRefresh::Deferred(_)
    ));
    assert_eq!(
        kept.usable(),
        1,
        "a token that is refused in one place may work in another"
    );
    for _ in 0..600 {
        seconds(0.1).await;
        kept.slot.report_rejected(1);
    }
    let gaps = kept.gaps();
    assert!(
        kept.logins() < 12 && gaps[1..].iter().all(|gap| *gap >= 0.8),
        "{gaps:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_401_during_a_long_pause_shortens_it() {
    let kept = Kept::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            refused(Outcome::Http5xx)
        }
    });
    // The refresh begins to fail at 2655 s at the latest; 200 s on the pauses are a minute long.
    seconds(2855.0).await;
    let before = kept.logins();
    kept.slot.report_rejected(1);
    seconds(100.0).await;
    let more = kept.logins() - before;
    assert!(
        more >= 6,
        "{more} logins in 100 s: the pause is 15 s at most once the token is refused"
    );
}

#[tokio::test(start_paused = true)]
async fn the_interval_holds_when_a_scheduled_login_fails_within_it() {
    // Tokens of 4 s: the 401 at 1 s is heard at once, the login planned for 3 s after that fails.
    let kept = Kept::start(|call| {
        if call.number == 3 {
            refused(Outcome::Timeout)
        } else {
            granted(4)
        }
    });
    seconds(1.0).await;
    kept.slot.report_rejected(1);
    seconds(0.1).await;
    assert_eq!(kept.usable(), 2);
    while kept.logins() < 3 {
        seconds(0.01).await;
    }
    assert!(matches!(
        kept.slot.report_rejected(2),
        ForcedRefresh::Deferred(_)
    ));
    seconds(0.5).await;
    assert_eq!(kept.logins(), 3, "the failed login's own pause is kept to");
    seconds(1.0).await;
    assert_eq!(kept.usable(), 3);
}
