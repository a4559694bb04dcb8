//! Response bodies on HTTP/2 streams.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use tokio::task::AbortHandle;

use super::super::BoxError;
use super::Http2Stream;
use citrix_wire::head_limit;

/// A response body in DATA frames. Dropped early, it resets the stream.
pub struct Http2Body {
    receive: RecvStream,
    /// The value of `Content-Length`, which `h2` enforces.
    length: Option<u64>,
    data_ended: bool,
    failed: bool,
    /// The caller is still to read the last frame.
    unread: bool,
    /// The task that sends the rest of the request.
    upload: Option<AbortHandle>,
    stream: Http2Stream,
}

impl Http2Body {
    pub(super) fn new(
        receive: RecvStream,
        headers: &HeaderMap,
        upload: Option<AbortHandle>,
        stream: Http2Stream,
    ) -> Self {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            length: length.or_else(|| receive.is_end_stream().then_some(0)),
            receive,
            data_ended: false,
            failed: false,
            unread: false,
            upload,
            stream,
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.receive.is_end_stream()
    }

    /// Returns the length of the whole body, if it is known.
    pub(in crate::upstream) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.set_unread(false);
        let polled = ready!(self.poll_next(cx));
        self.failed |= matches!(polled, Some(Err(_)));
        self.set_unread(matches!(polled, Some(Ok(_))));
        Poll::Ready(polled)
    }

    fn set_unread(&mut self, unread: bool) {
        let count = &self.stream.traffic.unread;
        count.set(count.get() + usize::from(unread) - usize::from(self.unread));
        self.unread = unread;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.data_ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.stream.traffic.response_progressed();
                    // Fails only if more is released than was received.
                    let _ = self.receive.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.receive.poll_trailers(cx)) {
            Ok(None) => None,
            Ok(Some(trailers)) => Some(match head_limit::check(&trailers) {
                Ok(()) => Ok(Frame::trailers(trailers)),
                Err(error) => Err(error.into()),
            }),
            Err(error) => Some(Err(error.into())),
        })
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.set_unread(false);
        if self.receive.is_end_stream() || self.failed {
            self.stream.responded = true;
        } else if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}
