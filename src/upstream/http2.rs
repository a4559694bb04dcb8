//! HTTP/2 connections to upstreams, each shared by many requests of a worker.
//!
//! On the `h2` crate itself: hyper's client discloses neither a request that it could not send, nor
//! the peer's stream limit, and ends a response cleanly that the upstream reset.

mod body;
mod traffic;
mod upload;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::uri::Authority;
use http::{Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

pub use self::body::Http2Body;
pub use self::traffic::Traffic;
use self::traffic::{Recorded, Silence, Watchdog};
use self::upload::Upload;
use super::{AttemptError, UnsentBody};
use crate::error::chain;
use crate::inbound::body::CallerBody;
use crate::upstream::dial::ConnectError;
use citrix_wire::http1::head::HeadError;
use citrix_wire::{head_limit, response_framing};

/// Bytes of one response that are buffered for its caller: 5 MB/s at a round trip of 50 ms. A larger window
/// would let an upstream fill the memory with responses that callers read slowly.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all responses of a connection.
const CONNECTION_WINDOW: u32 = 8 * STREAM_WINDOW;
/// Responses on one connection that their callers are still to read, after which other connections
/// are preferred: together they may use up half of its window.
const MAX_UNREAD: usize = (CONNECTION_WINDOW / STREAM_WINDOW / 2) as usize;
/// Maximum frame size; larger than the default, for fewer frames.
const MAX_FRAME_BYTES: u32 = 64 * 1024;
/// Request bytes of one stream that are buffered for the upstream.
const SEND_BUFFER: usize = 256 * 1024;
/// Header sections up to this size fail one exchange only; beyond four times of it, `h2` closes the
/// connection. Several times `head_limit`, since `h2` also limits the number of CONTINUATION frames
/// by it.
const MAX_DECODED_HEAD: u32 = 1024 * 1024;
/// Maximum number of interim responses (1xx) to one request.
const MAX_INTERIM: u32 = 16;
/// Timeout for the upstream's first SETTINGS frame, without which its stream limit is unknown.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(1);

/// More than [`MAX_INTERIM`] interim responses.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_INTERIM} interim responses")]
struct TooManyInterim;

/// A connection that carries many exchanges.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
    traffic: Rc<Traffic>,
    /// Time at which an eviction first saw it idle.
    idle_since: Option<Instant>,
}

/// The right to one stream of a connection.
pub struct Http2Stream {
    sender: SendRequest<Bytes>,
    traffic: Rc<Traffic>,
    /// The response is complete, or the upstream has ended it.
    responded: bool,
}

impl Http2 {
    /// Creates an HTTP/2 connection on a byte stream. Its task ends with it.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn open<T>(io: T, upstream: &Authority) -> Result<Self, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let traffic = Traffic::new();
        let recorded = Recorded::new(io, Rc::clone(&traffic));
        let (sender, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_header_list_size(MAX_DECODED_HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(recorded)
            .await
            .map_err(|error| ConnectError::Http(error.into()))?;
        let settings = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if traffic.heard.get() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        // On a timeout the limit applies once it arrives.
        if let Ok(Some(ended)) = timeout(SETTINGS_TIMEOUT, settings).await {
            let closed = || "closed by the upstream".into();
            return Err(ConnectError::Http(
                ended.err().map_or_else(closed, Into::into),
            ));
        }
        let watched = run(connection, Rc::clone(&traffic), upstream.clone());
        tokio::task::spawn_local(watched);
        Ok(Self {
            sender,
            traffic,
            idle_since: None,
        })
    }

    /// Returns the time at which it was opened.
    pub(super) fn born(&self) -> Instant {
        self.traffic.born
    }

    /// Returns `true` unless it has ended or its upstream has sent GOAWAY.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Returns `true` if it carries fewer streams than its upstream permits. Of an upstream that
    /// permits none for now, one waits for the permission.
    pub(super) fn has_capacity(&self) -> bool {
        self.traffic.streams.get() < self.sender.current_max_send_streams().max(1)
    }

    /// Returns `true` if much of its window may be used up by responses that are not read.
    pub(super) fn is_unread(&self) -> bool {
        self.traffic.unread.get() >= MAX_UNREAD
    }

    /// Returns the time it has been idle, counted from the first eviction that saw it so.
    pub(super) fn idle_time(&mut self, now: Instant) -> Duration {
        if self.traffic.streams.get() > 0 {
            self.idle_since = None;
            return Duration::ZERO;
        }
        now.duration_since(*self.idle_since.get_or_insert(now))
    }

    /// Returns the number of streams in use.
    pub(super) fn streams(&self) -> usize {
        self.traffic.streams.get()
    }

    /// Returns the right to one stream.
    pub(super) fn stream(&mut self) -> Http2Stream {
        self.idle_since = None;
        self.traffic.streams.set(self.traffic.streams.get() + 1);
        Http2Stream {
            sender: self.sender.clone(),
            traffic: Rc::clone(&self.traffic),
            responded: false,
        }
    }

    /// Returns `true` if `stream` is one of this connection.
    pub(super) fn carries(&self, traffic: &Rc<Traffic>) -> bool {
        Rc::ptr_eq(&self.traffic, traffic)
    }
}

/// The end of a connection.
enum ConnectionEnd {
    Closed(Result<(), h2::Error>),
    Silent,
    Flooded,
}

/// Drives a connection until it ends, is silent for too long or sends frames only. Dropping it then fails its
/// streams.
async fn run<T>(
    mut connection: Connection<Recorded<T>, Bytes>,
    traffic: Rc<Traffic>,
    upstream: Authority,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut watchdog = Watchdog::new(Rc::clone(&traffic), connection.ping_pong());
    let ended = poll_fn(|cx| {
        loop {
            // First, because the thread may have been late to read.
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ConnectionEnd::Closed(ended));
            }
            if traffic.is_flooded() {
                return Poll::Ready(ConnectionEnd::Flooded);
            }
            match watchdog.poll_silent(cx) {
                Poll::Ready(Silence::Pinged) => {}
                Poll::Ready(Silence::TooLong) => return Poll::Ready(ConnectionEnd::Silent),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    match ended.await {
        ConnectionEnd::Silent => tracing::warn!(
            %upstream,
            "upstream HTTP/2 connection silent while requests wait, PING included; abandoned"
        ),
        ConnectionEnd::Flooded => tracing::warn!(
            %upstream,
            "upstream HTTP/2 connection sends frames without a response; abandoned"
        ),
        ConnectionEnd::Closed(Err(error)) => {
            let error = chain::text(&error);
            tracing::debug!(%upstream, error, "upstream HTTP/2 connection failed");
        }
        ConnectionEnd::Closed(Ok(())) => {}
    }
}

impl Http2Stream {
    /// Marks the connection as used, and returns `true` if it was before.
    pub(super) fn mark_used(&self) -> bool {
        self.traffic.used.replace(true)
    }

    /// Returns the identity of the connection.
    pub(super) fn connection(&self) -> Rc<Traffic> {
        Rc::clone(&self.traffic)
    }

    /// Sends a request and waits for the response head. The rest of the request body follows while
    /// the response is read, with `idle_timeout`.
    pub(super) async fn exchange(
        mut self,
        request: Request<CallerBody>,
        idle_timeout: Duration,
    ) -> Result<Response<Http2Body>, AttemptError> {
        let (head, body) = request.into_parts();
        let written = self.traffic.written.get();
        self.traffic.request_sent();
        let sent = self
            .sender
            .send_request(Request::from_parts(head, ()), body.is_end_stream());
        let (response, stream) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                return Err(AttemptError::Unprocessed {
                    body: UnsentBody::Whole(body),
                    error: error.into(),
                });
            }
        };
        let mut upload = (!body.is_end_stream()).then(|| Upload::new(body, stream));
        let (head, sending) = wait_for_head(response, upload.as_mut()).await?;
        match head {
            Ok(response) => self.respond(response, upload.filter(|_| sending), idle_timeout),
            Err(error) => {
                self.responded = true;
                let unwritten = error.is_io() && self.traffic.written.get() == written;
                if unwritten || is_unprocessed(&error) {
                    let body = upload.map_or(UnsentBody::Nothing, |upload| {
                        UnsentBody::Rest(upload.into_body())
                    });
                    let error = error.into();
                    return Err(AttemptError::Unprocessed { body, error });
                }
                Err(AttemptError::Broken(error.into()))
            }
        }
    }

    fn respond(
        mut self,
        mut response: Response<RecvStream>,
        upload: Option<Upload>,
        idle_timeout: Duration,
    ) -> Result<Response<Http2Body>, AttemptError> {
        self.traffic.response_progressed();
        if head_limit::check(response.headers()).is_err() {
            self.responded = true;
            return Err(AttemptError::HeadTooLarge);
        }
        if let Err(fault) = response_framing::normalize(response.headers_mut()) {
            return Err(AttemptError::Malformed(HeadError::from(fault).into()));
        }
        let upload = upload
            .map(|upload| tokio::task::spawn_local(upload.finish(idle_timeout)).abort_handle());
        let (head, receive) = response.into_parts();
        let body = Http2Body::new(receive, &head.headers, upload, self);
        Ok(Response::from_parts(head, body))
    }
}

/// Sends the request body and waits for the response head. Also returns whether some of the body is left.
async fn wait_for_head(
    mut response: ResponseFuture,
    mut upload: Option<&mut Upload>,
) -> Result<(Result<Response<RecvStream>, h2::Error>, bool), AttemptError> {
    let mut interim = 0;
    poll_fn(|cx| {
        if let Some(sending) = &mut upload
            && let Poll::Ready(sent) = sending.poll_send(cx)
        {
            upload = None;
            if let Err(fault) = sent {
                return Poll::Ready(Err(AttemptError::Broken(fault)));
            }
        }
        // Each is dropped as it arrives; together they could fill the memory.
        while let Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            interim += 1;
            if interim > MAX_INTERIM {
                return Poll::Ready(Err(AttemptError::Malformed(TooManyInterim.into())));
            }
        }
        let head = pin!(&mut response).poll(cx);
        head.map(|head| Ok((head, upload.is_some())))
    })
    .await
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.traffic.stream_ended(self.responded);
    }
}

/// Returns `true` if the upstream has certainly not processed the request of the stream: it refused
/// the stream, or its GOAWAY names a lower last stream (RFC 9113 section 8.7). `h2` reports a remote
/// GOAWAY only to the streams above its last one.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

#[cfg(test)]
mod tests;
