//! Generation of callers' secrets.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// 256 bits cannot be guessed, so that a plain SHA-256 suffices as password hash.
const BYTES: usize = 32;

/// Returns a random secret of letters, digits, `-` and `_`.
///
/// # Errors
/// If the system has no randomness.
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
    fn generated_secrets_have_256_bits_and_differ() {
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
