//! Asks Citrix for a token (contract 1).

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
use crate::upstream::http_client::{self, Answer, Client, SharedClient};
use citrix_wire::citrix::TokenDialect;
use citrix_wire::retry_after;

/// One login to be made.
#[derive(Clone, Copy, Debug)]
pub struct LoginRequest<'a> {
    /// The token endpoint.
    pub url: &'a Uri,
    /// What it speaks.
    pub dialect: TokenDialect,
    /// The API client's id.
    pub client_id: &'a str,
    /// The API client's secret.
    pub client_secret: &'a SecretString,
}

/// What a login that worked brings.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token and its life.
    pub grant: Grant,
    /// Citrix's transaction id.
    pub transaction_id: Option<HeaderValue>,
    /// Our clock against Citrix's, by the answer's `Date` or else by when the token says that it was issued.
    pub skew: Option<Skew>,
}

/// A login that did not work.
#[derive(Debug)]
pub struct LoginError {
    /// How; its advice is [`Outcome::advice`].
    pub outcome: Outcome,
    /// Citrix's transaction id, if it answered.
    pub transaction_id: Option<HeaderValue>,
    /// How long a 429 or 503 asks to wait.
    pub retry_after: Option<Duration>,
    /// Our clock against Citrix's, if the answer had a `Date`.
    pub skew: Option<Skew>,
    /// For the log: the status, or what the operating system or TLS said. Nothing of the answer's body.
    pub cause: Option<String>,
}

impl LoginError {
    /// A failure without an answer.
    pub const fn new(outcome: Outcome, cause: Option<String>) -> Self {
        Self {
            outcome,
            transaction_id: None,
            retry_after: None,
            skew: None,
            cause,
        }
    }
}

/// Who issues tokens: Citrix, or the script of a test.
pub trait Issuer: Send + Sync {
    /// Makes one login; no retries in here.
    fn log_in(
        &self,
        login: LoginRequest<'_>,
    ) -> impl Future<Output = Result<IssuedToken, LoginError>> + Send;
}

/// [`Issuer`] over HTTP.
#[derive(Clone, Debug)]
pub struct HttpIssuer {
    client: SharedClient,
    clock: Clock,
}

impl HttpIssuer {
    /// An issuer that makes its requests by `client`.
    pub fn new(client: Client, clock: Clock) -> Self {
        Self::over(client.into(), clock)
    }

    /// An issuer over a client that others share.
    pub const fn over(client: SharedClient, clock: Clock) -> Self {
        Self { client, clock }
    }
}

fn request(login: LoginRequest<'_>) -> Result<Request<Bytes>, LoginError> {
    let id = login.client_id;
    let secret = login.client_secret.expose_secret();
    // Wiped once it was sent, where it is ours: what hyper and TLS copy it into is not.
    let (content_type, body) = match login.dialect {
        // The form's Content-Type has no charset: Citrix refuses one (contract 1.1).
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

/// The trust service's login (contract 1.1).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrustRequest<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

fn trust_body(client_id: &str, client_secret: &str) -> Result<Zeroizing<Vec<u8>>, LoginError> {
    // All the room there can be from the start, so that growing leaves no copies behind: JSON makes six bytes of one
    // at most.
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
        let answer = self
            .client
            .get()
            .send(request)
            .await
            .map_err(|error| classify::no_answer(&error))?;
        let answered = Answered::new(&answer, sent);
        let Answer {
            status,
            headers,
            body,
            ..
        } = answer;
        if status != StatusCode::OK {
            // A body that cannot be read still has its status.
            let body = body.unwrap_or_default();
            return Err(answered.refused(status, &headers, &body, self.clock.now()));
        }
        let grant = body
            .map_err(classify::unread)
            .and_then(|body| response::parse(login.dialect, &body))
            .map_err(|outcome| answered.failure(outcome, status))?;
        let skew = answered
            .skew
            .or_else(|| grant.issued.map(|issued| answered.compare(issued)));
        Ok(IssuedToken {
            grant,
            transaction_id: answered.transaction_id,
            skew,
        })
    }
}

/// What every answer tells, whether a token came or not.
struct Answered {
    transaction_id: Option<HeaderValue>,
    date: Option<SystemTime>,
    skew: Option<Skew>,
    sent: SystemTime,
    round_trip: Duration,
}

impl Answered {
    fn new(answer: &Answer, sent: SystemTime) -> Self {
        let date = retry_after::date(&answer.headers);
        Self {
            transaction_id: http_client::transaction_id(&answer.headers),
            date,
            skew: date.map(|theirs| Skew::measure(theirs, sent, answer.taken)),
            sent,
            round_trip: answer.taken,
        }
    }

    /// Our clock against Citrix's, which showed `theirs` when it answered.
    fn compare(&self, theirs: SystemTime) -> Skew {
        Skew::measure(theirs, self.sent, self.round_trip)
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

    fn refused(
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
        // The two statuses that may say when to come back (RFC 9110, 10.2.3; contract 4).
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
