//! Format and encryption of the cache file. Pure.
//!
//! The file consists of eight bytes for the format and its version, and a sealed record
//! (`system::sealing`) with these bytes as its associated data. The key is derived from
//! `token.cache_key`.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::CacheError;
use super::records::{Fingerprint, Records, RejectionRecord, TokenRecord};
use crate::system::sealing::{SealingKey, ShortSecret, TAG_LEN};
use crate::token::outcome::Outcome;
use crate::token::schedule::Failures;

/// Format and version.
const FORMAT: &[u8; 8] = b"CAPTOKN2";
/// Serialized length of the names and numbers of one record, and of one fingerprint.
const RECORD_LEN: usize = 512;
const FINGERPRINT_LEN: usize = 32;

/// The content of the file as serialized.
#[derive(Serialize, Deserialize)]
struct StoredRecords<'a> {
    #[serde(borrow)]
    tokens: Vec<StoredToken<'a>>,
    #[serde(borrow)]
    rejections: Vec<StoredRejection<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredToken<'a> {
    #[serde(borrow, rename = "of")]
    id: Cow<'a, str>,
    // Borrowed from the buffer, which is wiped. Owned only if it contains a quote or backslash,
    // which no JWT does.
    #[serde(borrow)]
    token: Cow<'a, str>,
    obtained_ms: u64,
    expires_ms: u64,
    #[serde(borrow)]
    secret: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredRejection<'a> {
    #[serde(borrow, rename = "of")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    secrets: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    failures: u32,
    rate_limited: u32,
    rejections: u32,
    #[serde(borrow)]
    transaction_id: Option<Cow<'a, str>>,
    until_ms: u64,
    short_until_ms: u64,
}

impl<'a> StoredToken<'a> {
    fn of(token: &'a TokenRecord) -> Self {
        Self {
            id: Cow::Borrowed(&token.id),
            token: Cow::Borrowed(token.token.expose_secret()),
            obtained_ms: millis(token.obtained_at),
            expires_ms: millis(token.expires_at),
            secret: token.secret.as_ref().map(|it| Cow::Borrowed(&*it.0)),
        }
    }

    fn into_record(self) -> TokenRecord {
        TokenRecord {
            id: self.id.into_owned(),
            token: SecretString::from(&*self.token),
            obtained_at: Duration::from_millis(self.obtained_ms),
            expires_at: Duration::from_millis(self.expires_ms),
            secret: self.secret.map(|it| Fingerprint(it.into_owned())),
        }
    }
}

impl<'a> StoredRejection<'a> {
    fn of(rejection: &'a RejectionRecord) -> Self {
        let secrets = rejection.secrets.iter();
        Self {
            id: Cow::Borrowed(&rejection.id),
            secrets: secrets.map(|it| Cow::Borrowed(&*it.0)).collect(),
            outcome: Cow::Borrowed(rejection.outcome.label()),
            failures: rejection.failures.consecutive,
            rate_limited: rejection.failures.rate_limited,
            rejections: rejection.rejections,
            transaction_id: rejection.transaction_id.as_deref().map(Cow::Borrowed),
            until_ms: millis(rejection.until),
            short_until_ms: millis(rejection.short_until),
        }
    }

    /// Returns `None` for an outcome of another version.
    fn into_record(self) -> Option<RejectionRecord> {
        let mut outcomes = Outcome::ALL.into_iter();
        let secrets = self.secrets.into_iter();
        Some(RejectionRecord {
            id: self.id.into_owned(),
            secrets: secrets.map(|it| Fingerprint(it.into_owned())).collect(),
            outcome: outcomes.find(|outcome| outcome.label() == self.outcome)?,
            failures: Failures {
                consecutive: self.failures,
                rate_limited: self.rate_limited,
            },
            rejections: self.rejections,
            transaction_id: self.transaction_id.map(Cow::into_owned),
            until: Duration::from_millis(self.until_ms),
            short_until: Duration::from_millis(self.short_until_ms),
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the maximum length of the records when they are serialized: a token is visible ASCII,
/// which JSON escapes in two bytes at most, and a transaction id is short.
fn max_len(records: &Records) -> usize {
    let tokens = records.tokens.iter();
    let tokens = tokens.map(|it| 2 * it.token.expose_secret().len() + RECORD_LEN);
    let rejections = records.rejections.iter();
    let rejections = rejections.map(|it| {
        let id = it.transaction_id.as_ref().map_or(0, String::len);
        it.secrets.len() * FINGERPRINT_LEN + 2 * id + RECORD_LEN
    });
    tokens.chain(rejections).sum::<usize>() + RECORD_LEN
}

/// Encrypts records into the content of the file.
pub(super) fn seal(
    records: &Records,
    key: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, CacheError> {
    let stored = StoredRecords {
        tokens: records.tokens.iter().map(StoredToken::of).collect(),
        rejections: records.rejections.iter().map(StoredRejection::of).collect(),
    };
    // Allocated at its maximum size, because a reallocation would leave a copy of a token behind.
    let mut text = Zeroizing::new(Vec::with_capacity(max_len(records) + TAG_LEN));
    serde_json::to_writer(&mut *text, &stored).map_err(|_| CacheError::UnknownFormat)?;
    let bytes = sealing_key(key)?
        .seal(FORMAT, FORMAT, text)
        .map_err(|_| CacheError::Undecipherable)?;
    Ok(Zeroizing::new(bytes))
}

/// Decrypts the content of the file, in place.
pub(super) fn open(bytes: &mut [u8], key: &SecretString) -> Result<Records, CacheError> {
    let (format, sealed) = bytes
        .split_at_mut_checked(FORMAT.len())
        .ok_or(CacheError::UnknownFormat)?;
    if *format != *FORMAT {
        return Err(CacheError::UnknownFormat);
    }
    let text = sealing_key(key)?
        .open(FORMAT, sealed)
        .map_err(|_| CacheError::Undecipherable)?;
    let stored: StoredRecords<'_> =
        serde_json::from_slice(text).map_err(|_| CacheError::UnknownFormat)?;
    let rejections = stored.rejections.into_iter();
    Ok(Records {
        tokens: stored
            .tokens
            .into_iter()
            .map(StoredToken::into_record)
            .collect(),
        rejections: rejections
            .filter_map(StoredRejection::into_record)
            .collect(),
    })
}

fn sealing_key(key: &SecretString) -> Result<SealingKey, CacheError> {
    let key = key.expose_secret().as_bytes();
    SealingKey::derive(key, FORMAT, b"citrix-auth-proxy token cache")
        .map_err(|ShortSecret| CacheError::ShortKey)
}
