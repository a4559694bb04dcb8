//! HTTP/2 from callers, on the `h2` crate itself.
//!
//! hyper's HTTP/2 server cannot send `100 Continue`, and Java's client waits for one until it gives up.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::body::CallerBody;
use super::connection::{Connection, Directive};
use super::stream::Stream;
use crate::config::Limits;
use crate::inbound::transfer_rate::IdleTimer;
use citrix_wire::hop_by_hop;

/// What a stream may send before we took it; Envoy's advice for the edge is of this order.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Requests at a time on one connection.
const MAX_STREAMS: u32 = 100;
/// What a stream holds back for a caller that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// How many more requests a connection may give up, or leave unread, than it lets be answered. A caller that has a
/// hundred under way and leaves them all is well within it; one that asks and takes back at once, to make us work, is not.
const MAX_GIVEN_UP: usize = 200;
/// How long a caller that is sent away has to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, by an order, or for a mistake of the caller's.
    Served,
    /// It was at a bound: resets, frames without content, CONTINUATION (`ENHANCE_YOUR_CALM`).
    Flooded,
}

/// Serves one connection until it ends.
pub async fn serve<H, F, B>(
    stream: Stream,
    connection: Rc<Connection>,
    limits: &Limits,
    handle: H,
) -> Ended
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: std::fmt::Display,
{
    let mut handshake = pin!(
        Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .handshake::<_, Bytes>(stream)
    );
    let opened = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(server) => Poll::Ready(Some(server)),
        Poll::Pending => connection
            .poll_directive(cx)
            .map_or(Poll::Pending, |_| Poll::Ready(None)),
    });
    let mut server = match opened.await {
        Some(Ok(server)) => server,
        Some(Err(error)) => return ended_by(&error),
        None => return Ended::Served,
    };
    connection.opened();
    let given_up = Rc::new(Cell::new(0_usize));
    loop {
        let event = poll_fn(|cx| match server.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Ok(accepted)),
            Poll::Pending => connection
                .poll_directive(cx)
                .map_or(Poll::Pending, |order| Poll::Ready(Err(order))),
        });
        match event.await {
            Ok(None) => return Ended::Served,
            Ok(Some(Err(error))) => return ended_by(&error),
            Ok(Some(Ok(_))) if given_up.get() > MAX_GIVEN_UP => {
                tracing::debug!("a caller gives up his requests as fast as he sends them");
                server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // He may not read; there is nobody else to tell.
                let _ = timeout(FAREWELL, poll_fn(|cx| server.poll_closed(cx))).await;
                return Ended::Flooded;
            }
            Ok(Some(Ok((request, respond)))) => {
                let respond = Rc::new(RefCell::new(respond));
                let (head, receive) = request.into_parts();
                let body = StreamBody::new(receive, &head.headers, &respond);
                let answer = handle(Request::from_parts(
                    head,
                    CallerBody::http2(body, &connection),
                ));
                let given_up = Rc::clone(&given_up);
                let reader = ResponseWriter {
                    connection: Rc::clone(&connection),
                    idle: IdleTimer::new(limits.body_idle_timeout),
                };
                tokio::task::spawn_local(async move {
                    let answered = exchange(answer, respond, reader).await;
                    let before = given_up.get();
                    given_up.set(if answered.is_ok() {
                        before.saturating_sub(1)
                    } else {
                        before + 1
                    });
                });
            }
            Err(Directive::Drain | Directive::HeadTimedOut) => server.graceful_shutdown(),
            // Its settings and tables have to stay.
            Err(Directive::Park) => {}
            Err(Directive::Abort) => {
                server.abrupt_shutdown(Reason::CANCEL);
                return Ended::Served;
            }
        }
    }
}

fn ended_by(error: &h2::Error) -> Ended {
    tracing::debug!(%error, "a caller's connection ended badly");
    let flooded = error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    if flooded {
        Ended::Flooded
    } else {
        Ended::Served
    }
}

type Respond = Rc<RefCell<SendResponse<Bytes>>>;

/// How well a caller takes the answer of one stream.
struct ResponseWriter {
    connection: Rc<Connection>,
    idle: IdleTimer,
}

/// The caller reset a stream before it was answered in full, or did not read the answer.
struct GivenUp;

/// Answers one stream; gives the exchange up when the caller resets it.
async fn exchange<F, B>(answer: F, respond: Respond, reader: ResponseWriter) -> Result<(), GivenUp>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut answer = pin!(answer);
    let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
    });
    let response = answered.await.ok_or(GivenUp)?;
    let (mut head, body) = response.into_parts();
    hop_by_hop::remove(&mut head.headers);
    if let Some(length) = body.size_hint().exact()
        && length > 0
    {
        head.headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    let ended = body.is_end_stream();
    let sent = respond
        .borrow_mut()
        .send_response(Response::from_parts(head, ()), ended);
    match sent {
        Ok(_) if ended => {}
        Ok(mut stream) => {
            if let Err(error) = send_body(body, &mut stream, reader).await {
                tracing::debug!(%error, "an HTTP/2 answer was cut off");
                if matches!(error, ResponseAborted::Caller(_) | ResponseAborted::Stalled) {
                    return Err(GivenUp);
                }
            }
        }
        Err(error) => {
            tracing::debug!(%error, "an HTTP/2 answer could not be sent");
            return Err(GivenUp);
        }
    }
    Ok(())
}

/// Why the rest of an answer was not sent.
#[derive(Debug, thiserror::Error)]
enum ResponseAborted {
    #[error("the caller reset the stream or went away: {0}")]
    Caller(#[from] h2::Error),
    #[error("the caller read nothing, or hardly anything, for limits.body_idle_timeout")]
    Stalled,
    #[error("the upstream broke off: {0}")]
    Upstream(String),
}

async fn send_body<B>(
    body: B,
    stream: &mut SendStream<Bytes>,
    mut reader: ResponseWriter,
) -> Result<(), ResponseAborted>
where
    B: Body<Data = Bytes>,
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
                // A cut-off answer must not look like a whole one (RFC 9113 section 8.1.1).
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(ResponseAborted::Upstream(error.to_string()));
            }
            None => return Ok(stream.send_data(Bytes::new(), true)?),
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                send_piece(stream, data, last, &mut reader).await?;
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

/// Sends one piece as the caller's window opens; one that stays shut, or opens by next to nothing, ends the stream.
async fn send_piece(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    reader: &mut ResponseWriter,
) -> Result<(), ResponseAborted> {
    if data.is_empty() && last {
        // An upstream may end its answer with an empty frame; it needs no window, but it is the end.
        return Ok(stream.send_data(data, true)?);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            let _waiting = reader.connection.wait();
            let window = poll_fn(|cx| match stream.poll_capacity(cx) {
                Poll::Ready(Some(changed)) => {
                    Poll::Ready(changed.map(drop).map_err(ResponseAborted::from))
                }
                Poll::Ready(None) => {
                    Poll::Ready(Err(ResponseAborted::Caller(Reason::CANCEL.into())))
                }
                Poll::Pending => reader
                    .idle
                    .poll_expired(cx)
                    .map(|()| Err(ResponseAborted::Stalled)),
            });
            if let Err(cut_off) = window.await {
                stream.send_reset(Reason::CANCEL);
                return Err(cut_off);
            }
            continue;
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        // Those who share a connection share what it has to come up to.
        reader.connection.transferred(piece.len() as u64);
        reader
            .idle
            .moved((piece.len() as u64).saturating_mul(reader.connection.shares()));
        stream.send_data(piece, last && data.is_empty())?;
    }
    Ok(())
}

/// A request body that arrives as DATA frames. The first poll tells a caller that waits for it to go on.
pub struct StreamBody {
    receive: RecvStream,
    /// What `Content-Length` says is still to come (`h2` holds the caller to it).
    announced: Option<u64>,
    /// Where `100 Continue` goes, until it went.
    wants_continue: Option<Respond>,
    data_ended: bool,
}

impl StreamBody {
    fn new(receive: RecvStream, headers: &HeaderMap, respond: &Respond) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let expects =
            text(header::EXPECT).is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Self {
            receive,
            announced: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            wants_continue: expects.then(|| Rc::clone(respond)),
            data_ended: false,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.receive.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn tell_to_continue(&mut self) {
        if let Some(respond) = self.wants_continue.take() {
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            // It fails when the stream is gone, which the next read tells as well.
            let _ = respond.borrow_mut().send_informational(go_on);
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.tell_to_continue();
        if !self.data_ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.receive.flow_control().release_capacity(data.len())?;
                    if let Some(left) = &mut self.announced {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.receive.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
