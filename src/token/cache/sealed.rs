//! What is in the file, and how it is locked up. Pure.
//!
//! The file is eight bytes that name the format and its version, a nonce, and an AES-256-GCM ciphertext with its
//! tag. The eight bytes are its associated data. The key is derived from the configured one by HKDF-SHA256; each
//! writing draws a nonce, which is safe for 2^32 writings with one key: a hundred years at one a second.

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::CacheError;

/// The format and its version.
const FORMAT: &[u8; 8] = b"CAPTOKN1";
/// The least length of a configured key, in bytes.
const SHORTEST_KEY: usize = 32;
/// The tag that AES-GCM appends.
const TAG: usize = 16;

/// One customer's token. Times are since 1970.
#[derive(Clone, Debug)]
pub(super) struct CacheEntry {
    /// The identity's name.
    pub(super) of: String,
    pub(super) token: SecretString,
    pub(super) obtained_at: Duration,
    pub(super) expires_at: Duration,
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    #[serde(borrow)]
    of: Cow<'a, str>,
    // Borrowed from the buffer, which is wiped. Owned only if it holds a quote or a backslash, as no JWT does.
    #[serde(borrow)]
    token: Cow<'a, str>,
    obtained_ms: u64,
    expires_ms: u64,
}

/// The file's bytes for these entries.
pub(super) fn seal(
    entries: &[CacheEntry],
    key: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, CacheError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let written: Vec<StoredEntry<'_>> = entries
        .iter()
        .map(|entry| StoredEntry {
            of: Cow::Borrowed(&entry.of),
            token: Cow::Borrowed(entry.token.expose_secret()),
            obtained_ms: millis(entry.obtained_at),
            expires_ms: millis(entry.expires_at),
        })
        .collect();
    // All the room there can be from the start, so that growing leaves no copies behind: a token is visible ASCII,
    // of which JSON makes two bytes at most.
    let room: usize = entries
        .iter()
        .map(|entry| 2 * entry.token.expose_secret().len() + 256)
        .sum();
    let mut text = Zeroizing::new(Vec::with_capacity(room + TAG + 2));
    serde_json::to_writer(&mut *text, &written).map_err(|_| CacheError::Foreign)?;
    let nonce = key_of(key)?
        .seal_in_place_append_tag(Aad::from(FORMAT), &mut *text)
        .map_err(|_| CacheError::Sealed)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(FORMAT.len() + NONCE_LEN + text.len()));
    bytes.extend_from_slice(FORMAT);
    bytes.extend_from_slice(nonce.as_ref());
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

/// The entries in the file's bytes, which are overwritten.
pub(super) fn open(bytes: &mut [u8], key: &SecretString) -> Result<Vec<CacheEntry>, CacheError> {
    let (format, sealed) = bytes
        .split_at_mut_checked(FORMAT.len())
        .ok_or(CacheError::Foreign)?;
    if *format != *FORMAT {
        return Err(CacheError::Foreign);
    }
    let (nonce, sealed) = sealed
        .split_at_mut_checked(NONCE_LEN)
        .ok_or(CacheError::Foreign)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CacheError::Foreign)?;
    let text = key_of(key)?
        .open_in_place(nonce, Aad::from(FORMAT), sealed)
        .map_err(|_| CacheError::Sealed)?;
    let written: Vec<StoredEntry<'_>> =
        serde_json::from_slice(text).map_err(|_| CacheError::Foreign)?;
    Ok(written
        .into_iter()
        .map(|entry| CacheEntry {
            of: entry.of.into_owned(),
            token: SecretString::from(&*entry.token),
            obtained_at: Duration::from_millis(entry.obtained_ms),
            expires_at: Duration::from_millis(entry.expires_ms),
        })
        .collect())
}

/// The length of a derived key.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

fn key_of(key: &SecretString) -> Result<RandomizedNonceKey, CacheError> {
    let key = key.expose_secret().as_bytes();
    if key.len() < SHORTEST_KEY {
        return Err(CacheError::ShortKey);
    }
    let mut derived = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, FORMAT)
        .extract(key)
        .expand(&[b"citrix-auth-proxy token cache"], Length)
        .and_then(|okm| okm.fill(&mut *derived))
        .map_err(|_| CacheError::ShortKey)?;
    RandomizedNonceKey::new(&AES_256_GCM, &*derived).map_err(|_| CacheError::ShortKey)
}
