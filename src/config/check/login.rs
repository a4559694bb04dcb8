//! `[login]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;

use super::{DAY, Report, secret};
use crate::config::LoginSettings;
use crate::config::raw::RawLogin;

const KEY: &str = "{ file = \"/run/secrets/login-signing-key\" }";
/// The range of a token lifetime, which responses state in whole seconds.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;

pub(super) fn check_login(login: &RawLogin, report: &mut Report<'_>) -> LoginSettings {
    LoginSettings {
        signing_key: signing_key(login, report),
        token_lifetime: report.duration(&login.token_lifetime, Duration::from_hours(1), LIFETIME),
    }
}

fn signing_key(login: &RawLogin, report: &mut Report<'_>) -> Option<SecretString> {
    let source = secret::check_secret(&login.signing_key, Some("signing_key"), KEY, report)?;
    if let Some(path) = source.path() {
        report.add_file(&login.signing_key, path);
    }
    secret::check_key(&login.signing_key, &source, KEY, report)
}
