//! The token cache: restarts, and replicas on one volume.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::config::TokenCache;
use crate::token::TokenState;

/// A folder for a cache, and a clock; keepers come and go.
struct Volume {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Volume {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: clock(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// A cache as a process of its own would open it.
    fn cache(&self) -> Cache {
        self.cache_with(&"k".repeat(32))
    }

    fn cache_with(&self, key: &str) -> Cache {
        Cache::new(&TokenCache {
            file: self.file(),
            key: secret(key),
        })
    }

    fn keeper(
        &self,
        script: impl FnMut(&Call) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Kept {
        self.keeper_of(credential(secret("s"), None), script)
    }

    fn keeper_of(
        &self,
        credential: Credential,
        script: impl FnMut(&Call) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Kept {
        Kept::of(
            credential,
            Some(self.cache()),
            self.clock,
            Duration::from_millis(200),
            script,
        )
    }

    /// Has a token put into the file, and ends that process.
    async fn with_a_token(self) -> Self {
        let kept =
            self.keeper(|_| issued("first", Lifetime::FromRequest(Duration::from_secs(3600))));
        seconds(1.0).await;
        assert_eq!(kept.usable(), 1);
        drop(kept);
        self
    }
}

fn down(_: &Call) -> Result<IssuedToken, LoginError> {
    refused(Outcome::Refused)
}

fn sent(kept: &Kept) -> Option<String> {
    let token = kept.slot.usable(kept.clock.now())?;
    Some(
        token
            .authorization(AuthorizationScheme::Bearer)
            .to_str()
            .unwrap()
            .to_owned(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_the_token_endpoint_is_down_still_serves() {
    let volume = Volume::new().with_a_token().await;
    seconds(600.0).await;
    let kept = volume.keeper(down);
    seconds(0.1).await;
    assert_eq!(sent(&kept).unwrap(), "Bearer first");
    assert_eq!((kept.logins(), kept.state()), (0, TokenState::Fresh));
    let status = kept.slot.status();
    let left = status
        .expires_at
        .unwrap()
        .duration_since(kept.clock.now())
        .unwrap();
    assert!(
        (2990..3000).contains(&left.as_secs()),
        "{left:?}: the life that is left, not a whole one"
    );
    assert_eq!(kept.metric("token_generation{customer=\"acme\"}"), "1");
    seconds(1700.0).await;
    assert_eq!(
        kept.logins(),
        0,
        "the next login is planned by the token's real age"
    );
    seconds(400.0).await;
    assert_ne!(kept.logins(), 0);
    assert_eq!((kept.usable(), kept.state()), (1, TokenState::Stale));
    seconds(900.0).await;
    assert_eq!(
        kept.state(),
        TokenState::Unusable,
        "and it is not sent beyond its life"
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_there_at_the_start_is_no_news() {
    let volume = Volume::new().with_a_token().await;
    let path = volume.folder.path().join("secret");
    fs::write(&path, "s").unwrap();
    let kept = volume.keeper_of(credential(secret_file(&path), None), down);
    seconds(60.0).await;
    assert_eq!(
        (kept.usable(), kept.logins(), kept.state()),
        (1, 0, TokenState::Fresh)
    );
    fs::write(&path, "another").unwrap();
    seconds(10.0).await;
    assert_ne!(kept.logins(), 0, "a new one is proven at once");
}

#[tokio::test(start_paused = true)]
async fn a_restart_late_in_the_life_serves_and_logs_in_at_once() {
    let volume = Volume::new().with_a_token().await;
    seconds(3000.0).await;
    let kept = volume.keeper(|_| granted(3600));
    seconds(0.1).await;
    assert_eq!(sent(&kept).unwrap(), "Bearer first");
    seconds(1.0).await;
    assert_eq!((kept.logins(), kept.usable()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_not_taken() {
    let volume = Volume::new().with_a_token().await;
    seconds(3560.0).await;
    let kept = volume.keeper(down);
    seconds(1.0).await;
    assert_eq!(kept.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_changed_credential_does_not_find_the_old_ones_token() {
    let volume = Volume::new().with_a_token().await;
    let other_id = Credential {
        client_id: "other".to_owned(),
        ..credential(secret("s"), None)
    };
    let other_url = Credential {
        token_url: "https://other.example/t".parse().unwrap(),
        ..credential(secret("s"), None)
    };
    let other_customer = Credential {
        customer_id: HeaderValue::from_static("contoso"),
        ..credential(secret("s"), None)
    };
    for other in [other_id, other_url, other_customer] {
        let kept = volume.keeper_of(other, down);
        seconds(1.0).await;
        assert_eq!(kept.usable(), 0);
    }
    let kept = volume.keeper_of(credential(secret("another"), None), down);
    seconds(1.0).await;
    assert_eq!(
        kept.usable(),
        1,
        "a rotated secret is still the same client"
    );
}

#[tokio::test(start_paused = true)]
async fn several_customers_share_the_file() {
    let volume = Volume::new().with_a_token().await;
    let contoso = || Credential {
        customer_id: HeaderValue::from_static("contoso"),
        ..credential(secret("s"), None)
    };
    drop({
        let kept = volume.keeper_of(contoso(), |_| issued("second", Lifetime::Assumed));
        seconds(1.0).await;
        kept
    });
    for (credential, token) in [
        (credential(secret("s"), None), "first"),
        (contoso(), "second"),
    ] {
        let kept = volume.keeper_of(credential, down);
        seconds(1.0).await;
        assert_eq!(sent(&kept).unwrap(), format!("Bearer {token}"));
    }
}

#[tokio::test(start_paused = true)]
async fn many_customers_leave_and_find_their_tokens_at_the_same_time() {
    let volume = Volume::new();
    let cache = volume.cache();
    let keeper =
        |number: u32, cache: &Cache, script: fn(&Call) -> Result<IssuedToken, LoginError>| {
            let credential = Credential {
                client_id: format!("client-{number}"),
                ..credential(secret("s"), None)
            };
            Kept::of(
                credential,
                Some(cache.clone()),
                volume.clock,
                Duration::ZERO,
                script,
            )
        };
    let before: Vec<_> = (0..200)
        .map(|number| keeper(number, &cache, |_| granted(3600)))
        .collect();
    seconds(10.0).await;
    assert!(before.iter().all(|kept| kept.usable() == 1));
    drop(before);
    let cache = volume.cache();
    let after: Vec<_> = (0..200)
        .map(|number| keeper(number, &cache, down))
        .collect();
    seconds(10.0).await;
    assert!(after.iter().all(|kept| kept.usable() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_replaced_by_a_login_whatever_the_file_says() {
    let volume = Volume::new().with_a_token().await;
    let (one, two) = (
        volume.keeper(|_| granted(3600)),
        volume.keeper(|_| granted(3600)),
    );
    seconds(1.0).await;
    assert_eq!((one.logins(), two.logins()), (0, 0));
    one.slot.report_rejected(1);
    seconds(1.0).await;
    assert_eq!((one.logins(), one.usable()), (1, 2));
    // The file has a newer token by now; who was told that a token is dead trusts nothing but a login.
    two.slot.report_rejected(1);
    seconds(1.0).await;
    assert_eq!((two.logins(), two.usable()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn replicas_make_one_login_for_all_at_start_and_at_each_rollover() {
    let volume = Volume::new();
    let replicas: Vec<_> = (0..5).map(|_| volume.keeper(|_| granted(60))).collect();
    seconds(10.0).await;
    let logins = || replicas.iter().map(Kept::logins).sum::<usize>();
    assert_eq!(logins(), 1, "at start");
    // A token of 60 s is renewed after 36.45 to 40.5 s.
    for _ in 0..1000 {
        seconds(1.0).await;
        for replica in &replicas {
            assert_ne!(replica.usable(), 0);
        }
    }
    let expected = 1010.0 / 38.0;
    assert!(
        (logins() as f64) < expected * 1.2,
        "{} for about {expected} rollovers",
        logins()
    );
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_hangs_does_not_keep_others_from_logging_in() {
    let volume = Volume::new();
    let hanging = Kept::of(
        credential(secret("s"), None),
        Some(volume.cache()),
        volume.clock,
        Duration::from_secs(86_400),
        down,
    );
    seconds(0.1).await;
    assert_eq!(hanging.logins(), 1);
    let kept = volume.keeper(|_| granted(3600));
    seconds(4.0).await;
    assert_eq!(kept.usable(), 0);
    seconds(2.0).await;
    assert_eq!(kept.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_no_use_is_warned_about_once_passed_over_and_rewritten() {
    type Harm = fn(&Volume);
    let harms: [(&str, Harm); 6] = [
        ("encrypted with another key, or is damaged", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("encrypted with another key, or is damaged", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            bytes[10] ^= 1;
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("not of this version's format", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            bytes[7] = b'2';
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("not of this version's format", |volume| {
            fs::write(volume.file(), "").unwrap()
        }),
        ("others than its owner", |volume| {
            fs::set_permissions(volume.file(), fs::Permissions::from_mode(0o640)).unwrap();
        }),
        ("larger than any we write", |volume| {
            fs::write(volume.file(), vec![0; 5 << 20]).unwrap()
        }),
    ];
    for (said, harm) in harms {
        let volume = Volume::new().with_a_token().await;
        harm(&volume);
        let log = Log::start();
        let kept = volume.keeper(|call| {
            if call.number < 4 {
                down(call)
            } else {
                granted(3600)
            }
        });
        seconds(2.0).await;
        assert_eq!(kept.usable(), 0, "{said}");
        seconds(30.0).await;
        assert_eq!(kept.usable(), 1, "{said}");
        let text = log.text();
        assert_eq!(text.matches(said).count(), 1, "{said} in {text}");
        assert!(
            !text.contains("kkk") && !text.contains("token-text"),
            "{text}"
        );
        drop(kept);
        let mode = fs::metadata(volume.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{said}");
        let kept = volume.keeper(down);
        seconds(1.0).await;
        assert_eq!(kept.usable(), 1, "{said}: it was rewritten");
    }
}

#[tokio::test(start_paused = true)]
async fn another_key_does_not_open_the_file() {
    let volume = Volume::new().with_a_token().await;
    let cache = volume.cache_with(&"x".repeat(32));
    let kept = Kept::of(
        credential(secret("s"), None),
        Some(cache),
        volume.clock,
        Duration::ZERO,
        down,
    );
    seconds(1.0).await;
    assert_eq!(kept.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_gone_stops_no_login() {
    let volume = Volume::new().with_a_token().await;
    fs::remove_dir_all(volume.folder.path()).unwrap();
    let kept = volume.keeper(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!(kept.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_from_a_clock_far_ahead_of_ours_is_not_believed() {
    let volume = Volume::new().with_a_token().await;
    set_clock_by(-3600);
    let kept = volume.keeper(down);
    seconds(1.0).await;
    assert_eq!(kept.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_file_shows_no_token() {
    let volume = Volume::new().with_a_token().await;
    let names: Vec<_> = fs::read_dir(volume.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(names.len() <= 3, "the file and its locks: {names:?}");
    for path in names {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"first"), "{path:?}");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{path:?}"
        );
    }
    let printed = format!(
        "{:?} {:?}",
        volume.cache(),
        Cache::new(&TokenCache {
            file: "/a".into(),
            key: secret("CANARY")
        })
    );
    assert!(!printed.contains("CANARY"), "{printed}");
}
