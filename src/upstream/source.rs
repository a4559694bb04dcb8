//! The frames of a response body, over either HTTP version.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::BoxError;
use super::http1::Http1;
use super::http2::Http2Body;
use super::window::WindowReader;

pub(super) enum ResponseSource {
    /// The connection, which the response occupies.
    Http1(Box<Http1>),
    /// Boxed, because it is larger.
    Http2(Box<Http2Body>),
    /// The part of a body that several requests share.
    Shared(WindowReader),
}

impl ResponseSource {
    /// Returns the length of the whole body before its first frame, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Http1(connection) => connection.length(),
            Self::Http2(body) => body.length(),
            Self::Shared(_) => None,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_complete(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Shared(reader) => reader.is_end_stream(),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Shared(reader) => reader.poll_frame(cx).map_err(BoxError::from),
        }
    }
}
