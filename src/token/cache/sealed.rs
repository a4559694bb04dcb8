//! Format and encryption of the cache file. Pure.
//!
//! The file consists of eight bytes for the format and its version, a nonce, and an AES-256-GCM
//! ciphertext with its tag; the first eight bytes are its associated data. The key is derived from
//! `token.cache_key` by HKDF-SHA256. Each write uses a random nonce, which is safe for 2^32 writes
//! per key: more than a hundred years at one per second.

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::CacheError;
use super::records::{Fingerprint, Records, RejectionRecord, TokenRecord};
use crate::token::outcome::Outcome;
use crate::token::schedule::Failures;

/// Format and version.
const FORMAT: &[u8; 8] = b"CAPTOKN2";
/// Minimum length of `token.cache_key`, in bytes.
const MIN_KEY_LEN: usize = 32;
/// Length of the tag that AES-GCM appends.
const TAG_LEN: usize = 16;
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
    let nonce = derive_key(key)?
        .seal_in_place_append_tag(Aad::from(FORMAT), &mut *text)
        .map_err(|_| CacheError::Undecipherable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(FORMAT.len() + NONCE_LEN + text.len()));
    bytes.extend_from_slice(FORMAT);
    bytes.extend_from_slice(nonce.as_ref());
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

/// Decrypts the content of the file, in place.
pub(super) fn open(bytes: &mut [u8], key: &SecretString) -> Result<Records, CacheError> {
    let (format, sealed) = bytes
        .split_at_mut_checked(FORMAT.len())
        .ok_or(CacheError::UnknownFormat)?;
    if *format != *FORMAT {
        return Err(CacheError::UnknownFormat);
    }
    let (nonce, sealed) = sealed
        .split_at_mut_checked(NONCE_LEN)
        .ok_or(CacheError::UnknownFormat)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CacheError::UnknownFormat)?;
    let text = derive_key(key)?
        .open_in_place(nonce, Aad::from(FORMAT), sealed)
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

/// Length of the derived key.
struct DerivedKeyLen;

impl KeyType for DerivedKeyLen {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

fn derive_key(key: &SecretString) -> Result<RandomizedNonceKey, CacheError> {
    let key = key.expose_secret().as_bytes();
    if key.len() < MIN_KEY_LEN {
        return Err(CacheError::ShortKey);
    }
    let mut derived = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, FORMAT)
        .extract(key)
        .expand(&[b"citrix-auth-proxy token cache"], DerivedKeyLen)
        .and_then(|okm| okm.fill(&mut *derived))
        .map_err(|_| CacheError::ShortKey)?;
    RandomizedNonceKey::new(&AES_256_GCM, &*derived).map_err(|_| CacheError::ShortKey)
}
