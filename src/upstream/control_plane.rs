//! The HTTP client of the control plane, for the gateway's own requests.
//!
//! It dials as the data path does, and opens a connection per request: the next one is usually most
//! of an hour away, and a new connection follows DNS. It follows no redirects, which could send a
//! secret to a host that is not configured.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use citrix_wire::host;
use http::header::{HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use secrecy::zeroize::Zeroizing;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::chain;
use crate::upstream::bounded::Bounded;
use crate::upstream::dial::tunnel::PRODUCT;
use crate::upstream::dial::{ConnectError, DialConfig, DialTarget, UpstreamIo, dial};
use citrix_wire::citrix::headers::{
    CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID,
};

/// Maximum size of a response body in bytes. A token response has about 2 kB (contract §1.1).
pub(crate) const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// Maximum number of bytes that are read for one response, framing included.
const MAX_RECEIVED_BYTES: usize = 2 * MAX_RESPONSE_BYTES;

/// Maximum length of a transaction id, which normally has 36 bytes.
const MAX_TRANSACTION_ID_BYTES: usize = 128;

/// Sends requests of the gateway itself.
#[derive(Clone, Debug)]
pub struct ControlClient {
    dial_config: DialConfig,
    timeout: Duration,
}

/// A response head, with the body or the failure to read it.
#[derive(Debug)]
pub struct ControlResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body. It may contain a token, so its memory is wiped.
    pub body: Result<Zeroizing<Vec<u8>>, BodyReadError>,
    /// Time from the start of the connection to the response head.
    pub elapsed: Duration,
}

/// A request without a response head.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client's timeout.
    #[error("no response within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The connection failed, or the response is not HTTP.
    #[error("no valid response")]
    Broken(#[source] hyper::Error),
    /// Not an absolute URL.
    #[error("{0} is not an absolute URL")]
    BadUrl(Uri),
}

/// A client that is shared by tasks and replaced by a reload.
#[derive(Clone, Debug)]
pub struct SharedControlClient(Arc<ArcSwap<ControlClient>>);

impl From<ControlClient> for SharedControlClient {
    fn from(client: ControlClient) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(client)))
    }
}

impl SharedControlClient {
    /// Returns the current client.
    pub fn get(&self) -> Arc<ControlClient> {
        self.0.load_full()
    }

    pub fn replace(&self, client: ControlClient) {
        self.0.store(Arc::new(client));
    }
}

/// An incomplete response body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyReadError {
    /// Larger than the maximum.
    TooLarge,
    /// The connection failed.
    Truncated,
    /// The client's timeout.
    TimedOut,
}

impl ControlClient {
    /// Creates a client. `timeout` includes connecting and reading the body.
    pub fn new(dial_config: DialConfig, timeout: Duration) -> Self {
        Self {
            dial_config,
            timeout,
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When there is no response head.
    pub async fn send(&self, request: Request<Bytes>) -> Result<ControlResponse, SendError> {
        let began = Instant::now();
        let deadline = began + self.timeout;
        // Boxed: the tasks that send requests rest most of the time, one for each customer.
        let response = timeout_at(deadline, Box::pin(self.respond(request)));
        let response = response
            .await
            .map_err(|_| SendError::TimedOut(self.timeout))??;
        let elapsed = began.elapsed();
        let (head, body) = response.into_parts();
        let body = timeout_at(deadline, read(body, head.version))
            .await
            .unwrap_or(Err(BodyReadError::TimedOut));
        Ok(ControlResponse {
            status: head.status,
            headers: head.headers,
            body,
            elapsed,
        })
    }

    async fn respond(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, SendError> {
        let (io, is_http2) = self.connect(request.uri()).await?;
        let io = TokioIo::new(Bounded::new(io, MAX_RECEIVED_BYTES));
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        let request = request.map(Full::new);
        let response = if is_http2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(io)
                .await
                .map_err(|error| ConnectError::Http(error.into()))?;
            self.drive(connection);
            sender.send_request(request).await
        } else {
            let handshake = http1::Builder::new().handshake(io).await;
            let (mut sender, connection) =
                handshake.map_err(|error| ConnectError::Http(error.into()))?;
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

    /// Runs a connection until it is no longer used. The timeout is for a peer that does not close
    /// it.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        // The request receives its error.
        tokio::spawn(timeout(2 * self.timeout, connection));
    }
}

/// Converts the target to origin form (RFC 9112 section 3.2.1), with the host in `Host`.
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

async fn read(mut body: Incoming, version: Version) -> Result<Zeroizing<Vec<u8>>, BodyReadError> {
    if body.size_hint().lower() > MAX_RESPONSE_BYTES as u64 {
        return Err(BodyReadError::TooLarge);
    }
    // Capacity for a usual response, because growing leaves copies that are not wiped.
    let mut read = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyReadError::Truncated)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if read.len() + data.len() > MAX_RESPONSE_BYTES {
            return Err(BodyReadError::TooLarge);
        }
        read.extend_from_slice(data);
    }
    // hyper ends an HTTP/2 body without an error at RST_STREAM and GOAWAY with NO_ERROR.
    if version == Version::HTTP_2 && !body.is_end_stream() {
        return Err(BodyReadError::Truncated);
    }
    Ok(read)
}

/// Returns Citrix's transaction id. The token endpoints use the first of these headers
/// (contract §1.1).
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

/// Returns the innermost source for the log, with the egress proxy if the error is its.
pub fn root_cause(error: &SendError) -> String {
    let innermost = chain::innermost(error);
    match error {
        SendError::Connect(ConnectError::Proxy(proxy)) if proxy.source().is_some() => {
            format!("{proxy}: {innermost}")
        }
        _ => innermost,
    }
}
