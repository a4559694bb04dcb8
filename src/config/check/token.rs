//! `[token]`: the token's life.

use std::time::Duration;

use super::{Report, TIMEOUT, WAIT, file};
use crate::config::Token;

pub(super) fn check(token: &file::Token, report: &mut Report<'_>) -> Token {
    let instead = "leave it out; a token is asked for at each start";
    report.refuse(&token.cache_file, instead);
    report.refuse(&token.cache_key, instead);
    Token {
        refresh_at: report.fraction(&token.refresh_at, 0.75, 0.1..=0.95),
        startup_wait: report.duration(&token.startup_wait, Duration::from_secs(5), WAIT),
        request_timeout: report.duration(&token.request_timeout, Duration::from_secs(15), TIMEOUT),
        min_forced_interval: report.duration(&token.min_forced_interval, Duration::from_secs(10), TIMEOUT),
    }
}
