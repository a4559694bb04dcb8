//! Gateway tokens (interface §4.5): issued by the gateway's own token endpoints, accepted as a
//! caller's credentials.
//!
//! A token names its caller and its expiry, and is bound to the secret that was presented. Networks
//! and certificate of the caller are checked at each use, as with a secret.

use std::time::{Duration, SystemTime};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::system::clock::since_epoch;
use crate::system::digest::Sha256;

const ALGORITHM: Algorithm = Algorithm::HS256;
const ISSUER: &str = "citrix-auth-proxy";
/// Maximum length of a token; the gateway's own have about 250 bytes.
const MAX_LENGTH: usize = 1024;
/// Prefix of the bound bytes, so that the key never signs the bytes of a token here.
const BINDING: &[u8] = b"binding\0";

/// Signs gateway tokens and verifies them.
pub struct Signer {
    signing: EncodingKey,
    verifying: DecodingKey,
    binding: hmac::Key,
    validation: Validation,
}

/// The result of [`Signer::verify`].
#[derive(Debug, PartialEq, Eq)]
pub enum Verification {
    /// Not a token signed with this key.
    Foreign,
    /// A token of this key that expired.
    Expired,
    /// A valid token of this key.
    Valid(Claims),
}

/// The claims of a gateway token.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// The caller's name; `None` if no caller was configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    iat: u64,
    exp: u64,
    /// The binding to the secret that was presented.
    bnd: String,
}

impl Claims {
    /// Returns the name of the caller that the token was issued to.
    pub fn caller(&self) -> Option<&str> {
        self.sub.as_deref()
    }
}

/// A failure to sign a token (a bug).
#[derive(Debug, thiserror::Error)]
#[error("failed to sign the gateway token")]
pub struct SigningError(#[from] jsonwebtoken::errors::Error);

impl Signer {
    /// Creates a signer from a key of at least 32 bytes.
    pub fn new(key: &[u8]) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "exp"]);
        validation.validate_aud = false;
        // Checked in `verify`, by a clock that tests can move.
        validation.validate_exp = false;
        Self {
            signing: EncodingKey::from_secret(key),
            verifying: DecodingKey::from_secret(key),
            binding: hmac::Key::new(HMAC_SHA256, key),
            validation,
        }
    }

    /// Creates a signer with a random key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key)?;
        Ok(Self::new(&*key))
    }

    /// Issues a token for a caller, or for anonymous requests, bound to the presented secret.
    ///
    /// # Errors
    /// If `jsonwebtoken` fails to sign; no cause is known.
    pub fn issue(
        &self,
        caller: Option<&str>,
        secret: Option<&Sha256>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Zeroizing<String>, SigningError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: caller.map(str::to_owned),
            iat: seconds(now),
            exp: seconds(now + lifetime),
            bnd: self.binding(secret),
        };
        Ok(Zeroizing::new(jsonwebtoken::encode(
            &Header::new(ALGORITHM),
            &claims,
            &self.signing,
        )?))
    }

    /// Verifies a presented token.
    pub fn verify(&self, presented: &[u8], now: SystemTime) -> Verification {
        if presented.len() > MAX_LENGTH || !looks_like_jwt(presented) {
            return Verification::Foreign;
        }
        match jsonwebtoken::decode::<Claims>(presented, &self.verifying, &self.validation) {
            Err(_) => Verification::Foreign,
            Ok(token) if token.claims.exp <= seconds(now) => Verification::Expired,
            Ok(token) => Verification::Valid(token.claims),
        }
    }

    /// Returns `true` if the token was issued for this secret.
    pub fn is_bound_to(&self, claims: &Claims, secret: Option<&Sha256>) -> bool {
        claims.bnd == self.binding(secret)
    }

    /// Returns a keyed hash of a secret, which reveals only whether the secret is the same.
    fn binding(&self, secret: Option<&Sha256>) -> String {
        let mut context = hmac::Context::with_key(&self.binding);
        context.update(BINDING);
        if let Some(secret) = secret {
            context.update(secret.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..16])
    }
}

/// Returns `true` if a credential has the form of a signed JWT. No secret of a caller has it.
pub fn looks_like_jwt(credential: &[u8]) -> bool {
    // `{"` in base64.
    credential.starts_with(b"eyJ") && credential.iter().filter(|&&byte| byte == b'.').count() == 2
}

fn seconds(time: SystemTime) -> u64 {
    since_epoch(time).as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const HOUR: Duration = Duration::from_hours(1);
    const NOW: SystemTime = UNIX_EPOCH;

    fn issued(signer: &Signer, secret: Option<&str>) -> String {
        let secret = secret.map(|secret| Sha256::of(secret.as_bytes()));
        let token = signer.issue(Some("splunk"), secret.as_ref(), NOW, HOUR);
        token.unwrap().to_string()
    }

    fn claims(signer: &Signer, token: &str) -> Claims {
        match signer.verify(token.as_bytes(), NOW) {
            Verification::Valid(claims) => claims,
            other => panic!("{other:?}"),
        }
    }

    /// Returns a token of these parts with an HS256 signature.
    fn forged(header: &str, payload: &str, key: &[u8]) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = hmac::sign(&hmac::Key::new(HMAC_SHA256, key), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    #[test]
    fn token_is_valid_for_every_signer_with_the_key_until_it_expires() {
        let token = issued(&Signer::new(KEY), Some("s"));
        let other_replica = Signer::new(KEY);
        assert_eq!(claims(&other_replica, &token).caller(), Some("splunk"));
        let at = |time| other_replica.verify(token.as_bytes(), time);
        assert!(matches!(
            at(NOW + HOUR - Duration::from_secs(1)),
            Verification::Valid(_)
        ));
        assert_eq!(at(NOW + HOUR), Verification::Expired);
        for other in [
            Signer::new(b"another key of thirty-two bytes."),
            Signer::random().unwrap(),
        ] {
            assert_eq!(other.verify(token.as_bytes(), NOW), Verification::Foreign);
        }
    }

    #[test]
    fn token_is_bound_to_the_presented_secret() {
        let signer = Signer::new(KEY);
        for (then, now, is_bound) in [
            (Some("s"), Some("s"), true),
            (Some("s"), Some("t"), false),
            (Some("s"), None, false),
            (None, Some("s"), false),
            (None, None, true),
        ] {
            let claims = claims(&signer, &issued(&signer, then));
            let now_hash = now.map(|secret: &str| Sha256::of(secret.as_bytes()));
            assert_eq!(
                signer.is_bound_to(&claims, now_hash.as_ref()),
                is_bound,
                "{then:?} {now:?}"
            );
        }
        let anonymous = signer.issue(None, None, NOW, HOUR).unwrap();
        assert_eq!(claims(&signer, &anonymous).caller(), None);
    }

    #[test]
    fn rfc8725_3_1_token_of_another_algorithm_or_issuer_is_foreign() {
        let signer = Signer::new(KEY);
        let hs256 = r#"{"typ":"JWT","alg":"HS256"}"#;
        let payload = format!(r#"{{"iss":"{ISSUER}","sub":"a","iat":0,"exp":3600,"bnd":"b"}}"#);
        assert!(matches!(
            signer.verify(forged(hs256, &payload, KEY).as_bytes(), NOW),
            Verification::Valid(_)
        ));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":["HS256"]}"#,
            "{",
        ] {
            let forged = forged(header, &payload, KEY);
            assert_eq!(
                signer.verify(forged.as_bytes(), NOW),
                Verification::Foreign,
                "{header}"
            );
            let unsigned = forged.rsplit_once('.').unwrap().0.to_owned() + ".";
            assert_eq!(
                signer.verify(unsigned.as_bytes(), NOW),
                Verification::Foreign,
                "{header}"
            );
        }
        for payload in [
            r#"{"sub":"a","iat":0,"exp":3600,"bnd":"b"}"#,
            r#"{"iss":"another","sub":"a","iat":0,"exp":3600,"bnd":"b"}"#,
            r#"{"iss":"citrix-auth-proxy","sub":"a","iat":0,"bnd":"b"}"#,
            r#"{"iss":"citrix-auth-proxy","sub":"a","iat":0,"exp":-1,"bnd":"b"}"#,
            r#"{"iss":"citrix-auth-proxy","sub":"a","iat":0,"exp":"3600","bnd":"b"}"#,
            "[]",
        ] {
            let forged = forged(hs256, payload, KEY);
            assert_eq!(
                signer.verify(forged.as_bytes(), NOW),
                Verification::Foreign,
                "{payload}"
            );
        }
        let wrong_key = forged(hs256, &payload, &[0; 32]);
        assert_eq!(
            signer.verify(wrong_key.as_bytes(), NOW),
            Verification::Foreign
        );
    }

    #[test]
    fn token_contains_neither_secret_nor_hash() {
        let token = issued(&Signer::new(KEY), Some("the secret"));
        let payload = token.split('.').nth(1).unwrap();
        let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let hash = Sha256::of(b"the secret");
        assert!(
            !payload.contains("the secret") && !payload.contains(&hash.to_hex()[..8]),
            "{payload}"
        );
        assert!(
            !payload.contains(&URL_SAFE_NO_PAD.encode(hash.as_bytes())[..8]),
            "{payload}"
        );
    }

    proptest! {
        #[test]
        fn token_with_a_changed_byte_is_foreign(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let signer = Signer::new(KEY);
            let mut token = issued(&signer, Some("s")).into_bytes();
            let at = at.index(token.len());
            prop_assume!(token[at] != byte);
            token[at] = byte;
            prop_assert_eq!(signer.verify(&token, NOW), Verification::Foreign);
        }

        #[test]
        fn token_of_another_length_is_foreign(length in 0_usize..400) {
            let signer = Signer::new(KEY);
            let token = issued(&signer, Some("s"));
            prop_assume!(length != token.len());
            let other: Vec<u8> = token.bytes().chain(std::iter::repeat(b'A')).take(length).collect();
            prop_assert_eq!(signer.verify(&other, NOW), Verification::Foreign);
        }
    }
}
