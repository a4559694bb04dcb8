//! The exchanges on an HTTP/1.1 connection, one after the other, driven by the task that needs the
//! response.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::upload::{Upload, UploadFault};
use crate::inbound::body::CallerBody;
use crate::upstream::request_head::RequestHead;
use citrix_wire::http1::chunked::{ChunkDecoder, ChunkError, Piece};
use citrix_wire::http1::head::{self, HeadError, ResponseHead, SectionEnd};
use citrix_wire::known_fields::KnownFields;
use citrix_wire::response_framing::{Delimiter, may_have_content};

/// Maximum number of interim responses (1xx) before a response.
const MAX_INTERIM: u32 = 16;
/// Space for received bytes that an idle connection keeps; most responses fit.
const READ_SPACE: usize = 8 * 1024;
/// Maximum space for one read of a large body.
const MAX_READ_SPACE: usize = 64 * 1024;
/// Space below which more is allocated before a read.
const MIN_READ_SPACE: usize = 2 * 1024;

/// A failed exchange. The connection must be closed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("request could not be sent")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Upload(#[from] UploadFault),
    #[error("response could not be read")]
    Read(#[source] io::Error),
    #[error("connection closed before the end of the response")]
    Closed,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("more than {MAX_INTERIM} interim responses")]
    Interim,
    #[error("unrequested 101 Switching Protocols")]
    SwitchedProtocols,
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

impl ExchangeError {
    /// Returns `true` if the upstream sent what is no response.
    pub fn is_invalid_response(&self) -> bool {
        matches!(
            self,
            Self::Head(_) | Self::Interim | Self::SwitchedProtocols | Self::Chunk(_)
        )
    }
}

/// A connection on a byte stream. It has at most one exchange at a time.
pub struct Connection<T> {
    io: T,
    upload: Upload,
    /// Received bytes that were not returned yet.
    received: BytesMut,
    /// Size of the next allocation for them.
    read_space: usize,
    response: ResponseState,
    /// `false` if the connection ends after the exchange.
    persists: bool,
    /// An empty map, for the fields of the response.
    headers: HeaderMap,
    /// The fields that the head of the last response has.
    fields: KnownFields,
}

enum ResponseState {
    Head {
        end: SectionEnd,
        interim: u32,
        to_head: bool,
    },
    /// Bytes left of the body.
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
    Complete,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Returns a connection without an exchange.
    pub fn new(io: T) -> Self {
        Self {
            io,
            upload: Upload::default(),
            received: BytesMut::new(),
            read_space: READ_SPACE,
            response: ResponseState::Complete,
            persists: true,
            headers: HeaderMap::new(),
            fields: KnownFields::default(),
        }
    }

    /// Returns the fields that the head of the last response has.
    pub fn fields(&self) -> KnownFields {
        self.fields
    }

    /// Starts an exchange on a connection without one. The fields of the head state the framing of
    /// the body. With `closes`, the request announces that the connection ends after it.
    pub fn begin(&mut self, head: &mut RequestHead, body: CallerBody, closes: bool) {
        self.response = ResponseState::Head {
            end: SectionEnd::default(),
            interim: 0,
            to_head: head.method == Method::HEAD,
        };
        self.persists = !closes;
        self.headers = std::mem::take(&mut head.spare);
        self.upload.begin(head, body, closes);
    }

    /// Sends the request, and returns the response head once it has arrived, which may be before
    /// the end of the request.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, ExchangeError>> {
        self.drive_upload(cx)?;
        loop {
            if let Some(response) = self.take_response()? {
                return Poll::Ready(Ok(response));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(self.closed()));
            }
        }
    }

    /// Returns the next frame of the response body; meanwhile sends the rest of the request.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        self.drive_upload(cx)?;
        loop {
            if let Poll::Ready(frame) = self.take_frame()? {
                return Poll::Ready(frame.map(Ok));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(match self.response {
                    ResponseState::UntilClose => {
                        self.response = ResponseState::Complete;
                        None
                    }
                    _ => Some(Err(self.closed())),
                });
            }
        }
    }

    /// Returns the length of the rest of the response body, if it is known.
    pub fn length(&self) -> Option<u64> {
        match self.response {
            ResponseState::Complete => Some(0),
            ResponseState::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Returns `true` if the response is complete.
    pub fn is_complete(&self) -> bool {
        matches!(self.response, ResponseState::Complete)
    }

    /// Returns `true` if the request is not sent completely.
    pub fn is_sending(&self) -> bool {
        !self.upload.is_done()
    }

    /// Returns `true` if the upstream does not accept bytes that are at hand.
    pub fn is_blocked(&self) -> bool {
        self.upload.is_blocked()
    }

    /// Returns the number of bytes that were sent.
    pub fn sent(&self) -> u64 {
        self.upload.sent()
    }

    /// Sends the rest of a request whose response is complete. Is ready with `true` once the
    /// connection has no exchange, and with `false` if it must be closed.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.upload.poll(&mut self.io, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(self.is_reusable()),
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Pending if self.is_silent(cx) => Poll::Pending,
            Poll::Pending => Poll::Ready(false),
        }
    }

    /// Returns `true` if another exchange may follow: request and response are complete, the server
    /// keeps the connection open, and nothing has arrived after the response.
    pub fn is_reusable(&self) -> bool {
        self.persists
            && self.is_complete()
            && self.received.is_empty()
            && self.upload.is_done()
            && !self.upload.is_cut_off()
    }

    /// Returns `true` if a connection without an exchange is open and nothing has arrived.
    pub fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        // Also reads TLS records without content, such as session tickets.
        Pin::new(&mut self.io).poll_read(cx, &mut byte).is_pending()
    }

    /// Releases the buffers of a large exchange.
    pub fn shrink(&mut self) {
        self.upload.shrink();
        if self.read_space > READ_SPACE {
            self.read_space = READ_SPACE;
            self.received = BytesMut::new();
        }
    }

    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), UploadFault> {
        match self.upload.poll(&mut self.io, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ExchangeError>> {
        if self.received.capacity() - self.received.len() < MIN_READ_SPACE {
            self.received.reserve(self.read_space);
        }
        let read = ready!(pin!(self.io.read_buf(&mut self.received)).poll(cx));
        if self.received.capacity() == self.received.len() {
            // More has probably arrived.
            self.read_space = (2 * self.read_space).min(MAX_READ_SPACE);
        }
        Poll::Ready(read.map_err(ExchangeError::Read))
    }

    /// Returns the error of a connection that ended within an exchange.
    fn closed(&mut self) -> ExchangeError {
        match self.upload.take_error() {
            Some(error) => ExchangeError::Write(error),
            None => ExchangeError::Closed,
        }
    }

    /// Removes the response head from what was received, and interim responses before it.
    fn take_response(&mut self) -> Result<Option<Response<()>>, ExchangeError> {
        let ResponseState::Head {
            end,
            interim,
            to_head,
        } = &mut self.response
        else {
            return Err(ExchangeError::Closed);
        };
        while !self.received.is_empty() {
            let Some(length) = end.find(&self.received)? else {
                if !head::may_begin(&self.received) {
                    return Err(HeadError::NotHttp.into());
                }
                return Ok(None);
            };
            let bytes = self.received.split_to(length).freeze();
            let head = head::parse(&bytes, std::mem::take(&mut self.headers))?;
            if !head.status.is_informational() {
                let has_content = !*to_head && may_have_content(head.status);
                self.response = body_state(&head, has_content)?;
                let ends_with_close = matches!(self.response, ResponseState::UntilClose);
                self.persists &= head.persists && !ends_with_close;
                self.fields = head.fields;
                return Ok(Some(into_response(head)));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(ExchangeError::SwitchedProtocols);
            }
            *end = SectionEnd::default();
            *interim += 1;
            if *interim > MAX_INTERIM {
                return Err(ExchangeError::Interim);
            }
        }
        Ok(None)
    }

    /// Removes the next frame from what was received. Is pending if more bytes are required.
    fn take_frame(&mut self) -> Result<Poll<Option<Frame<Bytes>>>, ExchangeError> {
        let data = match &mut self.response {
            ResponseState::Complete | ResponseState::Head { .. } => return Ok(Poll::Ready(None)),
            ResponseState::Chunked(decoder) => {
                let piece = decoder.decode(&mut self.received)?;
                if decoder.is_ended() {
                    self.response = ResponseState::Complete;
                }
                return Ok(piece.map_or(Poll::Pending, |piece| {
                    Poll::Ready(match piece {
                        Piece::Data(data) => Some(Frame::data(data)),
                        Piece::Trailers(trailers) => Some(Frame::trailers(trailers)),
                        Piece::End => None,
                    })
                }));
            }
            _ if self.received.is_empty() => return Ok(Poll::Pending),
            ResponseState::UntilClose => self.received.split(),
            ResponseState::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = self.received.split_to(length.min(self.received.len()));
                *left -= data.len() as u64;
                if *left == 0 {
                    self.response = ResponseState::Complete;
                } else {
                    // Reads as much at once as remains.
                    let rest = usize::try_from(*left).unwrap_or(usize::MAX);
                    self.read_space = rest.clamp(self.read_space, MAX_READ_SPACE);
                }
                data
            }
        };
        Ok(Poll::Ready(Some(Frame::data(data.freeze()))))
    }
}

fn body_state(head: &ResponseHead, has_content: bool) -> Result<ResponseState, HeadError> {
    if !has_content {
        return Ok(ResponseState::Complete);
    }
    Ok(match head.framing.delimiter(head.version)? {
        Delimiter::Length(0) => ResponseState::Complete,
        Delimiter::Length(length) => ResponseState::Length(length),
        Delimiter::LastChunk => ResponseState::Chunked(ChunkDecoder::default()),
        Delimiter::Close => ResponseState::UntilClose,
    })
}

fn into_response(head: ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.version_mut() = head.version;
    *response.headers_mut() = head.headers;
    // hyper writes it for the caller.
    let reason = head.reason.map(ReasonPhrase::try_from);
    if let Some(Ok(reason)) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}

#[cfg(test)]
mod tests;
