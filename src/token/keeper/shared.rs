//! Logins that replicas share through a store: one at a time logs in, the others take its token or
//! Citrix's verdict. A store that is slow or gone delays a login by seconds and prevents none.

use std::time::{Duration, SystemTime};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::secrets::SecretSelector;
use super::{Keeper, LoginReason, LoginSchedule, NewToken};
use crate::fleet::State;
use crate::fleet::tokens::{
    Decision, LoginEnd, LoginIntent, LoginTurn, SharedLogins, SharedToken, Verdict,
};
use crate::system::moment::Moment;
use crate::token::cache::{CachedRejection, CachedToken, Fingerprint};
use crate::token::issuer::{Issuer, LoginError};
use crate::token::outcome::Outcome;
use crate::token::response::MAX_LIFETIME;
use crate::token::schedule::{self, Failures};

/// Timeout of the wait for the store without a usable token.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between requests while another replica logs in: a notification may be lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time by which the lock outlives the longest login.
const LOCK_MARGIN: Duration = Duration::from_secs(5);
/// Maximum number of secrets that a login tries.
const MAX_SECRETS: u32 = 3;
/// Minimum wait after a verdict, which the store may remove a moment later than this clock.
const MIN_VERDICT_WAIT: Duration = Duration::from_millis(200);

/// A permit of the bound on logins at one endpoint.
pub(super) type GatePermit = Option<OwnedSemaphorePermit>;

/// The result of asking the other replicas.
pub(super) enum Turn {
    /// No login is due any more: a token was adopted, or the login is postponed.
    Done(LoginSchedule),
    /// This replica logs in: for all with a turn, else for itself.
    LogIn(Option<LoginTurn>, GatePermit),
}

/// The same for one question.
enum Step {
    Done(LoginSchedule),
    LogIn(Option<LoginTurn>),
    /// Another replica logs in.
    Held,
}

impl<I: Issuer> Keeper<I> {
    /// Waits until the token, verdict or lock in the store may have changed.
    pub(super) async fn shared_changed(shared: &mut Option<Box<SharedLogins>>) {
        match shared {
            Some(shared) => shared.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Takes the fleet's token at the start.
    pub(super) async fn adopt_at_start(&mut self) -> Option<LoginSchedule> {
        let began = self.clock.now();
        let shared = self.shared.as_mut()?;
        if !shared.wait_joined(STORE_TIMEOUT).await {
            return None;
        }
        let token = shared.token().await??;
        self.adopt_shared(token, LoginReason::Scheduled, began)
            .await
    }

    /// Takes a newer token after a notification. A store that lost its data, or was away when this
    /// replica's token was to be published, gets that.
    pub(super) async fn sync_shared(&mut self) -> Option<LoginSchedule> {
        let began = self.clock.now();
        let reason = if self.slot.is_rejected() {
            LoginReason::Rejected
        } else {
            LoginReason::Scheduled
        };
        let shared = self.shared.as_mut()?;
        let token = shared.token().await?;
        let publishes = shared.take_unshared_token() || token.is_none();
        if let Some(token) = token
            && let Some(schedule) = self.adopt_shared(token, reason, began).await
        {
            return Some(schedule);
        }
        if publishes {
            self.publish_current().await;
        }
        None
    }

    /// Returns `true` if a login waits for the store, which decides again.
    pub(super) fn is_store_back(&self) -> bool {
        let is_joined = |shared: &SharedLogins| shared.state() == State::Joined;
        self.awaits_store && self.shared.as_deref().is_some_and(is_joined)
    }

    /// Asks the store who logs in, and waits while another replica does.
    pub(super) async fn take_turn(
        &mut self,
        reason: LoginReason,
        began: SystemTime,
        mut permit: GatePermit,
    ) -> Turn {
        self.awaits_store = false;
        if self.shared.is_none() {
            return Turn::LogIn(None, permit);
        }
        if let Some(schedule) = self.postpone_until_joined(reason) {
            return Turn::Done(schedule);
        }
        self.wait_joined().await;
        let give_up = Instant::now() + self.lock_lifetime(MAX_SECRETS);
        let mut waited = false;
        loop {
            match self.ask_store(reason, began).await {
                Step::Done(schedule) => return Turn::Done(schedule),
                Step::LogIn(turn) => return Turn::LogIn(turn, permit),
                // The lock of a replica that ended has expired by then.
                Step::Held if Instant::now() >= give_up => return Turn::LogIn(None, permit),
                Step::Held => {}
            }
            drop(permit);
            if !std::mem::replace(&mut waited, true)
                && let Some(shared) = &self.shared
            {
                shared.count_waited();
            }
            if let Some(schedule) = self.wait_for_login(reason, began).await {
                return Turn::Done(schedule);
            }
            permit = self.logins.acquire().await;
        }
    }

    /// Returns the time after which a login that tries this number of secrets has ended.
    fn lock_lifetime(&self, secrets: u32) -> Duration {
        self.settings.request_timeout * secrets + LOCK_MARGIN
    }

    /// Postpones a scheduled login while the store is away, until a tenth of the token's usable
    /// lifetime is left.
    fn postpone_until_joined(&mut self, reason: LoginReason) -> Option<LoginSchedule> {
        let is_joined = self.shared.as_ref()?.state() == State::Joined;
        if is_joined || reason != LoginReason::Scheduled {
            return None;
        }
        let status = self.slot.status();
        let (obtained_at, until) = (status.obtained_at?, status.usable_until?);
        let reserve = until.duration_since(obtained_at).ok()? / 10;
        let left = self.slot.usable_for(self.clock)?;
        // Jitter, so that replicas without a store do not log in together.
        let wait = left.checked_sub(reserve)? + reserve.mul_f64(fastrand::f64() / 2.0);
        let schedule = LoginSchedule {
            due: Moment::now(self.clock).after(wait),
            ..self.current_schedule()
        };
        self.awaits_store = true;
        self.report_schedule(&schedule);
        Some(schedule)
    }

    /// Waits for the store for a moment where a login cannot be postponed. At the start, the keeper
    /// has waited already.
    async fn wait_joined(&self) {
        if let Some(shared) = &self.shared
            && shared.state() == State::Away
            && self.slot.generation() > 0
        {
            shared.wait_joined(STORE_TIMEOUT).await;
        }
    }

    async fn ask_store(&mut self, reason: LoginReason, began: SystemTime) -> Step {
        let snapshot = self.read_secrets().await;
        let secrets = self.secrets.fingerprints(&snapshot);
        let is_served = self.slot.usable(Moment::now(self.clock)).is_some();
        let Some(shared) = self.shared.as_mut().filter(|_| !secrets.is_empty()) else {
            return Step::LogIn(None);
        };
        // Read before the lock is taken, because its end would notify all replicas.
        let Some(token) = shared.token().await else {
            return Step::LogIn(None);
        };
        if let Some(token) = token
            && let Some(schedule) = self.adopt_shared(token, reason, began).await
        {
            return Step::Done(schedule);
        }
        let texts: Vec<&str> = secrets.iter().map(Fingerprint::as_str).collect();
        let interval = self.settings.min_forced_interval.min(MAX_LIFETIME);
        let count = u32::try_from(texts.len()).unwrap_or(1);
        let intent = LoginIntent {
            secrets: &texts,
            timeout: self.lock_lifetime(count),
            forced: (reason == LoginReason::Rejected && is_served).then_some(interval),
        };
        let requested = match &mut self.shared {
            Some(shared) => shared.request(intent).await,
            None => None,
        };
        let Some((decision, token)) = requested else {
            return Step::LogIn(None);
        };
        if let Some(token) = token
            && let Some(schedule) = self.adopt_shared(token, reason, began).await
        {
            if let Decision::Mine(turn) = decision {
                self.end_turn(turn, LoginEnd::Unneeded).await;
            }
            return Step::Done(schedule);
        }
        let postponed = match decision {
            Decision::Mine(turn) => return Step::LogIn(Some(turn)),
            Decision::Held => return Step::Held,
            Decision::Recent(wait) => Some(self.defer_forced(wait)),
            Decision::Throttled(wait) => {
                let rejection = self.throttled(reason, wait);
                // A 429 is that of the client, whatever the secret.
                self.postpone(rejection, LoginReason::Scheduled, &snapshot)
            }
            Decision::Rejected(verdict) => {
                let rejection = self.rejected(verdict);
                self.postpone(rejection, reason, &snapshot)
            }
        };
        postponed.map_or(Step::LogIn(None), Step::Done)
    }

    /// Waits until another replica's login may have ended: it may have done so without a
    /// notification, or its lock may have expired. Returns the schedule if its token was adopted.
    async fn wait_for_login(
        &mut self,
        reason: LoginReason,
        began: SystemTime,
    ) -> Option<LoginSchedule> {
        let shared = self.shared.as_mut()?;
        let _ = timeout(POLL_INTERVAL, shared.changed()).await;
        let token = shared.token().await??;
        self.adopt_shared(token, reason, began).await
    }

    /// Publishes another replica's token in place of a login that began at `began`, if it serves the
    /// same purpose. It proves nothing about this replica's secrets and needs no proof by them.
    async fn adopt_shared(
        &mut self,
        mut token: SharedToken,
        reason: LoginReason,
        began: SystemTime,
    ) -> Option<LoginSchedule> {
        let secret = token.secret.take().map(Fingerprint::from_text);
        let rejected = std::mem::take(&mut token.rejected);
        let is_current = self
            .slot
            .current()
            .as_ref()
            .is_some_and(|it| it.is(&token.token));
        if is_current {
            let settles = reason == LoginReason::NewSecret
                && (self.is_proven(secret).await || self.is_rejected_among(&rejected).await);
            return settles.then(|| {
                let schedule = self.current_schedule();
                self.report_schedule(&schedule);
                schedule
            });
        }
        let obtained_at = self.clock.now().checked_sub(token.age)?;
        let is_later = obtained_at >= began;
        let lifetime = token.lifetime.min(MAX_LIFETIME);
        let cached = CachedToken {
            expires_at: obtained_at + lifetime,
            obtained_at,
            token: token.token,
            secret: None,
        };
        let mut new = self.cached_token(cached, reason == LoginReason::Rejected)?;
        // An older one may have been revoked as well.
        new.suspect = reason == LoginReason::Rejected && !is_later;
        let has_secret = secret.is_some();
        let is_proven = self.is_proven(secret).await;
        let serves = match reason {
            LoginReason::Scheduled | LoginReason::Rejected => true,
            LoginReason::Requested => is_later,
            LoginReason::NewSecret => is_proven || self.is_rejected_among(&rejected).await,
        };
        if !serves {
            return None;
        }
        new.other_secret = has_secret && !is_proven;
        if new.other_secret {
            // The replicas with the accepted secret log in before.
            let refresh = schedule::refresh_after(lifetime, self.settings.refresh_at, 0.0);
            new.due = Moment::at(obtained_at + refresh, self.clock);
        }
        self.log_adopted(&new, token.transaction_id.as_deref());
        if let Some(shared) = &self.shared {
            shared.count_adopted();
        }
        Some(self.publish(new))
    }

    /// Returns `true` if Citrix has rejected the configured secrets from another replica.
    async fn is_rejected_among(&mut self, rejected: &[String]) -> bool {
        let snapshot = self.read_secrets().await;
        let configured = SecretSelector::configured(&snapshot);
        let is_rejected = |secret: &Fingerprint| rejected.iter().any(|it| it == secret.as_str());
        let all = !configured.is_empty() && configured.iter().all(is_rejected);
        if all {
            self.secrets.rejected_elsewhere(&snapshot, 1);
        }
        all
    }

    /// Returns the rejection of logins of all replicas for a time.
    fn throttled(&self, reason: LoginReason, wait: Duration) -> CachedRejection {
        let is_counted = self.failures.rate_limited > 0 && reason != LoginReason::Scheduled;
        let failures = if is_counted {
            self.failures
        } else {
            self.failures.with(Outcome::RateLimited)
        };
        let until = self.clock.now() + wait.max(MIN_VERDICT_WAIT);
        CachedRejection {
            secrets: Vec::new(),
            outcome: Outcome::RateLimited,
            failures,
            rejections: 0,
            transaction_id: None,
            until,
            short_until: until,
        }
    }

    fn rejected(&self, verdict: Verdict) -> CachedRejection {
        let now = self.clock.now();
        let mut outcomes = Outcome::ALL.into_iter();
        let outcome = outcomes.find(|outcome| outcome.label() == verdict.outcome);
        let transaction_id = verdict.transaction_id;
        CachedRejection {
            secrets: Vec::new(),
            outcome: outcome.unwrap_or(Outcome::InvalidClient),
            failures: Failures {
                // Another replica may have begun to count later.
                consecutive: verdict.failures.max(self.failures.consecutive),
                rate_limited: 0,
            },
            rejections: verdict.rejections,
            transaction_id: transaction_id.and_then(|id| id.try_into().ok()),
            until: now + verdict.wait.max(MIN_VERDICT_WAIT),
            short_until: now + verdict.short_wait.max(MIN_VERDICT_WAIT),
        }
    }

    /// Defers a login after a 401, because another replica's was too recent.
    fn defer_forced(&mut self, wait: Duration) -> LoginSchedule {
        let mut schedule = self.current_schedule();
        // The store may remove its mark a moment later than this clock.
        let wait = wait.max(MIN_VERDICT_WAIT);
        schedule.due_if_forced = Moment::now(self.clock).after(wait);
        if schedule.due.left(self.clock).is_zero() {
            schedule.due = schedule.due_if_forced;
        }
        self.report_schedule(&schedule);
        schedule
    }

    /// Returns the schedule in force.
    fn current_schedule(&self) -> LoginSchedule {
        let status = self.slot.status();
        let now = Moment::now(self.clock);
        let due = match (status.next_attempt, status.due) {
            (Some(wall), Some(instant)) => Moment { wall, instant },
            _ => now,
        };
        let forced = status.forced_not_before.unwrap_or(now.instant);
        LoginSchedule {
            due,
            due_if_forced: now.after(forced.saturating_duration_since(now.instant)),
        }
    }

    /// Publishes the schedule of a login that was not made.
    fn report_schedule(&self, schedule: &LoginSchedule) {
        let on_old_secret = self.secrets.are_rejected();
        self.slot.update(|status| {
            status.next_attempt = Some(schedule.due.wall);
            status.in_progress = false;
            status.on_old_secret = on_old_secret;
            status.due = Some(schedule.due.instant);
            status.forced_not_before = Some(schedule.due_if_forced.instant);
        });
        self.metrics
            .set_schedule(schedule.due.wall, self.failures.consecutive);
    }

    fn log_adopted(&self, new: &NewToken, transaction_id: Option<&str>) {
        let customer = self.credential.customer();
        info!(
            customer,
            generation = new.token.generation(),
            usable_for_s = new.usable.left(self.clock).as_secs(),
            next_refresh_in_s = new.due.left(self.clock).as_secs(),
            transaction_id,
            "token of another replica adopted"
        );
        if new.other_secret && !self.slot.status().other_secret {
            warn!(
                customer,
                "token of another replica was obtained with a client secret that is not configured here"
            );
        }
    }

    /// Ends the login of this replica; see [`SharedLogins::end`].
    pub(super) async fn end_turn(&mut self, turn: LoginTurn, end: LoginEnd) -> bool {
        match &mut self.shared {
            Some(shared) => shared.end(turn, end).await,
            None => true,
        }
    }

    /// Shares a token that this replica obtained. `rejected` are the configured secrets, if Citrix
    /// rejected them.
    pub(super) async fn share_token(
        &mut self,
        turn: Option<LoginTurn>,
        cached: &CachedToken,
        rejected: Vec<Fingerprint>,
        transaction_id: Option<&str>,
    ) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let rejected = rejected.into_iter().map(Fingerprint::into_text);
        let duration = |from: SystemTime, to: SystemTime| to.duration_since(from);
        let token = SharedToken {
            token: cached.token.clone(),
            lifetime: duration(cached.obtained_at, cached.expires_at).unwrap_or_default(),
            age: duration(cached.obtained_at, self.clock.now()).unwrap_or_default(),
            secret: cached.secret.clone().map(Fingerprint::into_text),
            rejected: rejected.collect(),
            transaction_id: transaction_id.map(ToOwned::to_owned),
        };
        match turn {
            Some(turn) => {
                shared.end(turn, LoginEnd::Token(token)).await;
            }
            None => shared.publish(&token).await,
        }
    }

    /// Shares Citrix's verdict on a failed login; other failures end the lock only. The wait of a 429
    /// is kept if there is no turn, or the store was lost.
    pub(super) async fn share_failure(
        &mut self,
        turn: Option<LoginTurn>,
        error: &LoginError,
        schedule: &LoginSchedule,
    ) {
        let is_shared = match turn {
            Some(turn) => {
                let end = self.failure(error, schedule);
                self.end_turn(turn, end).await
            }
            None => false,
        };
        if error.outcome == Outcome::RateLimited
            && !is_shared
            && let Some(shared) = &mut self.shared
        {
            shared.keep_wait(schedule.due_if_forced, self.clock);
        }
    }

    /// Returns the end of a failed login.
    fn failure(&self, error: &LoginError, schedule: &LoginSchedule) -> LoginEnd {
        let short_wait = schedule.due_if_forced.left(self.clock);
        if error.outcome.rejects_secret() {
            let transaction_id = error.transaction_id.as_ref();
            LoginEnd::Rejected(Verdict {
                outcome: error.outcome.label().to_owned(),
                failures: self.failures.consecutive,
                rejections: self.secrets.rejections().max(1),
                transaction_id: transaction_id.and_then(|id| Some(id.to_str().ok()?.to_owned())),
                wait: schedule.due.left(self.clock),
                short_wait,
            })
        } else if error.outcome == Outcome::RateLimited {
            LoginEnd::Throttled(short_wait)
        } else {
            LoginEnd::Failed
        }
    }

    /// Returns `true` if a 429 requested a wait of which the other replicas do not know.
    pub(super) fn has_unshared_wait(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.has_unshared_wait())
    }

    /// Shares that wait, once the store is there and no other replica logs in.
    pub(super) async fn share_wait(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.share_wait(self.clock).await;
        }
    }

    /// Publishes the token in use.
    async fn publish_current(&mut self) {
        let status = self.slot.status();
        let token = self.slot.usable(Moment::now(self.clock));
        let token = token.filter(|_| !self.slot.is_rejected());
        let (Some(token), Some(obtained_at), Some(expires_at)) =
            (token, status.obtained_at, status.expires_at)
        else {
            return;
        };
        let cached = CachedToken {
            token: token.secret(),
            obtained_at,
            expires_at,
            secret: status.secret.and(self.secrets.accepted_fingerprint()),
        };
        self.share_token(None, &cached, Vec::new(), None).await;
    }
}
