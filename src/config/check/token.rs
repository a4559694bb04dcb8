//! `[token]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Report, TIMEOUT, WAIT, secret};
use crate::config::raw::RawToken;
use crate::config::value::{Checked, Leaf};
use crate::config::{TokenCache, TokenSettings};

const CACHE_FILE: &str = "\"/var/lib/citrix-auth-proxy/token\"";
const CACHE_KEY: &str = "{ file = \"/run/secrets/token-cache-key\" }";

pub(super) fn check_token(token: &RawToken, report: &mut Report<'_>) -> TokenSettings {
    TokenSettings {
        refresh_at: report.fraction(&token.refresh_at, 0.75, 0.1..=0.95),
        startup_wait: report.duration(&token.startup_wait, Duration::from_secs(5), WAIT),
        request_timeout: report.duration(&token.request_timeout, Duration::from_secs(15), TIMEOUT),
        min_forced_interval: report.duration(
            &token.min_forced_interval,
            Duration::from_secs(10),
            TIMEOUT,
        ),
    }
}

/// Checks `cache_file` and `cache_key`, which require each other.
pub(super) fn check_token_cache(token: &RawToken, report: &mut Report<'_>) -> Option<TokenCache> {
    if token.cache_file.value.is_none() {
        if token.cache_key.value.is_some() {
            report.require(&token.cache_file, "required by cache_key", CACHE_FILE);
        }
        return None;
    }
    let folder = report.resolve("");
    let file = report.read(&token.cache_file, CACHE_FILE, |leaf| {
        cache_file(leaf, &folder)
    });
    let key = secret::check_secret(&token.cache_key, Some("cache_key"), CACHE_KEY, report);
    if key.is_none() {
        let purpose = "the key that encrypts cache_file";
        report.require(&token.cache_key, purpose, CACHE_KEY);
    }
    let key = key?;
    secret::check_key(&token.cache_key, &key, CACHE_KEY, report)?;
    Some(TokenCache { file: file?, key })
}

/// Parses the path of a file, which need not exist, in an existing directory.
fn cache_file(leaf: &Leaf, folder: &Path) -> Checked<PathBuf> {
    let path = folder.join(leaf.text()?);
    let Some(directory) = path.file_name().and(path.parent()) else {
        return Err(format!("{} is not the path of a file", leaf.shown()));
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    if !directory.is_dir() || path.is_dir() {
        return Err(format!(
            "{} is not a file in an existing directory",
            leaf.shown()
        ));
    }
    Ok(path)
}
