//! Keeps one credential's token fresh, for ever.

mod secrets;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::secrets::{Candidate, Fingerprint, Reading, Secrets};
use super::answer::LONGEST_LIFETIME;
use super::issuer::{Failure, Issued, Issuer, Login};
use super::outcome::Outcome;
use super::schedule::{self, Failures};
use super::signals::CustomerSignals;
use super::slot::{Slot, Token};
use super::status::{FailedLogin, Skew};
use crate::clock::Clock;
use crate::config::{self, Credential};

/// The longest sleep. A timer stands still while the machine is suspended, so the wall clock is looked at this
/// often.
const WAKE: Duration = Duration::from_secs(30);
/// How often a secret is looked at while a pause lasts.
const SECRET_POLL: Duration = Duration::from_secs(3);

/// The task that logs in for one credential.
#[derive(Debug)]
pub struct Keeper<I> {
    credential: Credential,
    settings: config::Token,
    slot: Arc<Slot>,
    issuer: I,
    clock: Clock,
    signals: CustomerSignals,
    secrets: Secrets,
    failures: Failures,
    /// When the last login that a 401 or an operator asked for began.
    last_forced: Option<Instant>,
    /// The end of the token's usable life on the clock that no one sets.
    deadline: Option<Instant>,
}

/// An instant on both clocks. It has come when either says so: the wall clock also runs while the machine
/// sleeps, the other cannot be set back.
#[derive(Clone, Copy, Debug)]
struct Due {
    wall: SystemTime,
    instant: Instant,
}

impl Due {
    fn after(self, wait: Duration) -> Self {
        Self { wall: self.wall + wait, instant: self.instant + wait }
    }

    fn left(self, clock: Clock) -> Duration {
        let wall = self.wall.duration_since(clock.now()).unwrap_or_default();
        wall.min(self.instant.saturating_duration_since(Instant::now()))
    }
}

/// A token that is ready to be published.
#[derive(Debug)]
struct Obtained {
    token: Token,
    asked: Due,
    life: Duration,
    usable: Due,
    expires_at: SystemTime,
    skew: Option<Skew>,
    transaction_id: Option<HeaderValue>,
}

/// What the keeper waits for after a login.
#[derive(Debug)]
struct Plan {
    due: Due,
    /// When the next login is due if Citrix refuses the present token, or an operator asks.
    due_if_refused: Due,
    /// What the secrets were when the login failed: a change of them ends the pause.
    pausing: Option<Fingerprint>,
}

impl<I: Issuer> Keeper<I> {
    /// A keeper that fills `slot`. It does nothing until [`Keeper::keep`] is polled.
    pub fn new(
        credential: Credential,
        settings: config::Token,
        slot: Arc<Slot>,
        issuer: I,
        clock: Clock,
        signals: CustomerSignals,
    ) -> Self {
        let secrets = Secrets::new(credential.client_secret.clone(), credential.client_secret_next.clone());
        Self {
            credential,
            settings,
            slot,
            issuer,
            clock,
            signals,
            secrets,
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
        loop {
            let plan = self.attempt().await;
            self.rest(&plan).await;
        }
    }

    async fn attempt(&mut self) -> Plan {
        let forced = self.slot.is_refused();
        let asked = self.slot.begin_login();
        if forced || asked {
            self.last_forced = Some(Instant::now());
        }
        let Reading { candidates, fingerprint, problem } = self.secrets.read();
        let mut result = Err(Failure::new(Outcome::SecretUnreadable, problem));
        if candidates.is_empty() {
            self.signals.ended(Outcome::SecretUnreadable, None);
        }
        for candidate in &candidates {
            result = self.log_in(candidate).await;
            match &result {
                Ok(_) => self.secrets.worked(candidate.which, self.credential.customer()),
                Err(failure) if failure.outcome.rejects_secret() => continue,
                // The network or the service, not the secret: another one would fare no better.
                Err(_) => {}
            }
            break;
        }
        if result.as_ref().is_err_and(|failure| failure.outcome.rejects_secret()) {
            self.secrets.all_rejected(fingerprint);
        }
        match result {
            Ok(obtained) => self.publish(obtained, forced),
            Err(failure) => self.pause(&failure, fingerprint),
        }
    }

    /// One request to the token endpoint.
    async fn log_in(&self, candidate: &Candidate) -> Result<Obtained, Failure> {
        let asked = Due { wall: self.clock.now(), instant: Instant::now() };
        let login = Login {
            url: &self.credential.token_url,
            dialect: self.credential.token_dialect,
            client_id: &self.credential.client_id,
            client_secret: &candidate.secret,
        };
        let issued = self.issuer.log_in(login).await;
        let took = asked.instant.elapsed();
        if let Some(skew) = issued.as_ref().map_or_else(|failure| failure.skew, |issued| issued.skew) {
            self.signals.skewed(skew);
            self.slot.update(|status| status.skew = Some(skew));
        }
        let result = issued.and_then(|issued| self.examine(issued, asked));
        self.signals
            .ended(result.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Ok), Some(took));
        result
    }

    /// Turns an answer into a token that can be published, unless it is dead or cannot be sent.
    fn examine(&self, issued: Issued, asked: Due) -> Result<Obtained, Failure> {
        let Issued { grant, transaction_id, skew } = issued;
        let refuse =
            |outcome| Failure { transaction_id: transaction_id.clone(), ..Failure::new(outcome, None) };
        // Seconds count from the moment the request left: the answer was made some time after that.
        let expires_at = grant.lifetime.expires_at(asked.wall, skew);
        let life = expires_at.duration_since(asked.wall).unwrap_or_default();
        let usable = asked.after(schedule::usable_life(life));
        if usable.left(self.clock).is_zero() {
            return Err(refuse(Outcome::Expired));
        }
        let token = Token::new(self.slot.generation() + 1, &grant.token, usable.wall)
            .map_err(|_| refuse(Outcome::BadToken))?;
        Ok(Obtained { token, asked, life, usable, expires_at, skew, transaction_id })
    }

    fn publish(&mut self, obtained: Obtained, forced: bool) -> Plan {
        let Obtained { token, asked, life, usable, expires_at, skew, transaction_id } = obtained;
        let generation = token.generation();
        let now = Instant::now();
        let due = asked.after(schedule::refresh_after(life, self.settings.refresh_at, fastrand::f64()));
        let forced_wait = self.forced_wait();
        let failures = std::mem::take(&mut self.failures);
        self.deadline = Some(usable.instant);
        // First the metrics: whoever is woken by the token may be followed by a scrape.
        self.signals.published(generation, expires_at);
        self.signals.planned(due.wall, 0);
        self.slot.publish(token, |status| {
            status.generation = generation;
            status.obtained_at = Some(asked.wall);
            status.usable_until = Some(usable.wall);
            status.expires_at = Some(expires_at);
            status.next_attempt = Some(due.wall);
            status.in_progress = false;
            status.consecutive_failures = 0;
            status.due = Some(due.instant);
            status.forced_not_before = Some(now + forced_wait);
        });
        info!(
            customer = self.credential.customer(),
            generation,
            lifetime_s = life.as_secs(),
            next_refresh_in_s = due.left(self.clock).as_secs(),
            transaction_id = text(transaction_id.as_ref()),
            clock_skew_s = skew.map(Skew::seconds),
            after_a_401 = forced,
            after_failures = failures.consecutive,
            "obtained a token"
        );
        Plan { due, due_if_refused: self.after(forced_wait), pausing: None }
    }

    fn pause(&mut self, failure: &Failure, fingerprint: Fingerprint) -> Plan {
        self.failures = self.failures.and(failure.outcome);
        let now = self.clock.now();
        // A token that Citrix refuses is no reason to take one's time.
        let usable_for = self
            .slot
            .usable(now)
            .filter(|_| !self.slot.is_refused())
            .and_then(|token| token.usable_until().duration_since(now).ok());
        let chance = fastrand::f64();
        let pause = self.failures.pause(usable_for, failure.retry_after, chance);
        let due = self.after(pause);
        // A login that a 401 asked for and that failed has this pause already: it may be made good at once.
        let short = self.failures.pause(None, failure.retry_after, chance);
        let due_if_refused = self.after(short.max(self.forced_wait()).min(pause));
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
        self.signals.planned(due.wall, consecutive);
        self.complain(failure, pause, self.slot.usable(now).is_some());
        Plan { due, due_if_refused, pausing: Some(fingerprint) }
    }

    /// How long until a 401 may again lead to a login.
    fn forced_wait(&self) -> Duration {
        // No token lives longer than that, so a longer interval would hold off nothing more.
        let interval = self.settings.min_forced_interval.min(LONGEST_LIFETIME);
        self.last_forced.map_or(Duration::ZERO, |last| interval.saturating_sub(last.elapsed()))
    }

    /// One log line: an error when requests fail for it, else a warning.
    fn complain(&self, failure: &Failure, pause: Duration, has_token: bool) {
        let customer = self.credential.customer();
        let outcome = failure.outcome.label();
        let advice = failure.outcome.advice();
        let next_attempt_in_s = (pause.as_secs_f64() * 10.0).round() / 10.0;
        let transaction_id = text(failure.transaction_id.as_ref());
        let cause = failure.cause.as_deref();
        let consecutive_failures = self.failures.consecutive;
        if has_token {
            warn!(
                customer,
                outcome,
                advice,
                cause,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "the login failed; the present token is still good"
            );
        } else {
            error!(
                customer,
                outcome,
                advice,
                cause,
                next_attempt_in_s,
                consecutive_failures,
                transaction_id,
                "the login failed, and there is no usable token"
            );
        }
    }

    /// Sleeps until the plan says that a login is due.
    async fn rest(&self, plan: &Plan) {
        loop {
            self.bury();
            let mut left = plan.due.left(self.clock);
            if self.slot.wants_login() {
                left = left.min(plan.due_if_refused.left(self.clock));
            }
            if left.is_zero() {
                return;
            }
            let mut nap = left.min(WAKE);
            if let Some(before) = plan.pausing {
                if self.secrets.fingerprint() != before {
                    info!(
                        customer = self.credential.customer(),
                        "the client secret changed; logging in at once"
                    );
                    return;
                }
                nap = nap.min(SECRET_POLL);
            }
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = self.slot.refusal() => {}
            }
        }
    }

    /// Takes a token out of use whose life is over, though a clock that was set back says otherwise.
    fn bury(&self) {
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let now = self.clock.now();
        if over && self.slot.usable(now).is_some() {
            warn!(
                customer = self.credential.customer(),
                "the clock was set back; the token's life is over all the same"
            );
            self.slot.retire(now);
        }
    }

    fn after(&self, wait: Duration) -> Due {
        Due { wall: self.clock.now(), instant: Instant::now() }.after(wait)
    }
}

/// Citrix's transaction id as it is logged; the issuer made sure that it is short visible ASCII.
fn text(transaction_id: Option<&HeaderValue>) -> Option<&str> {
    transaction_id?.to_str().ok()
}

#[cfg(test)]
mod tests;
