//! What follows when an operator asks for a new token.

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_login_is_made_at_once_and_everybody_who_asks_meanwhile_shares_it() {
    let kept = Kept::with(secret("s"), None, Duration::from_millis(200), |_| {
        granted(3600)
    });
    seconds(1.0).await;
    let asked = Instant::now();
    assert_eq!(kept.slot.request_login(), Ok(()));
    seconds(0.1).await;
    assert_eq!(kept.slot.request_login(), Ok(()), "it is being made");
    let token = kept.slot.wait_newer(1, kept.clock, PATIENCE).await.unwrap();
    assert!(
        asked.elapsed() < Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!((token.generation(), kept.logins()), (2, 2));
    seconds(60.0).await;
    assert_eq!(kept.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn logins_that_are_asked_for_keep_the_interval_whoever_asks() {
    let kept = Kept::start(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!(kept.slot.request_login(), Ok(()));
    seconds(3.0).await;
    let wait = kept.slot.request_login().unwrap_err();
    assert!((6.9..=7.0).contains(&wait.as_secs_f64()), "{wait:?}");
    assert!(matches!(
        kept.slot.report_rejected(2),
        crate::token::ForcedRefresh::Deferred(_)
    ));
    seconds(6.0).await;
    assert_eq!(kept.logins(), 2);
    // The 401 was heard when the interval ended; the wish that came too soon was not kept.
    seconds(2.0).await;
    assert_eq!(kept.logins(), 3);
    seconds(3000.0).await;
    assert_eq!(kept.slot.request_login(), Ok(()), "long after the last one");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_wish_ends_the_pause_only_where_the_endpoint_may_be_asked() {
    // The first pauses are shorter than the interval between wishes.
    let kept = Kept::start(|call| {
        if call.number == 1 {
            refused(Outcome::Http5xx)
        } else {
            granted(3600)
        }
    });
    seconds(0.1).await;
    let wait = kept.slot.request_login().unwrap_err();
    assert!(wait < Duration::from_secs(2), "{wait:?}");
    assert_eq!(kept.logins(), 1);
    seconds(2.0).await;
    assert_eq!((kept.logins(), kept.usable()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_fails_is_told_at_once_and_the_token_stays() {
    let kept = Kept::start(|call| {
        if call.number == 1 {
            granted(3600)
        } else {
            refused(Outcome::Http5xx)
        }
    });
    seconds(1.0).await;
    kept.slot.request_login().unwrap();
    let asked = Instant::now();
    let unavailable = kept
        .slot
        .wait_newer(1, kept.clock, PATIENCE)
        .await
        .unwrap_err();
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        (unavailable.outcome, kept.usable()),
        (Some(Outcome::Http5xx), 1)
    );
    assert_eq!(kept.state(), crate::token::TokenState::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_wish_during_a_long_pause_is_heard_after_the_short_one() {
    // With a good token the pauses grow to a minute; a wish waits for no more than the 15 s of a login without one.
    let kept = Kept::start(|call| match call.number {
        1 => granted(3600),
        2..=9 => refused(Outcome::Http5xx),
        _ => granted(3600),
    });
    while kept.logins() < 9 {
        seconds(1.0).await;
    }
    assert!(
        kept.slot.request_login().is_err(),
        "the endpoint has just failed"
    );
    seconds(19.0).await;
    assert_eq!((kept.logins(), kept.slot.request_login()), (9, Ok(())));
    seconds(0.1).await;
    assert_eq!((kept.logins(), kept.usable()), (10, 2));
}
