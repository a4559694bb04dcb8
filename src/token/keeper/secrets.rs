//! Selection among a credential's secrets during a rotation, including the last accepted one
//! (contract §1.5).

use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::reader::{ReadSecret, SecretSnapshot};
use crate::system::digest::Sha256;
use crate::token::cache::Fingerprint;
pub(super) use crate::token::status::WhichSecret;

/// Hashes of both configured secrets, which reveal a change; `None` for an unreadable or unset one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SecretHashes {
    current: Option<Sha256>,
    next: Option<Sha256>,
}

impl SecretHashes {
    fn of(snapshot: &SecretSnapshot) -> Self {
        let hashed = |secret: &ReadSecret| secret.as_ref().ok().map(hash);
        Self {
            current: hashed(&snapshot.current),
            next: snapshot.next.as_ref().and_then(hashed),
        }
    }

    const fn get(self, which: WhichSecret) -> Option<Sha256> {
        match which {
            WhichSecret::Current => self.current,
            WhichSecret::Next => self.next,
            WhichSecret::Remembered => None,
        }
    }
}

/// A secret to try.
#[derive(Clone, Debug)]
pub(super) struct SecretCandidate {
    pub(super) which: WhichSecret,
    pub(super) secret: SecretString,
    hash: Sha256,
}

/// The secrets for one login.
#[derive(Debug)]
pub(super) struct Selection {
    /// Distinct secrets in the order to try, at most three.
    pub(super) candidates: Vec<SecretCandidate>,
    /// Cause of an unreadable secret.
    pub(super) problem: Option<String>,
}

/// The secrets that Citrix accepted or rejected.
#[derive(Debug)]
pub(super) struct SecretSelector {
    /// The configured secret to try first: the last accepted one.
    first: WhichSecret,
    /// The configured secrets at the start, or at the last login.
    seen: SecretHashes,
    /// The last accepted secret.
    last_accepted: Option<SecretCandidate>,
    /// The configured secrets when all of them were rejected or unreadable.
    rejected: Option<SecretHashes>,
    /// Consecutive logins in which Citrix rejected every secret tried.
    rejections: u32,
}

impl SecretSelector {
    pub(super) const fn new() -> Self {
        Self {
            first: WhichSecret::Current,
            seen: SecretHashes {
                current: None,
                next: None,
            },
            last_accepted: None,
            rejected: None,
            rejections: 0,
        }
    }

    /// Selects the secrets to try from those just read for a login.
    ///
    /// A changed secret comes first, so that it is proven while the last accepted one is still
    /// available. That one follows the configured secrets, or precedes them once all of them were
    /// rejected. After Citrix rejected every secret, each login tries one of them in turn until
    /// something changes: an invalid secret is not tried too often, and one that becomes valid
    /// later is found.
    pub(super) fn select(&mut self, snapshot: SecretSnapshot) -> Selection {
        let hashes = SecretHashes::of(&snapshot);
        let (mut candidates, problem) = self.readable(snapshot);
        candidates.sort_by_key(|candidate| self.seen.get(candidate.which) == Some(candidate.hash));
        self.seen = hashes;
        let already_rejected = self.rejected == Some(hashes);
        if !already_rejected {
            self.rejections = 0;
        }
        if let Some(last_accepted) = &self.last_accepted
            && candidates
                .iter()
                .all(|other| other.hash != last_accepted.hash)
        {
            let index = if already_rejected {
                0
            } else {
                candidates.len()
            };
            let remembered = SecretCandidate {
                which: WhichSecret::Remembered,
                ..last_accepted.clone()
            };
            candidates.insert(index, remembered);
        }
        if self.rejections > 0 && candidates.len() > 1 {
            let turn = usize::try_from(self.rejections).unwrap_or_default() % candidates.len();
            candidates = vec![candidates.swap_remove(turn)];
        }
        Selection {
            candidates,
            problem,
        }
    }

    /// Returns the distinct readable secrets, the preferred one first, and the cause of an
    /// unreadable one.
    fn readable(&self, snapshot: SecretSnapshot) -> (Vec<SecretCandidate>, Option<String>) {
        let mut problem = None;
        let mut candidates: Vec<SecretCandidate> = Vec::with_capacity(3);
        let mut secrets = [
            (WhichSecret::Current, Some(snapshot.current)),
            (WhichSecret::Next, snapshot.next),
        ];
        if self.first == WhichSecret::Next {
            secrets.reverse();
        }
        for (which, secret) in secrets {
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
                Some(Err(error)) => problem = Some(error),
                None => {}
            }
        }
        (candidates, problem)
    }

    /// Records the secrets at the start, which do not count as changed.
    pub(super) fn set_baseline(&mut self, snapshot: &SecretSnapshot) {
        self.seen = SecretHashes::of(snapshot);
    }

    /// Records that Citrix accepted a secret, which is remembered and tried first from now on.
    pub(super) fn accepted(&mut self, candidate: SecretCandidate, customer: &str) {
        self.rejections = 0;
        if candidate.which == WhichSecret::Remembered {
            self.rejected = Some(self.seen);
            warn!(
                customer,
                "configured client secret rejected or unreadable; using the last accepted one until the process ends"
            );
            return;
        }
        let changed = self
            .last_accepted
            .as_ref()
            .is_some_and(|last_accepted| last_accepted.hash != candidate.hash);
        if candidate.which != self.first || changed || self.rejected.is_some() {
            let secret = candidate.which.key();
            info!(customer, secret, "client secret accepted; trying it first");
        }
        self.first = candidate.which;
        self.rejected = None;
        self.last_accepted = Some(candidate);
    }

    /// Records that Citrix rejected every secret tried.
    pub(super) const fn all_rejected(&mut self) {
        self.rejected = Some(self.seen);
        self.rejections = self.rejections.saturating_add(1);
    }

    /// Returns the fingerprints of the configured secrets just read.
    pub(super) fn configured(snapshot: &SecretSnapshot) -> Vec<Fingerprint> {
        let SecretHashes { current, next } = SecretHashes::of(snapshot);
        let hashes = [current, next.filter(|next| Some(*next) != current)];
        hashes.into_iter().flatten().map(Fingerprint::of).collect()
    }

    /// Returns the fingerprints of all secrets that logins try: those just read, and the last accepted
    /// one.
    pub(super) fn fingerprints(&self, snapshot: &SecretSnapshot) -> Vec<Fingerprint> {
        let SecretHashes { current, next } = SecretHashes::of(snapshot);
        let remembered = self.last_accepted.as_ref().map(|accepted| accepted.hash);
        let mut found: Vec<Sha256> = Vec::with_capacity(3);
        for hash in [current, next, remembered].into_iter().flatten() {
            if !found.contains(&hash) {
                found.push(hash);
            }
        }
        found.into_iter().map(Fingerprint::of).collect()
    }

    /// Returns the fingerprint of the last accepted secret.
    pub(super) fn accepted_fingerprint(&self) -> Option<Fingerprint> {
        let accepted = self.last_accepted.as_ref()?;
        Some(Fingerprint::of(accepted.hash))
    }

    /// Returns `true` if the last accepted secret is one of these.
    pub(super) fn has_accepted(&self, secrets: &[Fingerprint]) -> bool {
        let accepted = self.accepted_fingerprint();
        accepted.is_some_and(|accepted| secrets.contains(&accepted))
    }

    /// Records that Citrix accepted one of the secrets just read from a sibling. Returns `false` if
    /// it is another one.
    pub(super) fn accepted_elsewhere(
        &mut self,
        accepted: &Fingerprint,
        snapshot: &SecretSnapshot,
        customer: &str,
    ) -> bool {
        let secrets = [
            (WhichSecret::Current, Some(&snapshot.current)),
            (WhichSecret::Next, snapshot.next.as_ref()),
        ];
        let candidate = secrets.into_iter().find_map(|(which, secret)| {
            let secret = secret?.as_ref().ok()?.clone();
            let hash = hash(&secret);
            (Fingerprint::of(hash) == *accepted).then_some(SecretCandidate {
                which,
                secret,
                hash,
            })
        });
        let Some(candidate) = candidate else {
            return false;
        };
        // The other one may have changed as well, and is still to be tried.
        match candidate.which {
            WhichSecret::Current => self.seen.current = Some(candidate.hash),
            WhichSecret::Next => self.seen.next = Some(candidate.hash),
            WhichSecret::Remembered => {}
        }
        self.accepted(candidate, customer);
        true
    }

    /// Records that Citrix rejected the secrets just read from a sibling, in as many consecutive
    /// logins.
    pub(super) fn rejected_elsewhere(&mut self, snapshot: &SecretSnapshot, rejections: u32) {
        self.seen = SecretHashes::of(snapshot);
        self.rejected = Some(self.seen);
        self.rejections = rejections;
    }

    /// Returns the number of consecutive logins in which Citrix rejected every secret tried.
    pub(super) const fn rejections(&self) -> u32 {
        self.rejections
    }

    /// Returns `true` if all configured secrets were rejected or unreadable at the last login.
    pub(super) const fn are_rejected(&self) -> bool {
        self.rejected.is_some()
    }

    /// Returns `true` if a secret differs from the start or the last login. A removed secret is not
    /// a change, because its file may be about to be rewritten.
    pub(super) fn have_changed(&self, snapshot: &SecretSnapshot) -> bool {
        let now = SecretHashes::of(snapshot);
        [WhichSecret::Current, WhichSecret::Next]
            .into_iter()
            .any(|which| now.get(which).is_some() && now.get(which) != self.seen.get(which))
    }
}

fn hash(secret: &SecretString) -> Sha256 {
    Sha256::of(secret.expose_secret().as_bytes())
}
