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

/// Format and version.
const FORMAT: &[u8; 8] = b"CAPTOKN1";
/// Minimum length of `token.cache_key`, in bytes.
const MIN_KEY_LEN: usize = 32;
/// Length of the tag that AES-GCM appends.
const TAG_LEN: usize = 16;

/// One credential's token. Times are since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct CacheEntry {
    /// The credential's hash, in hexadecimal.
    pub(super) id: String,
    pub(super) token: SecretString,
    pub(super) obtained_at: Duration,
    pub(super) expires_at: Duration,
}

/// An entry as serialized.
#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    #[serde(borrow, rename = "of")]
    id: Cow<'a, str>,
    // Borrowed from the buffer, which is wiped. Owned only if it contains a quote or backslash,
    // which no JWT does.
    #[serde(borrow)]
    token: Cow<'a, str>,
    obtained_ms: u64,
    expires_ms: u64,
}

/// Encrypts entries into the content of the file.
pub(super) fn seal(
    entries: &[CacheEntry],
    key: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, CacheError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let stored: Vec<StoredEntry<'_>> = entries
        .iter()
        .map(|entry| StoredEntry {
            id: Cow::Borrowed(&entry.id),
            token: Cow::Borrowed(entry.token.expose_secret()),
            obtained_ms: millis(entry.obtained_at),
            expires_ms: millis(entry.expires_at),
        })
        .collect();
    // Allocated at its maximum size, because a reallocation would leave a copy behind: a token is
    // visible ASCII, which JSON escapes in two bytes at most.
    let capacity: usize = entries
        .iter()
        .map(|entry| 2 * entry.token.expose_secret().len() + 256)
        .sum();
    let mut text = Zeroizing::new(Vec::with_capacity(capacity + TAG_LEN + 2));
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
pub(super) fn open(bytes: &mut [u8], key: &SecretString) -> Result<Vec<CacheEntry>, CacheError> {
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
    let stored: Vec<StoredEntry<'_>> =
        serde_json::from_slice(text).map_err(|_| CacheError::UnknownFormat)?;
    Ok(stored
        .into_iter()
        .map(|entry| CacheEntry {
            id: entry.id.into_owned(),
            token: SecretString::from(&*entry.token),
            obtained_at: Duration::from_millis(entry.obtained_ms),
            expires_at: Duration::from_millis(entry.expires_ms),
        })
        .collect())
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
