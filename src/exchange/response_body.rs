//! The body of an answer, which ends the record of its exchange.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Exchange;
use crate::exchange::body::ForwardedBody;
use crate::observe::summary::End;
use crate::upstream::body::ResponseBodyError;

/// The body of an answer; it closes the record when it ends.
pub struct CallerResponseBody {
    source: Source,
    exchange: Box<Exchange>,
}

/// Where the bytes of an answer come from.
pub(super) enum Source {
    /// Citrix.
    Citrix(ForwardedBody),
    /// The gateway itself.
    Own(Option<Bytes>),
    /// What broke Citrix's answer off, until the caller is told.
    Broken(Option<ResponseBodyError>),
}

impl CallerResponseBody {
    pub(super) fn new(source: Source, exchange: Box<Exchange>) -> Self {
        let mut body = Self { source, exchange };
        // Nobody polls a body that has nothing to give.
        body.close_at_end();
        body
    }

    /// The record closes before the last byte is handed over, so that a scrape after it sees the count.
    fn close_at_end(&mut self) {
        if self.is_end_stream() {
            self.exchange.close(End::Complete);
        }
    }
}

impl Body for CallerResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Citrix(body) => std::task::ready!(Pin::new(body).poll_frame(cx)),
            Source::Own(body) => body.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Broken(error) => error.take().map(Err),
        };
        if let (Source::Citrix(_), Some(Err(_))) = (&this.source, &polled) {
            // hyper throws away what it has not flushed when a body fails. What came before the cut is the
            // caller's: hand it out first, then fail.
            this.source = Source::Broken(polled.and_then(Result::err));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match &polled {
            Some(Ok(frame)) => {
                this.exchange.response_bytes +=
                    frame.data_ref().map_or(0, |data| data.len() as u64);
                this.close_at_end();
            }
            Some(Err(error)) => {
                this.exchange.cause = error.to_string();
                this.exchange.close(End::CutOff);
            }
            None => this.exchange.close(End::Complete),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Citrix(body) => body.is_end_stream(),
            Source::Own(body) => body.is_none(),
            Source::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Citrix(body) => body.size_hint(),
            Source::Own(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Broken(_) => SizeHint::default(),
        }
    }
}
