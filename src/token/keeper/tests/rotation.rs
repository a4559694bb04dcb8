//! Two secrets, changed secrets, missing secrets.

use std::fs;

use super::*;

/// Takes only the secret that a test names.
fn only(good: &'static str) -> impl FnMut(&Call) -> Result<Issued, Failure> + Send {
    move |call| if call.secret == good { granted(3600) } else { refused(Outcome::InvalidClient) }
}

#[tokio::test(start_paused = true)]
async fn the_second_secret_is_tried_when_the_first_is_refused_and_kept_when_it_works() {
    let kept = Kept::with(secret("old"), Some(secret("new")), Duration::ZERO, only("new"));
    seconds(1.0).await;
    assert_eq!(kept.usable(), 1);
    seconds(3600.0).await;
    assert_eq!(kept.usable(), 2);
    assert_eq!(kept.secrets_tried(), ["old", "new", "new"]);
    assert_eq!(kept.metric("token_refreshes_total{customer=\"acme\",outcome=\"invalid_client\"}"), "1");
}

#[tokio::test(start_paused = true)]
async fn the_trust_services_401_is_a_refused_secret_too() {
    let kept = Kept::with(secret("old"), Some(secret("new")), Duration::ZERO, |call| {
        if call.secret == "new" { granted(3600) } else { refused(Outcome::Unauthorized) }
    });
    seconds(1.0).await;
    assert_eq!((kept.usable(), kept.logins()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_other_secret_is_not_tried_for_what_is_not_its_fault() {
    let kept = Kept::with(secret("old"), Some(secret("new")), Duration::ZERO, |_| refused(Outcome::Http5xx));
    seconds(60.0).await;
    assert!(kept.secrets_tried().iter().all(|tried| tried == "old"));
}

#[tokio::test(start_paused = true)]
async fn two_dead_secrets_take_turns_and_either_is_found_once_it_lives() {
    let kept = Kept::with(secret("a"), Some(secret("b")), Duration::ZERO, |call| {
        if call.at > Duration::from_secs(300) && call.secret == "b" {
            granted(3600)
        } else {
            refused(Outcome::InvalidClient)
        }
    });
    seconds(20.0).await;
    assert_eq!(kept.secrets_tried()[..5], ["a", "b", "b", "a", "b"]);
    seconds(280.0).await;
    assert!(kept.logins() < 40, "{}", kept.logins());
    assert_eq!(kept.usable(), 0);
    seconds(40.0).await;
    assert_eq!(kept.usable(), 1);
    seconds(3000.0).await;
    assert_eq!(kept.secrets_tried().last().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn the_same_secret_twice_is_tried_once() {
    let kept = Kept::with(secret("a"), Some(secret("a")), Duration::ZERO, only("b"));
    seconds(0.5).await;
    assert_eq!(kept.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_ends_the_pause() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "old\n").unwrap();
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, only("new"));
    seconds(120.0).await;
    let before = kept.logins();
    // Right after a login, so that the pause would be long.
    while kept.logins() == before {
        seconds(0.1).await;
    }
    fs::write(&path, "new\n").unwrap();
    seconds(3.1).await;
    assert_eq!((kept.usable(), kept.logins()), (1, before + 2));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(60.0).await;
    assert_eq!((kept.usable(), kept.logins()), (0, 0), "nothing is asked without a secret");
    assert_eq!(kept.slot.status().last_failure.unwrap().outcome, Outcome::SecretUnreadable);
    fs::write(&path, "s").unwrap();
    seconds(3.1).await;
    assert_eq!(kept.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_read_anew_for_each_login() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "one").unwrap();
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(1.0).await;
    fs::write(&path, "two").unwrap();
    seconds(3000.0).await;
    assert_eq!(kept.secrets_tried(), ["one", "two"]);
}
