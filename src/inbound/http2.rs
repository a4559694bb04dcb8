//! HTTP/2 from callers, on the `h2` crate itself.
//!
//! hyper's HTTP/2 server cannot send `100 Continue`, and Java's client waits for one until it gives
//! up.

mod guarded_stream;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::server::{Builder, SendResponse};
use h2::{Reason, SendStream, StreamId};
use http::header::{self, Entry, HeaderMap, HeaderValue};
use http::{Extensions, Request, Response, Uri};
use http_body::Body;
use tokio::time::timeout;

use self::guarded_stream::{Fragments, GuardedStream};
use super::body::CallerBody;
use super::connection::caller_time::{CallerTime, KeepsPermit, Side};
use super::connection::{Connection, ConnectionEnd, Directive};
use super::stream::Stream;
use super::stream_body::{Respond, STREAM_WINDOW, StreamBody};
use crate::config::Limits;
use crate::inbound::transfer_rate::IdleTimer;
use crate::system::clock::{Clock, since_epoch};
use citrix_wire::framing_guard::FramingError;
use citrix_wire::hop_by_hop;

/// Concurrent requests on one connection.
const MAX_STREAMS: u32 = 100;
/// Request bytes of all streams that are buffered before they are read. The full window of each, so
/// that a request that waits blocks no other; `CallerBody::reserve` limits the bytes.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Response bytes of one stream that are buffered for a caller that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Abandoned requests minus completed ones after which the caller is disconnected. Abandoning all
/// of `MAX_STREAMS` is permitted; requesting and resetting in a loop (rapid reset) is not.
const MAX_ABANDONED: usize = 200;
/// Time a caller has to read the GOAWAY that disconnects it.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

type Server = h2::server::Connection<GuardedStream, Bytes>;

/// Serves one connection until it ends.
pub async fn serve<H, F, B>(
    mut stream: Stream,
    connection: Rc<Connection>,
    limits: &Limits,
    handle: H,
) -> ConnectionEnd
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + KeepsPermit + 'static,
    B::Error: std::fmt::Display,
{
    if !begins(&mut stream, &connection).await {
        stream.close().await;
        return ConnectionEnd::Closed;
    }
    let fragments = Fragments::default();
    let guarded = GuardedStream::new(stream, Rc::clone(&fragments));
    // Boxed, so that an open connection does not reserve space for it.
    let mut server = match Box::pin(open(guarded, &connection, limits)).await {
        Some(Ok(server)) => server,
        Some(Err(error)) => return end_of(&error),
        None => return ConnectionEnd::Closed,
    };
    connection.opened();
    let abandoned = Rc::new(Cell::new(0_usize));
    loop {
        let event = poll_fn(|cx| match server.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Ok(accepted)),
            Poll::Pending => connection
                .poll_directive(cx)
                .map_or(Poll::Pending, |directive| Poll::Ready(Err(directive))),
        });
        match event.await {
            Ok(None) => return ConnectionEnd::Closed,
            Ok(Some(Err(error))) => return end_of(&error),
            Ok(Some(Ok(_))) if abandoned.get() > MAX_ABANDONED => {
                tracing::debug!("caller abandons its requests; connection closed");
                server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // The caller may not read.
                let _ = timeout(GOAWAY_TIMEOUT, poll_fn(|cx| server.poll_closed(cx))).await;
                return ConnectionEnd::Flooded;
            }
            Ok(Some(Ok((request, respond)))) => {
                if !connection.stream_arrived(path_length(request.uri())) {
                    refuse(respond, &abandoned);
                    continue;
                }
                let (mut head, receive) = request.into_parts();
                mark_fragment(&mut head.extensions, &fragments, respond.stream_id());
                let respond = Rc::new(RefCell::new(respond));
                let body = StreamBody::new(receive, &head.headers, &respond);
                // Boxed, so that a response that is not read keeps only what it needs.
                let response = Box::pin(handle(Request::from_parts(
                    head,
                    CallerBody::http2(body, &connection),
                )));
                let writer = ResponseWriter::new(&connection, limits);
                let abandoned = Rc::clone(&abandoned);
                tokio::task::spawn_local(async move {
                    let exchanged = exchange(response, respond, writer).await;
                    count_abandoned(&abandoned, exchanged.is_ok());
                });
            }
            Err(Directive::Drain | Directive::HeadTimedOut) => server.graceful_shutdown(),
            // Settings and compression tables are needed as long as the connection.
            Err(Directive::Park) => {}
            Err(Directive::HeadRejected) => {
                tracing::debug!("unfinished header blocks use too much memory; connection closed");
                abort(&mut server, Reason::ENHANCE_YOUR_CALM);
                return ConnectionEnd::HeadRejected;
            }
            Err(Directive::Abort) => {
                // Without requests nothing is canceled.
                let reason = if connection.is_idle() {
                    Reason::NO_ERROR
                } else {
                    Reason::CANCEL
                };
                abort(&mut server, reason);
                return ConnectionEnd::Closed;
            }
        }
    }
}

/// Sends GOAWAY and, over TLS, `close_notify`, if the caller reads.
fn abort(server: &mut Server, reason: Reason) {
    server.abrupt_shutdown(reason);
    let _ = poll_fn(|cx| server.poll_closed(cx)).now_or_never();
}

fn path_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |path| path.as_str().len())
}

/// Refuses the stream of a request, which may be sent again: it was not processed. A client that
/// continues is disconnected like one that abandons its requests.
fn refuse(mut respond: SendResponse<Bytes>, abandoned: &Cell<usize>) {
    tracing::debug!("HTTP/2 streams use too much memory; stream refused");
    respond.send_reset(Reason::REFUSED_STREAM);
    count_abandoned(abandoned, false);
}

/// Counts a request that ended; a completed one makes up for an abandoned one.
fn count_abandoned(abandoned: &Cell<usize>, completed: bool) {
    let before = abandoned.get();
    abandoned.set(if completed {
        before.saturating_sub(1)
    } else {
        before + 1
    });
}

/// Marks the request on a stream if it has a fragment in `:path`. Removes its stream and those that
/// `h2` refused: it returns requests in ascending order of their streams.
fn mark_fragment(extensions: &mut Extensions, fragments: &Fragments, stream: StreamId) {
    let mut fragments = fragments.borrow_mut();
    let stream = stream.as_u32();
    if fragments.contains(&stream) {
        extensions.insert(FramingError::Fragment);
    }
    fragments.retain(|other| *other > stream);
}

/// Waits for the first bytes. Returns `false` when the connection must close.
async fn begins(stream: &mut Stream, connection: &Connection) -> bool {
    poll_fn(|cx| match stream.poll_readable(cx) {
        Poll::Ready(readable) => Poll::Ready(readable.unwrap_or(false)),
        Poll::Pending => connection
            .poll_directive(cx)
            .map_or(Poll::Pending, |_| Poll::Ready(false)),
    })
    .await
}

/// Performs the HTTP/2 handshake. Returns `None` when the connection is directed to close.
async fn open(
    stream: GuardedStream,
    connection: &Connection,
    limits: &Limits,
) -> Option<Result<Server, h2::Error>> {
    let mut handshake = pin!(
        Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .handshake::<_, Bytes>(stream)
    );
    poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(server) => Poll::Ready(Some(server)),
        Poll::Pending => connection
            .poll_directive(cx)
            .map_or(Poll::Pending, |_| Poll::Ready(None)),
    })
    .await
}

fn end_of(error: &h2::Error) -> ConnectionEnd {
    tracing::debug!(%error, "connection of a caller failed");
    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
        ConnectionEnd::Flooded
    } else {
        ConnectionEnd::Closed
    }
}

/// The writing side of one stream.
struct ResponseWriter {
    connection: Rc<Connection>,
    idle: IdleTimer,
    /// The waits of the exchange, if it holds a queue permit.
    time: Option<Rc<CallerTime>>,
}

/// The caller reset the stream before the end of the response, or did not read it.
struct Abandoned;

/// Sends the response of one stream. Drops the exchange when the caller resets the stream.
async fn exchange<F, B>(
    mut response: Pin<Box<F>>,
    respond: Respond,
    mut writer: ResponseWriter,
) -> Result<(), Abandoned>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + KeepsPermit,
    B::Error: std::fmt::Display,
{
    // The reset first: it ends the request body with an error, which needs no response.
    let responded = poll_fn(|cx| {
        // Released before the response is polled, which sends 100 Continue with it.
        let reset = respond.borrow_mut().poll_reset(cx);
        match reset {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => response.as_mut().poll(cx).map(Some),
        }
    });
    let (mut head, body) = responded.await.ok_or(Abandoned)?.into_parts();
    drop(response);
    hop_by_hop::remove(&mut head.headers);
    add_date(&mut head.headers);
    if let Some(length) = body.size_hint().exact()
        && length > 0
    {
        head.headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    writer.time = body.caller_time().cloned();
    let ended = body.is_end_stream();
    let sent = respond
        .borrow_mut()
        .send_response(Response::from_parts(head, ()), ended);
    match sent {
        Ok(_) if ended => {}
        Ok(mut stream) => {
            if let Err(error) = send_body(body, &mut stream, writer).await {
                tracing::debug!(%error, "HTTP/2 response aborted");
                if !matches!(error, ResponseAborted::Upstream(_)) {
                    return Err(Abandoned);
                }
            }
        }
        Err(error) => {
            tracing::debug!(%error, "failed to send an HTTP/2 response");
            return Err(Abandoned);
        }
    }
    Ok(())
}

/// Adds `Date` to a response without one (RFC 9110 section 6.6.1). Over HTTP/1.1 hyper adds it.
fn add_date(headers: &mut HeaderMap) {
    if let Entry::Vacant(date) = headers.entry(header::DATE) {
        let now = SystemTime::UNIX_EPOCH + since_epoch(Clock::SYSTEM.now());
        if let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
            date.insert(now);
        }
    }
}

impl Drop for ResponseWriter {
    fn drop(&mut self) {
        self.connection.stream_ended();
    }
}

/// The reason why the rest of a response was not sent.
#[derive(Debug, thiserror::Error)]
enum ResponseAborted {
    #[error("stream reset or connection closed by the caller: {0}")]
    Caller(#[from] h2::Error),
    #[error("caller below the minimum transfer rate for limits.body_idle_timeout")]
    Stalled,
    #[error("caller too slow while others queued for the permit")]
    Revoked,
    #[error("response of the upstream truncated: {0}")]
    Upstream(String),
}

impl ResponseWriter {
    fn new(connection: &Rc<Connection>, limits: &Limits) -> Self {
        Self {
            connection: Rc::clone(connection),
            idle: IdleTimer::new(limits.body_idle_timeout),
            time: None,
        }
    }

    /// Completes when a caller that does not read must be disconnected from its stream.
    fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<ResponseAborted> {
        if let Some(time) = &self.time
            && time.poll_revoked(Side::Response, cx).is_ready()
        {
            return Poll::Ready(ResponseAborted::Revoked);
        }
        let expired = self.idle.poll_expired(cx);
        expired.map(|()| ResponseAborted::Stalled)
    }
}

async fn send_body<B>(
    body: B,
    stream: &mut SendStream<Bytes>,
    mut writer: ResponseWriter,
) -> Result<(), ResponseAborted>
where
    B: Body<Data = Bytes> + KeepsPermit,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    loop {
        let next = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => stream
                .poll_reset(cx)
                .map(|reset| Err(reset.map_or_else(|e| e, Into::into))),
        });
        let frame = match next.await? {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                // A truncated response must not look complete (RFC 9113 section 8.1.1).
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(ResponseAborted::Upstream(error.to_string()));
            }
            None => return Ok(stream.send_data(Bytes::new(), true)?),
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                send_data(stream, data, last, &mut writer).await?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok(stream.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Sends data as the caller's window permits. A caller below the minimum transfer rate gets a reset
/// stream.
async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    writer: &mut ResponseWriter,
) -> Result<(), ResponseAborted> {
    if data.is_empty() && last {
        // An empty last frame needs no window.
        return Ok(stream.send_data(data, true)?);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            let _wait = writer.connection.wait();
            let window = poll_fn(|cx| match stream.poll_capacity(cx) {
                Poll::Ready(Some(changed)) => {
                    Poll::Ready(changed.map(drop).map_err(ResponseAborted::from))
                }
                Poll::Ready(None) => {
                    Poll::Ready(Err(ResponseAborted::Caller(Reason::CANCEL.into())))
                }
                Poll::Pending => writer.poll_aborted(cx).map(Err),
            });
            if let Err(aborted) = window.await {
                stream.send_reset(Reason::CANCEL);
                return Err(aborted);
            }
            continue;
        }
        let chunk = data.split_to(stream.capacity().min(data.len()));
        // The exchanges on a connection share the minimum transfer rate.
        writer
            .idle
            .transferred((chunk.len() as u64).saturating_mul(writer.connection.shares()));
        stream.send_data(chunk, last && data.is_empty())?;
    }
    Ok(())
}
