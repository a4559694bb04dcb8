//! The gateway's own token endpoints, for tools that insist on logging in (design 4.5). Not a step of the path: what
//! comes here goes no further, and a login is never forwarded.
//!
//! What is shown counts as it does with any other request. Who is known by network or certificate alone gets a token
//! whatever id and secret its tool still has, as its requests are served whatever old token they carry; under the name
//! of a caller with a secret that secret decides.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use tokio::time::{Instant, timeout};

use crate::callers::credentials::PresentedCredentials;
use crate::callers::gateway_token::SigningError;
use crate::callers::{browser_guard, head};
use crate::error::{CHALLENGE, Failure, Reason, X_PROXY_ERROR};
use crate::exchange::{CallerResponseBody, Exchange};
use crate::inbound::body::{BodyFault, CallerBody};
use crate::observe::metrics::ANONYMOUS;
use crate::state::Shared;
use crate::state::snapshot::Snapshot;
use citrix_wire::basic_auth::BasicCredentials;
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::headers::X_CWS_TRANSACTION_ID;
use citrix_wire::citrix::login::request::{self, Credentials, InvalidRequest};
use citrix_wire::citrix::login::response;

/// More than any credentials.
const MAX_BODY: usize = 16 * 1024;
/// For all of it to come, however it trickles.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bodies that are read at a time, over all workers.
const MOST_READ: usize = 1024;
/// How soon a tool should come back when that many are.
const COME_BACK: Duration = Duration::from_secs(1);

/// Holds the answer to a wrong secret back, wherever it was shown.
pub async fn delay_bad_secret(shared: &Shared, exchange: &mut Exchange) {
    if exchange.bad_secret {
        let began = Instant::now();
        // Boxed: few requests come here.
        Box::pin(shared.login_endpoints.throttle.delay(exchange.address())).await;
        exchange.waited += began.elapsed();
    }
}

/// What becomes of a login, but for a token.
enum Refused {
    /// As any other request is refused.
    Failure(Failure),
    /// As Citrix refuses what is no login.
    InvalidRequest(InvalidRequest),
    /// The same for another method.
    Method,
    /// As Citrix refuses a wrong id or secret; with what the log is told.
    InvalidClient(String),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<InvalidRequest> for Refused {
    fn from(request: InvalidRequest) -> Self {
        Self::InvalidRequest(request)
    }
}

impl From<SigningError> for Refused {
    fn from(error: SigningError) -> Self {
        Self::Failure(Failure::new(Reason::Overloaded, "no token can be signed").with_source(error))
    }
}

/// Answers a request to one of the token endpoints, whatever happens.
pub async fn log_in(
    endpoint: TokenDialect,
    request: Request<CallerBody>,
    snapshot: &Snapshot,
    shared: &Shared,
    mut exchange: Box<Exchange>,
) -> Response<CallerResponseBody> {
    let (head, body) = request.into_parts();
    let granted = grant(endpoint, &head, body, snapshot, shared, &mut exchange).await;
    let outcomes = &shared.login_endpoints.outcomes;
    let refused = match granted {
        Ok(response) => {
            outcomes.ok.inc();
            exchange.audit_login();
            return answered(response, exchange);
        }
        Err(refused) => refused,
    };
    let (failure, in_citrixs_words) = match refused {
        Refused::Failure(failure) => {
            outcomes.refused.inc();
            (failure, None)
        }
        Refused::InvalidRequest(why) => {
            outcomes.malformed.inc();
            (
                for_the_log(Reason::BadRequest, why.to_string()),
                Some(response::invalid_request(endpoint, why)),
            )
        }
        Refused::Method => {
            outcomes.malformed.inc();
            let failure = for_the_log(Reason::BadRequest, "a login is a POST".to_owned());
            (failure, Some(response::method_not_allowed(&head.method)))
        }
        Refused::InvalidClient(cause) => {
            outcomes.invalid_client.inc();
            (
                for_the_log(Reason::CallerUnknown, cause),
                Some(response::invalid_client(endpoint)),
            )
        }
    };
    exchange.audit_refusal(&failure);
    delay_bad_secret(shared, &mut exchange).await;
    let Some(mut response) = in_citrixs_words else {
        return exchange.failed(failure);
    };
    exchange.refused(&failure);
    response.headers_mut().insert(
        X_PROXY_ERROR,
        HeaderValue::from_static(failure.reason().as_str()),
    );
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    if endpoint == TokenDialect::Oauth2 && response.status() == StatusCode::BAD_REQUEST {
        let phrase = ReasonPhrase::from_static(response::BAD_REQUEST_PHRASE);
        response.extensions_mut().insert(phrase);
    }
    answered(response, exchange)
}

/// What is logged; the tool is told in Citrix's words.
fn for_the_log(reason: Reason, cause: String) -> Failure {
    Failure::new(reason, "the login was refused").with_source(cause)
}

/// With the id under the name that Citrix's token endpoints use; the newer name every answer has.
fn answered(
    mut response: Response<Bytes>,
    exchange: Box<Exchange>,
) -> Response<CallerResponseBody> {
    response
        .headers_mut()
        .insert(X_CWS_TRANSACTION_ID, exchange.transaction_id.clone());
    exchange.answered_here(response)
}

async fn grant(
    endpoint: TokenDialect,
    head: &Parts,
    body: CallerBody,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Response<Bytes>, Refused> {
    let live = &snapshot.live;
    let authority = head::check_head(live, head)?;
    if head.method != Method::POST {
        return Err(Refused::Method);
    }
    head::reject_codings(&head.headers)?;
    let callers = &snapshot.callers;
    if callers.is_empty() {
        browser_guard::admit_anonymous(
            live.allow_anonymous || exchange.is_local(),
            authority.as_ref(),
            &head.headers,
        )?;
    }
    let body = read(body, live.limits.body_idle_timeout, shared, exchange).await?;
    let mut content_types = head.headers.get_all(CONTENT_TYPE).iter();
    let content_type = content_types
        .next()
        .filter(|_| content_types.next().is_none());
    let credentials = request::read(endpoint, content_type, &body)?;
    if !callers.is_empty() {
        let number = identify(head, &credentials, snapshot, exchange)?;
        browser_guard::reject_cross_site(callers, number, authority.as_ref(), &head.headers)?;
        exchange.caller = Some(number);
    }
    let caller = exchange.caller.and_then(|number| callers.get(number));
    let lifetime = live.login.token_lifetime;
    let token = shared
        .login_endpoints
        .signer(snapshot.signer.as_ref())
        .issue(caller, shared.clock.now(), lifetime)?;
    let principal = caller.map_or(ANONYMOUS, |caller| &caller.name);
    Ok(response::token(
        endpoint,
        &token,
        principal,
        lifetime.as_secs(),
    ))
}

/// The place in the configuration of the caller that logs in.
fn identify(
    head: &Parts,
    credentials: &Credentials,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<usize, Refused> {
    let (callers, origin) = (&snapshot.callers, exchange.peer_identity());
    let in_header = PresentedCredentials::read(&head.headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let (shown, by_place) = match in_header {
        // It decides alone, here as elsewhere.
        PresentedCredentials::ApiKey(_) => (in_header, None),
        PresentedCredentials::Basic(_) if credentials.secret.is_none() => (in_header, None),
        // A bearer token beside a login is an old one.
        _ => {
            let named = credentials
                .id
                .as_ref()
                .and_then(|id| callers.named(id.as_bytes()));
            let must_prove = named
                .and_then(|number| callers.get(number))
                .is_some_and(|it| it.secret.is_some());
            let by_place = if must_prove {
                None
            } else {
                callers.identify(&PresentedCredentials::Absent, origin).ok()
            };
            (presented(credentials), by_place)
        }
    };
    callers.identify(&shown, origin).or_else(|unknown| {
        by_place.ok_or_else(|| {
            exchange.bad_secret = callers.is_bad_secret(unknown, &shown);
            Refused::InvalidClient(unknown.to_string())
        })
    })
}

/// The credentials of a login body, as if they had come by HTTP Basic.
fn presented(credentials: &Credentials) -> PresentedCredentials<'static> {
    if credentials.id.is_none() && credentials.secret.is_none() {
        return PresentedCredentials::Absent;
    }
    let id = credentials.id.as_ref().map_or("", |id| id.as_str());
    let secret = credentials
        .secret
        .as_ref()
        .map_or("", |secret| secret.expose_secret());
    PresentedCredentials::Basic(Some(BasicCredentials::new(id, secret)))
}

/// The body, which is small and comes soon.
async fn read(
    mut body: CallerBody,
    idle: Duration,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large = || {
        let detail = format!("the body of a login may have {MAX_BODY} bytes at most (16 KiB)");
        Failure::new(Reason::BodyTooLarge, detail)
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let Some(_place) = shared.login_endpoints.being_read.acquire(MOST_READ) else {
        let detail = format!("{MOST_READ} logins are being read already");
        return Err(Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK));
    };
    body.bound(MAX_BODY as u64, idle);
    exchange.upload = body.progress();
    let began = Instant::now();
    let reading = async {
        // All the room there can be from the start, so that growing leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(BodyFault::TooLarge) => return Err(too_large()),
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(bytes)
    };
    let read = timeout(PATIENCE, reading).await;
    // The caller's time, not ours.
    exchange.waited += began.elapsed();
    read.unwrap_or_else(|_| {
        let detail = format!(
            "the login did not come within {}",
            humantime::format_duration(PATIENCE)
        );
        Err(Failure::new(Reason::RequestTimeout, detail))
    })
}
