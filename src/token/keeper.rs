//! The task that keeps one credential's token fresh.

mod cached;
mod customer;
mod expiry;
mod failed;
mod log;
mod reader;
mod secrets;
mod settings;
mod shared;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use self::cached::CacheHandle;
use self::reader::{SecretReader, SecretSnapshot};
use self::secrets::{SecretCandidate, SecretSelector, Selection, WhichSecret};
use self::shared::Turn;
use super::cache::CachedToken;
use super::events::EventKind;
use super::issuer::{IssuedToken, Issuer, LoginError, LoginRequest};
use super::login_gate::LoginGate;
use super::metrics::CustomerMetrics;
use super::outcome::Outcome;
use super::schedule::{self, Failures};
use super::slot::{Token, TokenSlot};
use super::status::Skew;
use crate::config::{self, Credential};
use crate::fleet::Fleet;
use crate::fleet::tokens::{LoginTurn, SharedLogins};
use crate::system::clock::Clock;
use crate::system::files::FileReader;
use crate::system::moment::Moment;

pub use self::settings::KeeperSettings;

/// Maximum sleep. Timers do not advance while the machine is suspended, so the wall clock is
/// checked this often.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The clock, and the bounds on files and logins that keepers share.
#[derive(Clone, Debug)]
pub struct KeeperContext {
    pub clock: Clock,
    pub files: FileReader,
    /// The bound on logins at the keeper's token endpoint.
    pub logins: Arc<LoginGate>,
    /// The fleet, if replicas share logins.
    pub fleet: Option<Arc<Fleet>>,
}

/// The task that logs in for one credential.
#[derive(Debug)]
pub struct Keeper<I> {
    credential: Arc<Credential>,
    settings: config::TokenSettings,
    slot: Arc<TokenSlot>,
    issuer: I,
    clock: Clock,
    metrics: CustomerMetrics,
    secrets: SecretSelector,
    reader: SecretReader,
    logins: Arc<LoginGate>,
    new_settings: watch::Receiver<KeeperSettings>,
    cache: Option<CacheHandle>,
    shared: Option<Box<SharedLogins>>,
    /// The scheduled login is postponed until the store is back.
    awaits_store: bool,
    failures: Failures,
    /// Start of the last login that a 401 or an operator triggered.
    last_forced: Option<Instant>,
}

/// Trigger of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginReason {
    /// The schedule.
    Scheduled,
    /// Citrix rejected the current token.
    Rejected,
    /// An operator requested it.
    Requested,
    /// The secret changed, and only a login with it, this process's or a sibling's, verifies it.
    NewSecret,
}

/// A token ready for publication.
#[derive(Debug)]
struct NewToken {
    token: Token,
    /// The token's text, for the cache.
    text: SecretString,
    obtained_at: SystemTime,
    /// The time of the scheduled refresh.
    due: Moment,
    /// The end of the usable lifetime, earlier than `expires_at`.
    usable: Moment,
    expires_at: SystemTime,
    /// The secret of the login; `None` if the token is from the cache.
    secret: Option<WhichSecret>,
    /// It may have been revoked together with the rejected token that it replaces.
    suspect: bool,
    /// Another replica obtained it with a secret that is not configured here.
    other_secret: bool,
}

/// Details of a successful login that are only logged.
#[derive(Debug)]
struct LoginLog {
    skew: Option<Skew>,
    transaction_id: Option<HeaderValue>,
}

/// Deadlines of the next login.
#[derive(Debug)]
struct LoginSchedule {
    due: Moment,
    /// Deadline if Citrix rejects the current token or an operator requests a login.
    due_if_forced: Moment,
}

impl<I: Issuer> Keeper<I> {
    /// Returns a keeper that publishes to `slot` and follows `new_settings`. It is idle until
    /// [`Keeper::run`] is polled.
    pub fn new(
        credential: Arc<Credential>,
        mut new_settings: watch::Receiver<KeeperSettings>,
        slot: Arc<TokenSlot>,
        issuer: I,
        metrics: CustomerMetrics,
        context: KeeperContext,
    ) -> Self {
        let KeeperContext {
            clock,
            files,
            logins,
            fleet,
        } = context;
        let fleet = fleet.filter(|fleet| fleet.shares_tokens());
        let shared = fleet.map(|fleet| {
            let shared = SharedLogins::new(fleet, Arc::clone(&credential));
            Box::new(shared)
        });
        let KeeperSettings {
            settings,
            cache,
            sources,
        } = new_settings.borrow_and_update().clone();
        Self {
            cache: cache.map(|cache| CacheHandle::new(cache, &credential)),
            shared,
            awaits_store: false,
            settings,
            slot,
            issuer,
            clock,
            reader: SecretReader::new(credential.customer(), sources, &files),
            metrics,
            secrets: SecretSelector::new(),
            logins,
            new_settings,
            failures: Failures::default(),
            last_forced: None,
            credential,
        }
    }

    /// Logs in and publishes the token whenever a login is due. Every failure is logged, counted
    /// and followed by a backoff; a valid token stays published.
    ///
    /// Dropping the future stops the keeper; another one may continue with the same slot.
    pub fn run(self) -> impl Future<Output = Infallible> {
        // Boxed, because the future would reserve space for the argument and for the variable.
        let mut this = Box::new(self);
        async move {
            let (slot, credential) = (Arc::clone(&this.slot), Arc::clone(&this.credential));
            let expiry = expiry::withdraw_expired(&slot, this.clock, credential.customer());
            tokio::select! {
                biased;
                never = expiry => never,
                never = this.keep() => never,
            }
        }
    }

    async fn keep(&mut self) -> Infallible {
        let snapshot = self.read_secrets().await;
        self.secrets.set_baseline(&snapshot);
        let mut schedule = match Box::pin(self.adopt_stored()).await {
            Some(schedule) => schedule,
            None => Box::pin(self.attempt(LoginReason::Scheduled)).await,
        };
        loop {
            let reason = self.sleep_until_due(&mut schedule).await;
            // Boxed: the task rests most of the time, one for each customer.
            schedule = Box::pin(self.attempt(reason)).await;
        }
    }

    /// Publishes a token that the cache file or the fleet's store has at the start.
    async fn adopt_stored(&mut self) -> Option<LoginSchedule> {
        let began = self.clock.now();
        match self.adopt_token(LoginReason::Scheduled, began).await {
            Some(schedule) => Some(schedule),
            None => self.adopt_at_start().await,
        }
    }

    /// Logs in, unless the result of another replica's login is known. Returns the deadlines of the
    /// next login.
    async fn attempt(&mut self, reason: LoginReason) -> LoginSchedule {
        let permit = self.logins.acquire().await;
        let requested = self.slot.begin_login();
        let reason = match reason {
            _ if self.slot.is_rejected() => LoginReason::Rejected,
            LoginReason::Scheduled if requested => LoginReason::Requested,
            reason => reason,
        };
        let began = self.clock.now();
        let (turn, _permit) = match self.take_turn(reason, began, permit).await {
            Turn::Done(schedule) => return schedule,
            Turn::LogIn(turn, permit) => (turn, permit),
        };
        if turn.is_some() {
            return self.log_in_and_share(reason, turn).await;
        }
        // Held until the result of the login is in the cache, where waiting siblings find it.
        let _lock = self.login_lock().await;
        if let Some(schedule) = self.adopt_token(reason, began).await {
            return schedule;
        }
        self.log_in_and_share(reason, None).await
    }

    /// Logs in, publishes the result, and shares it with other replicas.
    async fn log_in_and_share(
        &mut self,
        reason: LoginReason,
        turn: Option<LoginTurn>,
    ) -> LoginSchedule {
        let snapshot = self.read_secrets().await;
        if turn.is_none()
            && let Some(schedule) = self.adopt_rejection(reason, &snapshot).await
        {
            return schedule;
        }
        if matches!(reason, LoginReason::Rejected | LoginReason::Requested) {
            self.last_forced = Some(Instant::now());
        }
        let secrets = self.secrets.fingerprints(&snapshot);
        let configured = SecretSelector::configured(&snapshot);
        match self.log_in(snapshot).await {
            Ok((new, log, rejected)) => {
                self.log_success(&new, &log, reason);
                let cached = CachedToken {
                    token: new.text.clone(),
                    obtained_at: new.obtained_at,
                    expires_at: new.expires_at,
                    secret: self.secrets.accepted_fingerprint(),
                };
                let schedule = self.publish(new);
                let rejected = rejected.filter(|_| !self.secrets.has_accepted(&configured));
                let all_rejected = rejected.as_ref().map(|_| configured.clone());
                self.share_token(turn, &cached, all_rejected.unwrap_or_default(), log.id())
                    .await;
                self.store_cached(cached).await;
                if let Some(error) = rejected {
                    self.store_replaced(&error, configured, &schedule).await;
                }
                schedule
            }
            Err(error) => {
                let schedule = self.schedule_retry(&error);
                self.share_failure(turn, &error, &schedule).await;
                self.store_rejection(&error, secrets, self.failures, &schedule)
                    .await;
                schedule
            }
        }
    }

    /// Tries the candidate secrets in turn while Citrix rejects them. A success comes with the last
    /// rejection.
    async fn log_in(
        &mut self,
        snapshot: SecretSnapshot,
    ) -> Result<(NewToken, LoginLog, Option<LoginError>), LoginError> {
        let Selection {
            candidates,
            problem,
        } = self.secrets.select(snapshot);
        if candidates.is_empty() {
            self.metrics.record_login(Outcome::SecretUnreadable, None);
        }
        let mut error = LoginError::new(Outcome::SecretUnreadable, problem);
        for candidate in candidates {
            match self.request_token(&candidate).await {
                Ok((mut new, log)) => {
                    new.secret = Some(candidate.which);
                    self.secrets.accepted(candidate, self.credential.customer());
                    let rejected = error.outcome.rejects_secret().then_some(error);
                    return Ok((new, log, rejected));
                }
                Err(rejected) if rejected.outcome.rejects_secret() => error = rejected,
                // A failure of the network or the service, which another secret does not change.
                Err(other) => return Err(other),
            }
        }
        if error.outcome.rejects_secret() {
            self.secrets.all_rejected();
        }
        Err(error)
    }

    async fn request_token(
        &self,
        candidate: &SecretCandidate,
    ) -> Result<(NewToken, LoginLog), LoginError> {
        let sent = Moment::now(self.clock);
        let request = LoginRequest {
            url: &self.credential.token_url,
            dialect: self.credential.token_dialect,
            client_id: &self.credential.client_id,
            client_secret: &candidate.secret,
        };
        let issued = self.issuer.log_in(request).await;
        let duration = sent.instant.elapsed();
        if let Some(skew) = issued
            .as_ref()
            .map_or_else(|error| error.skew, |issued| issued.skew)
        {
            self.metrics.set_skew(skew);
            self.slot.update(|status| status.skew = Some(skew));
        }
        let result = issued.and_then(|issued| self.validate(issued, sent));
        let outcome = result
            .as_ref()
            .map_or_else(|error| error.outcome, |_| Outcome::Ok);
        self.metrics.record_login(outcome, Some(duration));
        result
    }

    /// Rejects a token that has expired or is not a valid field value, and computes the deadlines
    /// of any other.
    fn validate(
        &self,
        issued: IssuedToken,
        sent: Moment,
    ) -> Result<(NewToken, LoginLog), LoginError> {
        let IssuedToken {
            grant,
            transaction_id,
            skew,
        } = issued;
        let error = |outcome| LoginError {
            transaction_id: transaction_id.clone(),
            ..LoginError::new(outcome, None)
        };
        // A relative lifetime counts from the request, which is earlier than the issue.
        let expires_at = grant.lifetime.expires_at(sent.wall, skew);
        let lifetime = expires_at.duration_since(sent.wall).unwrap_or_default();
        let usable = sent.after(schedule::usable_lifetime(lifetime));
        if usable.left(self.clock).is_zero() {
            return Err(error(Outcome::Expired));
        }
        let token = Token::new(self.slot.generation() + 1, &grant.token, usable)
            .map_err(|_| error(Outcome::BadToken))?;
        let due = sent.after(schedule::refresh_after(
            lifetime,
            self.settings.refresh_at,
            fastrand::f64(),
        ));
        let new = NewToken {
            token,
            text: grant.token,
            obtained_at: sent.wall,
            due,
            usable,
            expires_at,
            secret: None,
            suspect: false,
            other_secret: false,
        };
        let log = LoginLog {
            skew,
            transaction_id,
        };
        Ok((new, log))
    }

    fn publish(&mut self, new: NewToken) -> LoginSchedule {
        let other_customer = self.other_customer(&new);
        let NewToken {
            token,
            obtained_at,
            due,
            usable,
            expires_at,
            secret,
            suspect,
            other_secret,
            ..
        } = new;
        let generation = token.generation();
        let due_if_forced = Moment::now(self.clock).after(self.forced_wait());
        let on_old_secret = self.secrets.are_rejected();
        self.failures = Failures::default();
        if let Some(shared) = &mut self.shared {
            shared.forget_wait_before(obtained_at);
        }
        // Metrics first: a scrape may follow the request that the token wakes.
        self.metrics.set_token(generation, expires_at);
        self.metrics.set_schedule(due.wall, 0);
        let event = match secret {
            Some(secret) => EventKind::Login { generation, secret },
            None => EventKind::Adopted { generation },
        };
        self.slot.events().record(event, self.clock.now());
        self.slot.publish(token, |status| {
            status.generation = generation;
            status.obtained_at = Some(obtained_at);
            status.usable_until = Some(usable.wall);
            status.expires_at = Some(expires_at);
            status.next_attempt = Some(due.wall);
            status.in_progress = false;
            status.consecutive_failures = 0;
            status.on_old_secret = on_old_secret;
            status.other_customer = other_customer;
            status.other_secret = other_secret;
            status.secret = secret;
            let replaced = status.suspect_since.unwrap_or(generation - 1);
            status.suspect_since = suspect.then_some(replaced);
            status.due = Some(due.instant);
            status.forced_not_before = Some(due_if_forced.instant);
        });
        LoginSchedule { due, due_if_forced }
    }

    /// Sleeps until a login is due or a secret changes. Applies new settings and adopts tokens of
    /// other replicas meanwhile. Returns `Scheduled` for a forced login also; `attempt` determines
    /// its reason.
    async fn sleep_until_due(&mut self, schedule: &mut LoginSchedule) -> LoginReason {
        loop {
            if self.has_unshared_wait() {
                // Boxed: rare.
                Box::pin(self.share_wait()).await;
            }
            let mut left = schedule.due.left(self.clock);
            if self.slot.wants_login() {
                left = left.min(schedule.due_if_forced.left(self.clock));
            }
            if left.is_zero() {
                return LoginReason::Scheduled;
            }
            let snapshot = tokio::select! {
                biased;
                () = self.slot.login_wanted() => None,
                () = Self::settings_changed(&mut self.new_settings) => {
                    if self.apply_settings() {
                        Some(self.read_secrets().await)
                    } else {
                        None
                    }
                }
                snapshot = self.reader.changed() => Some(snapshot),
                () = Self::shared_changed(&mut self.shared) => {
                    if let Some(adopted) = Box::pin(self.sync_shared()).await {
                        *schedule = adopted;
                    } else if self.is_store_back() {
                        return LoginReason::Scheduled;
                    }
                    None
                }
                () = tokio::time::sleep(left.min(MAX_SLEEP)) => None,
            };
            if snapshot.is_some() {
                self.report_secrets();
            }
            if snapshot.is_some_and(|snapshot| self.secrets.have_changed(&snapshot)) {
                info!(
                    customer = self.credential.customer(),
                    "client secret changed; logging in"
                );
                return LoginReason::NewSecret;
            }
        }
    }

    async fn read_secrets(&mut self) -> SecretSnapshot {
        let snapshot = self.reader.read().await;
        self.report_secrets();
        snapshot
    }

    /// Publishes whether a secret is unreadable.
    fn report_secrets(&self) {
        let problem = self.reader.problem().map(str::to_owned);
        self.slot.update(|status| status.secret_problem = problem);
    }
}

#[cfg(test)]
mod tests;
