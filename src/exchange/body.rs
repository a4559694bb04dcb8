//! Response bodies from Citrix: forwarded unchanged, or with rewritten links.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use crate::observe::metrics::LinkCounters;
use crate::system::burst::Burst;
use crate::upstream::body::{ResponseBody, ResponseBodyError};
use citrix_wire::link_rewrite::BodyRewriter;

/// A response body from Citrix.
pub enum ForwardedBody {
    /// Forwarded byte for byte. The response lacks its head.
    Unchanged(Box<Response<ResponseBody>>),
    /// With links that point to the gateway.
    Rewritten(Box<RewrittenBody>),
}

/// Maximum size of the pieces that are rewritten at a time.
const MAX_PIECE: usize = 16 * 1024;
/// Pieces after which other tasks run; each may be full of links.
const MAX_BURST: usize = 16;
/// Pieces that take as long as a piece that is decoded and encoded.
const CODED_PIECE: usize = 4;

/// A body that passes through a [`BodyRewriter`].
pub struct RewrittenBody {
    /// Without its head.
    source: Box<Response<ResponseBody>>,
    rewriter: BodyRewriter,
    counters: LinkCounters,
    /// Received, but not rewritten yet.
    received: Bytes,
    burst: Burst,
    /// `true` once the source has ended or failed.
    source_ended: bool,
    /// Sent after the last byte.
    trailers: Option<Frame<Bytes>>,
}

impl RewrittenBody {
    /// Rewrites `source`; the counts of `rewriter` are added to `counters` at the end.
    pub fn new(
        source: Box<Response<ResponseBody>>,
        rewriter: BodyRewriter,
        counters: LinkCounters,
    ) -> Box<Self> {
        Box::new(Self {
            source,
            rewriter,
            counters,
            received: Bytes::new(),
            burst: Burst::new(MAX_BURST),
            source_ended: false,
            trailers: None,
        })
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        loop {
            ready!(self.burst.poll_permitted(cx));
            self.burst.add(if self.rewriter.is_coded() {
                CODED_PIECE
            } else {
                1
            });
            match self.rewriter.pull() {
                Ok(Some(piece)) if piece.is_empty() => continue,
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) if self.source_ended => return Poll::Ready(self.trailers.take().map(Ok)),
                Ok(None) => {}
                Err(error) => {
                    self.source_ended = true;
                    return Poll::Ready(Some(Err(ResponseBodyError::Coding(error))));
                }
            }
            if !self.received.is_empty() {
                self.push();
                continue;
            }
            let Poll::Ready(frame) = Pin::new(self.source.body_mut()).poll_frame(cx) else {
                self.burst.end();
                return Poll::Pending;
            };
            match frame {
                None => self.finish(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.received = data,
                    Err(trailers) => self.trailers = Some(trailers),
                },
                Some(Err(error)) => {
                    // Bytes that the rewriter holds must not look like the end of the body.
                    self.source_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn push(&mut self) {
        let length = self.received.len().min(MAX_PIECE);
        self.rewriter.push(self.received.split_to(length));
        // The source has ended; another poll is not needed.
        if self.received.is_empty() && self.source.body().is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.source_ended = true;
        self.rewriter.finish();
    }
}

impl Drop for RewrittenBody {
    fn drop(&mut self) {
        self.counters.add(self.rewriter.counts());
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        match self.get_mut() {
            Self::Unchanged(response) => Pin::new(response.body_mut()).poll_frame(cx),
            Self::Rewritten(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unchanged(response) => response.body().is_end_stream(),
            // The rewriter may hold bytes after the source has ended.
            Self::Rewritten(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unchanged(response) => response.body().size_hint(),
            Self::Rewritten(_) => SizeHint::default(),
        }
    }
}
