//! Content as it is read.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// More would have to arrive.
    #[default]
    Pending,
    Complete,
    Error,
}

/// The content of a message, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) end: End,
}

impl Content {
    /// Adds a frame; returns `false` at the end.
    pub(crate) fn add<E>(&mut self, frame: Option<Result<Frame<Bytes>, E>>) -> bool {
        match frame {
            None => self.end = End::Complete,
            Some(Err(_)) => self.end = End::Error,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.data.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
        }
        self.end == End::Pending
    }
}
