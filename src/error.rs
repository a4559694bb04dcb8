//! The closed set of ways an exchange can fail, and the only place where a failure becomes an answer.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use citrix_wire::citrix::headers::X_CWS_TRANSACTION_ID;

/// Says in a header which reason an answer of ours has; Citrix's own answers never carry it.
pub const X_PROXY_ERROR: HeaderName = HeaderName::from_static("x-proxy-error");

/// How a caller that is not known is asked to show who he is.
pub const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"citrix-auth-proxy\", charset=\"UTF-8\"");

/// `Retry-After` of a response at a limit: most permits are released within a second.
pub const LIMIT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why the proxy itself answers instead of Citrix. The names are a contract: `X-Proxy-Error`, the problem's
/// `type`, the access log and `errors_total` all use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request is not one that can be forwarded.
    BadRequest,
    /// The caller did not show who he is.
    CallerUnknown,
    /// The caller may not do this.
    CallerForbidden,
    /// No credential for the customer named, or not for this caller.
    CustomerForbidden,
    /// No route leads from this path.
    NoRoute,
    /// The request body is larger than `limits.max_body_bytes`.
    BodyTooLarge,
    /// The request head is larger than `limits.max_header_bytes`.
    HeadersTooLarge,
    /// A request head or body stalled.
    RequestTimeout,
    /// The `Host` is none the proxy answers to.
    ForeignHost,
    /// No connection to the upstream: refused, DNS, TLS, timeout.
    UpstreamConnect,
    /// The upstream closed or sent no HTTP before its head was complete.
    UpstreamBroken,
    /// There is no usable token.
    TokenUnavailable,
    /// Citrix has put the site to sleep (530).
    SiteFrozen,
    /// A limit of the proxy is reached.
    Overloaded,
    /// The wait for a place in a route's queue was too long.
    QueueTimeout,
    /// The upstream took longer than `upstream.response_timeout` to answer.
    UpstreamTimeout,
}

/// At whose door a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Caller,
    /// Citrix's, or the network's towards it.
    Upstream,
    /// Ours: a limit, or no token.
    Proxy,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::CallerForbidden,
        Self::CallerUnknown,
        Self::CustomerForbidden,
        Self::ForeignHost,
        Self::HeadersTooLarge,
        Self::NoRoute,
        Self::Overloaded,
        Self::QueueTimeout,
        Self::RequestTimeout,
        Self::SiteFrozen,
        Self::TokenUnavailable,
        Self::UpstreamBroken,
        Self::UpstreamConnect,
        Self::UpstreamTimeout,
    ];

    /// The name, as it stands in headers, logs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::CallerForbidden => "caller_forbidden",
            Self::CallerUnknown => "caller_unknown",
            Self::CustomerForbidden => "customer_forbidden",
            Self::ForeignHost => "foreign_host",
            Self::HeadersTooLarge => "headers_too_large",
            Self::NoRoute => "no_route",
            Self::Overloaded => "overloaded",
            Self::QueueTimeout => "queue_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::SiteFrozen => "site_frozen",
            Self::TokenUnavailable => "token_unavailable",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::CallerUnknown => StatusCode::UNAUTHORIZED,
            Self::CallerForbidden | Self::CustomerForbidden => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpstreamConnect | Self::UpstreamBroken => StatusCode::BAD_GATEWAY,
            Self::TokenUnavailable | Self::SiteFrozen | Self::Overloaded | Self::QueueTimeout => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// At whose door it lies.
    pub const fn fault(self) -> Fault {
        match self {
            Self::BadRequest
            | Self::CallerUnknown
            | Self::CallerForbidden
            | Self::CustomerForbidden
            | Self::NoRoute
            | Self::BodyTooLarge
            | Self::HeadersTooLarge
            | Self::RequestTimeout
            | Self::ForeignHost => Fault::Caller,
            Self::UpstreamConnect
            | Self::UpstreamBroken
            | Self::UpstreamTimeout
            | Self::SiteFrozen => Fault::Upstream,
            Self::TokenUnavailable | Self::Overloaded | Self::QueueTimeout => Fault::Proxy,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request cannot be forwarded",
            Self::CallerUnknown => "The gateway does not know who you are",
            Self::CallerForbidden => "The gateway does not let you do this",
            Self::CustomerForbidden => "The gateway has no credential for this customer",
            Self::NoRoute => "The gateway has no route for this path",
            Self::BodyTooLarge => "The request body is too large",
            Self::HeadersTooLarge => "The request head is too large",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::ForeignHost => "The gateway does not answer to this host name",
            Self::UpstreamConnect => "The gateway cannot connect to Citrix Cloud",
            Self::UpstreamBroken => "Citrix Cloud broke the connection off",
            Self::TokenUnavailable => "The gateway has no usable token",
            Self::SiteFrozen => "The site is being woken up",
            Self::Overloaded => "The gateway is at a limit",
            Self::QueueTimeout => "The wait for a place in the queue was too long",
            Self::UpstreamTimeout => "Citrix Cloud did not answer in time",
        }
    }
}

/// A failed exchange.
#[derive(Debug)]
pub struct Failure {
    reason: Reason,
    /// What the caller is told; never a secret, never the text of an upstream.
    detail: Cow<'static, str>,
    /// When trying again makes sense.
    retry_after: Option<Duration>,
    /// The transaction id of the login that failed (`token_unavailable`).
    login_transaction_id: Option<HeaderValue>,
    /// For the log only.
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure with what its caller is told.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            retry_after: None,
            login_transaction_id: None,
            cause: None,
        }
    }

    /// Returns an `overloaded` failure that may be retried after [`LIMIT_RETRY_AFTER`].
    pub fn overloaded(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Overloaded, detail).retry_after(LIMIT_RETRY_AFTER)
    }

    /// Adds what the log shall say of the cause.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds Citrix's id of the login that failed.
    #[must_use]
    pub fn login_transaction_id(mut self, id: Option<HeaderValue>) -> Self {
        self.login_transaction_id = id;
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What the caller is told.
    pub fn detail(&self) -> &Cow<'static, str> {
        &self.detail
    }

    /// The chain of causes on one line, for the log; empty when there is none.
    pub fn cause_chain(&self) -> String {
        let mut text = String::new();
        let mut next: Option<&(dyn StdError + 'static)> = match &self.cause {
            Some(cause) => Some(&**cause),
            None => None,
        };
        while let Some(cause) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }

    /// The answer, in the shape of Citrix's own errors. The header with the id is added where every answer
    /// gets one; the body repeats it, because many tools log nothing but the body.
    pub fn into_response(self, transaction_id: &HeaderValue) -> Response<Bytes> {
        let status = self.reason.status();
        let problem = Problem {
            r#type: format!("urn:citrix-auth-proxy:{}", self.reason.as_str()),
            title: self.reason.title(),
            status: status.as_u16(),
            detail: &self.detail,
            parameters: [Parameter {
                name: "Citrix-TransactionId",
                value: transaction_id.to_str().unwrap_or_default(),
            }],
        };
        // A struct of strings and numbers always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            X_PROXY_ERROR,
            HeaderValue::from_static(self.reason.as_str()),
        );
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(id) = self.login_transaction_id {
            headers.insert(X_CWS_TRANSACTION_ID, id);
        }
        if self.reason == Reason::CallerUnknown {
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Some(cause) => Some(&**cause),
            None => None,
        }
    }
}

/// Rounded up: a caller that obeys must not come early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// RFC 9457's members plus the `parameters` of Citrix's error bodies (contract §3).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    parameters: [Parameter<'a>; 1],
}

#[derive(Serialize)]
struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_reasons_and_statuses_stands() {
        let table = [
            ("bad_request", 400),
            ("body_too_large", 413),
            ("caller_forbidden", 403),
            ("caller_unknown", 401),
            ("customer_forbidden", 403),
            ("foreign_host", 421),
            ("headers_too_large", 431),
            ("no_route", 404),
            ("overloaded", 503),
            ("queue_timeout", 503),
            ("request_timeout", 408),
            ("site_frozen", 503),
            ("token_unavailable", 503),
            ("upstream_broken", 502),
            ("upstream_connect", 502),
            ("upstream_timeout", 504),
        ];
        let ours: Vec<_> = Reason::ALL
            .iter()
            .map(|r| (r.as_str(), r.status().as_u16()))
            .collect();
        assert_eq!(ours, table);
    }

    #[test]
    fn an_answer_tells_the_reason_and_hides_the_cause() {
        let failure = Failure::new(Reason::TokenUnavailable, "no token yet")
            .with_source("secret cause")
            .retry_after(Duration::from_millis(1200))
            .login_transaction_id(Some(HeaderValue::from_static("t-1")));
        assert_eq!(failure.cause_chain(), "secret cause");
        let response = failure.into_response(&HeaderValue::from_static("ours"));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[X_PROXY_ERROR], "token_unavailable");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[X_CWS_TRANSACTION_ID], "t-1");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["type"], "urn:citrix-auth-proxy:token_unavailable");
        assert_eq!(body["status"], 503);
        assert_eq!(body["detail"], "no token yet");
        assert_eq!(
            body["parameters"][0],
            serde_json::json!({"name": "Citrix-TransactionId", "value": "ours"})
        );
        assert!(!String::from_utf8_lossy(response.body()).contains("secret cause"));
    }
}
