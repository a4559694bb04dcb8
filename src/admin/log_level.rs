//! `/log-level`: which lines the log has, seen and changed while the program runs.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::{Admin, Answer, json, only, text};

/// A level's name is shorter.
const MAX_BODY: usize = 64;
/// For the body to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is to be put.
const USAGE: &str = "put one of off, error, warn, info, debug, trace\n";

#[derive(Serialize)]
struct Told {
    level: String,
}

/// Tells the level, or changes it until the program ends or it is changed again.
pub(super) async fn answer(admin: &Admin, request: Request<Incoming>) -> Answer {
    let Some(log) = &admin.log else {
        return text(
            StatusCode::NOT_FOUND,
            "this process does not write its log by itself\n",
        );
    };
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::PUT => match wanted(request).await {
            Some(level) => {
                let before = log.levels.level();
                let say = || tracing::warn!(%before, %level, "an operator changes the log level");
                // At the more talkative of the two, so that the line is seen.
                if level < before {
                    say();
                    log.levels.set(level);
                } else {
                    log.levels.set(level);
                    say();
                }
            }
            None => return text(StatusCode::BAD_REQUEST, USAGE),
        },
        _ => return only("GET, HEAD, PUT"),
    }
    json(
        StatusCode::OK,
        &Told {
            level: log.levels.level().to_string(),
        },
    )
}

/// The level that the body names.
async fn wanted(request: Request<Incoming>) -> Option<LevelFilter> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = tokio::time::timeout(PATIENCE, body)
        .await
        .ok()?
        .ok()?
        .to_bytes();
    named(str::from_utf8(&body).ok()?)
}

/// `LevelFilter` would also read numbers and the empty text.
fn named(text: &str) -> Option<LevelFilter> {
    let text = text.trim().trim_matches('"');
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_as_in_the_configuration() {
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
            assert_eq!(named(text), level, "{text}");
        }
    }
}
