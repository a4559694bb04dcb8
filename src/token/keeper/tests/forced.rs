//! Logins that a 401 from Citrix forces.

use super::*;
use crate::token::ForcedRefresh;

const LATENCY: Duration = Duration::from_millis(200);

fn hourly() -> TestKeeper {
    TestKeeper::with(secret("s"), None, LATENCY, |_| granted(3600))
}

#[tokio::test(start_paused = true)]
async fn any_number_of_401s_forces_one_login() {
    let keeper = hourly();
    seconds(1.0).await;
    for _ in 0..1000 {
        assert_eq!(keeper.slot.report_rejected(1), ForcedRefresh::InProgress);
    }
    seconds(0.1).await;
    assert_eq!(
        keeper.slot.report_rejected(1),
        ForcedRefresh::InProgress,
        "in progress"
    );
    assert_eq!(keeper.usable(), 1, "the old token stays until then");
    let token = keeper
        .slot
        .wait_newer(1, keeper.clock, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((token.generation(), keeper.logins()), (2, 2));
    assert_eq!(keeper.slot.report_rejected(1), ForcedRefresh::Replaced);
    seconds(60.0).await;
    assert_eq!(keeper.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejection_within_the_interval_is_deferred_to_its_end() {
    let keeper = hourly();
    seconds(1.0).await;
    keeper.slot.report_rejected(1);
    seconds(3.0).await;
    let ForcedRefresh::Deferred(after) = keeper.slot.report_rejected(2) else {
        panic!("expected a deferred login")
    };
    assert!((6.9..=7.0).contains(&after.as_secs_f64()), "{after:?}");
    seconds(6.5).await;
    assert_eq!(keeper.logins(), 2);
    seconds(1.0).await;
    assert_eq!((keeper.logins(), keeper.usable()), (3, 3));
    let gap = keeper.gaps()[1];
    assert!((10.0..10.1).contains(&gap), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn permanently_rejected_client_logs_in_once_per_interval() {
    let keeper = hourly();
    for _ in 0..1000 {
        seconds(0.1).await;
        keeper.slot.report_rejected(keeper.usable());
    }
    assert!((9..=11).contains(&keeper.logins()), "{}", keeper.logins());
    assert!(
        keeper.gaps()[1..].iter().all(|gap| *gap >= 10.0),
        "{:?}",
        keeper.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn unissued_generation_rejects_no_later_token() {
    let keeper = hourly();
    assert_eq!(keeper.slot.report_rejected(99), ForcedRefresh::InProgress);
    seconds(1.0).await;
    keeper.slot.report_rejected(99);
    seconds(100.0).await;
    assert_eq!(keeper.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn failed_forced_login_returns_at_once_and_later_401s_are_deferred() {
    let keeper = TestKeeper::with(secret("s"), None, LATENCY, |call| {
        if call.number == 1 {
            granted(3600)
        } else {
            login_error(Outcome::Http5xx)
        }
    });
    seconds(1.0).await;
    keeper.slot.report_rejected(1);
    let began = Instant::now();
    let unavailable = keeper
        .slot
        .wait_newer(1, keeper.clock, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(unavailable.outcome, Some(Outcome::Http5xx));
    assert!(matches!(
        keeper.slot.report_rejected(1),
        ForcedRefresh::Deferred(_)
    ));
    assert_eq!(
        keeper.usable(),
        1,
        "a token rejected by one service may be valid at another"
    );
    for _ in 0..600 {
        seconds(0.1).await;
        keeper.slot.report_rejected(1);
    }
    let gaps = keeper.gaps();
    assert!(
        keeper.logins() < 12 && gaps[1..].iter().all(|gap| *gap >= 0.8),
        "{gaps:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn rejection_during_a_long_backoff_shortens_it() {
    let keeper = TestKeeper::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            login_error(Outcome::Http5xx)
        }
    });
    // The refresh starts to fail at 2655 s at the latest; 200 s later the backoff is a minute.
    seconds(2855.0).await;
    let before = keeper.logins();
    keeper.slot.report_rejected(1);
    seconds(100.0).await;
    let more = keeper.logins() - before;
    assert!(
        more >= 6,
        "{more} logins in 100 s: the backoff is at most 15 s once the token is rejected"
    );
}

#[tokio::test(start_paused = true)]
async fn interval_holds_when_a_scheduled_login_fails_within_it() {
    // Lifetime of 4 s: the 401 at 1 s forces a login at once, and the scheduled one 3 s later
    // fails.
    let keeper = TestKeeper::start(|call| {
        if call.number == 3 {
            login_error(Outcome::Timeout)
        } else {
            granted(4)
        }
    });
    seconds(1.0).await;
    keeper.slot.report_rejected(1);
    seconds(0.1).await;
    assert_eq!(keeper.usable(), 2);
    while keeper.logins() < 3 {
        seconds(0.01).await;
    }
    assert!(matches!(
        keeper.slot.report_rejected(2),
        ForcedRefresh::Deferred(_)
    ));
    seconds(0.5).await;
    assert_eq!(
        keeper.logins(),
        3,
        "the backoff of the failed login applies"
    );
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 3);
}
