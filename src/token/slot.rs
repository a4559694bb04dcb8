//! The current token of one credential, shared between its keeper and the data path.
//!
//! A request reads it with one atomic load. Waiting for a token, reporting a 401 to the keeper and
//! explaining why there is no token happen off this fast path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::acceptance::{Acceptance, Rejection};
use super::events::TokenEvents;
use super::outcome::Outcome;
use super::status::TokenStatus;
use crate::limit::owner::QueueSlots;
use crate::system::clock::Clock;
use crate::system::moment::Moment;
use citrix_wire::citrix::AuthorizationScheme;

/// A token as `Authorization` values, marked sensitive so that they are neither printed nor indexed
/// by HPACK.
#[derive(Clone, Debug)]
pub struct Token {
    generation: u64,
    cws: HeaderValue,
    /// Built at first use: few services need it, and a token has 2 KB.
    bearer: OnceLock<HeaderValue>,
    usable_until: Moment,
}

/// The scheme before the token in [`Token::cws`].
const SCHEME: &[u8] = b"CwsAuth Bearer=";

impl Token {
    /// Builds the value of `CwsAuth`.
    ///
    /// # Errors
    /// If the token contains a byte that is invalid in a header value.
    pub fn new(
        generation: u64,
        token: &SecretString,
        usable_until: Moment,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            generation,
            cws: AuthorizationScheme::Cws.header_value(token.expose_secret())?,
            bearer: OnceLock::new(),
            usable_until,
        })
    }

    /// Returns the token's number, counted from 1, as [`TokenSlot::report_rejected`] expects it.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the value of `Authorization` (contract §2).
    pub fn authorization(&self, scheme: AuthorizationScheme) -> &HeaderValue {
        match scheme {
            AuthorizationScheme::Cws => &self.cws,
            AuthorizationScheme::Bearer => self.bearer.get_or_init(|| {
                let token = str::from_utf8(self.text()).unwrap_or_default();
                // The token is text and valid in a value; the fallback is never reached.
                let value = scheme.header_value(token);
                value.unwrap_or_else(|_| self.cws.clone())
            }),
        }
    }

    fn text(&self) -> &[u8] {
        let cws = self.cws.as_bytes();
        cws.strip_prefix(SCHEME).unwrap_or(cws)
    }

    /// Returns `true` if this is the token with this text.
    pub(super) fn is(&self, token: &SecretString) -> bool {
        self.text() == token.expose_secret().as_bytes()
    }

    /// Returns the token's text.
    pub(super) fn secret(&self) -> SecretString {
        // A token is visible ASCII.
        SecretString::from(str::from_utf8(self.text()).unwrap_or_default())
    }

    /// Returns `true` if a header value contains the token, in any scheme.
    pub fn occurs_in(&self, value: &[u8]) -> bool {
        // Nearly all header values are shorter than a token.
        if value.len() + SCHEME.len() < self.cws.len() {
            return false;
        }
        let token = self.text();
        value.windows(token.len()).any(|part| part == token)
    }

    /// Returns the end of the period in which the token is sent, shortly before it expires at
    /// Citrix.
    pub const fn usable_until(&self) -> Moment {
        self.usable_until
    }

    /// Returns `true` if the token may be sent at `now`.
    pub fn is_usable(&self, now: Moment) -> bool {
        !self.usable_until.is_reached(now)
    }
}

/// The lack of a usable token, as a 503 with `Retry-After` reports it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// Time until the next login, at least 1 s.
    pub retry_after: Duration,
    /// Citrix's transaction id of the failed login.
    pub transaction_id: Option<HeaderValue>,
    /// Outcome of the last login if it failed; `None` while the first login is in progress.
    pub outcome: Option<Outcome>,
    /// One clause for the caller, without secrets and without text of the token endpoint.
    pub reason: String,
}

/// The keeper's reaction to a token that Citrix rejected with 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedRefresh {
    /// A newer token is already published.
    Replaced,
    /// A login is in progress or about to start; [`TokenSlot::wait_newer`] waits for it.
    InProgress,
    /// A login follows after this time, because of `token.min_forced_interval` or the backoff after
    /// a failed login. The 401 is passed to the caller.
    Deferred(Duration),
}

/// One credential's token and its status. The keeper writes; any thread and runtime may read.
#[derive(Debug, Default)]
pub struct TokenSlot {
    token: ArcSwapOption<Token>,
    /// Updated after `token`, so that a reader that sees the new status also sees the new token.
    status: watch::Sender<TokenStatus>,
    /// The newest generation that Citrix rejected with 401; 0 for none.
    rejected: AtomicU64,
    /// Notified on a rejected token and on a login that an operator requests.
    login_wanted: Notify,
    waiting: QueueSlots,
    acceptance: Acceptance,
    events: TokenEvents,
}

impl TokenSlot {
    /// Returns an empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a slot that already holds a token.
    #[cfg(test)]
    pub(crate) fn holding(token: Token) -> Self {
        let slot = Self::new();
        let (generation, usable_until) = (token.generation, token.usable_until);
        slot.publish(token, |status| {
            status.generation = generation;
            status.usable_until = Some(usable_until.wall);
        });
        slot
    }

    /// Returns the token, usable or not, with one atomic load and without counting a reference.
    pub fn current(&self) -> Guard<Option<Arc<Token>>> {
        self.token.load()
    }

    /// Returns the token if it may be sent at `now`, never an expired one.
    pub fn usable(&self, now: Moment) -> Option<Arc<Token>> {
        self.token.load_full().filter(|token| token.is_usable(now))
    }

    /// Returns the end of the token, unless it was withdrawn.
    pub(super) fn ends(&self) -> Option<Moment> {
        let token = self.current().as_ref()?.usable_until;
        self.status.borrow().usable_until.map(|_| token)
    }

    /// Returns the rest of the period in which the newest token is sent.
    pub(super) fn usable_for(&self, clock: Clock) -> Option<Duration> {
        let left = self.current().as_ref()?.usable_until.left(clock);
        (!left.is_zero()).then_some(left)
    }

    /// Returns the slots of the requests that wait for this credential's token.
    pub const fn waiting(&self) -> &QueueSlots {
        &self.waiting
    }

    /// Returns whether Citrix accepts requests with this credential's tokens.
    pub const fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Returns the last logins, failures and 401s.
    pub const fn events(&self) -> &TokenEvents {
        &self.events
    }

    /// Returns the requests that Citrix rejected since the last success, if it rejects the customer.
    pub fn rejection(&self) -> Option<Rejection> {
        self.acceptance.rejection(self.is_revoked())
    }

    /// Returns `true` if Citrix rejected the newest token with 401, and the last login as well: the
    /// API client was revoked or its secret replaced.
    fn is_revoked(&self) -> bool {
        let status = self.status.borrow();
        let failure = status.current_failure();
        failure.is_some_and(|failure| failure.outcome.rejects_secret()) && self.is_rejected()
    }

    /// Returns a snapshot of the status.
    pub fn status(&self) -> TokenStatus {
        self.status.borrow().clone()
    }

    /// Follows the status.
    pub(super) fn changes(&self) -> watch::Receiver<TokenStatus> {
        self.status.subscribe()
    }

    /// Waits up to `timeout` for a usable token, as long as a login may provide one in time:
    /// [`TokenStatus::may_recover_within`].
    ///
    /// # Errors
    /// If no token is usable within `timeout`; at once if no login may provide one.
    pub async fn wait_usable(
        &self,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Arc<Token>, Unavailable> {
        // The common case needs no timer.
        if let Some(token) = self.usable(Moment::now(clock)) {
            return Ok(token);
        }
        // The machine may have been suspended beyond the next login, for which its keeper still sleeps.
        self.login_wanted.notify_one();
        let end = Instant::now() + timeout;
        let hopeless = |status: &TokenStatus| {
            !status.may_recover_within(end.saturating_duration_since(Instant::now()))
        };
        self.wait(timeout, || self.usable(Moment::now(clock)), hopeless)
            .await
    }

    /// Waits up to `timeout` for a token newer than `generation`, after
    /// [`TokenSlot::report_rejected`] or [`TokenSlot::request_login`].
    ///
    /// # Errors
    /// As soon as the login fails or is deferred, or if it takes longer than `timeout`.
    pub async fn wait_newer(
        &self,
        generation: u64,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Arc<Token>, Unavailable> {
        let newer = || {
            self.usable(Moment::now(clock))
                .filter(|token| token.generation > generation)
        };
        self.wait(timeout, newer, |status| {
            !status.in_progress && deferral(status).is_some()
        })
        .await
    }

    async fn wait(
        &self,
        timeout: Duration,
        ready: impl Fn() -> Option<Arc<Token>>,
        failed: impl Fn(&TokenStatus) -> bool,
    ) -> Result<Arc<Token>, Unavailable> {
        let mut changes = self.status.subscribe();
        let arrival = async {
            loop {
                // Read before the token: a token published later still wakes this task.
                let failed = failed(&changes.borrow_and_update());
                if let Some(token) = ready() {
                    return Some(token);
                }
                // `changed` fails only without a sender, which `self` holds.
                if failed || changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(timeout, arrival).await {
            Ok(Some(token)) => Ok(token),
            // A wall clock set back makes a token usable again without a change.
            Ok(None) | Err(_) => ready().ok_or_else(|| self.unavailable()),
        }
    }

    /// Reports that Citrix rejected this generation with 401. However many requests report it, one
    /// login follows.
    pub fn report_rejected(&self, generation: u64) -> ForcedRefresh {
        let newest = self.generation();
        if newest > generation {
            return ForcedRefresh::Replaced;
        }
        // A generation that was never issued must not reject future tokens.
        let generation = generation.min(newest);
        // Evaluated before the keeper is woken, which may finish the login before this thread
        // continues.
        let deferred = {
            let status = self.status.borrow();
            if status.in_progress {
                None
            } else {
                deferral(&status)
            }
        };
        // Wakes the keeper once per generation, not once per request.
        if self.rejected.fetch_max(generation, Ordering::AcqRel) < generation {
            self.login_wanted.notify_one();
        }
        match deferred {
            _ if self.generation() > generation => ForcedRefresh::Replaced,
            Some(after) => ForcedRefresh::Deferred(after),
            None => ForcedRefresh::InProgress,
        }
    }

    /// Returns the generation to which the rejection of `generation` belongs: that of an older token
    /// of a sibling's, which replaced a rejected one, proves no more than the first.
    pub(super) fn first_suspect(&self, generation: u64) -> u64 {
        let status = self.status.borrow();
        let suspect = status
            .suspect_since
            .filter(|_| status.generation == generation);
        suspect.unwrap_or(generation)
    }

    /// Returns the newest generation that may have been revoked together with `generation`. To be
    /// called before [`TokenSlot::report_rejected`]: a login in progress may have started before
    /// tokens were revoked, so that the token it obtains is invalid as well.
    pub fn last_suspect(&self, generation: u64) -> u64 {
        let status = self.status.borrow();
        if status.in_progress && !status.started_after_rejection {
            generation + 1
        } else {
            generation
        }
    }

    /// Requests a login for an operator, whatever the state of the token. A login in progress
    /// counts.
    ///
    /// # Errors
    /// Rejects the request with the remaining wait within `token.min_forced_interval` and during
    /// the backoff after a failed login.
    pub fn request_login(&self) -> Result<(), Duration> {
        let mut result = Ok(());
        self.status.send_if_modified(|status| {
            match deferral(status) {
                _ if status.in_progress => {}
                Some(after) => result = Err(after),
                None => status.login_requested = true,
            }
            // Only the keeper reads this field, and `login_wanted` wakes it.
            false
        });
        if result.is_ok() {
            self.login_wanted.notify_one();
        }
        result
    }

    /// Returns the reason for the lack of a usable token.
    pub fn unavailable(&self) -> Unavailable {
        let status = self.status.borrow();
        let failure = status.current_failure();
        Unavailable {
            retry_after: status.next_login_in().max(Duration::from_secs(1)),
            transaction_id: failure.and_then(|failure| failure.transaction_id.clone()),
            outcome: failure.map(|failure| failure.outcome),
            reason: match failure {
                Some(failure) => {
                    format!(
                        "no usable token: the last login failed ({})",
                        failure.outcome
                    )
                }
                None => "no usable token: the login is in progress".to_owned(),
            },
        }
    }

    /// Returns the number of the newest token; 0 before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.token
            .load()
            .as_ref()
            .map_or(0, |token| token.generation)
    }

    /// Returns `true` if Citrix rejected the newest token with 401.
    pub(super) fn is_rejected(&self) -> bool {
        let generation = self.generation();
        generation > 0 && self.rejected.load(Ordering::Acquire) >= generation
    }

    /// Returns `true` if a 401 or an operator requires a login before the scheduled one.
    pub(super) fn wants_login(&self) -> bool {
        self.is_rejected() || self.status.borrow().login_requested
    }

    /// Marks a login as in progress. Returns `true` if an operator requested it.
    pub(super) fn begin_login(&self) -> bool {
        let mut requested = false;
        self.update(|status| {
            status.in_progress = true;
            status.started_after_rejection = self.is_rejected();
            requested = std::mem::take(&mut status.login_requested);
        });
        requested
    }

    /// Waits until a login is required before the scheduled one; returns at once if that happened
    /// since the last call.
    pub(super) async fn login_wanted(&self) {
        self.login_wanted.notified().await;
    }

    /// Publishes a new token, then its status.
    pub(super) fn publish(&self, token: Token, describe: impl FnOnce(&mut TokenStatus)) {
        self.token.store(Some(Arc::new(token)));
        self.update(describe);
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut TokenStatus)) {
        self.status.send_modify(change);
    }

    /// Withdraws the current token at its end from the status. Requests compare its end themselves.
    pub(super) fn withdraw(&self) {
        self.update(|status| status.usable_until = None);
    }
}

/// Returns the time until a 401 or an operator may trigger a login; `None` if they may do so
/// already.
fn deferral(status: &TokenStatus) -> Option<Duration> {
    let left = status
        .forced_not_before?
        .saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests;
