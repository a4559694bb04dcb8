//! `/log-level`: returns and changes the log level.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::{Admin, FullResponse, json, method_not_allowed, text};
use crate::observe::log_levels::LogLevels;

/// Maximum body size in bytes; names of levels are shorter.
const MAX_BODY: usize = 64;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct LogLevelView {
    level: String,
}

/// Returns the level. `PUT` first changes it until the next change or the end of the program.
pub(super) async fn respond(admin: &Admin, request: Request<Incoming>) -> FullResponse {
    let Some(log) = &admin.log else {
        return text(
            StatusCode::NOT_FOUND,
            "the log level of this process cannot be changed\n",
        );
    };
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::PUT => match read_level(request).await {
            Some(level) => change(&log.levels, level),
            None => {
                return text(
                    StatusCode::BAD_REQUEST,
                    "expected one of off, error, warn, info, debug, trace\n",
                );
            }
        },
        _ => return method_not_allowed("GET, HEAD, PUT"),
    }
    json(
        StatusCode::OK,
        &LogLevelView {
            level: log.levels.level().to_string(),
        },
    )
}

/// Logs the change at the more verbose of the two levels, so that the line is written.
fn change(levels: &LogLevels, level: LevelFilter) {
    let before = levels.level();
    if level >= before {
        levels.set(level);
    }
    tracing::warn!(%before, %level, "log level changed by an operator");
    levels.set(level);
}

async fn read_level(request: Request<Incoming>) -> Option<LevelFilter> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .ok()?
        .ok()?
        .to_bytes();
    parse_level(str::from_utf8(&body).ok()?)
}

/// Parses the name of a level. `LevelFilter` also accepts numbers and the empty text.
fn parse_level(text: &str) -> Option<LevelFilter> {
    let text = text.trim().trim_matches('"');
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_parsed_from_its_name_only() {
        for (text, level) in [
            ("debug", Some(LevelFilter::DEBUG)),
            ("off\n", Some(LevelFilter::OFF)),
            ("\"warn\"", Some(LevelFilter::WARN)),
            ("Info", Some(LevelFilter::INFO)),
            ("", None),
            ("5", None),
            ("verbose", None),
            ("debug,hyper=trace", None),
        ] {
            assert_eq!(parse_level(text), level, "{text}");
        }
    }
}
