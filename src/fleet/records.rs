//! Records of logins in the store: what replicas learn from each other's. Pure.
//!
//! All times in them are on the store's clock, so the clocks of the replicas do not matter.

use std::borrow::Cow;
use std::time::Duration;

use fleet_protocol::time::MAX_CLOCK_LAG;
use fleet_protocol::{Name, StoreTime};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::keys::{FleetKeys, Purpose, record_buffer};
use crate::system::sealing::Undecipherable;

/// Serialized length of the names and numbers of a record, and of one fingerprint.
const RECORD_LEN: usize = 512;
const FINGERPRINT_LEN: usize = 32;

/// A token that a replica obtained.
#[derive(Clone, Debug)]
pub struct SharedToken {
    pub token: SecretString,
    /// The lifetime from the start of the login on.
    pub lifetime: Duration,
    /// Time since the start of the login.
    pub age: Duration,
    /// Fingerprint of the secret of the login.
    pub secret: Option<String>,
    /// Fingerprints of the configured secrets that Citrix rejected in that login.
    pub rejected: Vec<String>,
    /// Citrix's transaction id of the login.
    pub transaction_id: Option<String>,
}

/// Citrix's rejection of a replica's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The label of the outcome.
    pub outcome: String,
    /// Consecutive failed logins of all replicas.
    pub failures: u32,
    /// Consecutive logins in which Citrix rejected every secret tried.
    pub rejections: u32,
    /// Citrix's transaction id.
    pub transaction_id: Option<String>,
    /// Time until the next login of a replica with a usable token, and of one without.
    pub wait: Duration,
    pub short_wait: Duration,
}

#[derive(Serialize, Deserialize)]
struct StoredToken<'a> {
    // Borrowed from the buffer, which is wiped. Owned only if it contains a quote or backslash,
    // which no JWT does.
    #[serde(borrow)]
    token: Cow<'a, str>,
    lifetime_ms: u64,
    began: u64,
    #[serde(borrow)]
    secret: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rejected: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    transaction_id: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredVerdict<'a> {
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    failures: u32,
    rejections: u32,
    #[serde(borrow)]
    transaction_id: Option<Cow<'a, str>>,
    /// The time of the login's end.
    at: u64,
    until: u64,
    short_until: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time from `earlier` to `later`; zero if it is the other way round.
fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_millis(later.saturating_sub(earlier))
}

impl SharedToken {
    /// Seals the record of the token of an identity.
    pub(super) fn seal(
        &self,
        keys: &FleetKeys,
        identity: Name,
        now: StoreTime,
    ) -> Result<Vec<u8>, Undecipherable> {
        let stored = StoredToken {
            token: Cow::Borrowed(self.token.expose_secret()),
            lifetime_ms: millis(self.lifetime),
            began: now.0.saturating_sub(millis(self.age)),
            secret: self.secret.as_deref().map(Cow::Borrowed),
            rejected: self.rejected.iter().map(|it| it.as_str().into()).collect(),
            transaction_id: self.transaction_id.as_deref().map(Cow::Borrowed),
        };
        // Allocated at its maximum size, because a reallocation would leave a copy of the token
        // behind: JSON escapes visible ASCII in two bytes at most.
        let variable = self.token.expose_secret().len() + id_len(self.transaction_id.as_deref());
        let fingerprints = FINGERPRINT_LEN * (1 + self.rejected.len());
        let length = 2 * variable + fingerprints + RECORD_LEN;
        seal(keys, (Purpose::Token, identity), &stored, length)
    }

    /// Opens the record of the token of an identity.
    pub(super) fn open(
        keys: &FleetKeys,
        identity: Name,
        record: &[u8],
        now: StoreTime,
    ) -> Result<Self, Undecipherable> {
        let text = keys.open(Purpose::Token, identity, record)?;
        let stored: StoredToken<'_> = parse(&text)?;
        // Otherwise the store's clock was set back, and the age is unknown.
        if stored.began > (now + MAX_CLOCK_LAG).0 {
            return Err(Undecipherable);
        }
        let rejected = stored.rejected.into_iter();
        Ok(Self {
            token: SecretString::from(&*stored.token),
            lifetime: Duration::from_millis(stored.lifetime_ms),
            age: between(stored.began, now.0),
            secret: stored.secret.map(Cow::into_owned),
            rejected: rejected.map(Cow::into_owned).collect(),
            transaction_id: stored.transaction_id.map(Cow::into_owned),
        })
    }
}

impl Verdict {
    /// Seals the verdict on the secrets of this name.
    pub(super) fn seal(
        &self,
        keys: &FleetKeys,
        secrets: Name,
        now: StoreTime,
    ) -> Result<Vec<u8>, Undecipherable> {
        let stored = StoredVerdict {
            outcome: Cow::Borrowed(&self.outcome),
            failures: self.failures,
            rejections: self.rejections,
            transaction_id: self.transaction_id.as_deref().map(Cow::Borrowed),
            at: now.0,
            until: (now + self.wait).0,
            short_until: (now + self.short_wait).0,
        };
        let length = 2 * id_len(self.transaction_id.as_deref()) + RECORD_LEN;
        seal(keys, (Purpose::Verdict, secrets), &stored, length)
    }

    /// Opens the verdict on the secrets of this name.
    pub(super) fn open(
        keys: &FleetKeys,
        secrets: Name,
        record: &[u8],
        now: StoreTime,
    ) -> Result<Self, Undecipherable> {
        let text = keys.open(Purpose::Verdict, secrets, record)?;
        let stored: StoredVerdict<'_> = parse(&text)?;
        // The store removes it by then: an old one was written again.
        if now.0 > (StoreTime(stored.short_until) + MAX_CLOCK_LAG).0 {
            return Err(Undecipherable);
        }
        // The store's clock was set back: it would keep the verdict for as long.
        if stored.at > (now + MAX_CLOCK_LAG).0 {
            return Err(Undecipherable);
        }
        Ok(Self {
            outcome: stored.outcome.into_owned(),
            failures: stored.failures,
            rejections: stored.rejections,
            transaction_id: stored.transaction_id.map(Cow::into_owned),
            wait: between(now.0, stored.until),
            short_wait: between(now.0, stored.short_until),
        })
    }
}

fn id_len(transaction_id: Option<&str>) -> usize {
    transaction_id.map_or(0, str::len)
}

fn seal(
    keys: &FleetKeys,
    (purpose, name): (Purpose, Name),
    stored: &impl Serialize,
    length: usize,
) -> Result<Vec<u8>, Undecipherable> {
    let mut text = record_buffer(length);
    serde_json::to_writer(&mut *text, stored).map_err(|_| Undecipherable)?;
    keys.seal(purpose, name, text)
}

/// Parses a record. One of another version counts as undecipherable.
fn parse<'t, T: Deserialize<'t>>(text: &'t Zeroizing<Vec<u8>>) -> Result<T, Undecipherable> {
    serde_json::from_slice(text).map_err(|_| Undecipherable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name([1; 16]);
    const NOW: StoreTime = StoreTime(1_000_000);

    fn keys() -> FleetKeys {
        FleetKeys::new("default", &"k".repeat(32).into(), None).unwrap()
    }

    fn token() -> SharedToken {
        SharedToken {
            token: SecretString::from("header.payload.signature"),
            lifetime: Duration::from_secs(3600),
            age: Duration::from_secs(2),
            secret: Some("0123456789abcdef".to_owned()),
            rejected: vec!["fedcba9876543210".to_owned()],
            transaction_id: Some("id-\"1\"".to_owned()),
        }
    }

    fn verdict() -> Verdict {
        Verdict {
            outcome: "invalid_client".to_owned(),
            failures: 3,
            rejections: 2,
            transaction_id: None,
            wait: Duration::from_secs(30),
            short_wait: Duration::from_secs(4),
        }
    }

    #[test]
    fn token_ages_on_the_stores_clock() {
        let record = token().seal(&keys(), NAME, NOW).unwrap();
        let later = NOW + Duration::from_secs(60);
        let opened = SharedToken::open(&keys(), NAME, &record, later).unwrap();
        assert_eq!(opened.age, Duration::from_secs(62));
        assert_eq!(opened.token.expose_secret(), "header.payload.signature");
        assert_eq!(
            (opened.lifetime, opened.secret, opened.rejected),
            (token().lifetime, token().secret, token().rejected)
        );
        assert_eq!(opened.transaction_id, token().transaction_id);
    }

    #[test]
    fn token_of_the_future_is_rejected_beyond_the_clocks_lag() {
        let record = token().seal(&keys(), NAME, NOW).unwrap();
        let at =
            |seconds: u64| SharedToken::open(&keys(), NAME, &record, StoreTime(seconds * 1000));
        assert_eq!(at(994).unwrap().age, Duration::ZERO);
        assert_eq!(at(992).unwrap_err(), Undecipherable);
    }

    #[test]
    fn waits_of_a_verdict_shorten_on_the_stores_clock() {
        let record = verdict().seal(&keys(), NAME, NOW).unwrap();
        let later = NOW + Duration::from_secs(5);
        let expected = Verdict {
            wait: Duration::from_secs(25),
            short_wait: Duration::ZERO,
            ..verdict()
        };
        assert_eq!(Verdict::open(&keys(), NAME, &record, later), Ok(expected));
        let long_over = NOW + Duration::from_secs(10);
        assert!(Verdict::open(&keys(), NAME, &record, long_over).is_err());
    }

    #[test]
    fn verdict_of_the_future_is_rejected_beyond_the_clocks_lag() {
        let record = verdict().seal(&keys(), NAME, NOW).unwrap();
        let at = |seconds: u64| Verdict::open(&keys(), NAME, &record, StoreTime(seconds * 1000));
        assert!(at(995).is_ok());
        assert_eq!(at(994), Err(Undecipherable));
    }

    #[test]
    fn record_of_another_name_kind_or_damaged_is_rejected() {
        let (keys, other) = (keys(), Name([2; 16]));
        let record = token().seal(&keys, NAME, NOW).unwrap();
        assert!(SharedToken::open(&keys, other, &record, NOW).is_err());
        assert!(Verdict::open(&keys, NAME, &record, NOW).is_err());
        for length in 0..record.len() {
            assert!(SharedToken::open(&keys, NAME, &record[..length], NOW).is_err());
        }
        for index in 0..record.len() {
            let mut flipped = record.clone();
            flipped[index] ^= 0x10;
            assert!(SharedToken::open(&keys, NAME, &flipped, NOW).is_err());
        }
        // Of another version.
        let mut text = record_buffer(2);
        text.extend_from_slice(b"{}");
        let record = keys.seal(Purpose::Token, NAME, text).unwrap();
        assert!(SharedToken::open(&keys, NAME, &record, NOW).is_err());
    }

    #[test]
    fn debug_output_contains_no_token() {
        let text = format!("{:?}", token());
        assert!(!text.contains("signature"), "{text}");
    }
}
