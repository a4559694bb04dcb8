//! `[login]`: the gateway's own token endpoints.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{DAY, Report, file, secret};
use crate::config::LoginSettings;

/// The least length of the signing key, in bytes: that of the HMAC it is for (RFC 7518 section 3.2).
const SHORTEST_KEY: usize = 32;
const KEY: &str = "{ file = \"/run/secrets/login-signing-key\" }";
/// Tools are told it in whole seconds.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;

pub(super) fn check(login: &file::Login, report: &mut Report<'_>) -> LoginSettings {
    LoginSettings {
        signing_key: signing_key(login, report),
        token_lifetime: report.duration(&login.token_lifetime, Duration::from_hours(1), LIFETIME),
    }
}

fn signing_key(login: &file::Login, report: &mut Report<'_>) -> Option<SecretString> {
    let source = secret::check_secret(&login.signing_key, Some("signing_key"), KEY, report)?;
    if let Some(path) = source.path() {
        report.reads(&login.signing_key, path);
    }
    // A key that cannot be read was told already.
    let key = source.read().ok()?;
    let length = key.expose_secret().len();
    if length < SHORTEST_KEY {
        report.wrong(
            &login.signing_key,
            format!("is {length} bytes long and must be 32 or more"),
            KEY,
        );
        return None;
    }
    Some(key)
}
