//! A response's body on its way to the caller.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::http1::Http1;
use super::pool::Pool;
use crate::inbound::body::BodyProgress;
use crate::inbound::transfer_rate::IdleTimer;
use citrix_wire::coding::CodingError;
use citrix_wire::hop_by_hop;

/// What of an answer that nobody wants is read so that its connection can be used again.
const DISCARDED_BYTES: u64 = 64 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// Pieces that are peeked at: an empty one has its price too.
const PEEKED_FRAMES: usize = 64;

/// Why a response ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// The upstream broke off.
    #[error("the upstream broke its answer off")]
    Broken(#[source] hyper::Error),
    /// Nothing came for `upstream.idle_timeout`.
    #[error("the upstream's answer stalled for upstream.idle_timeout ({})", humantime::format_duration(*.0))]
    Stalled(Duration),
    /// Its links cannot be rewritten for what its coding is like.
    #[error(transparent)]
    Coding(CodingError),
}

/// A response's body. At its end it gives the connection back; dropped early it closes it (HTTP/1.1) or resets
/// the stream (HTTP/2).
pub struct ResponseBody {
    /// `None` once it was given up.
    inner: Option<Incoming>,
    /// The connection that must be polled for more, when it is HTTP/1.1.
    connection: Option<Box<Http1>>,
    /// The request's body, which may still be on its way when the response is whole.
    upload: Option<Rc<BodyProgress>>,
    /// What the response's length says is still to come.
    announced: Option<u64>,
    /// What was peeked at.
    ahead: VecDeque<Result<Frame<Bytes>, ResponseBodyError>>,
    home: Option<PoolHandle>,
    idle: IdleTimer,
    idle_limit: Duration,
}

/// Where a connection goes back to. While it lives, the connection counts as active.
pub(super) struct PoolHandle {
    pub(super) pool: Rc<Pool>,
    pub(super) origin: u64,
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.pool.ended();
    }
}

impl ResponseBody {
    pub(super) fn new(
        inner: Incoming,
        connection: Option<Box<Http1>>,
        upload: Option<Rc<BodyProgress>>,
        home: PoolHandle,
    ) -> Self {
        let idle_limit = home.pool.idle_timeout();
        let mut body = Self {
            announced: inner.size_hint().exact(),
            inner: Some(inner),
            ahead: VecDeque::new(),
            connection,
            upload,
            home: Some(home),
            idle: IdleTimer::new(idle_limit),
            idle_limit,
        };
        if body.source_ended() {
            body.release();
        }
        body
    }

    /// The body's beginning, up to `limit` bytes or what comes in `time`. It stays in the body, as does its framing.
    /// Nothing is read of a body that is known to be longer.
    pub async fn peek(&mut self, limit: usize, time: Duration) -> Vec<u8> {
        let mut seen = Vec::new();
        let look = async {
            let short = self.announced.is_none_or(|left| left <= limit as u64);
            while short && seen.len() < limit && self.ahead.len() < PEEKED_FRAMES {
                let Some(next) = poll_fn(|cx| self.poll_next(cx)).await else {
                    return;
                };
                let ended = next.is_err();
                if let Some(data) = next.as_ref().ok().and_then(Frame::data_ref) {
                    seen.extend_from_slice(data);
                }
                self.ahead.push_back(next);
                if ended || self.source_ended() {
                    return;
                }
            }
        };
        // What did not come in time comes later.
        let _ = timeout(time, look).await;
        seen
    }

    /// Reads what is left, so that the connection can be used again; what is much or slow is given up, and with
    /// it the connection.
    pub async fn discard(mut self) {
        let drain = async {
            let mut read = 0;
            while read <= DISCARDED_BYTES && self.size_hint().lower() <= DISCARDED_BYTES {
                let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await else {
                    return;
                };
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
        };
        // Too late is given up as well.
        let _ = timeout(DISCARD_TIME, drain).await;
    }

    /// Gives an HTTP/1.1 connection back, or lets go of an HTTP/2 stream.
    fn release(&mut self) {
        let Some(home) = self.home.take() else { return };
        match (self.connection.take(), self.inner.take()) {
            (Some(connection), _) => {
                match self.upload.take().filter(|upload| !upload.ended.get()) {
                    None => home.pool.return_idle(home.origin, connection),
                    Some(upload) => drop(tokio::task::spawn_local(finish_upload(
                        connection, upload, home,
                    ))),
                }
            }
            // All bytes came, but not yet the empty frame that ends the stream: to drop it now would reset it.
            (None, Some(inner)) if !inner.is_end_stream() => {
                drop(tokio::task::spawn_local(read_end(
                    inner,
                    self.idle_limit,
                    home,
                )));
            }
            _ => {}
        }
    }

    /// A length that has come in full is the end, whatever frames the upstream sends behind it.
    fn source_ended(&self) -> bool {
        self.announced == Some(0) || self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *inner).poll_frame(cx);
        match (&mut self.connection, polled) {
            (Some(connection), Poll::Pending) => {
                connection.drive(cx);
                Pin::new(inner).poll_frame(cx)
            }
            (_, polled) => polled,
        }
    }
}

/// Sends the rest of an upload that was answered before its end, and gives the connection back then. The
/// caller's body has its own deadline; an upstream that does not read gets as long as one that does not write.
async fn finish_upload(mut connection: Box<Http1>, upload: Rc<BodyProgress>, home: PoolHandle) {
    let mut idle = IdleTimer::new(home.pool.idle_timeout());
    let mut seen = upload.bytes.get();
    let usable = poll_fn(|cx| {
        connection.drive(cx);
        if upload.ended.get() {
            return Poll::Ready(connection.is_usable(cx));
        }
        if upload.bytes.get() != seen {
            seen = upload.bytes.get();
            idle.progress();
        }
        if connection.is_gone() {
            Poll::Ready(false)
        } else {
            idle.poll_expired(cx).map(|()| false)
        }
    });
    if usable.await {
        home.pool.return_idle(home.origin, connection);
    }
}

/// Waits for the end of an HTTP/2 stream whose bytes have all come.
async fn read_end(mut inner: Incoming, limit: Duration, home: PoolHandle) {
    let end = poll_fn(|cx| Pin::new(&mut inner).poll_frame(cx).map(drop));
    // Too late or broken, it is reset after all; the caller has his answer.
    let _ = timeout(limit, end).await;
    drop(home);
}

impl ResponseBody {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let Poll::Ready(frame) = self.poll_inner(cx) else {
            let expired = self.idle.poll_expired(cx);
            return expired.map(|()| Some(Err(ResponseBodyError::Stalled(self.idle_limit))));
        };
        self.idle.progress();
        let frame = match frame {
            None => {
                self.release();
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                (self.connection, self.home) = (None, None);
                return Poll::Ready(Some(Err(ResponseBodyError::Broken(error))));
            }
            Some(Ok(frame)) => frame,
        };
        if let (Some(left), Some(data)) = (&mut self.announced, frame.data_ref()) {
            *left = left.saturating_sub(data.len() as u64);
        }
        if self.source_ended() {
            self.release();
        }
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                hop_by_hop::remove(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
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
        match this.ahead.pop_front() {
            Some(peeked) => Poll::Ready(Some(peeked)),
            None => this.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.source_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let peeked = self
            .ahead
            .iter()
            .filter_map(|next| next.as_ref().ok()?.data_ref());
        let peeked: u64 = peeked.map(|data| data.len() as u64).sum();
        self.announced.map_or_else(SizeHint::default, |left| {
            SizeHint::with_exact(left + peeked)
        })
    }
}
