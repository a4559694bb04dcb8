//! Keeps one credential's token fresh, for ever.

mod cached;
mod deadline;
mod log;
mod reader;
mod secrets;
mod settings;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use self::cached::CacheHandle;
use self::deadline::Deadline;
use self::reader::SecretReader;
use self::secrets::{SecretCandidate, SecretSelector, Selection, WhichSecret};
use super::cache::CachedToken;
use super::issuer::{IssuedToken, Issuer, LoginError, LoginRequest};
use super::metrics::CustomerMetrics;
use super::outcome::Outcome;
use super::response::MAX_LIFETIME;
use super::schedule::{self, Failures};
use super::slot::{Token, TokenSlot};
use super::status::{FailedLogin, Skew};
use crate::config::{self, Credential};
use crate::system::clock::Clock;

pub use self::settings::KeeperSettings;

/// The longest sleep. A timer stands still while the machine is suspended, so the wall clock is looked at this
/// often.
const WAKE: Duration = Duration::from_secs(30);
/// How often the files of the secrets are read, to see whether they changed. Volumes that a platform mounts are
/// swapped by symlink, and network volumes tell nobody about changes: reading a few bytes sees every kind of them.
const SECRET_POLL: Duration = Duration::from_secs(3);

/// The task that logs in for one credential.
#[derive(Debug)]
pub struct Keeper<I> {
    credential: Credential,
    settings: config::TokenSettings,
    slot: Arc<TokenSlot>,
    issuer: I,
    clock: Clock,
    metrics: CustomerMetrics,
    secrets: SecretSelector,
    reader: SecretReader,
    orders: watch::Receiver<KeeperSettings>,
    memory: Option<CacheHandle>,
    failures: Failures,
    /// When the last login that a 401 or an operator asked for began.
    last_forced: Option<Instant>,
    /// The end of the token's usable life on the clock that no one sets.
    deadline: Option<Instant>,
}

/// Why a login is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginReason {
    /// It was time. A sibling's token does as well.
    Planned,
    /// Citrix refused the present token.
    Refused,
    /// An operator asked for it.
    Asked,
    /// There is a new secret, which only a login can prove.
    NewSecret,
}

/// A token that is ready to be published.
#[derive(Debug)]
struct NewToken {
    token: Token,
    /// The token itself, for the cache.
    text: SecretString,
    obtained_at: SystemTime,
    due: Deadline,
    usable: Deadline,
    expires_at: SystemTime,
    /// With which secret, unless it came out of the cache.
    secret: Option<WhichSecret>,
}

/// What the log tells of a login that worked.
#[derive(Debug)]
struct LoginLog {
    skew: Option<Skew>,
    transaction_id: Option<HeaderValue>,
}

/// What the keeper waits for after a login.
#[derive(Debug)]
struct LoginSchedule {
    due: Deadline,
    /// When the next login is due if Citrix refuses the present token, or an operator asks.
    due_if_refused: Deadline,
}

impl<I: Issuer> Keeper<I> {
    /// A keeper that fills `slot` and goes by `orders`, those that are there and those to come. It does nothing until
    /// [`Keeper::keep`] is polled.
    pub fn new(
        credential: Credential,
        mut orders: watch::Receiver<KeeperSettings>,
        slot: Arc<TokenSlot>,
        issuer: I,
        clock: Clock,
        metrics: CustomerMetrics,
    ) -> Self {
        let KeeperSettings {
            settings,
            cache,
            sources,
        } = orders.borrow_and_update().clone();
        Self {
            memory: cache.map(|cache| CacheHandle::new(cache, &credential)),
            credential,
            settings,
            slot,
            issuer,
            clock,
            metrics,
            secrets: SecretSelector::new(sources),
            reader: SecretReader::default(),
            orders,
            failures: Failures::default(),
            last_forced: None,
            deadline: None,
        }
    }

    /// Logs in, publishes the token, sleeps until the next is due; again and again. Every failure is logged,
    /// counted and followed by a pause, and a token that is still good is left in place.
    ///
    /// Dropping the future ends the keeper; another one may then go on with the same slot.
    pub async fn keep(mut self) -> Infallible {
        let look = self.reader.look(self.secrets.sources()).await;
        self.secrets.saw(&look);
        let mut plan = match self.recall().await {
            Some(plan) => plan,
            None => self.attempt(LoginReason::Planned).await,
        };
        loop {
            let cause = self.sleep_until_due(&plan).await;
            plan = self.attempt(cause).await;
        }
    }

    async fn attempt(&mut self, cause: LoginReason) -> LoginSchedule {
        let asked = self.slot.begin_login();
        let cause = match cause {
            _ if self.slot.is_refused() => LoginReason::Refused,
            LoginReason::Planned if asked => LoginReason::Asked,
            cause => cause,
        };
        if matches!(cause, LoginReason::Refused | LoginReason::Asked) {
            self.last_forced = Some(Instant::now());
        }
        // Held until the new token is in the cache, for those who wait for it.
        let turn = self.turn(cause).await;
        if turn.is_some()
            && let Some(plan) = self.recall().await
        {
            return plan;
        }
        match self.log_in().await {
            Ok((obtained, told)) => {
                self.log_success(&obtained, &told, cause);
                let NewToken {
                    obtained_at,
                    expires_at,
                    ..
                } = obtained;
                let cached = CachedToken {
                    token: obtained.text.clone(),
                    obtained_at,
                    expires_at,
                };
                let plan = self.publish(obtained);
                self.remember(cached).await;
                plan
            }
            Err(failure) => self.schedule_retry(&failure),
        }
    }

    /// Logs in with one secret after the other, as long as Citrix refuses them.
    async fn log_in(&mut self) -> Result<(NewToken, LoginLog), LoginError> {
        let look = self.reader.look(self.secrets.sources()).await;
        let Selection {
            candidates,
            problem,
        } = self.secrets.read(look);
        if candidates.is_empty() {
            self.metrics.ended(Outcome::SecretUnreadable, None);
        }
        let mut failure = LoginError::new(Outcome::SecretUnreadable, problem);
        for candidate in candidates {
            match self.ask(&candidate).await {
                Ok((mut obtained, told)) => {
                    obtained.secret = Some(candidate.which);
                    self.secrets.worked(candidate, self.credential.customer());
                    return Ok((obtained, told));
                }
                Err(refused) if refused.outcome.rejects_secret() => failure = refused,
                // The network or the service, not the secret: another one would fare no better.
                Err(other) => return Err(other),
            }
        }
        if failure.outcome.rejects_secret() {
            self.secrets.all_rejected();
        }
        Err(failure)
    }

    /// One request to the token endpoint.
    async fn ask(&self, candidate: &SecretCandidate) -> Result<(NewToken, LoginLog), LoginError> {
        let asked = Deadline::now(self.clock);
        let login = LoginRequest {
            url: &self.credential.token_url,
            dialect: self.credential.token_dialect,
            client_id: &self.credential.client_id,
            client_secret: &candidate.secret,
        };
        let issued = self.issuer.log_in(login).await;
        let took = asked.instant.elapsed();
        if let Some(skew) = issued
            .as_ref()
            .map_or_else(|failure| failure.skew, |issued| issued.skew)
        {
            self.metrics.skewed(skew);
            self.slot.update(|status| status.skew = Some(skew));
        }
        let result = issued.and_then(|issued| self.examine(issued, asked));
        self.metrics.ended(
            result
                .as_ref()
                .map_or_else(|failure| failure.outcome, |_| Outcome::Ok),
            Some(took),
        );
        result
    }

    /// Turns an answer into a token that can be published, unless it is dead or cannot be sent.
    fn examine(
        &self,
        issued: IssuedToken,
        asked: Deadline,
    ) -> Result<(NewToken, LoginLog), LoginError> {
        let IssuedToken {
            grant,
            transaction_id,
            skew,
        } = issued;
        let refuse = |outcome| LoginError {
            transaction_id: transaction_id.clone(),
            ..LoginError::new(outcome, None)
        };
        // Seconds count from the moment the request left: the answer was made some time after that.
        let expires_at = grant.lifetime.expires_at(asked.wall, skew);
        let life = expires_at.duration_since(asked.wall).unwrap_or_default();
        let usable = asked.after(schedule::usable_lifetime(life));
        if usable.left(self.clock).is_zero() {
            return Err(refuse(Outcome::Expired));
        }
        let token = Token::new(self.slot.generation() + 1, &grant.token, usable.wall)
            .map_err(|_| refuse(Outcome::BadToken))?;
        let due = asked.after(schedule::refresh_after(
            life,
            self.settings.refresh_at,
            fastrand::f64(),
        ));
        let text = grant.token;
        let obtained = NewToken {
            token,
            text,
            obtained_at: asked.wall,
            due,
            usable,
            expires_at,
            secret: None,
        };
        Ok((
            obtained,
            LoginLog {
                skew,
                transaction_id,
            },
        ))
    }

    fn publish(&mut self, obtained: NewToken) -> LoginSchedule {
        let NewToken {
            token,
            obtained_at,
            due,
            usable,
            expires_at,
            secret,
            ..
        } = obtained;
        let generation = token.generation();
        let due_if_refused = Deadline::now(self.clock).after(self.forced_wait());
        let on_old_secret = self.secrets.are_refused();
        self.failures = Failures::default();
        self.deadline = Some(usable.instant);
        // First the metrics: whoever is woken by the token may be followed by a scrape.
        self.metrics.published(generation, expires_at);
        self.metrics.planned(due.wall, 0);
        self.slot.publish(token, |status| {
            status.generation = generation;
            status.obtained_at = Some(obtained_at);
            status.usable_until = Some(usable.wall);
            status.expires_at = Some(expires_at);
            status.next_attempt = Some(due.wall);
            status.in_progress = false;
            status.consecutive_failures = 0;
            status.on_old_secret = on_old_secret;
            status.secret = secret;
            status.due = Some(due.instant);
            status.forced_not_before = Some(due_if_refused.instant);
        });
        LoginSchedule {
            due,
            due_if_refused,
        }
    }

    fn schedule_retry(&mut self, failure: &LoginError) -> LoginSchedule {
        self.failures = self.failures.with(failure.outcome);
        let now = self.clock.now();
        // A token that Citrix refuses is no reason to take one's time.
        let usable_for = self
            .slot
            .usable(now)
            .filter(|_| !self.slot.is_refused())
            .and_then(|token| token.usable_until().duration_since(now).ok());
        let chance = fastrand::f64();
        let pause = self
            .failures
            .backoff(usable_for, failure.retry_after, chance);
        let due = Deadline::now(self.clock).after(pause);
        // A login that a 401 asked for and that failed has this pause already: it may be made good at once.
        let short = self.failures.backoff(None, failure.retry_after, chance);
        let due_if_refused =
            Deadline::now(self.clock).after(short.max(self.forced_wait()).min(pause));
        let consecutive = self.failures.consecutive;
        self.slot.update(|status| {
            status.next_attempt = Some(due.wall);
            status.in_progress = false;
            status.consecutive_failures = consecutive;
            status.last_failure = Some(FailedLogin {
                outcome: failure.outcome,
                transaction_id: failure.transaction_id.clone(),
                at: now,
            });
            status.due = Some(due.instant);
            status.forced_not_before = Some(due_if_refused.instant);
        });
        self.metrics.planned(due.wall, consecutive);
        self.log_failure(failure, pause, self.slot.usable(now).is_some());
        LoginSchedule {
            due,
            due_if_refused,
        }
    }

    /// How long until a 401 may again lead to a login.
    fn forced_wait(&self) -> Duration {
        // No token lives longer than that, so a longer interval would hold off nothing more.
        let interval = self.settings.min_forced_interval.min(MAX_LIFETIME);
        self.last_forced.map_or(Duration::ZERO, |last| {
            interval.saturating_sub(last.elapsed())
        })
    }

    /// Sleeps until the plan says that a login is due, or a new secret ends the sleep.
    async fn sleep_until_due(&mut self, plan: &LoginSchedule) -> LoginReason {
        loop {
            self.expire();
            let mut left = plan.due.left(self.clock);
            if self.slot.wants_login() {
                left = left.min(plan.due_if_refused.left(self.clock));
            }
            if left.is_zero() {
                return LoginReason::Planned;
            }
            let mut nap = left.min(WAKE);
            let look = self.reader.look(self.secrets.sources()).await;
            if self.secrets.are_news(&look) {
                info!(
                    customer = self.credential.customer(),
                    "the client secret changed; logging in at once"
                );
                return LoginReason::NewSecret;
            }
            if self.secrets.sources().are_files() {
                nap = nap.min(SECRET_POLL);
            }
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = self.slot.refusal() => {}
                () = Self::settings_changed(&mut self.orders) => self.apply_settings(),
            }
        }
    }

    /// Takes a token out of use whose life is over, though a clock that was set back says otherwise.
    fn expire(&self) {
        let over = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        let now = self.clock.now();
        if over && self.slot.usable(now).is_some() {
            warn!(
                customer = self.credential.customer(),
                "the clock was set back; the token's life is over all the same"
            );
            self.slot.retire(now);
        }
    }
}

#[cfg(test)]
mod tests;
