//! Response bodies from upstreams.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::BoxError;
use super::http1::Http1;
use super::pool::PoolHandle;
use super::source::ResponseSource;
use super::window::WindowReader;
use crate::inbound::transfer_rate::IdleTimer;
use crate::system::burst::Burst;
use citrix_wire::coding::CodingError;

/// Maximum size of an unwanted response that is read so that its connection can be reused.
const MAX_DISCARDED: u64 = 64 * 1024;
/// Timeout for reading it.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(500);

/// Timeout for the end of an HTTP/2 stream whose bytes have all arrived. Such a stream holds no permit.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Frames after which other tasks run.
const MAX_BURST: usize = 64;

/// Maximum number of frames that are peeked at, some of which may be empty.
const MAX_PEEKED_FRAMES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// The upstream closed the connection, reset the stream or sent invalid framing.
    #[error("upstream truncated the response")]
    Broken(#[source] BoxError),
    /// The data ended before `Content-Length`.
    #[error("upstream ended the response before its end")]
    Incomplete,
    /// No data for `upstream.idle_timeout`.
    #[error("response of the upstream stalled for {} (upstream.idle_timeout)", humantime::format_duration(*.0))]
    Stalled(Duration),
    /// The content coding is invalid, so links cannot be rewritten.
    #[error(transparent)]
    Coding(CodingError),
}

/// A response body, and the only place that determines whether a response is complete. At its end it
/// returns the connection to the pool; dropped early, it closes the connection (HTTP/1.1) or resets
/// the stream (HTTP/2).
///
/// A response is complete when `Content-Length` is met; without one, at the last chunk, END_STREAM
/// or, where only the close delimits, an orderly close: FIN, over TLS after close_notify. Every other
/// end is an error.
pub struct ResponseBody {
    /// `None` once it has ended or failed.
    inner: Option<ResponseSource>,
    /// Remaining bytes according to `Content-Length`.
    remaining: Option<u64>,
    failed: bool,
    /// Frames that were peeked at.
    peeked: VecDeque<Result<Frame<Bytes>, ResponseBodyError>>,
    /// `None` after the end, and for a shared body.
    pool: Option<PoolHandle>,
    idle: IdleTimer,
    idle_limit: Duration,
    burst: Burst,
}

impl ResponseBody {
    /// `has_content` is `false` if none follows the head whatever its fields say: for HEAD, 204 and
    /// 304.
    pub(super) fn new(inner: ResponseSource, has_content: bool, pool: PoolHandle) -> Self {
        let idle_limit = pool.pool.idle_timeout();
        let mut body = Self {
            remaining: if has_content { inner.length() } else { Some(0) },
            inner: Some(inner),
            failed: false,
            peeked: VecDeque::new(),
            pool: Some(pool),
            idle: IdleTimer::new(idle_limit),
            idle_limit,
            burst: Burst::new(MAX_BURST),
        };
        if body.source_ended() {
            body.release();
        }
        body
    }

    /// Returns a body that other requests read as well. Its writer detects a stalled upstream.
    pub(super) fn shared(reader: WindowReader, length: Option<u64>) -> Self {
        Self {
            remaining: length,
            inner: Some(ResponseSource::Shared(reader)),
            failed: false,
            peeked: VecDeque::new(),
            pool: None,
            idle: IdleTimer::new(Duration::MAX),
            idle_limit: Duration::MAX,
            burst: Burst::new(MAX_BURST),
        }
    }

    /// Returns the beginning of the body: up to `limit` bytes that arrive within `time`. They
    /// remain in the body with their framing. A body that is known to be longer is not read.
    pub async fn peek(&mut self, limit: usize, time: Duration) -> Vec<u8> {
        let mut seen = Vec::new();
        let peek = async {
            let short = self.remaining.is_none_or(|left| left <= limit as u64);
            while short && seen.len() < limit && self.peeked.len() < MAX_PEEKED_FRAMES {
                let Some(next) = poll_fn(|cx| self.poll_next(cx)).await else {
                    return;
                };
                let ended = next.is_err();
                if let Some(data) = next.as_ref().ok().and_then(Frame::data_ref) {
                    seen.extend_from_slice(data);
                }
                self.peeked.push_back(next);
                if ended || self.source_ended() {
                    return;
                }
            }
        };
        // On a timeout the rest follows later.
        let _ = timeout(time, peek).await;
        seen
    }

    /// Reads the rest, so that the connection can be reused, or closes the connection if that takes
    /// too much or too long.
    pub async fn discard(mut self) {
        let drain = async {
            let mut read = 0;
            while read <= MAX_DISCARDED && self.size_hint().lower() <= MAX_DISCARDED {
                let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await else {
                    return;
                };
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
        };
        // On a timeout the connection is dropped.
        let _ = timeout(DISCARD_TIMEOUT, drain).await;
    }

    /// Returns an HTTP/1.1 connection to the pool, or ends an HTTP/2 stream.
    fn release(&mut self) {
        let (Some(pool), Some(inner)) = (self.pool.take(), self.inner.take()) else {
            return;
        };
        match inner {
            ResponseSource::Http1(connection) if connection.is_sending() => {
                drop(tokio::task::spawn_local(finish_upload(connection, pool)));
            }
            ResponseSource::Http1(connection) => pool.pool.return_idle(pool.origin, connection),
            // All bytes have arrived, but not the empty frame that ends the stream; dropping it now
            // would reset it.
            inner if !inner.is_end_stream() => {
                drop(tokio::task::spawn_local(read_end(inner, pool)));
            }
            ResponseSource::Http2(_) | ResponseSource::Shared(_) => {}
        }
    }

    /// Returns `true` at the end, which a fulfilled `Content-Length` is, whatever frames follow.
    fn source_ended(&self) -> bool {
        let inner = self.inner.as_ref();
        !self.failed
            && (self.remaining == Some(0) || inner.is_none_or(ResponseSource::is_end_stream))
    }

    /// Returns `true` if the body is complete after its last frame. An end without END_STREAM is an
    /// error of its source.
    fn ended_complete(&self) -> bool {
        self.remaining.is_none_or(|left| left == 0)
    }
}

/// Sends the rest of a request whose response is already complete, then returns the connection.
async fn finish_upload(mut connection: Box<Http1>, pool: PoolHandle) {
    if connection.finish(pool.pool.idle_timeout()).await {
        pool.pool.return_idle(pool.origin, connection);
    }
}

/// Waits for the end of an HTTP/2 stream whose bytes have all arrived.
async fn read_end(mut inner: ResponseSource, pool: PoolHandle) {
    let end = poll_fn(|cx| inner.poll_frame(cx).map(drop));
    // On a timeout or error the stream is reset. The caller has the response.
    let _ = timeout(END_TIMEOUT, end).await;
    drop(pool);
}

impl ResponseBody {
    /// Closes an HTTP/1.1 connection, or resets the stream of HTTP/2.
    fn fail(
        &mut self,
        error: ResponseBodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        (self.inner, self.pool, self.failed) = (None, None, true);
        Poll::Ready(Some(Err(error)))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        ready!(self.burst.poll_permitted(cx));
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = inner.poll_frame(cx) else {
            self.burst.end();
            if matches!(inner, ResponseSource::Shared(_)) {
                return Poll::Pending;
            }
            let expired = self.idle.poll_expired(cx);
            return expired.map(|()| Some(Err(ResponseBodyError::Stalled(self.idle_limit))));
        };
        self.idle.progress();
        self.burst.add(1);
        let frame = match frame {
            None if self.ended_complete() => {
                self.release();
                return Poll::Ready(None);
            }
            None => return self.fail(ResponseBodyError::Incomplete),
            Some(Err(error)) => return self.fail(ResponseBodyError::Broken(error)),
            Some(Ok(frame)) => frame,
        };
        if let (Some(left), Some(data)) = (&mut self.remaining, frame.data_ref()) {
            *left = left.saturating_sub(data.len() as u64);
        }
        // Trailers are the last frame.
        if self.source_ended() || frame.is_trailers() {
            self.release();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = self.get_mut();
        match this.peeked.pop_front() {
            Some(peeked) => Poll::Ready(Some(peeked)),
            None => this.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_empty() && self.source_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let peeked = self
            .peeked
            .iter()
            .filter_map(|next| next.as_ref().ok()?.data_ref());
        let peeked: u64 = peeked.map(|data| data.len() as u64).sum();
        self.remaining.map_or_else(SizeHint::default, |left| {
            SizeHint::with_exact(left + peeked)
        })
    }
}
