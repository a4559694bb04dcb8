//! Gateway tokens (interface §4.5): what the gateway's own token endpoints hand out, and what then admits a caller.
//!
//! A token says whose it is and until when, and is bound to what its caller's secret is at present. It admits nobody
//! from where its caller may not come: that is judged anew at each use, as with a secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::config::Caller;

const ALGORITHM: Algorithm = Algorithm::HS256;
const ISSUER: &str = "citrix-auth-proxy";
/// Ours have some 250 bytes. What is longer is not looked at.
const LONGEST: usize = 1024;
/// In front of what is bound, so that the same key never signs the same bytes as a token's.
const BINDING: &[u8] = b"binding\0";

/// Signs tokens and tells its own from others.
pub struct Signer {
    signing: EncodingKey,
    verifying: DecodingKey,
    binding: hmac::Key,
    validation: Validation,
}

/// What a credential is, looked at as a gateway token.
#[derive(Debug, PartialEq, Eq)]
pub enum Verification {
    /// Not one that this key signed.
    Foreign,
    /// One whose time is over.
    Expired,
    /// One in its time.
    Valid(Claims),
}

/// What a token says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// The caller's name; none where nobody was configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    iat: u64,
    exp: u64,
    /// To what the caller's secret was.
    bnd: String,
}

impl Claims {
    /// The name of the caller it was issued to.
    pub fn caller(&self) -> Option<&str> {
        self.sub.as_deref()
    }
}

/// A token could not be signed, which no input leads to.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct SigningError(#[from] jsonwebtoken::errors::Error);

impl Signer {
    /// With a key of 32 bytes or more.
    pub fn new(key: &[u8]) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "exp"]);
        validation.validate_aud = false;
        // Judged here, by a clock that tests can move.
        validation.validate_exp = false;
        Self {
            signing: EncodingKey::from_secret(key),
            verifying: DecodingKey::from_secret(key),
            binding: hmac::Key::new(HMAC_SHA256, key),
            validation,
        }
    }

    /// With a key that nobody else has.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key)?;
        Ok(Self::new(&*key))
    }

    /// A token for a caller; for nobody in particular where none is configured.
    ///
    /// # Errors
    /// Never, as far as anybody can see; the library could.
    pub fn issue(
        &self,
        caller: Option<&Caller>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Zeroizing<String>, SigningError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: caller.map(|caller| caller.name.clone()),
            iat: seconds(now),
            exp: seconds(now + lifetime),
            bnd: self.binding(caller),
        };
        Ok(Zeroizing::new(jsonwebtoken::encode(
            &Header::new(ALGORITHM),
            &claims,
            &self.signing,
        )?))
    }

    /// What is shown, as a token.
    pub fn verify(&self, shown: &[u8], now: SystemTime) -> Verification {
        if shown.len() > LONGEST || !looks_like_jwt(shown) {
            return Verification::Foreign;
        }
        match jsonwebtoken::decode::<Claims>(shown, &self.verifying, &self.validation) {
            Err(_) => Verification::Foreign,
            Ok(token) if token.claims.exp <= seconds(now) => Verification::Expired,
            Ok(token) => Verification::Valid(token.claims),
        }
    }

    /// Whether the caller's secret is what it was when the token was issued.
    pub fn is_current(&self, claims: &Claims, caller: &Caller) -> bool {
        claims.bnd == self.binding(Some(caller))
    }

    /// Tells whether a secret changed, and nothing else of it: what makes it is a key that stays here.
    fn binding(&self, caller: Option<&Caller>) -> String {
        let mut context = hmac::Context::with_key(&self.binding);
        context.update(BINDING);
        if let Some(secret) = caller.and_then(|caller| caller.secret.as_ref()) {
            context.update(secret.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..16])
    }
}

/// Whether it has the shape of a signed JWT, ours or anybody's, as no secret of a caller has.
pub fn looks_like_jwt(shown: &[u8]) -> bool {
    // `{"` in base64.
    shown.starts_with(b"eyJ") && shown.iter().filter(|&&byte| byte == b'.').count() == 2
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::callers::tests::caller;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const HOUR: Duration = Duration::from_hours(1);
    const NOW: SystemTime = UNIX_EPOCH;

    fn issued(signer: &Signer, secret: Option<&str>) -> String {
        signer
            .issue(Some(&caller("splunk", secret, &[], None)), NOW, HOUR)
            .unwrap()
            .to_string()
    }

    fn claims(signer: &Signer, token: &str) -> Claims {
        match signer.verify(token.as_bytes(), NOW) {
            Verification::Valid(claims) => claims,
            other => panic!("{other:?}"),
        }
    }

    /// A token whose parts are these, signed as the algorithm's name says.
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
    fn a_token_tells_whose_it_is_wherever_the_key_is_the_same_and_until_its_end() {
        let token = issued(&Signer::new(KEY), Some("s"));
        let elsewhere = Signer::new(KEY);
        assert_eq!(claims(&elsewhere, &token).caller(), Some("splunk"));
        let at = |time| elsewhere.verify(token.as_bytes(), time);
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
    fn a_token_goes_with_the_secret_that_its_caller_had() {
        let signer = Signer::new(KEY);
        for (then, now, is_current) in [
            (Some("s"), Some("s"), true),
            (Some("s"), Some("t"), false),
            (Some("s"), None, false),
            (None, Some("s"), false),
            (None, None, true),
        ] {
            let claims = claims(&signer, &issued(&signer, then));
            let caller = caller("splunk", now, &[], None);
            assert_eq!(
                signer.is_current(&claims, &caller),
                is_current,
                "{then:?} {now:?}"
            );
        }
        let nobodys = signer.issue(None, NOW, HOUR).unwrap();
        assert_eq!(claims(&signer, &nobodys).caller(), None);
    }

    #[test]
    fn rfc8725_3_1_a_token_has_one_algorithm_and_says_who_issued_it() {
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
    fn a_token_holds_neither_secret_nor_hash() {
        let token = issued(&Signer::new(KEY), Some("the secret"));
        let payload = token.split('.').nth(1).unwrap();
        let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let hash = crate::system::digest::Sha256::of(b"the secret");
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
        fn whoever_changes_a_byte_has_no_token(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let signer = Signer::new(KEY);
            let mut token = issued(&signer, Some("s")).into_bytes();
            let at = at.index(token.len());
            prop_assume!(token[at] != byte);
            token[at] = byte;
            prop_assert_eq!(signer.verify(&token, NOW), Verification::Foreign);
        }

        #[test]
        fn a_token_that_was_cut_or_grew_is_none(length in 0_usize..400) {
            let signer = Signer::new(KEY);
            let token = issued(&signer, Some("s"));
            prop_assume!(length != token.len());
            let other: Vec<u8> = token.bytes().chain(std::iter::repeat(b'A')).take(length).collect();
            prop_assert_eq!(signer.verify(&other, NOW), Verification::Foreign);
        }
    }
}
