//! HTTP Basic (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

/// A user-id and a password, zeroized on drop. No `Debug`: both may be secret.
pub struct BasicCredentials {
    /// `user-id ":" password`
    user_pass: Zeroizing<Vec<u8>>,
    colon: usize,
}

impl BasicCredentials {
    /// Joins a user-id without a colon and a password.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user_pass: Zeroizing::new([user.as_bytes(), b":", password.as_bytes()].concat()),
            colon: user.len(),
        }
    }

    /// Decodes the part of `Authorization` after the scheme. Returns `None` unless it is padded
    /// base64 with a colon in it.
    pub fn decode(token: &[u8]) -> Option<Self> {
        let user_pass = Zeroizing::new(STANDARD.decode(token).ok()?);
        let colon = user_pass.iter().position(|&byte| byte == b':')?;
        Some(Self { user_pass, colon })
    }

    /// Returns the bytes before the first colon.
    pub fn user(&self) -> &[u8] {
        &self.user_pass[..self.colon]
    }

    /// Returns the bytes after the first colon.
    pub fn password(&self) -> &[u8] {
        &self.user_pass[self.colon + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7617_2_first_colon_separates_user_and_password() {
        for (token, user, password) in [
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),
            ("YTpiOmM=", "a", "b:c"),
            ("Ojo=", "", ":"),
            ("YTo=", "a", ""),
        ] {
            let credentials = BasicCredentials::decode(token.as_bytes()).unwrap();
            assert_eq!(
                (credentials.user(), credentials.password()),
                (user.as_bytes(), password.as_bytes())
            );
            let joined = BasicCredentials::new(user, password);
            assert_eq!(
                (joined.user(), joined.password()),
                (credentials.user(), credentials.password())
            );
        }
    }

    #[test]
    fn invalid_base64_or_missing_colon_is_rejected() {
        for token in ["", "c3BsdW5r", "%%%", "YTpiOmM", "a:b", "\""] {
            assert!(
                BasicCredentials::decode(token.as_bytes()).is_none(),
                "{token}"
            );
        }
    }
}
