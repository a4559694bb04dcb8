//! The one or two secrets of a credential, and which of them to try (contract 1.5).

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::config::SecretSource;

/// One of the two secrets of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    Next,
}

impl Which {
    const fn key(self) -> &'static str {
        match self {
            Self::Current => "client_secret",
            Self::Next => "client_secret_next",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Current => Self::Next,
            Self::Next => Self::Current,
        }
    }
}

/// What both secrets were: enough to see a change, and not the secrets. `None` for one that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([Option<[u8; 32]>; 2]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// A secret to log in with.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) which: Which,
    pub(super) secret: SecretString,
}

/// The secrets as they are at this moment.
#[derive(Debug)]
pub(super) struct Reading {
    /// What to try, in this order; at most two, and never the same twice.
    pub(super) candidates: Vec<Candidate>,
    pub(super) fingerprint: Fingerprint,
    /// Why one could not be read.
    pub(super) problem: Option<String>,
}

/// Where the secrets are, and what became of them.
#[derive(Debug)]
pub(super) struct Secrets {
    current: SecretSource,
    next: Option<SecretSource>,
    /// The one to try first: the one that worked last.
    first: Which,
    /// The secrets of the login in which Citrix refused all there were.
    rejected: Option<Fingerprint>,
}

impl Secrets {
    pub(super) const fn new(current: SecretSource, next: Option<SecretSource>) -> Self {
        Self { current, next, first: Which::Current, rejected: None }
    }

    /// Reads them anew, for they may have been rotated since.
    ///
    /// Once Citrix refused both they take turns, one a login, until either changes: a dead secret is not
    /// hammered, and one that becomes valid later is found all the same.
    pub(super) fn read(&mut self) -> Reading {
        let (mut candidates, mut fingerprint, mut problem) = (Vec::new(), Fingerprint([None; 2]), None);
        for which in [self.first, self.first.other()] {
            match self.source(which).map(SecretSource::read) {
                Some(Ok(secret)) => {
                    fingerprint.0[which as usize] = Some(hash(&secret));
                    candidates.push(Candidate { which, secret });
                }
                Some(Err(error)) => {
                    warn!(secret = which.key(), %error, "a client secret cannot be read");
                    problem = Some(error.to_string());
                }
                None => {}
            }
        }
        if fingerprint.0[0] == fingerprint.0[1] {
            candidates.truncate(1);
        }
        if self.rejected == Some(fingerprint) && candidates.len() == 2 {
            self.first = self.first.other();
            candidates.swap(0, 1);
            candidates.truncate(1);
        }
        Reading { candidates, fingerprint, problem }
    }

    /// What the secrets are now.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let of = |which| self.source(which)?.read().ok().as_ref().map(hash);
        Fingerprint([of(Which::Current), of(Which::Next)])
    }

    /// Citrix took this one: it is the first to be tried from now on.
    pub(super) fn worked(&mut self, which: Which, customer: &str) {
        if which != self.first || (self.rejected.is_some() && self.next.is_some()) {
            info!(customer, secret = which.key(), "this secret works and is tried first from now on");
        }
        self.first = which;
        self.rejected = None;
    }

    /// Citrix took none.
    pub(super) fn all_rejected(&mut self, fingerprint: Fingerprint) {
        self.rejected = Some(fingerprint);
    }

    const fn source(&self, which: Which) -> Option<&SecretSource> {
        match which {
            Which::Current => Some(&self.current),
            Which::Next => self.next.as_ref(),
        }
    }
}

fn hash(secret: &SecretString) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.expose_secret().as_bytes()).as_ref());
    hash
}
