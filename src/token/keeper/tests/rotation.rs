//! Two secrets, changed secrets, missing secrets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::token::TokenState;

/// A file that a test may change, in a folder that lives as long as its handle.
fn secret_in_a_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Takes only the secret that a test names.
fn only(good: &'static str) -> impl FnMut(&Call) -> Result<IssuedToken, LoginError> + Send {
    move |call| {
        if call.secret == good {
            granted(3600)
        } else {
            refused(Outcome::InvalidClient)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_secret_is_tried_when_the_first_is_refused_and_kept_when_it_works() {
    let kept = Kept::with(
        secret("old"),
        Some(secret("new")),
        Duration::ZERO,
        only("new"),
    );
    seconds(1.0).await;
    assert_eq!(kept.usable(), 1);
    seconds(3600.0).await;
    assert_eq!(kept.usable(), 2);
    assert_eq!(kept.secrets_tried(), ["old", "new", "new"]);
    assert_eq!(
        kept.metric("token_refreshes_total{customer=\"acme\",outcome=\"invalid_client\"}"),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn the_trust_services_401_is_a_refused_secret_too() {
    let kept = Kept::with(secret("old"), Some(secret("new")), Duration::ZERO, |call| {
        if call.secret == "new" {
            granted(3600)
        } else {
            refused(Outcome::Unauthorized)
        }
    });
    seconds(1.0).await;
    assert_eq!((kept.usable(), kept.logins()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_other_secret_is_not_tried_for_what_is_not_its_fault() {
    let kept = Kept::with(secret("old"), Some(secret("new")), Duration::ZERO, |_| {
        refused(Outcome::Http5xx)
    });
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
    assert_eq!(
        (kept.usable(), kept.logins()),
        (0, 0),
        "nothing is asked without a secret"
    );
    assert_eq!(
        kept.slot.status().last_failure.unwrap().outcome,
        Outcome::SecretUnreadable
    );
    fs::write(&path, "s").unwrap();
    seconds(3.1).await;
    assert_eq!(kept.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_proven_within_ten_seconds_while_the_token_is_fresh() {
    let (_folder, path) = secret_in_a_file("one");
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(100.0).await;
    assert_eq!(kept.logins(), 1, "looking is not logging in");
    fs::write(&path, "two\n").unwrap();
    seconds(10.0).await;
    assert_eq!(
        (kept.secrets_tried(), kept.usable()),
        (vec!["one".to_owned(), "two".to_owned()], 2)
    );
    fs::write(&path, "two\r\n").unwrap();
    seconds(60.0).await;
    assert_eq!(kept.logins(), 2, "another line end is no other secret");
}

#[tokio::test(start_paused = true)]
async fn a_swapped_symlink_of_a_mounted_volume_is_a_change() {
    // As Kubernetes does it: secret -> ..data/secret, ..data -> ..1, and then ..data is replaced.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (generation, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(generation)).unwrap();
        fs::write(at(generation).join("secret"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    let kept = Kept::with(secret_file(&at("secret")), None, Duration::ZERO, |_| {
        granted(3600)
    });
    seconds(1.0).await;
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    seconds(10.0).await;
    assert_eq!(kept.secrets_tried(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_that_is_refused_leaves_the_one_that_worked_in_use_and_says_so() {
    let log = Log::start();
    let (_folder, path) = secret_in_a_file("good");
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, only("good"));
    seconds(1.0).await;
    fs::write(&path, "bad").unwrap();
    seconds(10.0).await;
    assert_eq!(kept.secrets_tried(), ["good", "bad", "good"]);
    assert_eq!((kept.usable(), kept.state()), (2, TokenState::Stale));
    assert!(kept.slot.status().on_old_secret);
    assert!(
        log.text()
            .contains("the one that worked last is still used"),
        "{}",
        log.text()
    );

    seconds(36_000.0).await;
    assert_ne!(kept.usable(), 0);
    let tried = kept.secrets_tried();
    assert!(
        tried.len() > 10 && tried[3..].iter().all(|tried| tried == "good"),
        "{tried:?}"
    );

    fs::write(&path, "good\n").unwrap();
    seconds(10.0).await;
    assert_eq!(kept.state(), TokenState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn once_the_new_secret_works_the_old_one_is_gone() {
    let (_folder, path) = secret_in_a_file("one");
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, |call| {
        if call.number <= 2 {
            granted(3600)
        } else {
            refused(Outcome::InvalidClient)
        }
    });
    seconds(1.0).await;
    fs::write(&path, "two").unwrap();
    seconds(3000.0).await;
    let tried = kept.secrets_tried();
    assert!(
        tried.len() > 3 && tried[1..].iter().all(|tried| tried == "two"),
        "{tried:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_is_not_judged_by_an_outage() {
    let (_folder, path) = secret_in_a_file("one");
    let kept = Kept::with(
        secret_file(&path),
        None,
        Duration::ZERO,
        |call| match call.number {
            2..=4 => refused(Outcome::Http5xx),
            _ if call.secret == "one" && call.number > 1 => refused(Outcome::InvalidClient),
            _ => granted(3600),
        },
    );
    seconds(1.0).await;
    fs::write(&path, "two").unwrap();
    seconds(30.0).await;
    assert_eq!(kept.secrets_tried(), ["one", "two", "two", "two", "two"]);
    assert_eq!((kept.usable(), kept.state()), (2, TokenState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_vanished_is_remembered() {
    let (_folder, path) = secret_in_a_file("one");
    let kept = Kept::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(1.0).await;
    fs::remove_file(&path).unwrap();
    seconds(60.0).await;
    assert_eq!(kept.logins(), 1, "no reason to log in");
    seconds(3000.0).await;
    assert_eq!(
        (kept.secrets_tried(), kept.usable()),
        (vec!["one".to_owned(), "one".to_owned()], 2)
    );
    assert!(kept.slot.status().on_old_secret);
    fs::write(&path, "one").unwrap();
    seconds(10.0).await;
    assert_eq!(
        (kept.usable(), kept.slot.status().on_old_secret),
        (3, false)
    );
}

#[tokio::test(start_paused = true)]
async fn when_all_are_dead_the_remembered_one_takes_its_turn() {
    let (_folder, path) = secret_in_a_file("a");
    let kept = Kept::with(
        secret_file(&path),
        Some(secret("b")),
        Duration::ZERO,
        |call| {
            if call.number == 1 {
                granted(3600)
            } else {
                refused(Outcome::InvalidClient)
            }
        },
    );
    seconds(1.0).await;
    fs::write(&path, "c").unwrap();
    seconds(3600.0).await;
    let tried = kept.secrets_tried();
    assert_eq!(
        tried[..4],
        ["a", "c", "b", "a"],
        "the changed one first, the remembered one last"
    );
    for dead in ["a", "b", "c"] {
        assert!(
            tried[4..].iter().filter(|tried| *tried == dead).count() > 10,
            "{dead} {tried:?}"
        );
    }
    assert!(
        kept.gaps()[4..].iter().all(|gap| *gap >= 0.8),
        "one login a pause"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_second_secret_is_proven_too() {
    let (_folder, path) = secret_in_a_file("b");
    let kept = Kept::with(
        secret("a"),
        Some(secret_file(&path)),
        Duration::ZERO,
        |_| granted(3600),
    );
    seconds(1.0).await;
    fs::write(&path, "c").unwrap();
    seconds(10.0).await;
    assert_eq!(kept.secrets_tried(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_from_elsewhere_leads_to_a_login_if_it_is_another_one() {
    let kept = Kept::start(|_| granted(3600));
    let order = |secret: &str| {
        let credential = credential(super::secret(secret), None);
        kept.orders
            .send_replace(KeeperSettings::new(&credential, settings(), None));
    };
    seconds(1.0).await;
    order("secret-1");
    seconds(1.0).await;
    assert_eq!(kept.logins(), 1, "the same");
    order("secret-2");
    seconds(0.1).await;
    assert_eq!(kept.secrets_tried(), ["secret-1", "secret-2"]);
    assert_eq!(kept.usable(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_from_elsewhere_that_is_refused_leaves_the_one_that_worked() {
    let kept = Kept::start(|call| {
        if call.secret == "good" {
            granted(3600)
        } else {
            refused(Outcome::InvalidClient)
        }
    });
    let order = |secret: &str| {
        let credential = credential(super::secret(secret), None);
        kept.orders
            .send_replace(KeeperSettings::new(&credential, settings(), None));
    };
    order("good");
    seconds(2.0).await;
    order("bad");
    seconds(0.1).await;
    assert_eq!(
        kept.secrets_tried().last().map(String::as_str),
        Some("good"),
        "{:?}",
        kept.secrets_tried()
    );
    assert!(kept.usable() > 0);
}

#[tokio::test(start_paused = true)]
async fn settings_count_from_the_next_token_on() {
    let kept = Kept::start(|_| granted(3600));
    seconds(1.0).await;
    let settings = config::TokenSettings {
        refresh_at: 0.1,
        ..settings()
    };
    kept.orders.send_replace(KeeperSettings::new(
        &credential(secret("secret-1"), None),
        settings,
        None,
    ));
    seconds(7200.0).await;
    let gaps = kept.gaps();
    assert!(
        gaps[0] > 2000.0 && gaps[1..].iter().all(|gap| *gap < 1000.0),
        "{gaps:?}"
    );
}
