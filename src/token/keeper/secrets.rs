//! The one or two secrets of a credential, which of them to try, and the one that is known to work (contract 1.5).

use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::reader::{SecretSnapshot, SecretSources, Seen};
use crate::system::digest::Sha256;
pub(super) use crate::token::status::WhichSecret;

impl WhichSecret {
    const fn key(self) -> &'static str {
        match self {
            Self::Current => "client_secret",
            Self::Next => "client_secret_next",
            Self::Remembered => "the one that worked last",
        }
    }
}

/// What both secrets were: enough to see a change, and not the secrets. `None` for one that cannot be read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    current: Option<Sha256>,
    next: Option<Sha256>,
}

impl Fingerprint {
    fn of_look(look: &SecretSnapshot) -> Self {
        let of = |seen: &Seen| seen.as_ref().ok().map(hash);
        Self {
            current: of(&look.current),
            next: look.next.as_ref().and_then(of),
        }
    }

    const fn of(self, which: WhichSecret) -> Option<Sha256> {
        match which {
            WhichSecret::Current => self.current,
            WhichSecret::Next => self.next,
            WhichSecret::Remembered => None,
        }
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// A secret to log in with.
#[derive(Clone)]
pub(super) struct SecretCandidate {
    pub(super) which: WhichSecret,
    pub(super) secret: SecretString,
    hash: Sha256,
}

impl std::fmt::Debug for SecretCandidate {
    /// Without the hash: a weak secret can be guessed from it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretCandidate").field(&self.which).finish()
    }
}

/// The secrets as they are at this moment.
#[derive(Debug)]
pub(super) struct Selection {
    /// What to try, in this order; at most three, and never the same twice.
    pub(super) candidates: Vec<SecretCandidate>,
    /// Why one could not be read.
    pub(super) problem: Option<String>,
}

/// Where the secrets are, and what became of them.
#[derive(Debug)]
pub(super) struct SecretSelector {
    sources: SecretSources,
    /// The configured one to try first: the one that worked last.
    first: WhichSecret,
    /// What was configured at the start, or when the secrets were last read for a login.
    seen: Fingerprint,
    /// The secret that worked last. Dropping it wipes it.
    proven: Option<SecretCandidate>,
    /// What was configured when all of it was refused, or could not be read.
    refused: Option<Fingerprint>,
    /// Logins in a row in which Citrix refused all that was tried.
    turns: usize,
}

impl SecretSelector {
    pub(super) const fn new(sources: SecretSources) -> Self {
        let seen = Fingerprint {
            current: None,
            next: None,
        };
        Self {
            sources,
            first: WhichSecret::Current,
            seen,
            proven: None,
            refused: None,
            turns: 0,
        }
    }

    /// Where they are.
    pub(super) const fn sources(&self) -> &SecretSources {
        &self.sources
    }

    /// They come from elsewhere from now on. The one that worked last is still remembered.
    pub(super) fn come_from(&mut self, sources: SecretSources) {
        self.sources = sources;
    }

    /// What to try of those that a look for this login found, for they may have been rotated since the last.
    ///
    /// A secret that changed comes first, so that it is proven while the one that worked is still at hand; that one
    /// is tried after what is configured, or before it once all of that was refused. When Citrix refused
    /// everything they take turns, one a login, until something changes: a dead secret is not hammered, and one
    /// that becomes valid later is found all the same.
    pub(super) fn read(&mut self, look: SecretSnapshot) -> Selection {
        let mut problem = None;
        let mut candidates: Vec<SecretCandidate> = Vec::with_capacity(3);
        let fingerprint = Fingerprint::of_look(&look);
        let mut seen = [
            (WhichSecret::Current, Some(look.current)),
            (WhichSecret::Next, look.next),
        ];
        if self.first == WhichSecret::Next {
            seen.reverse();
        }
        for (which, secret) in seen {
            match secret {
                Some(Ok(secret)) => {
                    let hash = hash(&secret);
                    if candidates.iter().all(|other| other.hash != hash) {
                        candidates.push(SecretCandidate {
                            which,
                            secret,
                            hash,
                        });
                    }
                }
                Some(Err(error)) => {
                    warn!(secret = which.key(), %error, "a client secret cannot be read");
                    problem = Some(error);
                }
                None => {}
            }
        }
        candidates.sort_by_key(|candidate| self.seen.of(candidate.which) == Some(candidate.hash));
        self.seen = fingerprint;
        if self.refused != Some(fingerprint) {
            self.turns = 0;
        }
        if let Some(proven) = self
            .proven
            .as_ref()
            .filter(|proven| proven.is_none_of(&candidates))
        {
            let at = if self.refused == Some(fingerprint) {
                0
            } else {
                candidates.len()
            };
            candidates.insert(
                at,
                SecretCandidate {
                    which: WhichSecret::Remembered,
                    ..proven.clone()
                },
            );
        }
        if self.turns > 0 && candidates.len() > 1 {
            candidates = vec![candidates.swap_remove(self.turns % candidates.len())];
        }
        Selection {
            candidates,
            problem,
        }
    }

    /// Takes what is there now as known: at the start no secret is news, and with a token of the cache there is no
    /// login to be made.
    pub(super) fn saw(&mut self, look: &SecretSnapshot) {
        self.seen = Fingerprint::of_look(look);
    }

    /// Citrix took this one: it is remembered, and the first to be tried from now on.
    pub(super) fn worked(&mut self, candidate: SecretCandidate, customer: &str) {
        self.turns = 0;
        if candidate.which == WhichSecret::Remembered {
            self.refused = Some(self.seen);
            warn!(
                customer,
                "the configured client secret is refused or cannot be read; the one that worked last is still used, \
                 but is lost when the program ends"
            );
            return;
        }
        let changed = self
            .proven
            .as_ref()
            .is_some_and(|proven| proven.hash != candidate.hash);
        if candidate.which != self.first || changed || self.refused.is_some() {
            let secret = candidate.which.key();
            info!(
                customer,
                secret, "this secret works and is tried first from now on"
            );
        }
        self.first = candidate.which;
        self.refused = None;
        self.proven = Some(candidate);
    }

    /// Citrix took none.
    pub(super) const fn all_rejected(&mut self) {
        self.refused = Some(self.seen);
        self.turns = self.turns.saturating_add(1);
    }

    /// Whether all that is configured was refused, or cannot be read: a login that works has the remembered one.
    pub(super) const fn are_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether there is a secret now that was not there at the start, or when they were last read for a login. One
    /// that is gone is no reason to log in: its file may be about to be written.
    pub(super) fn are_news(&self, look: &SecretSnapshot) -> bool {
        let now = Fingerprint::of_look(look);
        [WhichSecret::Current, WhichSecret::Next]
            .into_iter()
            .any(|which| now.of(which).is_some() && now.of(which) != self.seen.of(which))
    }
}

impl SecretCandidate {
    fn is_none_of(&self, candidates: &[Self]) -> bool {
        candidates
            .iter()
            .all(|candidate| candidate.hash != self.hash)
    }
}

fn hash(secret: &SecretString) -> Sha256 {
    Sha256::of(secret.expose_secret().as_bytes())
}
