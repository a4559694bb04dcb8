//! Connections of callers, read by the gateway's listener side.

pub(crate) mod frames;
pub(crate) mod http1;

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use citrix_auth_proxy::callers::head::{check_head, reject_codings};
use citrix_auth_proxy::config::{self, Config};
use citrix_auth_proxy::inbound::body::CallerBody;
use citrix_auth_proxy::inbound::connection::caller_time::{CallerTime, KeepsPermit};
use citrix_auth_proxy::inbound::connection::{Connection, Connections, Evictions};
use citrix_auth_proxy::inbound::stream::{Socket, Stream, Transport, WatchedSocket};
use citrix_auth_proxy::limit::owner::{Resource, ResourceKind};
use citrix_wire::citrix::headers::retain_allowed_trailers;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::transaction_id;
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

use crate::content::{Content, End};

/// Time in which every connection ends. Nothing in it waits for a timer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Turns of the runtime, each of which polls the sockets, after which what arrived has been handled.
const TURNS: usize = 30;
const MAX_BODY: u64 = 1 << 20;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let settings = [
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "client"),
        ("CITRIX_CLIENT_SECRET", "secret"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    config::from_toml("", settings).expect("a valid configuration")
});

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    static CONNECTIONS: Rc<Connections> = Connections::new(
        Resource::new(ResourceKind::HeadBytes),
        Resource::new(ResourceKind::StreamBytes),
        Evictions::register(&prometheus::Registry::new()).expect("new metrics"),
    );
}

/// A request as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    /// The status with which the gateway rejects it by its head.
    pub(crate) rejection: Option<StatusCode>,
    pub(crate) content: Content,
}

impl ReadRequest {
    fn new(head: &Parts) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            fields: head.headers.clone(),
            rejection: None,
            content: Content::default(),
        }
    }

    /// Returns `true` if it was read to its end and is forwarded.
    pub(crate) fn is_accepted(&self) -> bool {
        self.rejection.is_none() && self.content.end == End::Complete
    }
}

/// Requests in the order of their heads.
#[derive(Clone, Default)]
struct Log {
    requests: Rc<RefCell<Vec<ReadRequest>>>,
    /// Requests that have not ended.
    open: Rc<Cell<usize>>,
}

/// Counts a request until it is dropped.
struct OpenRequest<'l>(&'l Log, Option<&'l Connection>);

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if let Some(connection) = self.1 {
            connection.exchange_ended();
        }
    }
}

impl Log {
    /// Adds a request, and returns its place.
    fn begin(&self, head: &Parts) -> usize {
        let mut requests = self.requests.borrow_mut();
        requests.push(ReadRequest::new(head));
        requests.len() - 1
    }

    fn open<'l>(&'l self, connection: Option<&'l Connection>) -> OpenRequest<'l> {
        self.open.set(self.open.get() + 1);
        OpenRequest(self, connection)
    }

    async fn read<B: Body<Data = Bytes>>(&self, at: usize, body: B) -> End {
        let mut body = pin!(body);
        loop {
            let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
            let content = &mut self.requests.borrow_mut()[at].content;
            if !content.add(frame) {
                return content.end;
            }
        }
    }

    /// Waits until all requests have ended, and returns them.
    async fn finish(self) -> Vec<ReadRequest> {
        for _ in 0..1000 {
            if self.open.get() == 0 {
                break;
            }
            yield_now().await;
        }
        assert_eq!(self.open.get(), 0, "requests outlive their connection");
        self.requests.take()
    }
}

/// Serves a request as the gateway does, up to the checks of its head, and reads its body.
async fn serve(
    request: Request<CallerBody>,
    log: Log,
    connection: Rc<Connection>,
) -> Response<Reply> {
    connection.exchange_began(request.version());
    let _open = log.open(Some(&connection));
    let (head, mut body) = request.into_parts();
    let at = log.begin(&head);
    let checked = check_head(&CONFIG.live, &head, KnownFields::of(&head.headers), None)
        .and_then(|_| reject_codings(&head.headers));
    if let Err(failure) = checked {
        let response = failure.into_response(&transaction_id::generate());
        log.requests.borrow_mut()[at].rejection = Some(response.status());
        return response.map(Reply::from);
    }
    connection.set_admitted();
    body.set_limits(MAX_BODY, DEADLINE);
    let mut response = Response::new(Reply::from(Bytes::from_static(b"{}")));
    if log.read(at, body).await == End::Error {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let name = citrix_auth_proxy::error::X_PROXY_ERROR;
        let reason = HeaderValue::from_static("bad_request");
        response.headers_mut().insert(name, reason);
    }
    response
}

async fn turns() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// Runs `serve` on a connection over which `bytes` arrive in pieces of `size` and which the client
/// then closes for writing. Returns the requests and what the client received.
fn converse<F, S>(bytes: &[u8], size: usize, serve: S) -> (Vec<ReadRequest>, Vec<u8>)
where
    S: FnOnce(UnixStream, Log) -> F,
    F: Future<Output = ()>,
{
    let conversation = async {
        let (near, far) = UnixStream::pair().expect("two sockets");
        let (mut read, mut write) = far.into_split();
        let log = Log::default();
        let sent = async {
            for piece in bytes.chunks(size.max(1)) {
                // The listener may have closed.
                if write.write_all(piece).await.is_err() {
                    break;
                }
                turns().await;
            }
            drop(write);
        };
        let mut received = Vec::new();
        let responses = async {
            // A reset is an end.
            let _ = read.read_to_end(&mut received).await;
        };
        tokio::join!(serve(near, log.clone()), sent, responses);
        (log.finish().await, received)
    };
    let limited = async { timeout(DEADLINE, conversation).await };
    RUNTIME
        .with(|runtime| LocalSet::new().block_on(runtime, limited))
        .expect("the connection ends")
}

/// Runs `serve` with the gateway's stream of a connection.
async fn with_stream<F: Future<Output = ()>>(
    socket: UnixStream,
    serve: impl FnOnce(Stream, Rc<Connection>) -> F,
) {
    let all = CONNECTIONS.with(Rc::clone);
    let registered = all.register();
    let connection = Rc::clone(registered.connection());
    let socket = WatchedSocket::new(Socket::Unix(socket), Rc::clone(&connection));
    let stream = Stream::new(Transport::Plain(socket), Rc::clone(&connection));
    connection.opened();
    tokio::select! {
        () = serve(stream, connection) => {}
        () = all.grant_turns() => {}
    }
}

/// The body of a response.
struct Reply(Full<Bytes>);

impl From<Bytes> for Reply {
    fn from(body: Bytes) -> Self {
        Self(Full::new(body))
    }
}

impl KeepsPermit for Reply {
    fn caller_time(&self) -> Option<&Rc<CallerTime>> {
        None
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Asserts that the fields of a message are those of the reference, in the order of each name.
fn assert_same_fields<N, V>(ours: &HeaderMap, reference: &[(N, V)])
where
    N: AsRef<[u8]> + Debug,
    V: AsRef<[u8]> + Debug,
{
    assert_eq!(ours.len(), reference.len(), "{ours:?} {reference:?}");
    for name in ours.keys() {
        let expected = reference
            .iter()
            .filter(|(other, _)| other.as_ref() == name.as_str().as_bytes());
        let values = ours.get_all(name).iter();
        assert!(
            values
                .map(HeaderValue::as_bytes)
                .eq(expected.map(|(_, value)| value.as_ref())),
            "{name}: {ours:?} {reference:?}"
        );
    }
}

/// Asserts that the trailers are those of the reference that may be forwarded.
fn assert_same_trailers<N, V>(ours: Option<&HeaderMap>, reference: &[(N, V)])
where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut expected = HeaderMap::new();
    for (name, value) in reference {
        let name = HeaderName::from_bytes(name.as_ref()).expect("hyper accepts it");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("hyper accepts it");
        expected.append(name, value);
    }
    retain_allowed_trailers(&mut expected);
    assert_eq!(ours.unwrap_or(&HeaderMap::new()), &expected);
}

/// Asserts that what the gateway read is the start of what another server reads of the same bytes.
fn assert_prefix(ours: &[ReadRequest], others: &[ReadRequest]) {
    assert!(ours.len() <= others.len(), "{ours:?} {others:?}");
    for (ours, other) in ours.iter().zip(others) {
        assert!(agrees(ours, other), "{ours:?} {other:?}");
    }
}

/// Returns `true` if another server read the same request, perhaps more of its content.
fn agrees(ours: &ReadRequest, other: &ReadRequest) -> bool {
    let head = |request: &ReadRequest| ReadRequest {
        rejection: None,
        content: Content::default(),
        ..request.clone()
    };
    let forwarded = || {
        let mut content = other.content.clone();
        if let Some(trailers) = &mut content.trailers {
            retain_allowed_trailers(trailers);
        }
        content
    };
    let is_same_content = match ours.content.end {
        End::Complete => ours.content == forwarded(),
        End::Pending | End::Error => other.content.data.starts_with(&ours.content.data),
    };
    head(ours) == head(other) && is_same_content
}
