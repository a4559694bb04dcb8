//! The content of the cache file. Pure: the caller supplies the time.

use std::time::Duration;

use secrecy::SecretString;

use crate::token::outcome::Outcome;
use crate::token::schedule::Failures;

/// Time for which a rejection is kept after its end, so that the next one continues its backoff.
const MEMORY: Duration = Duration::from_mins(5);
/// Maximum number of rejections per credential: replicas have different secrets during a rotation.
const MAX_REJECTIONS: usize = 4;

/// The part of a secret's SHA-256 that identifies it in the file, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) struct Fingerprint(pub(super) String);

/// One credential's token. Times are since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct TokenRecord {
    /// The credential's hash, in hexadecimal.
    pub(super) id: String,
    pub(super) token: SecretString,
    pub(super) obtained_at: Duration,
    pub(super) expires_at: Duration,
    /// The secret of the login.
    pub(super) secret: Option<Fingerprint>,
}

/// A login that Citrix rejected. Times are since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RejectionRecord {
    /// The credential's hash, in hexadecimal.
    pub(super) id: String,
    /// The secrets of the replica that logged in.
    pub(super) secrets: Vec<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) failures: Failures,
    /// Consecutive logins in which Citrix rejected every secret tried.
    pub(super) rejections: u32,
    pub(super) transaction_id: Option<String>,
    /// The next login.
    pub(super) until: Duration,
    /// The next login of a replica without a token that Citrix accepts.
    pub(super) short_until: Duration,
}

impl RejectionRecord {
    /// Returns `true` if the rejection holds for a login with any of `secrets`. A rate limit is that
    /// of the client, whatever the secret.
    fn holds_for(&self, id: &str, secrets: &[Fingerprint]) -> bool {
        let is_known = |secret| self.secrets.contains(secret);
        self.id == id && (self.outcome == Outcome::RateLimited || secrets.iter().all(is_known))
    }
}

/// The content of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) tokens: Vec<TokenRecord>,
    pub(super) rejections: Vec<RejectionRecord>,
}

/// The result of a login.
#[derive(Clone, Debug)]
pub(super) enum LoginRecord {
    Token(TokenRecord),
    Rejection(RejectionRecord),
}

impl LoginRecord {
    /// Returns `true` if both are of one kind and credential, so that the later replaces the earlier.
    pub(super) fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Token(later), Self::Token(earlier)) => later.id == earlier.id,
            (Self::Rejection(later), Self::Rejection(earlier)) => later.id == earlier.id,
            _ => false,
        }
    }
}

impl Records {
    /// Returns the token of a credential.
    pub(super) fn token(&self, id: &str) -> Option<&TokenRecord> {
        self.tokens.iter().find(|token| token.id == id)
    }

    /// Returns the rejection that holds the longest for a login with any of `secrets`.
    pub(super) fn rejection(&self, id: &str, secrets: &[Fingerprint]) -> Option<&RejectionRecord> {
        let found = self.rejections.iter();
        let found = found.filter(|rejection| rejection.holds_for(id, secrets));
        found.max_by_key(|rejection| rejection.until)
    }

    /// Adds the result of a login in place of what it outdates.
    pub(super) fn add(&mut self, record: LoginRecord) {
        match record {
            LoginRecord::Token(token) => {
                self.tokens.retain(|old| old.id != token.id);
                let proven = token.secret.as_slice();
                self.rejections.retain(|old| {
                    old.id != token.id
                        || old.outcome != Outcome::RateLimited
                            && !proven.iter().any(|secret| old.secrets.contains(secret))
                });
                self.tokens.push(token);
            }
            LoginRecord::Rejection(new) => {
                let is_same =
                    |old: &RejectionRecord| old.id == new.id && old.secrets == new.secrets;
                self.rejections.retain(|old| !is_same(old));
                self.make_room(&new.id);
                self.rejections.push(new);
            }
        }
    }

    fn make_room(&mut self, id: &str) {
        let of_id = |(_, old): &(usize, &RejectionRecord)| old.id == id;
        let held = self.rejections.iter().enumerate().filter(of_id);
        if held.clone().count() >= MAX_REJECTIONS
            && let Some((oldest, _)) = held.min_by_key(|(_, old)| old.until)
        {
            self.rejections.remove(oldest);
        }
    }

    /// Removes what is of no use at `now`.
    pub(super) fn expire(&mut self, now: Duration) {
        self.tokens.retain(|token| token.expires_at > now);
        self.rejections.retain(|old| old.until + MEMORY > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(names: &[&str]) -> Vec<Fingerprint> {
        names
            .iter()
            .map(|&name| Fingerprint(name.to_owned()))
            .collect()
    }

    fn rejection(id: &str, names: &[&str], until: u64) -> RejectionRecord {
        RejectionRecord {
            id: id.to_owned(),
            secrets: secrets(names),
            outcome: Outcome::InvalidClient,
            failures: Failures::default(),
            rejections: 1,
            transaction_id: None,
            until: Duration::from_secs(until),
            short_until: Duration::from_secs(until),
        }
    }

    fn token(id: &str, secret: &str) -> LoginRecord {
        LoginRecord::Token(TokenRecord {
            id: id.to_owned(),
            token: "t".into(),
            obtained_at: Duration::from_secs(1),
            expires_at: Duration::from_secs(9),
            secret: Some(Fingerprint(secret.to_owned())),
        })
    }

    fn with(rejections: impl IntoIterator<Item = RejectionRecord>) -> Records {
        let mut records = Records::default();
        for rejection in rejections {
            records.add(LoginRecord::Rejection(rejection));
        }
        records
    }

    #[test]
    fn rejection_holds_for_logins_whose_secrets_were_all_rejected() {
        let records = with([rejection("a", &["x", "y"], 5)]);
        for (id, names, holds) in [
            ("a", &["x"][..], true),
            ("a", &["y", "x"], true),
            ("a", &["x", "z"], false),
            ("a", &["z"], false),
            ("b", &["x"], false),
        ] {
            let found = records.rejection(id, &secrets(names));
            assert_eq!(found.is_some(), holds, "{id} {names:?}");
        }
        let limited = RejectionRecord {
            outcome: Outcome::RateLimited,
            ..rejection("a", &["x"], 5)
        };
        let records = with([limited]);
        assert!(records.rejection("a", &secrets(&["z"])).is_some());
        assert!(records.rejection("b", &secrets(&["x"])).is_none());
    }

    #[test]
    fn later_rejection_replaces_that_of_the_same_secrets() {
        let records = with([
            rejection("a", &["x"], 5),
            rejection("b", &["x"], 6),
            rejection("a", &["z"], 7),
            rejection("a", &["x"], 8),
        ]);
        assert_eq!(records.rejections.len(), 3);
        let until = |id, name| {
            records
                .rejection(id, &secrets(&[name]))
                .unwrap()
                .until
                .as_secs()
        };
        assert_eq!(
            (until("a", "x"), until("a", "z"), until("b", "x")),
            (8, 7, 6)
        );
    }

    #[test]
    fn token_removes_the_rejections_of_its_secret_and_rate_limits() {
        let limited = RejectionRecord {
            outcome: Outcome::RateLimited,
            ..rejection("a", &["w"], 5)
        };
        let mut records = with([
            rejection("a", &["x"], 5),
            rejection("a", &["z"], 5),
            limited,
            rejection("b", &["x"], 5),
        ]);
        records.add(token("a", "x"));
        records.add(token("a", "x"));
        let left: Vec<_> = records
            .rejections
            .iter()
            .map(|it| (&*it.id, &*it.secrets[0].0))
            .collect();
        assert_eq!(left, [("a", "z"), ("b", "x")]);
        assert_eq!(records.tokens.len(), 1);
    }

    #[test]
    fn rejections_of_a_credential_are_bounded_and_expire() {
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let mut records = with(
            (1..)
                .zip(&names)
                .map(|(until, name)| rejection("a", &[name], until)),
        );
        let kept: Vec<_> = records
            .rejections
            .iter()
            .map(|it| it.until.as_secs())
            .collect();
        assert_eq!(kept, [6, 7, 8, 9]);
        records.expire(Duration::from_secs(8) + MEMORY);
        assert_eq!(records.rejections.len(), 1);
    }
}
