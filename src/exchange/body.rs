//! A response's body as it is passed on: as it came, or with its links rewritten.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::observe::metrics::LinkCounters;
use crate::upstream::body::{ResponseBody, ResponseBodyError};
use citrix_wire::link_rewrite::BodyRewriter;

/// A body for the caller.
pub enum ForwardedBody {
    /// Byte for byte.
    AsIs(ResponseBody),
    /// With links that point at the gateway.
    Rewritten(Box<RewrittenBody>),
}

/// A body that goes through a [`BodyRewriter`] on its way.
pub struct RewrittenBody {
    source: ResponseBody,
    rewriter: BodyRewriter,
    counters: LinkCounters,
    /// Nothing more comes from the source: it ended, or it broke.
    source_ended: bool,
    /// Held back until the last byte is out.
    trailers: Option<Frame<Bytes>>,
}

impl RewrittenBody {
    /// Sends `source` through `rewriter`.
    pub fn new(source: ResponseBody, rewriter: BodyRewriter, counters: LinkCounters) -> Box<Self> {
        Box::new(Self {
            source,
            rewriter,
            counters,
            source_ended: false,
            trailers: None,
        })
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        loop {
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
            match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                None => self.finish(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        self.rewriter.push(piece);
                        // The connection may be given back now, and need not be asked again.
                        if self.source.is_end_stream() {
                            self.finish();
                        }
                    }
                    Err(trailers) => self.trailers = Some(trailers),
                },
                Some(Err(error)) => {
                    // What is held back is not to be mistaken for the end.
                    self.source_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
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
            Self::AsIs(body) => Pin::new(body).poll_frame(cx),
            Self::Rewritten(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::AsIs(body) => body.is_end_stream(),
            // Whether something is held back is only known when it is asked for.
            Self::Rewritten(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsIs(body) => body.size_hint(),
            Self::Rewritten(_) => SizeHint::default(),
        }
    }
}
