//! Callers' secrets: made here, kept as hashes, compared in constant time.

use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::config::SecretHash;

/// 256 bits: nobody guesses that, so one SHA-256 is all the hashing it needs.
const BYTES: usize = 32;

/// A new secret, in letters, digits, `-` and `_`.
///
/// # Errors
/// When the system has no randomness.
pub fn generate() -> Result<SecretString, Unspecified> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    rand::fill(&mut *bytes)?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(*bytes)))
}

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret).as_ref());
        Self(hash)
    }

    /// Whether both are the same, told in the same time whatever they are.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// 64 hex digits, for a configuration.
    pub fn to_hex(self) -> String {
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_new_secret_has_256_bits_and_is_another_each_time() {
        let secrets = [generate().unwrap(), generate().unwrap()];
        for secret in &secrets {
            assert_eq!(
                URL_SAFE_NO_PAD
                    .decode(secret.expose_secret())
                    .unwrap()
                    .len(),
                32
            );
        }
        assert_ne!(secrets[0].expose_secret(), secrets[1].expose_secret());
    }

    #[test]
    fn a_hash_is_that_of_sha256sum() {
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(SecretHash::of(b"secret").to_hex(), hex);
        assert!(SecretHash::of(b"secret").is(&SecretHash::of(b"secret")));
        assert!(!SecretHash::of(b"secret").is(&SecretHash::of(b"Secret")));
    }
}
