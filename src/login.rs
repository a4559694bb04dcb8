//! The gateway's own token endpoints, for tools that insist on a login (interface §4.5). A login is
//! never forwarded.
//!
//! Credentials count as in any other request. A caller identified by its network or certificate
//! alone gets a token whatever id and secret its tool sends, just as its requests are served
//! whatever old token they carry. A login under the name of a caller with a secret requires that
//! secret.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::callers::credentials::PresentedCredentials;
use crate::callers::gateway_token::SigningError;
use crate::callers::login::LoginOutcomes;
use crate::callers::{Identity, browser_guard, head};
use crate::config::Caller;
use crate::error::{CHALLENGE, Failure, Reason, X_PROXY_ERROR};
use crate::exchange::{CallerResponseBody, Exchange};
use crate::inbound::body::{BodyFault, CallerBody};
use crate::inbound::intercepted::CallerSource;
use crate::observe::metrics::ANONYMOUS;
use crate::state::Shared;
use crate::state::Snapshot;
use citrix_wire::basic_auth::BasicCredentials;
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::headers::X_CWS_TRANSACTION_ID;
use citrix_wire::citrix::login::request::{self, Credentials, InvalidRequest};
use citrix_wire::citrix::login::response;
use citrix_wire::known_fields::KnownFields;

/// Bytes of a login body.
const MAX_BODY: usize = 16 * 1024;
/// Timeout for the whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Logins whose body is awaited at the same time, over all workers.
const MAX_READS: usize = 1024;
/// Time after which a login waits no longer for its body while more than half of them wait.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);
/// Scheduler turns in which hyper passes on a body that has arrived.
const BODY_YIELDS: usize = 3;

/// Delays the response to a request with a wrong secret.
pub async fn delay_bad_secret(shared: &Shared, exchange: &mut Exchange) {
    if exchange.has_bad_secret() {
        let address = exchange.address();
        // Boxed: rare.
        Box::pin(exchange.count_wait(shared.login_endpoints.throttle.delay(address))).await;
    }
}

/// The reason that a login gets no token.
enum LoginRejection {
    /// Reported like the failure of any other request.
    Failure(Failure),
    /// Reported in Citrix's format, like the variants below.
    InvalidRequest(InvalidRequest),
    Method,
    /// With the cause for the log.
    InvalidClient(String),
}

impl From<Failure> for LoginRejection {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<InvalidRequest> for LoginRejection {
    fn from(request: InvalidRequest) -> Self {
        Self::InvalidRequest(request)
    }
}

impl From<SigningError> for LoginRejection {
    fn from(error: SigningError) -> Self {
        let detail = "the gateway token cannot be signed";
        Self::Failure(Failure::new(Reason::Overloaded, detail).with_source(error))
    }
}

impl LoginRejection {
    /// Counts the error. Returns the failure for the log, and the response if it has Citrix's
    /// format.
    fn report(
        self,
        endpoint: TokenDialect,
        method: &Method,
        outcomes: &LoginOutcomes,
    ) -> (Failure, Option<Response<Bytes>>) {
        match self {
            Self::Failure(failure) => {
                outcomes.refused.inc();
                (failure, None)
            }
            Self::InvalidRequest(invalid) => {
                outcomes.malformed.inc();
                let response = response::invalid_request(endpoint, invalid);
                let cause = invalid.to_string();
                (rejected(Reason::BadRequest, cause), Some(response))
            }
            Self::Method => {
                outcomes.malformed.inc();
                let response = response::method_not_allowed(method);
                let cause = "the method of a login is POST".to_owned();
                (rejected(Reason::BadRequest, cause), Some(response))
            }
            Self::InvalidClient(cause) => {
                outcomes.invalid_client.inc();
                let response = response::invalid_client(endpoint);
                (rejected(Reason::CallerUnknown, cause), Some(response))
            }
        }
    }
}

/// Returns a failure for the log; the response has Citrix's format.
fn rejected(reason: Reason, cause: String) -> Failure {
    Failure::new(reason, "login rejected").with_source(cause)
}

/// Returns the response to a request to one of the token endpoints.
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
    let error = match granted {
        Ok(response) => {
            exchange.set_admitted();
            exchange.audit_login();
            match exchange.audited().await {
                Ok(()) => {
                    outcomes.ok.inc();
                    return respond(response, exchange);
                }
                Err(failure) => failure.into(),
            }
        }
        Err(error) => error,
    };
    let (failure, in_citrix_format) = error.report(endpoint, &head.method, outcomes);
    // The delay must not keep it.
    drop(head);
    exchange.audit_rejection(&failure);
    delay_bad_secret(shared, &mut exchange).await;
    let Some(mut response) = in_citrix_format else {
        return exchange.failed(failure);
    };
    exchange.set_failure(&failure);
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
    respond(response, exchange)
}

/// Adds the transaction id under the name that Citrix's token endpoints use.
fn respond(mut response: Response<Bytes>, exchange: Box<Exchange>) -> Response<CallerResponseBody> {
    response
        .headers_mut()
        .insert(X_CWS_TRANSACTION_ID, exchange.transaction_id().clone());
    exchange.generated(response)
}

async fn grant(
    endpoint: TokenDialect,
    head: &Parts,
    body: CallerBody,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Response<Bytes>, LoginRejection> {
    let live = &snapshot.live;
    let fields = KnownFields::of(&head.headers);
    let intercepted = exchange.intercepted().cloned();
    let authority = head::check_head(live, head, fields, intercepted.as_deref())?;
    if head.method != Method::POST {
        return Err(LoginRejection::Method);
    }
    head::reject_codings(&head.headers)?;
    if intercepted.is_some() {
        browser_guard::check_site(authority.as_ref(), &head.headers, fields)?;
    }
    let callers = &snapshot.callers;
    if callers.is_empty() {
        browser_guard::admit_anonymous(
            live.allow_anonymous || exchange.is_local(),
            authority.as_ref(),
            &head.headers,
            fields,
        )?;
    }
    let body = read_body(body, live.limits.body_idle_timeout, shared, exchange).await?;
    let mut content_types = head.headers.get_all(CONTENT_TYPE).iter();
    let content_type = content_types
        .next()
        .filter(|_| content_types.next().is_none());
    let credentials = request::parse(endpoint, content_type, &body)?;
    let mut secret = None;
    if !callers.is_empty() {
        let identity = identify(head, &credentials, snapshot, exchange)?;
        let index = identity.caller;
        browser_guard::reject_cross_site(
            callers,
            index,
            authority.as_ref(),
            &head.headers,
            fields,
        )?;
        exchange.set_caller(Some(index));
        secret = identity.secret;
        if let Some((secret, (_, state))) = secret.zip(snapshot.caller(index)) {
            state.secret_used(secret, exchange.began());
        }
    }
    let caller = exchange.caller().and_then(|index| callers.get(index));
    let secret = caller.zip(secret);
    let secret = secret.and_then(|(caller, secret)| caller.secrets.get(secret));
    let lifetime = live.login.token_lifetime;
    let signer = shared.login_endpoints.signer(snapshot.signer.as_ref());
    let name = caller.map(|caller| caller.name.as_str());
    let token = signer.issue(name, secret, shared.clock.now(), lifetime)?;
    let principal = name.unwrap_or(ANONYMOUS);
    Ok(response::token(
        endpoint,
        &token,
        principal,
        lifetime.as_secs(),
    ))
}

/// Returns the caller that logs in.
fn identify(
    head: &Parts,
    credentials: &Credentials,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<Identity, LoginRejection> {
    let (callers, identity) = (&snapshot.callers, exchange.peer_identity());
    let in_header = match exchange.intercepted().map(|it| &it.caller) {
        // The id and secret of the login are those that the tool has for Citrix.
        Some(CallerSource::Tunnel(tunnel)) => {
            return Ok(callers.identify_tunnel(tunnel.as_ref(), identity)?);
        }
        Some(CallerSource::ProxyField) => {
            return identify_by_proxy_field(head, snapshot, exchange);
        }
        Some(CallerSource::Request) | None => PresentedCredentials::read(&head.headers),
    };
    let in_header =
        in_header.map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let (presented, by_identity) = match in_header {
        // As in any other request, it takes precedence.
        PresentedCredentials::ApiKey(_) => (in_header, None),
        PresentedCredentials::Basic(_) if credentials.secret.is_none() => (in_header, None),
        // A bearer token in a login request is an old one.
        _ => {
            let named = credentials
                .id
                .as_ref()
                .and_then(|id| callers.index_of(id.as_bytes()));
            let requires_secret = named
                .and_then(|index| callers.get(index))
                .is_some_and(Caller::has_secret);
            let by_identity = if requires_secret {
                None
            } else {
                callers
                    .identify(&PresentedCredentials::Absent, identity)
                    .ok()
            };
            (presented(credentials), by_identity)
        }
    };
    callers.identify(&presented, identity).or_else(|unknown| {
        by_identity.ok_or_else(|| {
            let bad_secret = callers.is_bad_secret(unknown, &presented);
            let cause = unknown.to_string();
            exchange.set_bad_secret(bad_secret);
            LoginRejection::InvalidClient(cause)
        })
    })
}

/// Returns the caller in `Proxy-Authorization`, whatever id the login has.
fn identify_by_proxy_field(
    head: &Parts,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<Identity, LoginRejection> {
    let callers = &snapshot.callers;
    let presented = PresentedCredentials::read_proxy(&head.headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let identified = callers.identify(&presented, exchange.peer_identity());
    identified.map_err(|unknown| {
        exchange.set_bad_secret(callers.is_bad_secret(unknown, &presented));
        callers.unknown_caller(unknown, true).into()
    })
}

/// Returns the credentials of a login body as HTTP Basic credentials.
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

/// Reads the body of a login.
async fn read_body(
    mut body: CallerBody,
    idle: Duration,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    body.set_limits(MAX_BODY as u64, idle);
    exchange.set_upload(body.progress());
    let mut read = pin!(collect(body));
    // A complete login needs no permit, so incomplete ones never delay it.
    for _ in 0..BODY_YIELDS {
        if let Some(read) = read.as_mut().now_or_never() {
            return read;
        }
        yield_now().await;
    }
    let reads = &shared.login_endpoints.body_reads;
    let permit = reads.acquire(exchange.client(), 1, MAX_READS);
    let _permit = permit.map_err(|exceeded| {
        let in_use = "logins are in progress";
        Failure::overloaded(exceeded.detail(MAX_READS, in_use, "fixed limit"))
    })?;
    exchange
        .count_wait(async {
            if let Ok(read) = timeout(CROWDED_TIMEOUT, read.as_mut()).await {
                return read;
            }
            if reads.in_use() > MAX_READS / 2 {
                return Err(incomplete(CROWDED_TIMEOUT));
            }
            let rest = timeout(BODY_TIMEOUT - CROWDED_TIMEOUT, read).await;
            rest.unwrap_or_else(|_| Err(incomplete(BODY_TIMEOUT)))
        })
        .await
}

fn incomplete(limit: Duration) -> Failure {
    let limit = humantime::format_duration(limit);
    let detail = format!("the body of the login was not complete within {limit}");
    Failure::new(Reason::RequestTimeout, detail)
}

async fn collect(mut body: CallerBody) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Full capacity from the start: growing would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(BodyFault::TooLarge) => return Err(too_large()),
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(bytes)
}

fn too_large() -> Failure {
    let detail = format!("the body of the login exceeds {MAX_BODY} bytes (16 KiB)");
    Failure::new(Reason::BodyTooLarge, detail)
}
