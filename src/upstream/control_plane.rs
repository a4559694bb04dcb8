//! The HTTP client of the control side: for the few requests that the program makes on its own account.
//!
//! It dials as the data path does, so that both go the same way and fail with the same words, and makes a connection
//! for each request: the next one is most of an hour away, and a fresh connection follows DNS. It follows no
//! redirect, which would carry a secret to a host that nobody configured.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use citrix_wire::host;
use http::header::{HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use secrecy::zeroize::Zeroizing;
use tokio::time::{Instant, timeout, timeout_at};

use crate::upstream::dial::tunnel::PRODUCT;
use crate::upstream::dial::{ConnectError, DialConfig, DialTarget, UpstreamIo, dial};
use citrix_wire::citrix::headers::{
    CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID,
};

/// The largest answer that is read. A token answer is about 2 kB (contract §1.1).
pub(crate) const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// A transaction id is about 36 bytes; what is much longer is none, and does not belong into a log line.
const MAX_TRANSACTION_ID_BYTES: usize = 128;

/// Makes requests of the program's own.
#[derive(Clone, Debug)]
pub struct ControlClient {
    dial_config: DialConfig,
    timeout: Duration,
}

/// An answer: the head, and what came of the body.
#[derive(Debug)]
pub struct ControlResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, up to a bound. Its memory is wiped, for it may hold a token.
    pub body: Result<Zeroizing<Vec<u8>>, BodyReadError>,
    /// From the request to the answer's head, connecting included.
    pub taken: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The time was up.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The connection broke, or what came is not HTTP.
    #[error("no answer")]
    Broken(#[source] hyper::Error),
    /// Not a whole URL.
    #[error("{0} is not a URL that can be asked")]
    BadUrl(Uri),
}

/// A client that everybody who has it shares, and that a reload may put another in the place of. A request takes the
/// one of the moment.
#[derive(Clone, Debug)]
pub struct SharedControlClient(Arc<ArcSwap<ControlClient>>);

impl From<ControlClient> for SharedControlClient {
    fn from(client: ControlClient) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(client)))
    }
}

impl SharedControlClient {
    /// The client of the moment.
    pub fn get(&self) -> Arc<ControlClient> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, client: ControlClient) {
        self.0.store(Arc::new(client));
    }
}

/// Why an answer's body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyReadError {
    /// It is larger than any answer that is asked for here.
    TooLarge,
    /// It broke off.
    CutOff,
    /// The time was up.
    TimedOut,
}

impl ControlClient {
    /// A client that leaves `way`, and gives a request `timeout`, connecting and the answer's body included.
    pub fn new(dial_config: DialConfig, timeout: Duration) -> Self {
        Self {
            dial_config,
            timeout,
        }
    }

    /// Makes a request.
    ///
    /// # Errors
    /// When there is no head of an answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<ControlResponse, SendError> {
        let began = Instant::now();
        let deadline = began + self.timeout;
        let response = timeout_at(deadline, self.respond(request));
        let response = response
            .await
            .map_err(|_| SendError::TimedOut(self.timeout))??;
        let taken = began.elapsed();
        let (head, body) = response.into_parts();
        let body = timeout_at(deadline, read(body))
            .await
            .unwrap_or(Err(BodyReadError::TimedOut));
        Ok(ControlResponse {
            status: head.status,
            headers: head.headers,
            body,
            taken,
        })
    }

    async fn respond(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, SendError> {
        let (io, is_http2) = self.connect(request.uri()).await?;
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        let request = request.map(Full::new);
        let response = if is_http2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(TokioIo::new(io))
                .await
                .map_err(ConnectError::Http)?;
            self.drive(connection);
            sender.send_request(request).await
        } else {
            let handshake = http1::Builder::new().handshake(TokioIo::new(io)).await;
            let (mut sender, connection) = handshake.map_err(ConnectError::Http)?;
            self.drive(connection);
            sender.send_request(in_origin_form(request)).await
        };
        response.map_err(SendError::Broken)
    }

    async fn connect(&self, url: &Uri) -> Result<(UpstreamIo, bool), SendError> {
        let bad = || SendError::BadUrl(url.clone());
        let host = url.host().ok_or_else(bad)?;
        let host = host::strip_brackets(host);
        let tls = url.scheme() == Some(&Scheme::HTTPS);
        let server_name = tls
            .then(|| ServerName::try_from(host.to_owned()))
            .transpose()
            .map_err(|_| bad())?;
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let peer = DialTarget {
            host,
            port,
            server_name: server_name.as_ref(),
        };
        Ok(dial(peer, &self.dial_config, self.timeout).await?)
    }

    /// Runs a connection. hyper ends it when nobody holds it any more; the deadline is for a peer that does not let
    /// it.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        // Its error reaches the request.
        tokio::spawn(timeout(2 * self.timeout, connection));
    }
}

/// As HTTP/1.1 writes it: the host in `Host`, the rest in the first line.
fn in_origin_form(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let host = request
        .uri()
        .authority()
        .and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    request
}

async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, BodyReadError> {
    if body.size_hint().lower() > MAX_RESPONSE_BYTES as u64 {
        return Err(BodyReadError::TooLarge);
    }
    // Room for a usual answer, so that growing leaves no unwiped copies behind.
    let mut read = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyReadError::CutOff)?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        if read.len() + piece.len() > MAX_RESPONSE_BYTES {
            return Err(BodyReadError::TooLarge);
        }
        read.extend_from_slice(piece);
    }
    Ok(read)
}

/// Citrix's name for an exchange. The token endpoints use the first of these (contract §1.1).
pub fn transaction_id(headers: &HeaderMap) -> Option<HeaderValue> {
    [
        X_CWS_TRANSACTION_ID,
        CITRIX_TRANSACTION_ID,
        CC_TRANSACTION_ID,
    ]
    .iter()
    .filter_map(|name| headers.get(name))
    .find(|value| {
        (1..=MAX_TRANSACTION_ID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    })
    .cloned()
}

/// The error's sources, with what an `io::Error` wraps: its `source` passes that over.
pub fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(
        Some(error),
        |&current: &&'a (dyn Error + 'static)| match current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        },
    )
}

/// What an operator is told of it: what the system or TLS says, and of a proxy who it is and what it answered.
pub fn root_cause(error: &SendError) -> String {
    let innermost = sources(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    match error {
        SendError::Connect(ConnectError::Proxy(proxy)) if proxy.source().is_some() => {
            format!("{proxy}: {innermost}")
        }
        _ => innermost,
    }
}
