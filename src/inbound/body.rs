//! Request bodies: streamed to the upstream, counted, and limited in size and idle time.

mod progress;
mod read_ahead;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connection::caller_time::{Side, TimedWait};
use super::connection::{CallerWait, Connection, Upload};
use super::replay_buffer::ReplayBuffer;
use super::stream_body::StreamBody;
use crate::inbound::transfer_rate::IdleTimer;
use citrix_wire::framing_guard::FramingGuard;

pub use self::progress::{BodyFault, BodyProgress};
pub use self::read_ahead::{MAX_BUFFERED, too_many_bytes};

/// A request body. Most requests have none, so the state is boxed.
pub struct CallerBody(Option<Box<StreamedBody>>);

struct StreamedBody {
    source: CallerBodySource,
    /// What was read ahead: to send `100 Continue`, or to have the body at hand.
    ahead: VecDeque<Option<Result<Frame<Bytes>, BodyFault>>>,
    remaining: u64,
    /// Trailers may be those of the caller's connection.
    drops_trailers: bool,
    idle: IdleTimer,
    progress: Rc<BodyProgress>,
    /// The caller's connection; `None` for a replayed body.
    connection: Option<Upload>,
    waiting: Option<(CallerWait, Option<TimedWait>)>,
}

enum CallerBodySource {
    /// With the connection's framing guard, which follows what is read.
    Http1(Incoming, Rc<RefCell<FramingGuard>>),
    Http2(StreamBody),
    /// Buffered by an earlier attempt.
    Buffered(vec::IntoIter<Bytes>),
}

impl CallerBody {
    /// Returns an absent body.
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Wraps a body that hyper reads.
    pub fn http1(
        body: Incoming,
        guard: &Rc<RefCell<FramingGuard>>,
        connection: &Rc<Connection>,
    ) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self::streaming(
            CallerBodySource::Http1(body, Rc::clone(guard)),
            Some(connection),
        )
    }

    /// Wraps the body of an HTTP/2 stream.
    pub fn http2(body: StreamBody, connection: &Rc<Connection>) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self::streaming(CallerBodySource::Http2(body), Some(connection))
    }

    /// Returns a body of buffered bytes.
    pub fn replayed(chunks: Vec<Bytes>) -> Self {
        if chunks.is_empty() {
            return Self(None);
        }
        let mut body = Self::streaming(CallerBodySource::Buffered(chunks.into_iter()), None);
        // It was within its limits the first time.
        body.set_limits(u64::MAX, Duration::MAX);
        body
    }

    /// Returns a buffered body whose content is set by [`CallerBody::set_content`] before each
    /// attempt.
    pub fn placeholder() -> Self {
        Self::replayed(vec![Bytes::new()])
    }

    /// Sets the content of a buffered body and keeps its progress.
    pub fn set_content(&mut self, chunks: Vec<Bytes>) {
        if let Some(streamed) = &mut self.0 {
            streamed.source = CallerBodySource::Buffered(chunks.into_iter());
        }
    }

    fn streaming(source: CallerBodySource, connection: Option<&Rc<Connection>>) -> Self {
        Self(Some(Box::new(StreamedBody {
            source,
            ahead: VecDeque::new(),
            remaining: 0,
            drops_trailers: false,
            idle: IdleTimer::new(Duration::ZERO),
            progress: Rc::default(),
            connection: connection.map(Connection::begin_upload),
            waiting: None,
        })))
    }

    /// Sets the limits. Must be called once, before the first read.
    pub fn set_limits(&mut self, max_bytes: u64, idle: Duration) {
        if let Some(streamed) = &mut self.0 {
            streamed.remaining = max_bytes;
            streamed.idle = IdleTimer::new(idle);
        }
    }

    /// Removes all trailer fields: `Connection` names some of them, or may do so.
    pub fn drop_trailers(&mut self) {
        if let Some(streamed) = &mut self.0 {
            streamed.drops_trailers = true;
        }
    }

    /// Buffers up to `limit` bytes for a replay. Must be called once, before the first read.
    pub fn buffer_for_replay(&mut self, limit: usize) {
        if let Some(streamed) = &self.0 {
            *streamed.progress.replay_buffer.borrow_mut() =
                ReplayBuffer::new(limit, streamed.size_hint().lower());
        }
    }

    /// Returns the state of the body, or `None` without one.
    pub fn progress(&self) -> Option<Rc<BodyProgress>> {
        self.0
            .as_ref()
            .map(|streamed| Rc::clone(&streamed.progress))
    }
}

impl fmt::Debug for CallerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerBody")
            .field("size", &self.size_hint())
            .finish_non_exhaustive()
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        self.progress.ended.set(true);
        // The end of the stream may not have arrived, but a known length has: nothing waits for it.
        self.progress.caller_wait.set(Duration::ZERO);
    }
}

impl StreamedBody {
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let polled = match &mut self.source {
            CallerBodySource::Http1(body, guard) => {
                let polled = Pin::new(body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        guard
                            .borrow_mut()
                            .record_data(frame.data_ref().map_or(0, Bytes::len));
                    }
                    Poll::Ready(None) => guard.borrow_mut().end_body(),
                    _ => {}
                }
                polled.map_err(BodyFault::from)
            }
            CallerBodySource::Http2(body) => body.poll_frame(cx).map_err(|_| BodyFault::Broken),
            CallerBodySource::Buffered(chunks) => {
                Poll::Ready(chunks.next().map(|chunk| Ok(Frame::data(chunk))))
            }
        };
        match polled {
            Poll::Pending if self.idle.poll_expired(cx).is_ready() => {
                Poll::Ready(Some(Err(self.fail(BodyFault::Stalled))))
            }
            Poll::Pending => {
                if self.poll_revoked(cx).is_ready() {
                    return Poll::Ready(Some(Err(self.fail(BodyFault::Revoked))));
                }
                self.progress.caller_wait.set(self.idle.limit());
                Poll::Pending
            }
            Poll::Ready(frame) => {
                self.end_wait();
                Poll::Ready(self.account(frame))
            }
        }
    }

    /// Begins a wait for the caller, unless one has begun. Completes when the exchange must end
    /// because others queue for its permit.
    fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &self.connection else {
            return Poll::Pending;
        };
        let held = self.progress.permit_time();
        if self.waiting.is_none() {
            let timed = held.map(|time| time.wait(Side::Request));
            self.waiting = Some((connection.wait(), timed));
        }
        held.map_or(Poll::Pending, |time| time.poll_revoked(Side::Request, cx))
    }

    /// Ends a wait although no frame has arrived: the upstream does not wait for it yet.
    fn pause(&mut self) {
        self.idle.progress();
        self.end_wait();
    }

    fn end_wait(&mut self) {
        self.waiting = None;
        self.progress.caller_wait.set(Duration::ZERO);
    }

    fn account(
        &mut self,
        frame: Option<Result<Frame<Bytes>, BodyFault>>,
    ) -> Option<Result<Frame<Bytes>, BodyFault>> {
        self.progress.last_progress.set(Instant::now());
        let Some(frame) = frame else {
            self.progress.replay_buffer.borrow_mut().complete();
            return None;
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(fault) => return Some(Err(self.fail(fault))),
        };
        self.keep(&frame);
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.progress.bytes.set(self.progress.bytes.get() + length);
        self.transferred(length);
        let Some(remaining) = self.remaining.checked_sub(length) else {
            return Some(Err(self.fail(BodyFault::TooLarge)));
        };
        self.remaining = remaining;
        Some(Ok(match frame.into_trailers() {
            // No trailer has to be forwarded (RFC 9110 section 6.5.1).
            Ok(_) if self.drops_trailers => Frame::trailers(HeaderMap::new()),
            Ok(trailers) => Frame::trailers(passable(trailers)),
            Err(frame) => frame,
        }))
    }

    /// Counts received bytes. The exchanges on a connection share the minimum transfer rate.
    fn transferred(&mut self, bytes: u64) {
        let Some(connection) = &self.connection else {
            return;
        };
        self.idle
            .transferred(bytes.saturating_mul(connection.shares()));
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        let mut replay_buffer = self.progress.replay_buffer.borrow_mut();
        match frame.data_ref() {
            Some(data) => replay_buffer.push(data),
            // Trailers are too rare to be worth buffering.
            None => replay_buffer.discard(),
        }
        // The body is not polled again when a known length has been received.
        if self.source_ended() || self.has_announced_length() {
            replay_buffer.complete();
        }
    }

    fn fail(&self, fault: BodyFault) -> BodyFault {
        self.progress.replay_buffer.borrow_mut().discard();
        self.progress.fault.set(Some(fault));
        fault
    }

    fn is_end_stream(&self) -> bool {
        self.source_ended() && !self.ahead.iter().any(Option::is_some)
    }

    /// Returns `true` if all bytes have arrived that an HTTP/2 request announced. The end of its
    /// stream may follow in a frame of its own.
    fn has_announced_length(&self) -> bool {
        match &self.source {
            CallerBodySource::Http2(body) => body.size_hint().exact() == Some(0),
            CallerBodySource::Http1(..) | CallerBodySource::Buffered(_) => false,
        }
    }

    fn source_ended(&self) -> bool {
        match &self.source {
            CallerBodySource::Http1(body, _) => body.is_end_stream(),
            CallerBodySource::Http2(body) => body.is_end_stream(),
            CallerBodySource::Buffered(chunks) => chunks.len() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.source {
            CallerBodySource::Http1(body, _) => body.size_hint(),
            CallerBodySource::Http2(body) => body.size_hint(),
            CallerBodySource::Buffered(chunks) => SizeHint::with_exact(
                chunks
                    .as_slice()
                    .iter()
                    .map(|chunk| chunk.len() as u64)
                    .sum(),
            ),
        };
        let ahead = self.ahead.iter().flatten().flatten();
        let ahead: usize = ahead.filter_map(Frame::data_ref).map(Bytes::len).sum();
        larger(&rest, ahead as u64)
    }
}

/// Removes trailers that would not be forwarded as header fields.
fn passable(mut trailers: HeaderMap) -> HeaderMap {
    citrix_wire::citrix::headers::retain_allowed_trailers(&mut trailers);
    trailers
}

impl Body for CallerBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(streamed) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        match streamed.ahead.pop_front() {
            Some(ahead) => Poll::Ready(ahead),
            None => streamed.poll_source(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|streamed| streamed.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |streamed| streamed.size_hint())
    }
}

/// Adds `by` bytes to a size hint.
fn larger(hint: &SizeHint, by: u64) -> SizeHint {
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower() + by);
    if let Some(upper) = hint.upper() {
        sum.set_upper(upper + by);
    }
    sum
}
