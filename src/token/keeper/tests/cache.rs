//! The token cache: restarts and replicas on one volume.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::config::TokenCache;
use crate::token::TokenState;

/// A folder for the cache and a clock, which outlive keepers.
pub(super) struct Volume {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Volume {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: clock(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Returns a cache as a separate process would open it.
    fn cache(&self) -> Cache {
        self.cache_with(&"k".repeat(32))
    }

    fn cache_with(&self, key: &str) -> Cache {
        Cache::new(&TokenCache {
            file: self.file(),
            key: secret(key),
        })
    }

    fn start(
        &self,
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> TestKeeper {
        self.start_with(credential(secret("s"), None), script)
    }

    pub(super) fn start_with(
        &self,
        credential: Credential,
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> TestKeeper {
        TestKeeper::of(
            credential,
            Some(self.cache()),
            self.clock,
            Duration::from_millis(200),
            script,
        )
    }

    /// Runs a keeper that stores a token, and stops it.
    async fn with_token(self) -> Self {
        let keeper =
            self.start(|_| issued("first", Lifetime::FromRequest(Duration::from_secs(3600))));
        seconds(1.0).await;
        assert_eq!(keeper.usable(), 1);
        drop(keeper);
        self
    }
}

fn down(_: &LoginCall) -> Result<IssuedToken, LoginError> {
    login_error(Outcome::Refused)
}

pub(super) fn sent(keeper: &TestKeeper) -> Option<String> {
    let token = keeper.slot.usable(Moment::now(keeper.clock))?;
    Some(
        token
            .authorization(AuthorizationScheme::Bearer)
            .to_str()
            .unwrap()
            .to_owned(),
    )
}

#[tokio::test(start_paused = true)]
async fn restart_during_an_outage_uses_the_cached_token() {
    let volume = Volume::new().with_token().await;
    seconds(600.0).await;
    let keeper = volume.start(down);
    seconds(0.1).await;
    assert_eq!(sent(&keeper).unwrap(), "Bearer first");
    assert_eq!((keeper.logins(), keeper.state()), (0, TokenState::Fresh));
    let status = keeper.slot.status();
    let left = status
        .expires_at
        .unwrap()
        .duration_since(keeper.clock.now())
        .unwrap();
    assert!(
        (2990..3000).contains(&left.as_secs()),
        "{left:?}: the remaining lifetime, not a full one"
    );
    assert_eq!(keeper.metric("token_generation{customer=\"acme\"}"), "1");
    seconds(1700.0).await;
    assert_eq!(
        keeper.logins(),
        0,
        "the next login is scheduled by the token's actual age"
    );
    seconds(400.0).await;
    assert_ne!(keeper.logins(), 0);
    assert_eq!((keeper.usable(), keeper.state()), (1, TokenState::Stale));
    seconds(900.0).await;
    assert_eq!(
        keeper.state(),
        TokenState::Unusable,
        "expired tokens are not sent"
    );
}

#[tokio::test(start_paused = true)]
async fn secret_present_at_the_start_is_not_a_change() {
    let volume = Volume::new().with_token().await;
    let path = volume.folder.path().join("secret");
    fs::write(&path, "s").unwrap();
    let keeper = volume.start_with(credential(secret_file(&path), None), down);
    seconds(60.0).await;
    assert_eq!(
        (keeper.usable(), keeper.logins(), keeper.state()),
        (1, 0, TokenState::Fresh)
    );
    fs::write(&path, "another").unwrap();
    seconds(10.0).await;
    assert_ne!(keeper.logins(), 0, "a new secret is proven at once");
}

#[tokio::test(start_paused = true)]
async fn restart_late_in_the_lifetime_uses_the_token_and_logs_in() {
    let volume = Volume::new().with_token().await;
    seconds(3000.0).await;
    let keeper = volume.start(|_| granted(3600));
    seconds(0.1).await;
    assert_eq!(sent(&keeper).unwrap(), "Bearer first");
    seconds(1.0).await;
    assert_eq!((keeper.logins(), keeper.usable()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn expired_token_is_not_loaded() {
    let volume = Volume::new().with_token().await;
    seconds(3560.0).await;
    let keeper = volume.start(down);
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn changed_credential_does_not_find_the_old_token() {
    let volume = Volume::new().with_token().await;
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
        let keeper = volume.start_with(other, down);
        seconds(1.0).await;
        assert_eq!(keeper.usable(), 0);
    }
    let keeper = volume.start_with(credential(secret("another"), None), down);
    seconds(1.0).await;
    assert_eq!(
        keeper.usable(),
        1,
        "a rotated secret belongs to the same client"
    );
}

#[tokio::test(start_paused = true)]
async fn customers_share_the_file() {
    let volume = Volume::new().with_token().await;
    let contoso = || Credential {
        customer_id: HeaderValue::from_static("contoso"),
        ..credential(secret("s"), None)
    };
    drop({
        let keeper = volume.start_with(contoso(), |_| issued("second", Lifetime::Assumed));
        seconds(1.0).await;
        keeper
    });
    for (credential, token) in [
        (credential(secret("s"), None), "first"),
        (contoso(), "second"),
    ] {
        let keeper = volume.start_with(credential, down);
        seconds(1.0).await;
        assert_eq!(sent(&keeper).unwrap(), format!("Bearer {token}"));
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_stores_and_loads_of_many_customers_succeed() {
    let volume = Volume::new();
    let cache = volume.cache();
    let keeper =
        |number: u32, cache: &Cache, script: fn(&LoginCall) -> Result<IssuedToken, LoginError>| {
            let credential = Credential {
                client_id: format!("client-{number}"),
                ..credential(secret("s"), None)
            };
            TestKeeper::of(
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
    assert!(before.iter().all(|keeper| keeper.usable() == 1));
    drop(before);
    let cache = volume.cache();
    let after: Vec<_> = (0..200)
        .map(|number| keeper(number, &cache, down))
        .collect();
    seconds(10.0).await;
    assert!(after.iter().all(|keeper| keeper.usable() == 1));
}

#[tokio::test(start_paused = true)]
async fn replicas_share_one_login_at_start_and_at_each_refresh() {
    let volume = Volume::new();
    let replicas: Vec<_> = (0..5).map(|_| volume.start(|_| granted(60))).collect();
    seconds(10.0).await;
    let logins = || replicas.iter().map(TestKeeper::logins).sum::<usize>();
    assert_eq!(logins(), 1, "at start");
    // A token of 60 s is refreshed after 36.45 to 40.5 s.
    for _ in 0..1000 {
        seconds(1.0).await;
        for replica in &replicas {
            assert_ne!(replica.usable(), 0);
        }
    }
    let expected = 1010.0 / 38.0;
    assert!(
        (logins() as f64) < expected * 1.2,
        "{} for about {expected} refreshes",
        logins()
    );
}

#[tokio::test(start_paused = true)]
async fn stalled_sibling_delays_a_login_by_the_lock_timeout_only() {
    let volume = Volume::new();
    let hanging = TestKeeper::of(
        credential(secret("s"), None),
        Some(volume.cache()),
        volume.clock,
        Duration::from_secs(86_400),
        down,
    );
    seconds(0.1).await;
    assert_eq!(hanging.logins(), 1);
    let keeper = volume.start(|_| granted(3600));
    seconds(4.0).await;
    assert_eq!(keeper.usable(), 0);
    seconds(2.0).await;
    assert_eq!(keeper.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn unusable_file_is_logged_once_ignored_and_rewritten() {
    type Damage = fn(&Volume);
    let cases: [(&str, Damage); 6] = [
        ("damaged, or encrypted with another key", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("damaged, or encrypted with another key", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            bytes[10] ^= 1;
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("not in this version's format", |volume| {
            let mut bytes = fs::read(volume.file()).unwrap();
            bytes[7] = b'1';
            fs::write(volume.file(), bytes).unwrap();
        }),
        ("not in this version's format", |volume| {
            fs::write(volume.file(), "").unwrap()
        }),
        ("accessible to users other than its owner", |volume| {
            fs::set_permissions(volume.file(), fs::Permissions::from_mode(0o640)).unwrap();
        }),
        ("larger than the maximum", |volume| {
            fs::write(volume.file(), vec![0; 5 << 20]).unwrap()
        }),
    ];
    for (message, damage) in cases {
        let volume = Volume::new().with_token().await;
        damage(&volume);
        let log = CapturedLog::start();
        let keeper = volume.start(|call| {
            if call.number < 4 {
                down(call)
            } else {
                granted(3600)
            }
        });
        seconds(2.0).await;
        assert_eq!(keeper.usable(), 0, "{message}");
        seconds(30.0).await;
        assert_eq!(keeper.usable(), 1, "{message}");
        let text = log.text();
        assert_eq!(text.matches(message).count(), 1, "{message} in {text}");
        assert!(
            !text.contains("kkk") && !text.contains("token-text"),
            "{text}"
        );
        drop(keeper);
        let mode = fs::metadata(volume.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{message}");
        let keeper = volume.start(down);
        seconds(1.0).await;
        assert_eq!(keeper.usable(), 1, "{message}: rewritten");
    }
}

#[tokio::test(start_paused = true)]
async fn other_key_does_not_decrypt_the_file() {
    let volume = Volume::new().with_token().await;
    let cache = volume.cache_with(&"x".repeat(32));
    let keeper = TestKeeper::of(
        credential(secret("s"), None),
        Some(cache),
        volume.clock,
        Duration::ZERO,
        down,
    );
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn missing_folder_prevents_no_login() {
    let volume = Volume::new().with_token().await;
    fs::remove_dir_all(volume.folder.path()).unwrap();
    let keeper = volume.start(|_| granted(3600));
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 1);
}

#[tokio::test(start_paused = true)]
async fn token_from_a_clock_far_ahead_is_ignored() {
    let volume = Volume::new().with_token().await;
    set_clock_by(-3600);
    let keeper = volume.start(down);
    seconds(1.0).await;
    assert_eq!(keeper.usable(), 0);
}

#[tokio::test(start_paused = true)]
async fn files_contain_no_plaintext_token_and_are_private() {
    let volume = Volume::new().with_token().await;
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
