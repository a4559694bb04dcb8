//! Sealed records: AES-256-GCM under a key that HKDF-SHA256 derives from a configured secret.
//!
//! Each record has a random nonce, which is safe for 2^32 records per key: more than a hundred
//! years at one per second. The associated data is not part of the record; the reader must expect
//! the same.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::zeroize::Zeroizing;

/// Minimum length of a secret, in bytes.
pub const MIN_SECRET_LEN: usize = 32;
/// Length of the tag that AES-GCM appends. A buffer with this much spare capacity is not
/// reallocated by [`SealingKey::seal`].
pub const TAG_LEN: usize = 16;
/// Length of a derived key.
const KEY_LEN: usize = 32;

/// A secret shorter than [`MIN_SECRET_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shorter than {MIN_SECRET_LEN} bytes")]
pub struct ShortSecret;

/// A record that is damaged, bound to other associated data, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged, or encrypted with another key")]
pub struct Undecipherable;

struct DerivedKeyLen;

impl KeyType for DerivedKeyLen {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

/// Derives a key for one purpose.
///
/// # Errors
/// If the secret is too short.
pub fn derive_key(
    secret: &[u8],
    salt: &[u8],
    purpose: &[u8],
) -> Result<Zeroizing<[u8; KEY_LEN]>, ShortSecret> {
    if secret.len() < MIN_SECRET_LEN {
        return Err(ShortSecret);
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    // Fails only for keys of more than 8 KiB.
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[purpose], DerivedKeyLen)
        .and_then(|okm| okm.fill(&mut *key))
        .map_err(|_| ShortSecret)?;
    Ok(key)
}

/// A key that seals and opens records.
pub struct SealingKey(RandomizedNonceKey);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl SealingKey {
    /// Derives the key for one purpose.
    ///
    /// # Errors
    /// If the secret is too short.
    pub fn derive(secret: &[u8], salt: &[u8], purpose: &[u8]) -> Result<Self, ShortSecret> {
        let key = derive_key(secret, salt, purpose)?;
        // Fails only for a key of another length.
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_| ShortSecret)?;
        Ok(Self(key))
    }

    /// Returns `prefix`, the nonce and the sealed text. `associated` is bound to the record.
    ///
    /// # Errors
    /// If the text is longer than AES-GCM permits, 64 GiB.
    pub fn seal(
        &self,
        prefix: &[u8],
        associated: &[u8],
        mut text: Zeroizing<Vec<u8>>,
    ) -> Result<Vec<u8>, Undecipherable> {
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(associated), &mut *text)
            .map_err(|_| Undecipherable)?;
        let mut record = Vec::with_capacity(prefix.len() + NONCE_LEN + text.len());
        record.extend_from_slice(prefix);
        record.extend_from_slice(nonce.as_ref());
        record.extend_from_slice(&text);
        Ok(record)
    }

    /// Opens a record without its prefix, in place. Returns the text.
    ///
    /// # Errors
    /// If it was not sealed with this key and the same associated data.
    pub fn open<'r>(
        &self,
        associated: &[u8],
        record: &'r mut [u8],
    ) -> Result<&'r mut [u8], Undecipherable> {
        let (nonce, sealed) = record
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(Undecipherable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Undecipherable)?;
        self.0
            .open_in_place(nonce, Aad::from(associated), sealed)
            .map_err(|_| Undecipherable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn key(secret: &[u8], salt: &[u8], purpose: &[u8]) -> SealingKey {
        SealingKey::derive(secret, salt, purpose).unwrap()
    }

    fn text() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(b"token".to_vec())
    }

    #[test]
    fn record_opens_with_the_same_key_and_associated_data_only() {
        let record = key(&SECRET, b"salt", b"a")
            .seal(b"V1", b"who", text())
            .unwrap();
        assert!(record.starts_with(b"V1"));
        let open = |key: &SealingKey, associated: &[u8]| {
            let mut sealed = record[2..].to_vec();
            key.open(associated, &mut sealed).map(|text| text.to_vec())
        };
        assert_eq!(
            open(&key(&SECRET, b"salt", b"a"), b"who"),
            Ok(b"token".to_vec())
        );
        for (key, associated) in [
            (key(&SECRET, b"salt", b"a"), &b"other"[..]),
            (key(&SECRET, b"salt", b"b"), b"who"),
            (key(&SECRET, b"other", b"a"), b"who"),
            (key(&[8; 32], b"salt", b"a"), b"who"),
        ] {
            assert_eq!(open(&key, associated), Err(Undecipherable));
        }
    }

    #[test]
    fn truncated_or_changed_record_is_rejected() {
        let key = key(&SECRET, b"salt", b"a");
        let record = key.seal(b"", b"", text()).unwrap();
        for length in 0..record.len() {
            assert!(key.open(b"", &mut record[..length].to_vec()).is_err());
        }
        for index in 0..record.len() {
            let mut changed = record.clone();
            changed[index] ^= 1;
            assert!(key.open(b"", &mut changed).is_err(), "{index}");
        }
    }

    #[test]
    fn equal_texts_have_different_records() {
        let key = key(&SECRET, b"salt", b"a");
        let records = [key.seal(b"", b"", text()), key.seal(b"", b"", text())];
        assert_ne!(records[0], records[1]);
    }

    #[test]
    fn short_secret_is_rejected() {
        assert_eq!(
            SealingKey::derive(&[1; 31], b"", b"").unwrap_err(),
            ShortSecret
        );
    }

    /// The first 32 bytes of appendix A.2.
    #[test]
    fn derived_key_is_that_of_rfc_5869() {
        let secret: Vec<u8> = (0..80).collect();
        let salt: Vec<u8> = (0x60..0xb0).collect();
        let purpose: Vec<u8> = (0xb0..=0xff).collect();
        let key = derive_key(&secret, &salt, &purpose).unwrap();
        assert_eq!(
            citrix_wire::hex::encode(&*key),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        );
    }
}
