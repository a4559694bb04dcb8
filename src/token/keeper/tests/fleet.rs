//! Replicas that share a store: their logins, granted or rejected, are those of one replica.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cache::sent;
use super::*;
use crate::fleet::scripted::ScriptedStore;
use crate::fleet::tokens::SharedLogins;
use crate::token::{ForcedRefresh, TokenState};

const REPLICAS: usize = 10;
const KEY: char = 'k';

type Verdict = fn(&LoginCall, Duration) -> Result<(), LoginError>;

/// A replica, and the registry of its fleet's metrics.
struct Member {
    keeper: TestKeeper,
    registry: Registry,
}

/// Several replicas with a store, and Citrix.
struct Members {
    store: ScriptedStore,
    clock: Clock,
    began: Instant,
    members: Vec<Member>,
    /// Tokens issued so far.
    issued: Arc<AtomicUsize>,
    /// Duration of a login.
    latency: Duration,
    /// Lifetime of tokens in seconds.
    lifetime: u64,
}

impl Members {
    fn new() -> Self {
        Self {
            clock: clock(),
            store: ScriptedStore::new(),
            began: Instant::now(),
            members: Vec::new(),
            issued: Arc::default(),
            latency: Duration::from_millis(200),
            lifetime: 3600,
        }
    }

    /// Starts replicas whose logins succeed if `verdict` does, with a token of its own each.
    fn start(count: usize, verdict: Verdict) -> Self {
        let mut members = Self::new();
        for _ in 0..count {
            members.add(KEY, credential(secret("s"), None), verdict);
        }
        members
    }

    fn add(&mut self, key: char, credential: Credential, verdict: Verdict) {
        let (issued_tokens, began) = (Arc::clone(&self.issued), self.began);
        let (registry, lifetime) = (Registry::new(), Duration::from_secs(self.lifetime));
        let fleet = self.store.join(key, &registry);
        let script = move |call: &LoginCall| {
            verdict(call, began.elapsed())?;
            let number = issued_tokens.fetch_add(1, Ordering::Relaxed) + 1;
            issued(&format!("token-{number}"), Lifetime::FromRequest(lifetime))
        };
        let (clock, latency) = (self.clock, self.latency);
        let keeper = TestKeeper::in_fleet(credential, None, Some(fleet), clock, latency, script);
        self.members.push(Member { keeper, registry });
    }

    fn keepers(&self) -> impl Iterator<Item = &TestKeeper> {
        self.members.iter().map(|member| &member.keeper)
    }

    fn logins(&self) -> usize {
        self.keepers().map(TestKeeper::logins).sum()
    }

    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }

    /// Returns the tokens that the replicas send, without duplicates.
    fn tokens(&self) -> Vec<String> {
        let mut tokens: Vec<String> = self.keepers().filter_map(sent).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn states(&self) -> Vec<TokenState> {
        self.keepers().map(TestKeeper::state).collect()
    }

    /// Returns the sum of a series of `fleet_tokens_total`.
    fn counted(&self, outcome: &str) -> u64 {
        let prefix = format!("citrix_auth_proxy_fleet_tokens_total{{outcome=\"{outcome}\"}} ");
        let of_member = |member: &Member| {
            let page = TextEncoder::new().encode_to_string(&member.registry.gather());
            let page = page.unwrap();
            let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
            value.unwrap().parse::<u64>().unwrap()
        };
        self.members.iter().map(of_member).sum()
    }
}

fn accepted(_: &LoginCall, _: Duration) -> Result<(), LoginError> {
    Ok(())
}

fn rejected(_: &LoginCall, _: Duration) -> Result<(), LoginError> {
    login_error(Outcome::InvalidClient).map(drop)
}

fn unreachable(_: &LoginCall, _: Duration) -> Result<(), LoginError> {
    login_error(Outcome::Dns).map(drop)
}

fn accepted_if_good(call: &LoginCall, at: Duration) -> Result<(), LoginError> {
    if call.secret == "good" {
        accepted(call, at)
    } else {
        rejected(call, at)
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_replicas_log_in_once_per_lifetime() {
    let members = Members::start(50, accepted);
    seconds(5.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (1, 1));
    assert_eq!(members.states(), [TokenState::Fresh; 50]);
    assert_eq!(members.counted("login"), 1);
    assert_eq!(members.counted("adopted"), 49);
    for hour in 1..=10 {
        seconds(3600.0).await;
        // Each token is in use for 67 to 75 % of its lifetime.
        let logins = members.logins();
        let bounds = hour * 4 / 3..=hour * 3 / 2 + 2;
        assert!(bounds.contains(&logins), "{logins} after {hour} h");
        assert_eq!(members.tokens().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn restart_of_each_replica_causes_no_login() {
    let mut members = Members::start(REPLICAS, accepted);
    seconds(60.0).await;
    for _ in 0..REPLICAS {
        members.members.remove(0);
        members.add(KEY, credential(secret("s"), None), accepted);
        seconds(20.0).await;
    }
    assert_eq!((members.issued(), members.tokens().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn revocation_causes_one_login_however_many_replicas_notice() {
    let members = Members::start(50, accepted);
    seconds(10.0).await;
    for keeper in members.keepers() {
        let reaction = keeper.slot.report_rejected(keeper.usable());
        assert_eq!(reaction, ForcedRefresh::InProgress);
    }
    let newer = members.keepers().map(|keeper| {
        let timeout = Duration::from_secs(5);
        keeper.slot.wait_newer(1, keeper.clock, timeout)
    });
    for token in futures_util::future::join_all(newer).await {
        assert_eq!(token.unwrap().generation(), 2);
    }
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn replica_that_notices_a_revocation_later_has_the_newer_token() {
    let members = Members::start(REPLICAS, accepted);
    seconds(10.0).await;
    let first = members.keepers().next().unwrap();
    first.slot.report_rejected(1);
    seconds(1.0).await;
    for keeper in members.keepers() {
        assert_eq!(keeper.slot.report_rejected(1), ForcedRefresh::Replaced);
    }
    assert_eq!(members.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn second_revocation_waits_for_the_rest_of_the_interval_although_the_store_leaves() {
    let members = Members::start(REPLICAS, accepted);
    seconds(10.0).await;
    members.keepers().next().unwrap().slot.report_rejected(1);
    seconds(9.0).await;
    for keeper in members.keepers() {
        keeper.slot.report_rejected(2);
    }
    seconds(0.5).await;
    members.store.set_up(false);
    seconds(4.0).await;
    let is_third = |keeper: &TestKeeper| keeper.slot.generation() == 3;
    assert!(members.keepers().all(is_third), "{:?}", members.tokens());
}

/// Returns the logins of several replicas with an invalid secret in a minute.
async fn rejected_logins(count: usize, sources: &(SecretSource, Option<SecretSource>)) -> usize {
    let mut members = Members::new();
    for _ in 0..count {
        let (current, next) = sources.clone();
        members.add(KEY, credential(current, next), rejected);
    }
    seconds(60.0).await;
    for keeper in members.keepers() {
        let status = keeper.slot.status();
        let failure = status.current_failure().unwrap();
        assert_eq!(failure.outcome, Outcome::InvalidClient);
        assert!(failure.transaction_id.is_some() && status.consecutive_failures >= 6);
    }
    members.logins()
}

#[tokio::test(start_paused = true)]
async fn invalid_secret_of_ten_replicas_is_tried_as_often_as_that_of_one() {
    for sources in [(secret("s"), None), (secret("a"), Some(secret("b")))] {
        fastrand::seed(3);
        let one = rejected_logins(1, &sources).await;
        let ten = rejected_logins(REPLICAS, &sources).await;
        assert!((7..=10).contains(&one) && ten <= one + 1, "{one} {ten}");
    }
}

/// The result of a login that gets a 429 with this wait.
fn limited_for(wait: Duration) -> Result<(), LoginError> {
    let limited = login_error(Outcome::RateLimited).map(drop);
    limited.map_err(|error| LoginError {
        retry_after: Some(wait),
        ..error
    })
}

/// Limits logins in the first 30 s, and requests a wait of 40 s.
fn limited_at_first(call: &LoginCall, at: Duration) -> Result<(), LoginError> {
    if at > Duration::from_secs(30) {
        return accepted(call, at);
    }
    limited_for(Duration::from_secs(40))
}

#[tokio::test(start_paused = true)]
async fn rate_limited_login_holds_back_every_replica() {
    let members = Members::start(REPLICAS, limited_at_first);
    seconds(39.0).await;
    assert_eq!(members.logins(), 1);
    seconds(10.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn rate_limited_login_without_a_store_holds_back_other_replicas_once_it_is_back() {
    let mut members = Members::new();
    members.store.set_up(false);
    members.add(KEY, credential(secret("s"), None), limited_at_first);
    seconds(5.0).await;
    assert_eq!(members.logins(), 1);
    members.store.set_up(true);
    seconds(1.0).await;
    members.add(KEY, credential(secret("s"), None), limited_at_first);
    seconds(33.0).await;
    assert_eq!(members.logins(), 1);
    seconds(10.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn wait_of_a_429_is_shared_although_the_store_left_during_the_login() {
    let mut members = Members::new();
    members.add(KEY, credential(secret("s"), None), limited_at_first);
    seconds(0.1).await;
    members.store.set_up(false);
    seconds(1.0).await;
    assert_eq!(members.logins(), 1);
    members.store.set_up(true);
    seconds(1.0).await;
    members.add(KEY, credential(secret("s"), None), limited_at_first);
    seconds(36.0).await;
    assert_eq!(members.logins(), 1);
    seconds(10.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

/// Limits every login, and requests a wait of 50 min.
fn limited(_: &LoginCall, _: Duration) -> Result<(), LoginError> {
    limited_for(Duration::from_mins(50))
}

#[tokio::test(start_paused = true)]
async fn wait_of_a_429_is_shared_although_another_replica_has_an_older_token() {
    let mut members = Members::start(1, accepted);
    seconds(3.0).await;
    members.store.set_up(false);
    members.add(KEY, credential(secret("s"), None), limited);
    seconds(5.0).await;
    members.store.set_up(true);
    seconds(2.0).await;
    assert_eq!(members.states(), [TokenState::Fresh; 2]);
    let keeper = &members.members[0].keeper;
    keeper.slot.report_rejected(keeper.usable());
    seconds(70.0).await;
    assert_eq!(members.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn longest_wait_is_kept_until_a_newer_token_disproves_it() {
    let fleet = ScriptedStore::new().join(KEY, &Registry::new());
    let clock = clock();
    let mut shared = SharedLogins::new(fleet, Arc::new(credential(secret("s"), None)));
    let before = clock.now();
    seconds(1.0).await;
    for wait in [600, 1] {
        let ends = Moment::now(clock).after(Duration::from_secs(wait));
        shared.keep_wait(ends, clock);
    }
    shared.forget_wait_before(before);
    seconds(60.0).await;
    assert!(shared.has_unshared_wait());
    shared.forget_wait_before(clock.now());
    assert!(!shared.has_unshared_wait());
}

#[tokio::test(start_paused = true)]
async fn failure_of_one_replicas_network_delays_no_other() {
    let mut members = Members::new();
    for _ in 0..3 {
        members.add(KEY, credential(secret("s"), None), unreachable);
    }
    members.add(KEY, credential(secret("s"), None), accepted);
    seconds(5.0).await;
    assert_eq!((members.issued(), members.tokens().len()), (1, 1));
    assert_eq!(members.states(), [TokenState::Fresh; 4]);
}

#[tokio::test(start_paused = true)]
async fn replica_with_a_wrong_secret_is_served_and_reports_the_difference() {
    let mut members = Members::new();
    for secret_of_one in ["good", "good", "bad"] {
        let credential = credential(secret(secret_of_one), None);
        members.add(KEY, credential, accepted_if_good);
    }
    seconds(60.0).await;
    assert_eq!((members.issued(), members.tokens().len()), (1, 1));
    let differs: Vec<bool> = members
        .keepers()
        .map(|keeper| keeper.slot.status().other_secret)
        .collect();
    assert_eq!(differs, [false, false, true]);
    seconds(7200.0).await;
    assert_eq!(members.tokens().len(), 1);
    assert!(members.issued() <= 4, "{}", members.issued());
    assert_eq!(members.members[2].keeper.logins(), 0);
}

#[tokio::test(start_paused = true)]
async fn rotated_secret_of_all_replicas_is_proven_by_one_login() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "old").unwrap();
    let mut members = Members::new();
    for _ in 0..REPLICAS {
        let credential = credential(secret_file(&path), None);
        members.add(KEY, credential, |call, at| {
            if (call.secret == "old") == (at < Duration::from_secs(60)) {
                accepted(call, at)
            } else {
                rejected(call, at)
            }
        });
    }
    seconds(70.0).await;
    assert_eq!(members.logins(), 1);
    fs::write(&path, "new").unwrap();
    seconds(20.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
    assert_eq!(members.states(), [TokenState::Fresh; REPLICAS]);
    let differs = |keeper: &TestKeeper| keeper.slot.status().other_secret;
    assert!(!members.keepers().any(differs));
}

#[tokio::test(start_paused = true)]
async fn invalid_new_secret_of_all_replicas_is_tried_once_while_the_old_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "good").unwrap();
    let mut members = Members::new();
    for _ in 0..REPLICAS {
        let credential = credential(secret_file(&path), None);
        members.add(KEY, credential, accepted_if_good);
    }
    seconds(10.0).await;
    fs::write(&path, "bad").unwrap();
    seconds(30.0).await;
    assert_eq!((members.logins(), members.issued()), (3, 2));
    assert_eq!(members.tokens().len(), 1);
    let warned = |keeper: &TestKeeper| keeper.slot.status().on_old_secret;
    assert!(members.keepers().all(warned));
}

#[tokio::test(start_paused = true)]
async fn lost_notifications_delay_adoption_and_cause_no_login() {
    let mut members = Members::new();
    members.store.drop_pushes();
    members.latency = Duration::from_secs(3);
    for _ in 0..REPLICAS {
        members.add(KEY, credential(secret("s"), None), accepted);
    }
    seconds(6.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (1, 1));
    seconds(7200.0).await;
    assert!((3..=4).contains(&members.logins()), "{}", members.logins());
}

#[tokio::test(start_paused = true)]
async fn login_slower_than_any_wait_for_a_file_is_waited_for() {
    let mut members = Members::new();
    members.latency = Duration::from_secs(14);
    for _ in 0..REPLICAS {
        members.add(KEY, credential(secret("s"), None), accepted);
    }
    seconds(16.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn lock_of_a_replica_that_ended_expires() {
    let mut members = Members::new();
    members.latency = Duration::from_secs(10);
    members.add(KEY, credential(secret("s"), None), accepted);
    seconds(1.0).await;
    members.members.clear();
    members.latency = Duration::from_millis(200);
    members.add(KEY, credential(secret("s"), None), accepted);
    seconds(18.0).await;
    assert_eq!(members.logins(), 0);
    seconds(5.0).await;
    assert_eq!(members.states(), [TokenState::Fresh]);
}

#[tokio::test(start_paused = true)]
async fn replicas_without_a_store_log_in_for_themselves_and_share_a_token_once_it_is_back() {
    let mut members = Members::new();
    members.store.set_up(false);
    for _ in 0..REPLICAS {
        members.add(KEY, credential(secret("s"), None), accepted);
    }
    seconds(3.0).await;
    assert_eq!(members.states(), [TokenState::Fresh; REPLICAS]);
    assert_eq!(members.logins(), REPLICAS);
    members.store.set_up(true);
    seconds(2.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (REPLICAS, 1));
}

/// A token of an hour is usable for 59 minutes.
#[tokio::test(start_paused = true)]
async fn scheduled_login_waits_for_the_store_until_a_tenth_is_left() {
    let members = Members::start(REPLICAS, accepted);
    seconds(60.0).await;
    members.store.set_up(false);
    seconds(3540.0 * 0.9 - 70.0).await;
    assert_eq!(members.logins(), 1);
    seconds(3540.0 * 0.05 + 20.0).await;
    assert_eq!(members.logins(), 1 + REPLICAS);
    assert_eq!(members.states(), [TokenState::Fresh; REPLICAS]);
}

#[tokio::test(start_paused = true)]
async fn postponed_login_is_made_once_when_the_store_is_back() {
    let members = Members::start(REPLICAS, accepted);
    seconds(60.0).await;
    members.store.set_up(false);
    seconds(2700.0).await;
    assert_eq!(members.logins(), 1);
    members.store.set_up(true);
    seconds(2.0).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn store_without_data_gets_the_token_in_use() {
    let mut members = Members::start(REPLICAS, accepted);
    seconds(60.0).await;
    members.store.set_up(false);
    members.store.flush();
    seconds(10.0).await;
    members.store.set_up(true);
    seconds(1.0).await;
    members.add(KEY, credential(secret("s"), None), accepted);
    seconds(3.0).await;
    assert_eq!((members.issued(), members.tokens().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn replica_that_joined_before_another_published_its_token_takes_it() {
    let mut members = Members::new();
    members.store.set_up(false);
    members.add(KEY, credential(secret("s"), None), unreachable);
    members.add(KEY, credential(secret("s"), None), accepted);
    seconds(60.0).await;
    assert_eq!(members.tokens().len(), 1);
    members.store.set_up(true);
    seconds(0.5).await;
    assert_eq!(members.states(), [TokenState::Fresh; 2]);
    assert_eq!(members.issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn token_is_shared_although_the_store_left_during_the_login() {
    let members = Members::start(2, accepted);
    seconds(60.0).await;
    members.keepers().next().unwrap().slot.report_rejected(1);
    seconds(0.1).await;
    members.store.set_up(false);
    seconds(1.0).await;
    assert_eq!((members.issued(), members.tokens().len()), (2, 2));
    members.store.set_up(true);
    seconds(0.5).await;
    assert_eq!((members.logins(), members.tokens().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn changed_record_is_counted_and_never_used() {
    let changes: [fn(&mut Vec<u8>); 3] = [
        |record| record[20] ^= 1,
        |record| record.truncate(40),
        |record| record.clear(),
    ];
    for change in changes {
        let mut members = Members::start(1, accepted);
        seconds(5.0).await;
        members.store.change_records(change);
        members.add(KEY, credential(secret("s"), None), accepted);
        seconds(5.0).await;
        assert_eq!(members.issued(), 2);
        // The token that replaced it serves both.
        assert_eq!(members.tokens().len(), 1);
        assert!(members.counted("undecipherable") > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn record_of_another_customer_is_never_used() {
    let mut members = Members::new();
    let contoso = || Credential {
        customer_id: HeaderValue::from_static("contoso"),
        ..credential(secret("s"), None)
    };
    members.add(KEY, credential(secret("s"), None), accepted);
    members.add(KEY, contoso(), accepted);
    seconds(5.0).await;
    assert_eq!(members.issued(), 2);
    members.store.exchange_tokens();
    members.members.clear();
    members.add(KEY, credential(secret("s"), None), accepted);
    members.add(KEY, contoso(), accepted);
    seconds(5.0).await;
    assert_eq!(members.issued(), 4);
    assert!(members.counted("undecipherable") >= 2);
}

#[tokio::test(start_paused = true)]
async fn replicas_with_different_keys_log_in_for_each_key() {
    let mut members = Members::new();
    for key in ['a', 'b', 'a', 'b'] {
        members.add(key, credential(secret("s"), None), accepted);
    }
    seconds(5.0).await;
    assert_eq!((members.issued(), members.tokens().len()), (2, 2));
}

/// Verdicts that a writer of the store destroys must not prevent a login.
#[tokio::test(start_paused = true)]
async fn undecipherable_verdict_prevents_no_login() {
    let members = Members::start(1, |call, at| {
        if at < Duration::from_secs(1) {
            rejected(call, at)
        } else {
            accepted(call, at)
        }
    });
    seconds(0.5).await;
    members.store.change_records(|record| record[20] ^= 1);
    seconds(5.0).await;
    assert_eq!(members.states(), [TokenState::Fresh]);
}

#[tokio::test(start_paused = true)]
async fn postponed_login_is_made_before_the_token_ends_although_the_clock_is_set_back() {
    let members = Members::start(REPLICAS, accepted);
    seconds(60.0).await;
    members.store.set_up(false);
    set_clock_by(-3600);
    seconds(3540.0 - 61.0).await;
    assert_eq!(members.logins(), 1 + REPLICAS);
    assert_eq!(members.states(), [TokenState::Fresh; REPLICAS]);
}
