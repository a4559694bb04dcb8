//! Replicas with one cache file: their logins, granted or rejected, are those of one replica.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cache::{Volume, sent};
use super::*;
use crate::limit::owner::OwnerKey;
use crate::token::rejections::{Reaction, Rejections};
use crate::token::{ForcedRefresh, TokenState};

const REPLICAS: usize = 10;

/// Several keepers of one credential with a cache file, and Citrix.
struct Replicas {
    keepers: Vec<TestKeeper>,
    /// Tokens issued so far.
    issued: Arc<AtomicUsize>,
}

type Verdict = fn(&LoginCall, Duration) -> Result<IssuedToken, LoginError>;

impl Replicas {
    /// Starts replicas whose logins succeed if `verdict` does, with a token of its own each.
    fn start(
        volume: &Volume,
        sources: &[(SecretSource, Option<SecretSource>)],
        verdict: Verdict,
    ) -> Self {
        let issued_tokens = Arc::<AtomicUsize>::default();
        let began = Instant::now();
        let keeper = |(current, next): &(SecretSource, Option<SecretSource>)| {
            let issued_tokens = Arc::clone(&issued_tokens);
            let credential = credential(current.clone(), next.clone());
            volume.start_with(credential, move |call| {
                verdict(call, began.elapsed())?;
                let number = issued_tokens.fetch_add(1, Ordering::Relaxed) + 1;
                issued(
                    &format!("token-{number}"),
                    Lifetime::FromRequest(Duration::from_secs(3600)),
                )
            })
        };
        Self {
            keepers: sources.iter().map(keeper).collect(),
            issued: issued_tokens,
        }
    }

    fn with_one_secret(volume: &Volume, count: usize, verdict: Verdict) -> Self {
        Self::start(volume, &vec![(secret("s"), None); count], verdict)
    }

    fn logins(&self) -> usize {
        self.keepers.iter().map(TestKeeper::logins).sum()
    }

    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }

    /// Returns the tokens that the replicas send, without duplicates.
    fn tokens(&self) -> Vec<String> {
        let mut tokens: Vec<String> = self.keepers.iter().filter_map(sent).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn states(&self) -> Vec<TokenState> {
        self.keepers.iter().map(TestKeeper::state).collect()
    }
}

fn accepted(_: &LoginCall, _: Duration) -> Result<IssuedToken, LoginError> {
    granted(3600)
}

fn rejected(_: &LoginCall, _: Duration) -> Result<IssuedToken, LoginError> {
    login_error(Outcome::InvalidClient)
}

#[tokio::test(start_paused = true)]
async fn revocation_causes_one_login_however_many_replicas_notice() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, REPLICAS, accepted);
    seconds(10.0).await;
    assert_eq!((replicas.logins(), replicas.tokens().len()), (1, 1));
    for keeper in &replicas.keepers {
        assert_eq!(
            keeper.slot.report_rejected(keeper.usable()),
            ForcedRefresh::InProgress
        );
    }
    seconds(3.0).await;
    assert_eq!(
        (replicas.logins(), replicas.tokens()),
        (2, vec!["Bearer token-2".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn replica_that_notices_a_revocation_later_takes_the_newer_token() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, REPLICAS, accepted);
    seconds(10.0).await;
    for keeper in &replicas.keepers {
        seconds(20.0).await;
        let began = Instant::now();
        keeper.slot.report_rejected(keeper.usable());
        let timeout = Duration::from_secs(5);
        keeper
            .slot
            .wait_newer(1, keeper.clock, timeout)
            .await
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    assert_eq!((replicas.logins(), replicas.tokens().len()), (2, 1));
}

/// One replica has refreshed its token, another has not, and both tokens are revoked.
#[tokio::test(start_paused = true)]
async fn siblings_token_that_was_revoked_as_well_is_replaced_at_once() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, 2, accepted);
    let [refreshed, other] = &replicas.keepers[..] else {
        panic!("two replicas")
    };
    seconds(10.0).await;
    refreshed.slot.request_login().unwrap();
    seconds(60.0).await;
    assert_eq!(
        replicas.issued(),
        2,
        "an operator's login is not replaced by the cached token"
    );
    let rejections = Rejections::default();
    let scope = rejections.scope(b"acme", "/", "/machines");
    let scope = rejections.scope_of_caller(scope, OwnerKey::Unix);
    let forced = Reaction::Reported(ForcedRefresh::InProgress);
    assert_eq!(rejections.report(&other.slot, scope, 1), forced);
    seconds(1.0).await;
    assert_eq!((other.usable(), replicas.issued()), (2, 2), "the sibling's");
    assert_eq!(rejections.report(&other.slot, scope, 2), forced);
    seconds(1.0).await;
    assert_eq!((other.usable(), replicas.issued()), (3, 3), "a login");
    assert_eq!(
        rejections.report(&other.slot, scope, 3),
        Reaction::NewlySuppressed
    );
    assert_eq!(
        rejections.report(&refreshed.slot, scope, 2),
        Reaction::Suppressed
    );
}

/// Returns the logins of several replicas with an invalid secret in a minute.
async fn rejected_logins(count: usize, sources: (SecretSource, Option<SecretSource>)) -> usize {
    let volume = Volume::new();
    let replicas = Replicas::start(&volume, &vec![sources; count], rejected);
    seconds(60.0).await;
    for keeper in &replicas.keepers {
        let status = keeper.slot.status();
        let failure = status.current_failure().unwrap();
        assert_eq!(failure.outcome, Outcome::InvalidClient);
        assert!(failure.transaction_id.is_some() && status.consecutive_failures >= 6);
        assert!(!status.in_progress);
    }
    replicas.logins()
}

#[tokio::test(start_paused = true)]
async fn invalid_secret_of_ten_replicas_is_tried_as_often_as_that_of_one() {
    for sources in [(secret("s"), None), (secret("a"), Some(secret("b")))] {
        fastrand::seed(3);
        let one = rejected_logins(1, sources.clone()).await;
        let ten = rejected_logins(REPLICAS, sources).await;
        assert!((7..=10).contains(&one) && ten <= one + 1, "{one} {ten}");
    }
}

#[tokio::test(start_paused = true)]
async fn secret_that_becomes_valid_is_found_by_one_login() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, REPLICAS, |call, at| {
        if at > Duration::from_secs(100) {
            accepted(call, at)
        } else {
            rejected(call, at)
        }
    });
    seconds(95.0).await;
    assert_eq!(replicas.states(), [TokenState::Unusable; REPLICAS]);
    seconds(25.0).await;
    assert_eq!(
        (replicas.issued(), replicas.states()),
        (1, vec![TokenState::Fresh; REPLICAS])
    );
    assert!(
        replicas
            .keepers
            .iter()
            .all(|keeper| keeper.slot.status().consecutive_failures == 0)
    );
    seconds(7200.0).await;
    assert!(replicas.issued() <= 4, "{}", replicas.issued());
}

#[tokio::test(start_paused = true)]
async fn replica_with_another_secret_is_not_held_back() {
    let volume = Volume::new();
    let sources = [
        (secret("bad"), None),
        (secret("good"), None),
        (secret("bad"), None),
    ];
    let replicas = Replicas::start(&volume, &sources, |call, at| {
        if call.secret == "good" {
            accepted(call, at)
        } else {
            rejected(call, at)
        }
    });
    seconds(5.0).await;
    assert_eq!(replicas.issued(), 1);
    seconds(30.0).await;
    assert_eq!(replicas.tokens().len(), 1, "all use its token");
    let bad = replicas.keepers[0].logins() + replicas.keepers[2].logins();
    assert!(bad <= 3, "{bad}");
}

#[tokio::test(start_paused = true)]
async fn rate_limited_login_holds_back_every_replica() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, REPLICAS, |call, at| {
        if at > Duration::from_secs(30) {
            return accepted(call, at);
        }
        login_error(Outcome::RateLimited).map_err(|error| LoginError {
            retry_after: Some(Duration::from_secs(40)),
            ..error
        })
    });
    seconds(39.0).await;
    assert_eq!(replicas.logins(), 1);
    seconds(10.0).await;
    assert_eq!((replicas.logins(), replicas.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn failure_of_the_network_is_not_that_of_other_replicas() {
    let volume = Volume::new();
    let replicas = Replicas::with_one_secret(&volume, REPLICAS, |_, _| login_error(Outcome::Dns));
    seconds(5.0).await;
    assert!(replicas.keepers.iter().all(|keeper| keeper.logins() >= 2));
}

fn write(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
}

#[tokio::test(start_paused = true)]
async fn rotated_secret_of_all_replicas_is_proven_by_one_login() {
    let volume = Volume::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    write(&path, "old");
    let sources = vec![(secret_file(&path), None); REPLICAS];
    let replicas = Replicas::start(&volume, &sources, |call, at| {
        if (call.secret == "old") == (at < Duration::from_secs(60)) {
            accepted(call, at)
        } else {
            rejected(call, at)
        }
    });
    seconds(70.0).await;
    assert_eq!(replicas.logins(), 1);
    write(&path, "new");
    seconds(20.0).await;
    assert_eq!((replicas.logins(), replicas.tokens().len()), (2, 1));
    assert_eq!(replicas.states(), [TokenState::Fresh; REPLICAS]);
    // Each knows the new secret as the accepted one.
    for keeper in &replicas.keepers {
        keeper.slot.report_rejected(keeper.usable());
    }
    seconds(20.0).await;
    assert_eq!((replicas.logins(), replicas.issued()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn invalid_new_secret_of_all_replicas_is_tried_once_while_the_old_one_works() {
    let volume = Volume::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    write(&path, "old");
    let sources = vec![(secret_file(&path), None); REPLICAS];
    let replicas = Replicas::start(&volume, &sources, |call, at| {
        if call.secret == "bad" {
            rejected(call, at)
        } else {
            accepted(call, at)
        }
    });
    seconds(10.0).await;
    write(&path, "bad");
    seconds(30.0).await;
    assert_eq!((replicas.logins(), replicas.issued()), (3, 2));
    assert_eq!(replicas.tokens().len(), 1);
    let warned = |keeper: &TestKeeper| keeper.slot.status().on_old_secret;
    assert!(replicas.keepers.iter().all(warned));
    // A restart without the old secret uses the token, and does not try the invalid one at once.
    let restarted = Replicas::start(&volume, &sources, rejected);
    seconds(60.0).await;
    assert_eq!(restarted.logins(), 0);
    assert_eq!(restarted.tokens(), replicas.tokens());
    drop(restarted);
    seconds(3600.0).await;
    assert!(replicas.logins() <= 6, "{}", replicas.logins());
    write(&path, "new");
    seconds(15.0).await;
    assert!(!replicas.keepers.iter().any(warned));
}

#[tokio::test(start_paused = true)]
async fn changed_secret_of_one_replica_ends_its_backoff() {
    let volume = Volume::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    write(&path, "bad");
    let sources = [(secret_file(&path), None), (secret("bad"), None)];
    let replicas = Replicas::start(&volume, &sources, |call, at| {
        if call.secret == "good" {
            accepted(call, at)
        } else {
            rejected(call, at)
        }
    });
    seconds(100.0).await;
    write(&path, "good");
    seconds(5.0).await;
    assert_eq!(replicas.issued(), 1);
    seconds(15.0).await;
    assert_eq!(replicas.tokens().len(), 1, "the other takes the token");
}
