//! Responses of path faults, with retry delays in all formats that Citrix uses (contract §4).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::json;

use super::access::Dialect;
use super::bearer_status::BearerStatus;
use super::faults::{Fault, Hint};
use super::responses::{self, Response, WithoutTransactionId};

/// Returns the response that a fault injects; `now` is the time of the cloud's clock.
pub(super) fn respond(fault: Fault, seconds: u32, now: SystemTime) -> Response {
    match fault {
        Fault::RateLimited(Hint::Seconds) => responses::apim_rate_limited(seconds.into()),
        Fault::RateLimited(Hint::Body) => {
            let detail = "Too many requests.";
            with_delay(
                StatusCode::TOO_MANY_REQUESTS,
                "common/rateLimitExceeded",
                detail,
                Some(seconds),
            )
        }
        Fault::RateLimited(hint) => hinted(
            responses::apim_too_many("Rate limit is exceeded."),
            hint,
            seconds,
            now,
        ),
        Fault::Unavailable(hint) => {
            let in_body = (hint == Hint::Body).then_some(seconds);
            let (kind, detail) = ("common/serviceUnavailable", "The service is not available.");
            hinted(
                with_delay(StatusCode::SERVICE_UNAVAILABLE, kind, detail, in_body),
                hint,
                seconds,
                now,
            )
        }
        Fault::BadGateway => {
            let mut response = responses::html(
                StatusCode::BAD_GATEWAY,
                "<html><h1>502 Bad Gateway</h1></html>",
            );
            response.extensions_mut().insert(WithoutTransactionId);
            response
        }
        Fault::ServerError => {
            responses::apim_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
        Fault::Unauthorized => Dialect::Standard.no_token(BearerStatus::Unknown, ""),
        // `serve` handles `Truncated`.
        Fault::WrongRegion | Fault::Truncated => responses::not_authorized(),
    }
}

/// Returns the standard error with `retryDelay` among its parameters.
fn with_delay(status: StatusCode, kind: &str, detail: &str, seconds: Option<u32>) -> Response {
    let parameters = match seconds {
        Some(seconds) => json!([{ "name": "retryDelay", "value": seconds.to_string() }]),
        None => json!([]),
    };
    responses::standard_error(status, kind, detail, parameters)
}

fn hinted(response: Response, hint: Hint, seconds: u32, now: SystemTime) -> Response {
    let text = match hint {
        Hint::Seconds => seconds.to_string(),
        Hint::Date => httpdate::fmt_http_date(later(now, seconds.into())),
        Hint::Rfc3339 => rfc3339(now, seconds.into()),
        Hint::Body | Hint::None => return response,
    };
    responses::with_text(response, RETRY_AFTER, &text)
}

/// Formats the time `seconds` after `now` like Endpoint Management reporting.
pub(super) fn rfc3339(now: SystemTime, seconds: u64) -> String {
    humantime::format_rfc3339_seconds(later(now, seconds)).to_string()
}

fn later(now: SystemTime, seconds: u64) -> SystemTime {
    now.checked_add(Duration::from_secs(seconds)).unwrap_or(now)
}
