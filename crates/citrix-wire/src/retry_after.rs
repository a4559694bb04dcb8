//! The wait that a 429 or 503 requests.
//!
//! Citrix sends it as `Retry-After` (seconds, an HTTP date or an RFC 3339 date) or only in a JSON
//! body, as the parameter `retryDelay` or in a sentence of the API gateway (contract §4).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use serde_json::Value;

use crate::json::{self, member};

/// Returns the wait that a response requests. `now` is the sender's time, since a date is of its
/// clock.
pub fn from_response(headers: &HeaderMap, body: &[u8], now: SystemTime) -> Option<Duration> {
    from_header(headers, now).or_else(|| from_body(body))
}

/// Returns the sender's time from `Date`.
pub fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// Returns the wait from `Retry-After`; zero for a date in the past.
pub fn from_header(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = seconds(text) {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(text)
        .or_else(|_| humantime::parse_rfc3339(text))
        .ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Returns the wait from a JSON body.
pub fn from_body(body: &[u8]) -> Option<Duration> {
    let body = json::parse(body)?;
    from_parameters(member(&body, "parameters"))
        .or_else(|| from_message(member(&body, "message")?.as_str()?))
}

/// Returns the wait in `parameters`: a list of objects with name and value, or sometimes one
/// object.
fn from_parameters(parameters: Option<&Value>) -> Option<Duration> {
    let delay = match parameters? {
        Value::Array(list) => list
            .iter()
            .find(|parameter| {
                member(parameter, "name")
                    .and_then(Value::as_str)
                    .is_some_and(|name| name.eq_ignore_ascii_case("retryDelay"))
            })
            .and_then(|parameter| member(parameter, "value")),
        one => member(one, "retryDelay"),
    };
    match delay? {
        Value::String(text) => seconds(text.trim()),
        Value::Number(number) => number
            .as_f64()
            .and_then(|secs| Duration::try_from_secs_f64(secs).ok()),
        _ => None,
    }
}

/// Returns the wait in a message such as "Rate limit is exceeded. Try again in 42 seconds."
fn from_message(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("Try again in ")?;
    let (number, unit) = rest.split_once(' ')?;
    if unit.starts_with("second") {
        seconds(number)
    } else {
        None
    }
}

/// Parses digits with an optional fraction; no sign, exponent or `inf`.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.starts_with(|first: char| first.is_ascii_digit());
    if !digits
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn check(header: Option<&'static str>, body: &str, expected: Option<u64>) {
        // 2026-01-01T00:00:00Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(header));
        }
        assert_eq!(
            from_response(&headers, body.as_bytes(), now),
            expected.map(Duration::from_secs),
            "{header:?} {body}"
        );
    }

    #[test]
    fn contract_4_every_form_of_the_wait_is_parsed() {
        check(Some("7"), "", Some(7));
        check(Some(" 7 "), "", Some(7));
        check(Some("Thu, 01 Jan 2026 00:00:30 GMT"), "", Some(30));
        check(Some("2026-01-01T00:00:45Z"), "", Some(45));
        check(Some("Thu, 01 Jan 2025 00:00:30 GMT"), "", None);
        check(Some("2025-01-01T00:00:45Z"), "", Some(0));
        check(Some("Wed, 01 Jan 2025 00:00:30 GMT"), "", Some(0));
        check(Some("Thursday, 01-Jan-26 00:00:30 GMT"), "", Some(30));
        check(Some("Thu Jan  1 00:00:30 2026"), "", Some(30));
        // More than 50 years ahead (RFC 9110 section 5.6.7).
        check(Some("Friday, 01-Jan-99 00:00:30 GMT"), "", Some(0));
        check(
            None,
            r#"{"type":"x","parameters":[{"name":"a","value":"1"},{"name":"retryDelay","value":"12"}]}"#,
            Some(12),
        );
        check(None, r#"{"parameters":{"retryDelay":13}}"#, Some(13));
        check(
            None,
            "\u{feff}{\"Parameters\":[{\"Name\":\"retryDelay\",\"Value\":\"14\"}]}",
            Some(14),
        );
        check(None, r#"{"Parameters":{"RetryDelay":15}}"#, Some(15));
        check(
            None,
            r#"{"StatusCode":429,"Message":"Rate limit is exceeded. Try again in 16 seconds."}"#,
            Some(16),
        );
        check(
            None,
            r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 42 seconds."}"#,
            Some(42),
        );
        check(Some("7"), r#"{"parameters":{"retryDelay":13}}"#, Some(7));
        check(
            Some("soon"),
            r#"{"parameters":{"retryDelay":13}}"#,
            Some(13),
        );
    }

    proptest! {
        #[test]
        fn all_forms_of_one_wait_are_equal(seconds in 0_u64..=10_000_000, now in 0_u64..4_000_000_000) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let wait_for = Duration::from_secs(seconds);
            let headers = [
                seconds.to_string(),
                httpdate::fmt_http_date(now + wait_for),
                humantime::format_rfc3339_seconds(now + wait_for).to_string(),
            ];
            for header in headers {
                let headers =
                    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::try_from(&header).unwrap())]);
                prop_assert_eq!(from_response(&headers, b"", now), Some(wait_for), "{}", header);
            }
            let bodies = [
                format!(r#"{{"parameters":[{{"name":"retryDelay","value":"{seconds}"}}]}}"#),
                format!(r#"{{"parameters":[{{"name":"RetryDelay","value":{seconds}}}]}}"#),
                format!(r#"{{"parameters":{{"retryDelay":"{seconds}"}}}}"#),
                format!(r#"{{"message":"Rate limit is exceeded. Try again in {seconds} seconds."}}"#),
            ];
            for body in bodies {
                prop_assert_eq!(from_response(&HeaderMap::new(), body.as_bytes(), now), Some(wait_for), "{}", body);
            }
        }
    }

    #[test]
    fn malformed_wait_is_none() {
        for header in ["", "-1", "soon", "1e3", "inf", "NaN", "1.2.3"] {
            check(Some(header), "", None);
        }
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            r#"{"parameters":[1]}"#,
            r#"{"parameters":{"retryDelay":-1}}"#,
        ] {
            check(None, body, None);
        }
        check(None, r#"{"message":"Try again in a moment."}"#, None);
        check(None, r#"{"parameters":{"retryDelay":1e300}}"#, None);
    }
}
