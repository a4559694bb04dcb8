//! `[token]`: the token's life.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{Report, TIMEOUT, WAIT, file, secret};
use crate::config::value::{Checked, Leaf};
use crate::config::{TokenCache, TokenSettings};

/// The least length of the cache's key, in bytes: that of the AES key it becomes.
const SHORTEST_KEY: usize = 32;

pub(super) fn check(token: &file::Token, report: &mut Report<'_>) -> TokenSettings {
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

/// Where tokens survive a restart. Key and folder have been looked at once.
pub(super) fn check_cache(token: &file::Token, report: &mut Report<'_>) -> Option<TokenCache> {
    const EXAMPLE: &str = "{ file = \"/run/secrets/token-cache-key\" }";
    if token.cache_file.value.is_none() {
        if token.cache_key.value.is_some() {
            report.wrong(
                &token.cache_file,
                "missing: cache_key is of no use without it",
                FILE_EXAMPLE,
            );
        }
        return None;
    }
    let file = report.read(&token.cache_file, FILE_EXAMPLE, cache_file);
    let key = secret::check_secret(&token.cache_key, Some("cache_key"), EXAMPLE, report);
    if key.is_none() && token.cache_key.value.is_none() {
        report.missing(
            &token.cache_key,
            "missing: what cache_file is encrypted with",
            EXAMPLE,
        );
    }
    // A key that cannot be read was told already.
    let length = key.as_ref()?.read().ok()?.expose_secret().len();
    if length < SHORTEST_KEY {
        let what = format!("is {length} bytes long and must be 32 or more");
        report.wrong(&token.cache_key, what, EXAMPLE);
    }
    Some(TokenCache {
        file: file?,
        key: key?,
    })
}

const FILE_EXAMPLE: &str = "\"/var/lib/citrix-auth-proxy/token\"";

fn cache_file(leaf: &Leaf) -> Checked<PathBuf> {
    let path = PathBuf::from(leaf.text()?);
    let Some(folder) = path.file_name().and(path.parent()) else {
        return Err(format!("{} is not the path of a file", leaf.shown()));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if !folder.is_dir() || path.is_dir() {
        return Err(format!(
            "{} is not a file in a folder that exists",
            leaf.shown()
        ));
    }
    Ok(path)
}
