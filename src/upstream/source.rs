//! The frames of a response body, over either HTTP version.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::BoxError;
use super::http2::Http2Body;

pub(super) enum ResponseSource {
    /// The connection must be polled for data.
    Http1(Incoming),
    /// Boxed, because it is larger.
    Http2(Box<Http2Body>),
}

impl ResponseSource {
    /// Returns the length of the whole body, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.size_hint().exact(),
            Self::Http2(body) => body.length(),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Http2(body) => body.poll_frame(cx),
        }
    }
}
