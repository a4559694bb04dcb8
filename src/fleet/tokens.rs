//! Logins of one credential that replicas share.
//!
//! One replica at a time logs in, under a lock in the store, and publishes the token or Citrix's
//! verdict. A failure of the network is that of one machine: it ends the lock and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fleet_protocol::command::{Fact, LoginResult};
use fleet_protocol::machine::Request;
use fleet_protocol::reply::{Body, LoginOutcome};
use fleet_protocol::{Name, State, StoreTime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::handle::Fleet;
use super::keys::{FleetKeys, NameKind};
use super::metrics::TokenOutcome;
use super::requests::Response;
use crate::config::Credential;
use crate::system::clock::Clock;
use crate::system::moment::Moment;
use crate::system::sealing::Undecipherable;

pub use super::records::{SharedToken, Verdict};

/// Numbers of login attempts, unique in the process: a keeper that a reload replaces must not end
/// the lock of another.
static ATTEMPTS: AtomicU64 = AtomicU64::new(1);

/// The shared logins of one credential.
#[derive(Debug)]
pub struct SharedLogins {
    fleet: Arc<Fleet>,
    credential: Arc<Credential>,
    /// Of the identity's token, verdict or lock; and of the link's state.
    changes: watch::Receiver<()>,
    /// The name that `changes` follows. A reload may replace the key and thus the name.
    identity: Name,
    /// A record could not be opened, which is logged once.
    warned: AtomicBool,
    unshared_wait: Option<UnsharedWait>,
    /// The store was away when a token was to be published.
    has_unshared_token: bool,
    /// The last attempt whose end the store may not know: its lock may still be there.
    unended: Option<u64>,
}

/// The wait that a 429 requested, while the other replicas do not know of it.
#[derive(Clone, Copy, Debug)]
struct UnsharedWait {
    /// The time of the last 429.
    since: SystemTime,
    ends: Moment,
}

/// The right of this replica to log in.
#[derive(Debug)]
pub struct LoginTurn {
    attempt: u64,
    identity: Name,
    /// The name of the secrets that are used.
    secrets: Name,
    began: StoreTime,
    began_here: Instant,
}

/// The store's decision on a login.
#[derive(Debug)]
pub enum Decision {
    /// This replica logs in for all.
    Mine(LoginTurn),
    /// Another replica logs in.
    Held,
    /// The last login after a 401 is too recent; the time to wait.
    Recent(Duration),
    /// Citrix limits logins; the time to wait.
    Throttled(Duration),
    /// Citrix rejected these secrets.
    Rejected(Verdict),
}

/// The end of a login, for the other replicas.
#[derive(Debug)]
pub enum LoginEnd {
    /// A token. Its age is ignored: it counts from the start of the turn.
    Token(SharedToken),
    /// Citrix rejected the secrets.
    Rejected(Verdict),
    /// Citrix limits logins; the time to wait.
    Throttled(Duration),
    /// Another failure, which is that of this machine.
    Failed,
    /// No login was made: the token in the store serves.
    Unneeded,
}

/// A login to be requested.
#[derive(Clone, Copy, Debug)]
pub struct LoginIntent<'s> {
    /// Fingerprints of the secrets that would be tried, in any order.
    pub secrets: &'s [&'s str],
    /// Maximum duration of the login.
    pub timeout: Duration,
    /// The minimum interval between logins after a 401, for such a login.
    pub forced: Option<Duration>,
}

impl SharedLogins {
    /// Returns the shared logins of a credential.
    pub fn new(fleet: Arc<Fleet>, credential: Arc<Credential>) -> Self {
        let identity = identity(&fleet.keys(), &credential);
        Self {
            changes: fleet.token_changes(identity),
            identity,
            fleet,
            credential,
            warned: AtomicBool::new(false),
            unshared_wait: None,
            has_unshared_token: false,
            unended: None,
        }
    }

    /// Returns the state of the link.
    pub fn state(&self) -> State {
        self.fleet.status().borrow().state
    }

    /// Waits up to `limit` until the store decides. Returns `true` if it does.
    pub async fn wait_joined(&self, limit: Duration) -> bool {
        let mut status = self.fleet.status();
        let joined = status.wait_for(|status| status.state == State::Joined);
        timeout(limit, joined)
            .await
            .is_ok_and(|joined| joined.is_ok())
    }

    /// Waits until the token, verdict or lock may have changed: at the latest when the store was
    /// joined again. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Follows the name of the identity under the present key.
    fn follow(&mut self) -> Name {
        let identity = identity(&self.fleet.keys(), &self.credential);
        if identity != self.identity {
            self.changes = self.fleet.token_changes(identity);
            self.identity = identity;
        }
        identity
    }

    /// Returns the token in the store, if any, else that of replicas with the previous key; `None`
    /// without a store.
    pub async fn token(&mut self) -> Option<Option<SharedToken>> {
        let identity = self.follow();
        let token = self.read(identity).await?;
        let previous = previous_identity(&self.fleet.keys(), &self.credential);
        match (token, previous) {
            (None, Some(previous)) => self.read(previous).await,
            (token, _) => Some(token),
        }
    }

    async fn read(&self, identity: Name) -> Option<Option<SharedToken>> {
        let request = Request::Get(Fact::Token(identity));
        match self.fleet.request(request).await? {
            Response {
                body: Body::Value(record),
                now,
            } => Some(self.open_token(identity, record, now)),
            _ => None,
        }
    }

    /// Requests the right to log in. Returns the decision, and the token in the store; `None`
    /// without a store, or if the reason of a rejection cannot be opened.
    pub async fn request(
        &mut self,
        intent: LoginIntent<'_>,
    ) -> Option<(Decision, Option<SharedToken>)> {
        let identity = self.follow();
        let secrets = secrets_name(&self.fleet.keys(), identity, intent.secrets);
        let attempt = next_attempt();
        let began_here = Instant::now();
        let request = Request::Login {
            identity,
            secret: secrets,
            attempt,
            lifetime: intent.timeout,
            forced: intent.forced,
        };
        let Response { body, now } = self.fleet.request(request).await?;
        let Body::Login { outcome, token } = body else {
            return None;
        };
        let decision = match outcome {
            LoginOutcome::Mine => Decision::Mine(LoginTurn {
                attempt,
                identity,
                secrets,
                began: now,
                began_here,
            }),
            LoginOutcome::Held => Decision::Held,
            LoginOutcome::Recent(wait) => Decision::Recent(wait),
            LoginOutcome::Throttled(wait) => Decision::Throttled(wait),
            LoginOutcome::Rejected(record) => {
                let opened = Verdict::open(&self.fleet.keys(), secrets, &record, now);
                Decision::Rejected(self.report(opened)?)
            }
        };
        Some((decision, self.open_token(identity, token, now)))
    }

    /// Ends a login. Returns `false` if the store was lost meanwhile: the lock then expires by itself,
    /// and the other replicas may not know the result.
    pub async fn end(&mut self, turn: LoginTurn, end: LoginEnd) -> bool {
        let Some(result) = self.result(&turn, end) else {
            return true;
        };
        let (attempt, is_token) = (turn.attempt, matches!(result, LoginResult::Token { .. }));
        let request = Request::Finish {
            identity: turn.identity,
            attempt,
            result,
        };
        let is_ended = self.fleet.request(request).await.is_some();
        if !is_ended {
            self.unended = Some(attempt);
            self.has_unshared_token |= is_token;
        }
        is_ended
    }

    /// Returns `true`, once, if the store was away when a token was to be published.
    pub fn take_unshared_token(&mut self) -> bool {
        std::mem::take(&mut self.has_unshared_token)
    }

    /// Returns the result of a login for the store.
    fn result(&self, turn: &LoginTurn, end: LoginEnd) -> Option<LoginResult> {
        let (keys, elapsed) = (self.fleet.keys(), turn.began_here.elapsed());
        Some(match end {
            LoginEnd::Token(mut token) => {
                token.age = Duration::ZERO;
                let lifetime = token.lifetime.saturating_sub(elapsed);
                let record = token.seal(&keys, turn.identity, turn.began).ok()?;
                self.fleet.metrics().count_token(TokenOutcome::Login);
                LoginResult::Token {
                    record,
                    lifetime,
                    secret: turn.secrets,
                }
            }
            LoginEnd::Rejected(verdict) => LoginResult::Rejected {
                secret: turn.secrets,
                record: verdict
                    .seal(&keys, turn.secrets, turn.began + elapsed)
                    .ok()?,
                lifetime: verdict.short_wait,
            },
            LoginEnd::Throttled(wait) => LoginResult::Throttled { wait },
            LoginEnd::Failed => LoginResult::Failed,
            LoginEnd::Unneeded => LoginResult::Unneeded,
        })
    }

    /// Keeps the wait that a 429 requested just now until [`Self::share_wait`] has shared it. A longer
    /// one that is kept already remains.
    pub fn keep_wait(&mut self, ends: Moment, clock: Clock) {
        let known = self.unshared_wait.map(|known| known.ends);
        let known = known.filter(|known| known.left(clock) > ends.left(clock));
        self.unshared_wait = Some(UnsharedWait {
            since: clock.now(),
            ends: known.unwrap_or(ends),
        });
    }

    /// Forgets the wait if it was requested before a token was obtained.
    pub fn forget_wait_before(&mut self, obtained_at: SystemTime) {
        self.unshared_wait = self.unshared_wait.filter(|wait| wait.since > obtained_at);
    }

    /// Returns `true` if there is a wait to be shared.
    pub fn has_unshared_wait(&self) -> bool {
        self.unshared_wait.is_some()
    }

    /// Shares the wait, unless the store is away or another replica logs in; then it is kept.
    pub async fn share_wait(&mut self, clock: Clock) {
        if let Some(wait) = self.unshared_wait {
            let left = wait.ends.left(clock);
            if left.is_zero() || self.publish_wait(left).await {
                self.unshared_wait = None;
            }
        }
    }

    async fn publish_wait(&mut self, wait: Duration) -> bool {
        let request = Request::Finish {
            identity: self.follow(),
            attempt: self.unended.unwrap_or_else(next_attempt),
            result: LoginResult::Throttled { wait },
        };
        let response = self.fleet.request(request).await;
        response.is_some_and(|response| response.body == Body::Done)
    }

    /// Publishes a token that this replica obtained without the store's decision, if it is newer than
    /// that in the store, and notifies the other replicas.
    pub async fn publish(&mut self, token: &SharedToken) {
        let has_response = self.try_publish(token).await.is_some();
        self.has_unshared_token |= !has_response;
    }

    /// Returns `None` without a store.
    async fn try_publish(&mut self, token: &SharedToken) -> Option<()> {
        let identity = self.follow();
        // The store's time is needed first.
        let Response { body, now } = self
            .fleet
            .request(Request::Get(Fact::Token(identity)))
            .await?;
        let Body::Value(known) = body else {
            return None;
        };
        let opened = self.open_token(identity, known.clone(), now);
        if opened.is_some_and(|known| known.age <= token.age) {
            return Some(());
        }
        let lifetime = token.lifetime.saturating_sub(token.age);
        let Ok(record) = token.seal(&self.fleet.keys(), identity, now) else {
            return Some(());
        };
        let request = Request::Publish {
            identity,
            known,
            record,
            lifetime,
        };
        self.fleet.request(request).await.map(drop)
    }

    /// Counts a token that another replica obtained.
    pub fn count_adopted(&self) {
        self.fleet.metrics().count_token(TokenOutcome::Adopted);
    }

    /// Counts a wait for the login of another replica.
    pub fn count_waited(&self) {
        self.fleet.metrics().count_token(TokenOutcome::Waited);
    }

    fn open_token(
        &self,
        identity: Name,
        record: Option<Vec<u8>>,
        now: StoreTime,
    ) -> Option<SharedToken> {
        let opened = SharedToken::open(&self.fleet.keys(), identity, &record?, now);
        self.report(opened)
    }

    /// Counts a record that cannot be opened, and logs the first one.
    fn report<T>(&self, opened: Result<T, Undecipherable>) -> Option<T> {
        if opened.is_err() {
            self.fleet
                .metrics()
                .count_token(TokenOutcome::Undecipherable);
            if !self.warned.swap(true, Ordering::Relaxed) {
                warn!(
                    customer = self.credential.customer(),
                    "record of a login in the fleet's store unusable; it is ignored"
                );
            }
        }
        opened.ok()
    }
}

fn next_attempt() -> u64 {
    ATTEMPTS.fetch_add(1, Ordering::Relaxed)
}

/// Returns the name of a credential.
pub fn identity(keys: &FleetKeys, credential: &Credential) -> Name {
    with_parts(credential, |parts| keys.name(NameKind::Identity, parts))
}

fn previous_identity(keys: &FleetKeys, credential: &Credential) -> Option<Name> {
    with_parts(credential, |parts| {
        keys.previous_name(NameKind::Identity, parts)
    })
}

fn with_parts<N>(credential: &Credential, name: impl FnOnce(&[&[u8]]) -> N) -> N {
    let url = credential.token_url.to_string();
    let parts = [credential.customer(), &credential.client_id, &url];
    name(&parts.map(str::as_bytes))
}

/// Returns the name of the secrets of a login: replicas with the same ones share its verdict.
fn secrets_name(keys: &FleetKeys, identity: Name, secrets: &[&str]) -> Name {
    let mut secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
    secrets.sort_unstable();
    secrets.insert(0, &identity.0);
    keys.name(NameKind::Secret, &secrets)
}
