//! Request bodies on HTTP/2 streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use super::super::BoxError;
use crate::inbound::body::CallerBody;
use crate::inbound::transfer_rate::IdleTimer;

/// A request body and the stream that it is sent on.
pub(super) struct Upload {
    body: CallerBody,
    stream: SendStream<Bytes>,
    /// Read, but not sent yet.
    chunk: Bytes,
}

impl Upload {
    pub(super) fn new(body: CallerBody, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            chunk: Bytes::new(),
        }
    }

    /// Returns the body; what it still yields has not been sent.
    pub(super) fn into_body(self) -> CallerBody {
        self.body
    }

    /// Sends as much as the upstream's window permits. Is ready at the end of the body, and when
    /// the stream takes no more of it.
    ///
    /// # Errors
    /// When the body fails; the stream is reset, so that the request does not look complete.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            if !self.chunk.is_empty() {
                if ready!(self.poll_chunk(cx)) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // The upstream may not want the rest.
                return self.stream.poll_reset(cx).map(|_| Ok(()));
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(fault)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(fault.into()));
                }
                None => {
                    // A failure is that of the stream, which the response reports.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() && self.body.is_end_stream() => {
                    let _ = self.stream.send_data(data, true);
                    return Poll::Ready(Ok(()));
                }
                Ok(data) => self.chunk = data,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = self.stream.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Sends the chunk. Returns `true` if nothing follows, because it is the last one or the stream
    /// has ended.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.reserve_capacity(self.chunk.len());
        if self.stream.capacity() == 0 {
            let window = ready!(self.stream.poll_capacity(cx));
            return Poll::Ready(!matches!(window, Some(Ok(_))));
        }
        let sent = self
            .chunk
            .split_to(self.stream.capacity().min(self.chunk.len()));
        let last = self.chunk.is_empty() && self.body.is_end_stream();
        Poll::Ready(self.stream.send_data(sent, last).is_err() || last)
    }

    /// Sends the rest after the response head. The caller's body has its own timeout; an upstream
    /// that does not read is subject to `idle_timeout`.
    pub(super) async fn finish(mut self, idle_timeout: Duration) {
        let mut idle = IdleTimer::new(idle_timeout);
        poll_fn(|cx| {
            let left = self.chunk.len();
            if self.poll_send(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.chunk.is_empty() || self.chunk.len() != left {
                idle.progress();
                return Poll::Pending;
            }
            idle.poll_expired(cx)
        })
        .await;
    }
}
