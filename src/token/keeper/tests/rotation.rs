//! Two secrets, changed secrets, missing secrets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::token::TokenState;

/// Writes a secret to a file in a temporary folder.
fn temp_secret_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Accepts only the given secret.
fn accepts_only(
    good: &'static str,
) -> impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send {
    move |call| {
        if call.secret == good {
            granted(3600)
        } else {
            login_error(Outcome::InvalidClient)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rejected_first_secret_falls_back_to_the_second_for_good() {
    let keeper = TestKeeper::with(
        secret("old"),
        Some(secret("new")),
        Duration::ZERO,
        accepts_only("new"),
    );
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 1);
    seconds(3600.0).await;
    assert_eq!(keeper.usable(), 2);
    assert_eq!(keeper.secrets_tried(), ["old", "new", "new"]);
    assert_eq!(
        keeper.metric("token_refreshes_total{customer=\"acme\",outcome=\"invalid_client\"}"),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn trust_service_401_is_a_rejected_secret() {
    let keeper = TestKeeper::with(secret("old"), Some(secret("new")), Duration::ZERO, |call| {
        if call.secret == "new" {
            granted(3600)
        } else {
            login_error(Outcome::Unauthorized)
        }
    });
    seconds(1.0).await;
    assert_eq!((keeper.usable(), keeper.logins()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn other_failure_does_not_try_the_second_secret() {
    let keeper = TestKeeper::with(secret("old"), Some(secret("new")), Duration::ZERO, |_| {
        login_error(Outcome::Http5xx)
    });
    seconds(60.0).await;
    assert!(keeper.secrets_tried().iter().all(|tried| tried == "old"));
}

#[tokio::test(start_paused = true)]
async fn two_rejected_secrets_alternate_until_one_becomes_valid() {
    let keeper = TestKeeper::with(secret("a"), Some(secret("b")), Duration::ZERO, |call| {
        if call.at > Duration::from_secs(300) && call.secret == "b" {
            granted(3600)
        } else {
            login_error(Outcome::InvalidClient)
        }
    });
    seconds(20.0).await;
    assert_eq!(keeper.secrets_tried()[..5], ["a", "b", "b", "a", "b"]);
    seconds(280.0).await;
    assert!(keeper.logins() < 40, "{}", keeper.logins());
    assert_eq!(keeper.usable(), 0);
    seconds(40.0).await;
    assert_eq!(keeper.usable(), 1);
    seconds(3000.0).await;
    assert_eq!(keeper.secrets_tried().last().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn duplicate_secret_is_tried_once() {
    let keeper = TestKeeper::with(
        secret("a"),
        Some(secret("a")),
        Duration::ZERO,
        accepts_only("b"),
    );
    seconds(0.5).await;
    assert_eq!(keeper.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn changed_secret_ends_the_backoff() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "old\n").unwrap();
    let keeper = TestKeeper::with(
        secret_file(&path),
        None,
        Duration::ZERO,
        accepts_only("new"),
    );
    seconds(120.0).await;
    let before = keeper.logins();
    // Directly after a login, so that the backoff would be long.
    while keeper.logins() == before {
        seconds(0.1).await;
    }
    fs::write(&path, "new\n").unwrap();
    seconds(3.1).await;
    assert_eq!((keeper.usable(), keeper.logins()), (1, before + 2));
}

#[tokio::test(start_paused = true)]
async fn unreadable_secret_is_used_once_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let keeper = TestKeeper::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(60.0).await;
    assert_eq!(
        (keeper.usable(), keeper.logins()),
        (0, 0),
        "no request without a secret"
    );
    assert_eq!(
        keeper.slot.status().last_failure.unwrap().outcome,
        Outcome::SecretUnreadable
    );
    fs::write(&path, "s").unwrap();
    seconds(3.1).await;
    assert_eq!(keeper.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn changed_secret_is_proven_within_ten_seconds() {
    let (_folder, path) = temp_secret_file("one");
    let keeper = TestKeeper::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(100.0).await;
    assert_eq!(keeper.logins(), 1, "an unchanged file causes no login");
    fs::write(&path, "two\n").unwrap();
    seconds(10.0).await;
    assert_eq!(
        (keeper.secrets_tried(), keeper.usable()),
        (vec!["one".to_owned(), "two".to_owned()], 2)
    );
    fs::write(&path, "two\r\n").unwrap();
    seconds(60.0).await;
    assert_eq!(keeper.logins(), 2, "another line ending is not a change");
}

#[tokio::test(start_paused = true)]
async fn swapped_symlink_of_a_mounted_volume_is_a_change() {
    // As in Kubernetes: secret -> ..data/secret, ..data -> ..1, then ..data is replaced.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (generation, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(generation)).unwrap();
        fs::write(at(generation).join("secret"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    let keeper = TestKeeper::with(secret_file(&at("secret")), None, Duration::ZERO, |_| {
        granted(3600)
    });
    seconds(1.0).await;
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    seconds(10.0).await;
    assert_eq!(keeper.secrets_tried(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn rejected_new_secret_keeps_the_accepted_one_in_use_and_logs() {
    let log = CapturedLog::start();
    let (_folder, path) = temp_secret_file("good");
    let keeper = TestKeeper::with(
        secret_file(&path),
        None,
        Duration::ZERO,
        accepts_only("good"),
    );
    seconds(1.0).await;
    fs::write(&path, "bad").unwrap();
    seconds(10.0).await;
    assert_eq!(keeper.secrets_tried(), ["good", "bad", "good"]);
    assert_eq!((keeper.usable(), keeper.state()), (2, TokenState::Stale));
    assert!(keeper.slot.status().on_old_secret);
    assert!(
        log.text().contains("using the last accepted one"),
        "{}",
        log.text()
    );

    seconds(36_000.0).await;
    assert_ne!(keeper.usable(), 0);
    let tried = keeper.secrets_tried();
    assert!(
        tried.len() > 10 && tried[3..].iter().all(|tried| tried == "good"),
        "{tried:?}"
    );

    fs::write(&path, "good\n").unwrap();
    seconds(10.0).await;
    assert_eq!(keeper.state(), TokenState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn accepted_new_secret_replaces_the_old_one() {
    let (_folder, path) = temp_secret_file("one");
    let keeper = TestKeeper::with(secret_file(&path), None, Duration::ZERO, |call| {
        if call.number <= 2 {
            granted(3600)
        } else {
            login_error(Outcome::InvalidClient)
        }
    });
    seconds(1.0).await;
    fs::write(&path, "two").unwrap();
    seconds(3000.0).await;
    let tried = keeper.secrets_tried();
    assert!(
        tried.len() > 3 && tried[1..].iter().all(|tried| tried == "two"),
        "{tried:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn outage_does_not_discard_a_new_secret() {
    let (_folder, path) = temp_secret_file("one");
    let keeper = TestKeeper::with(
        secret_file(&path),
        None,
        Duration::ZERO,
        |call| match call.number {
            2..=4 => login_error(Outcome::Http5xx),
            _ if call.secret == "one" && call.number > 1 => login_error(Outcome::InvalidClient),
            _ => granted(3600),
        },
    );
    seconds(1.0).await;
    fs::write(&path, "two").unwrap();
    seconds(30.0).await;
    assert_eq!(keeper.secrets_tried(), ["one", "two", "two", "two", "two"]);
    assert_eq!((keeper.usable(), keeper.state()), (2, TokenState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn deleted_secret_is_remembered() {
    let (_folder, path) = temp_secret_file("one");
    let keeper = TestKeeper::with(secret_file(&path), None, Duration::ZERO, |_| granted(3600));
    seconds(1.0).await;
    fs::remove_file(&path).unwrap();
    seconds(60.0).await;
    assert_eq!(keeper.logins(), 1, "a deleted file causes no login");
    seconds(3000.0).await;
    assert_eq!(
        (keeper.secrets_tried(), keeper.usable()),
        (vec!["one".to_owned(), "one".to_owned()], 2)
    );
    assert!(keeper.slot.status().on_old_secret);
    fs::write(&path, "one").unwrap();
    seconds(10.0).await;
    assert_eq!(
        (keeper.usable(), keeper.slot.status().on_old_secret),
        (3, false)
    );
}

#[tokio::test(start_paused = true)]
async fn remembered_secret_alternates_when_all_are_rejected() {
    let (_folder, path) = temp_secret_file("a");
    let keeper = TestKeeper::with(
        secret_file(&path),
        Some(secret("b")),
        Duration::ZERO,
        |call| {
            if call.number == 1 {
                granted(3600)
            } else {
                login_error(Outcome::InvalidClient)
            }
        },
    );
    seconds(1.0).await;
    fs::write(&path, "c").unwrap();
    seconds(3600.0).await;
    let tried = keeper.secrets_tried();
    assert_eq!(
        tried[..4],
        ["a", "c", "b", "a"],
        "the changed one first, the remembered one last"
    );
    for rejected in ["a", "b", "c"] {
        assert!(
            tried[4..].iter().filter(|tried| *tried == rejected).count() > 10,
            "{rejected} {tried:?}"
        );
    }
    assert!(
        keeper.gaps()[4..].iter().all(|gap| *gap >= 0.8),
        "one login per backoff"
    );
}

#[tokio::test(start_paused = true)]
async fn changed_second_secret_is_proven() {
    let (_folder, path) = temp_secret_file("b");
    let keeper = TestKeeper::with(
        secret("a"),
        Some(secret_file(&path)),
        Duration::ZERO,
        |_| granted(3600),
    );
    seconds(1.0).await;
    fs::write(&path, "c").unwrap();
    seconds(10.0).await;
    assert_eq!(keeper.secrets_tried(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn secret_from_a_new_source_triggers_a_login_only_if_it_differs() {
    let keeper = TestKeeper::start(|_| granted(3600));
    let configure = |secret: &str| {
        let credential = credential(super::secret(secret), None);
        keeper
            .settings_sender
            .send_replace(KeeperSettings::new(&credential, settings(), None));
    };
    seconds(1.0).await;
    configure("secret-1");
    seconds(1.0).await;
    assert_eq!(keeper.logins(), 1, "the same secret");
    configure("secret-2");
    seconds(0.1).await;
    assert_eq!(keeper.secrets_tried(), ["secret-1", "secret-2"]);
    assert_eq!(keeper.usable(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejected_secret_from_a_new_source_keeps_the_accepted_one() {
    let keeper = TestKeeper::start(|call| {
        if call.secret == "good" {
            granted(3600)
        } else {
            login_error(Outcome::InvalidClient)
        }
    });
    let configure = |secret: &str| {
        let credential = credential(super::secret(secret), None);
        keeper
            .settings_sender
            .send_replace(KeeperSettings::new(&credential, settings(), None));
    };
    configure("good");
    seconds(2.0).await;
    configure("bad");
    seconds(0.1).await;
    assert_eq!(
        keeper.secrets_tried().last().map(String::as_str),
        Some("good"),
        "{:?}",
        keeper.secrets_tried()
    );
    assert!(keeper.usable() > 0);
}

#[tokio::test(start_paused = true)]
async fn changed_settings_apply_from_the_next_token() {
    let keeper = TestKeeper::start(|_| granted(3600));
    seconds(1.0).await;
    let settings = config::TokenSettings {
        refresh_at: 0.1,
        ..settings()
    };
    keeper.settings_sender.send_replace(KeeperSettings::new(
        &credential(secret("secret-1"), None),
        settings,
        None,
    ));
    seconds(7200.0).await;
    let gaps = keeper.gaps();
    assert!(
        gaps[0] > 2000.0 && gaps[1..].iter().all(|gap| *gap < 1000.0),
        "{gaps:?}"
    );
}
