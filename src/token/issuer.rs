//! Token requests to Citrix (contract §1).

mod classify;
mod form;

use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::outcome::Outcome;
use super::response::{self, Grant};
use super::status::Skew;
use crate::system::clock::Clock;
use crate::upstream::control_plane::{self, ControlClient, ControlResponse, SharedControlClient};
use citrix_wire::citrix::TokenDialect;
use citrix_wire::retry_after;

/// Parameters of one token request.
#[derive(Clone, Copy, Debug)]
pub struct LoginRequest<'a> {
    pub(crate) url: &'a Uri,
    pub(crate) dialect: TokenDialect,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a SecretString,
}

/// Result of a successful login.
#[derive(Debug)]
pub struct IssuedToken {
    pub(crate) grant: Grant,
    /// Citrix's transaction id.
    pub(crate) transaction_id: Option<HeaderValue>,
    /// Clock skew, from the response's `Date` or else the token's issue time.
    pub(crate) skew: Option<Skew>,
}

#[derive(Debug)]
pub struct LoginError {
    pub(crate) outcome: Outcome,
    /// Citrix's transaction id, if there was a response.
    pub(crate) transaction_id: Option<HeaderValue>,
    /// Wait that a 429 or 503 requests.
    pub(crate) retry_after: Option<Duration>,
    /// Clock skew, if the response had a `Date`.
    pub(crate) skew: Option<Skew>,
    /// Status, or error of the operating system or TLS, for the log. Never part of the response
    /// body.
    pub(crate) cause: Option<String>,
}

impl LoginError {
    /// Returns a failure without a response.
    pub(crate) const fn new(outcome: Outcome, cause: Option<String>) -> Self {
        Self {
            outcome,
            transaction_id: None,
            retry_after: None,
            skew: None,
            cause,
        }
    }
}

/// Issuer of tokens: Citrix, or a script in tests.
pub trait Issuer: Send + Sync {
    /// Sends one token request, without retries.
    fn log_in(
        &self,
        login: LoginRequest<'_>,
    ) -> impl Future<Output = Result<IssuedToken, LoginError>> + Send;
}

/// [`Issuer`] over HTTP.
#[derive(Clone, Debug)]
pub struct HttpIssuer {
    client: SharedControlClient,
    clock: Clock,
}

impl HttpIssuer {
    /// Returns an issuer with a client of its own.
    pub fn new(client: ControlClient, clock: Clock) -> Self {
        Self::with_shared(client.into(), clock)
    }

    /// Returns an issuer with a shared client.
    pub const fn with_shared(client: SharedControlClient, clock: Clock) -> Self {
        Self { client, clock }
    }
}

fn request(login: LoginRequest<'_>) -> Result<Request<Bytes>, LoginError> {
    let id = login.client_id;
    let secret = login.client_secret.expose_secret();
    // The body is wiped after it was sent. Copies that hyper and TLS make are not.
    let (content_type, body) = match login.dialect {
        // Without a charset, which Citrix rejects (contract §1.1).
        TokenDialect::Oauth2 => ("application/x-www-form-urlencoded", form::body(id, secret)),
        TokenDialect::Trust => ("application/json", trust_body(id, secret)?),
    };
    let mut request = Request::new(Bytes::from_owner(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = login.url.clone();
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(request)
}

/// JSON body of a login at the trust service (contract §1.1).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrustRequest<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

fn trust_body(client_id: &str, client_secret: &str) -> Result<Zeroizing<Vec<u8>>, LoginError> {
    // Allocated at its maximum size, because a reallocation would leave a copy behind: JSON escapes
    // a byte in six bytes at most.
    let mut body = Zeroizing::new(Vec::with_capacity(
        6 * (client_id.len() + client_secret.len()) + 64,
    ));
    serde_json::to_writer(
        &mut *body,
        &TrustRequest {
            client_id,
            client_secret,
        },
    )
    .map_err(|_| LoginError::new(Outcome::Malformed, None))?;
    Ok(body)
}

impl Issuer for HttpIssuer {
    async fn log_in(&self, login: LoginRequest<'_>) -> Result<IssuedToken, LoginError> {
        let request = request(login)?;
        let sent = self.clock.now();
        let response = self
            .client
            .get()
            .send(request)
            .await
            .map_err(|error| classify::no_response(&error))?;
        let context = ResponseContext::new(&response, sent);
        let ControlResponse {
            status,
            headers,
            body,
            ..
        } = response;
        if status != StatusCode::OK {
            // The status counts even if the body could not be read.
            let body = body.unwrap_or_default();
            return Err(context.rejected(status, &headers, &body, self.clock.now()));
        }
        let grant = body
            .map_err(classify::incomplete_body)
            .and_then(|body| response::parse(login.dialect, &body))
            .map_err(|outcome| context.failure(outcome, status))?;
        let skew = context
            .skew
            .or_else(|| grant.issued.map(|issued| context.skew_at(issued)));
        Ok(IssuedToken {
            grant,
            transaction_id: context.transaction_id,
            skew,
        })
    }
}

/// The parts of a response that do not depend on success.
struct ResponseContext {
    transaction_id: Option<HeaderValue>,
    date: Option<SystemTime>,
    skew: Option<Skew>,
    sent: SystemTime,
    round_trip: Duration,
}

impl ResponseContext {
    fn new(response: &ControlResponse, sent: SystemTime) -> Self {
        let date = retry_after::date(&response.headers);
        Self {
            transaction_id: control_plane::transaction_id(&response.headers),
            date,
            skew: date.map(|date| Skew::measure(date, sent, response.elapsed)),
            sent,
            round_trip: response.elapsed,
        }
    }

    /// Returns the skew if Citrix's clock read `citrix` when it responded.
    fn skew_at(&self, citrix: SystemTime) -> Skew {
        Skew::measure(citrix, self.sent, self.round_trip)
    }

    fn failure(&self, outcome: Outcome, status: StatusCode) -> LoginError {
        LoginError {
            outcome,
            transaction_id: self.transaction_id.clone(),
            retry_after: None,
            skew: self.skew,
            cause: Some(format!("status {}", status.as_u16())),
        }
    }

    fn rejected(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> LoginError {
        let outcome = match Outcome::of_status(status) {
            Outcome::Http4xx | Outcome::Unauthorized if response::is_invalid_client(body) => {
                Outcome::InvalidClient
            }
            outcome => outcome,
        };
        // Only these carry a wait (RFC 9110, section 10.2.3; contract §4).
        let retry_after = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                retry_after::from_response(headers, body, self.date.unwrap_or(now))
            }
            _ => None,
        };
        LoginError {
            retry_after,
            ..self.failure(outcome, status)
        }
    }
}

#[cfg(test)]
mod tests;
