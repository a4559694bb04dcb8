//! Callers' secrets: made here, kept as hashes, compared in constant time.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

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
}
