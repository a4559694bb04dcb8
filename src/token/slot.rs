//! Where the data path finds the token.
//!
//! Reading it is one atomic load. Everything else here is for the rare moments without a token that may be
//! sent: waiting for one, telling the keeper that Citrix refused one, and saying why there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::outcome::Outcome;
use super::status::TokenStatus;
use crate::limit::permits::PermitCounter;
use crate::system::clock::Clock;
use citrix_wire::citrix::AuthorizationScheme;

/// A token as it is sent: ready-made header values, marked sensitive so that nothing prints or indexes them.
#[derive(Debug)]
pub struct Token {
    generation: u64,
    cws: HeaderValue,
    bearer: HeaderValue,
    usable_until: SystemTime,
}

impl Token {
    /// Writes a token out in both schemes.
    ///
    /// # Errors
    /// When it holds a byte that no header may carry.
    pub fn new(
        generation: u64,
        token: &SecretString,
        usable_until: SystemTime,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            generation,
            cws: AuthorizationScheme::Cws.header_value(token.expose_secret())?,
            bearer: AuthorizationScheme::Bearer.header_value(token.expose_secret())?,
            usable_until,
        })
    }

    /// The token's number, counted from 1; what [`TokenSlot::report_rejected`] wants back.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The value of `Authorization` (contract 2).
    pub const fn authorization(&self, scheme: AuthorizationScheme) -> &HeaderValue {
        match scheme {
            AuthorizationScheme::Cws => &self.cws,
            AuthorizationScheme::Bearer => &self.bearer,
        }
    }

    /// Whether a header value holds the token, in whatever scheme.
    pub fn occurs_in(&self, value: &[u8]) -> bool {
        let bearer = self.bearer.as_bytes();
        let token = bearer.strip_prefix(b"Bearer ").unwrap_or(bearer);
        // Tokens are far longer than nearly all header values.
        value.len() >= token.len() && value.windows(token.len()).any(|part| part == token)
    }

    /// Until when it may be sent: a little before it dies at Citrix.
    pub const fn usable_until(&self) -> SystemTime {
        self.usable_until
    }

    /// Whether it may be sent at `now`.
    pub fn is_usable(&self, now: SystemTime) -> bool {
        now < self.usable_until
    }
}

/// Why there is no token to send, for a 503 that says when to come back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// When the next login is due, from now on; at least a second.
    pub retry_after: Duration,
    /// The transaction id of the failed login, to be shown to Citrix's support.
    pub transaction_id: Option<HeaderValue>,
    /// How the last login failed; `None` while the first is being made.
    pub outcome: Option<Outcome>,
    /// One sentence for the caller. It holds nothing secret and nothing that the token endpoint wrote.
    pub reason: String,
}

/// What comes of a token that Citrix refused with a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedRefresh {
    /// There is a newer token by now.
    Replaced,
    /// A login is being made or about to begin: [`TokenSlot::wait_newer`] waits for it.
    InProgress,
    /// A login will be made, but only after this time, for the last one that a 401 asked for is too recent or
    /// the token endpoint is being left alone. Hand the 401 on.
    Deferred(Duration),
}

/// One credential's token. The keeper writes, everybody else reads, on whatever thread and runtime.
#[derive(Debug, Default)]
pub struct TokenSlot {
    token: ArcSwapOption<Token>,
    /// Changes after the token did, so that who sees the change sees the token.
    status: watch::Sender<TokenStatus>,
    /// The newest generation that Citrix answered 401 to; 0 for none.
    refused: AtomicU64,
    /// Told when a token is refused, and when an operator asks for a login.
    refusal: Notify,
    waiting: Arc<PermitCounter>,
}

impl TokenSlot {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that holds a token from the start: a warm restart, or a test.
    pub fn holding(token: Token) -> Self {
        let slot = Self::new();
        let (generation, usable_until) = (token.generation, token.usable_until);
        slot.publish(token, |status| {
            status.generation = generation;
            status.usable_until = Some(usable_until);
        });
        slot
    }

    /// The token, usable or not: one atomic load and no reference counted. To keep it, clone the `Arc`.
    pub fn current(&self) -> Guard<Option<Arc<Token>>> {
        self.token.load()
    }

    /// The token, if there is one that may be sent at `now`. This is the call of the data path: one atomic load
    /// and a comparison, and never a token beyond its life.
    pub fn usable(&self, now: SystemTime) -> Option<Arc<Token>> {
        self.token.load_full().filter(|token| token.is_usable(now))
    }

    /// The places for those who wait for a token.
    pub const fn waiting(&self) -> &Arc<PermitCounter> {
        &self.waiting
    }

    /// A snapshot of what is known.
    pub fn status(&self) -> TokenStatus {
        self.status.borrow().clone()
    }

    /// The token, waiting up to `timeout` for one that may be sent. A login that fails meanwhile does not end the
    /// wait, for the next may come in time.
    ///
    /// # Errors
    /// When there was none in all that time.
    pub async fn wait_usable(
        &self,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Arc<Token>, Unavailable> {
        // Without a timer where there is nothing to wait for.
        if let Some(token) = self.usable(clock.now()) {
            return Ok(token);
        }
        self.wait(timeout, || self.usable(clock.now()), |_| false)
            .await
    }

    /// The token that replaces `generation`, waiting up to `timeout` for the login that [`TokenSlot::report_rejected`] asked
    /// for.
    ///
    /// # Errors
    /// As soon as that login failed, and when it was not done in time.
    pub async fn wait_newer(
        &self,
        generation: u64,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Arc<Token>, Unavailable> {
        let newer = || {
            self.usable(clock.now())
                .filter(|token| token.generation > generation)
        };
        self.wait(timeout, newer, |status| {
            status.consecutive_failures > 0 && !status.in_progress && deferral(status).is_some()
        })
        .await
    }

    async fn wait(
        &self,
        timeout: Duration,
        ready: impl Fn() -> Option<Arc<Token>>,
        hopeless: impl Fn(&TokenStatus) -> bool,
    ) -> Result<Arc<Token>, Unavailable> {
        let mut changes = self.status.subscribe();
        let arrival = async {
            loop {
                let given_up = hopeless(&changes.borrow_and_update());
                if let Some(token) = ready() {
                    return Some(token);
                }
                // The sender lives as long as `self`, so an error cannot come; it would be hopeless too.
                if given_up || changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(timeout, arrival).await {
            Ok(Some(token)) => Ok(token),
            Ok(None) | Err(_) => Err(self.unavailable()),
        }
    }

    /// Tells that Citrix answered 401 to this generation, and asks for one login, however many requests met it.
    pub fn report_rejected(&self, generation: u64) -> ForcedRefresh {
        let newest = self.generation();
        if newest > generation {
            return ForcedRefresh::Replaced;
        }
        // A number that was never given out must not condemn the tokens to come.
        let generation = generation.min(newest);
        // Looked at before the keeper is told: the login may be over before this thread goes on.
        let deferred = {
            let status = self.status.borrow();
            if status.in_progress {
                None
            } else {
                deferral(&status)
            }
        };
        // Told once; the keeper is not woken by each of a thousand requests.
        if self.refused.fetch_max(generation, Ordering::AcqRel) < generation {
            self.refusal.notify_one();
        }
        match deferred {
            _ if self.generation() > generation => ForcedRefresh::Replaced,
            Some(after) => ForcedRefresh::Deferred(after),
            None => ForcedRefresh::InProgress,
        }
    }

    /// The newest token whose refusal shows nothing new once `generation` was refused, to be asked before
    /// [`TokenSlot::report_rejected`]. A login that is being made may have begun before tokens were revoked, and what it brings
    /// be as dead.
    pub fn last_suspect(&self, generation: u64) -> u64 {
        let status = self.status.borrow();
        if status.in_progress && !status.after_refusal {
            generation + 1
        } else {
            generation
        }
    }

    /// Asks for a login now, whatever the token is like; one that is being made will do. [`TokenSlot::wait_newer`] waits
    /// for it.
    ///
    /// # Errors
    /// With the time to wait, when the last login that was asked for is too recent or the token endpoint is being
    /// left alone. Nothing is asked for then.
    pub fn request_login(&self) -> Result<(), Duration> {
        let mut answer = Ok(());
        self.status.send_if_modified(|status| {
            match deferral(status) {
                _ if status.in_progress => {}
                Some(after) => answer = Err(after),
                None => status.asked = true,
            }
            // What changed is for the keeper alone.
            false
        });
        if answer.is_ok() {
            self.refusal.notify_one();
        }
        answer
    }

    /// Why there is no token, as things stand.
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
                        "There is no usable Citrix token: the last login failed ({}).",
                        failure.outcome
                    )
                }
                None => {
                    "There is no usable Citrix token yet: the login is not finished.".to_owned()
                }
            },
        }
    }

    /// The newest token's number; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.token
            .load()
            .as_ref()
            .map_or(0, |token| token.generation)
    }

    /// Whether Citrix refused the newest token.
    pub(super) fn is_refused(&self) -> bool {
        let generation = self.generation();
        generation > 0 && self.refused.load(Ordering::Acquire) >= generation
    }

    /// Whether a login is wanted before its time, by a 401 or by an operator.
    pub(super) fn wants_login(&self) -> bool {
        self.is_refused() || self.status.borrow().asked
    }

    /// Tells that a login begins; whether an operator asked for it.
    pub(super) fn begin_login(&self) -> bool {
        let mut asked = false;
        self.update(|status| {
            status.in_progress = true;
            status.after_refusal = self.is_refused();
            asked = std::mem::take(&mut status.asked);
        });
        asked
    }

    /// Comes back when a login is wanted before its time, at once if that happened since the last call.
    pub(super) async fn refusal(&self) {
        self.refusal.notified().await;
    }

    /// Puts a new token in place and tells everybody.
    pub(super) fn publish(&self, token: Token, describe: impl FnOnce(&mut TokenStatus)) {
        self.token.store(Some(Arc::new(token)));
        self.update(describe);
    }

    /// Changes what is known.
    pub(super) fn update(&self, change: impl FnOnce(&mut TokenStatus)) {
        self.status.send_modify(change);
    }

    /// Makes the present token unusable, whatever its date says. For a clock that was set back: the date lies ahead
    /// again, but the life is over.
    pub(super) fn retire(&self, now: SystemTime) {
        if let Some(token) = self.token.load_full() {
            self.token.store(Some(Arc::new(Token {
                generation: token.generation,
                cws: token.cws.clone(),
                bearer: token.bearer.clone(),
                usable_until: SystemTime::UNIX_EPOCH,
            })));
            self.update(|status| status.usable_until = Some(now));
        }
    }
}

/// How long it takes until a 401 or an operator may lead to a login; `None` if they may already.
fn deferral(status: &TokenStatus) -> Option<Duration> {
    let left = status
        .forced_not_before?
        .saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests;
