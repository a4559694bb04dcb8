//! The sending of a request over HTTP/1.1.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use crate::inbound::body::{BodyFault, CallerBody};
use crate::upstream::request_head::RequestHead;
use citrix_wire::http1::request::{
    END_AND_LAST_CHUNK, END_OF_CHUNK, LAST_CHUNK, RequestFraming, write_chunk_size, write_head,
};

/// Maximum number of frames of a body that are written at once.
const MAX_PIECES: usize = 16;
/// Bytes of a body beyond which no further frame is taken before they are written.
const MAX_GATHERED: usize = 64 * 1024;
/// Capacity of the head's buffer that is kept for the next request.
const MAX_KEPT: usize = 16 * 1024;

/// A request body that cannot be sent. What was sent of it must not look complete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum UploadFault {
    /// The caller's fault.
    #[error(transparent)]
    Body(#[from] BodyFault),
    #[error("request body differs from its Content-Length")]
    Length,
}

/// A request that is being sent: its head, then its body as it arrives.
#[derive(Default)]
pub(super) struct Upload {
    /// The head, later the size of a chunk.
    lead: Vec<u8>,
    /// Bytes of `lead` that are written.
    written: usize,
    /// Frames of the body that follow `lead`.
    pieces: VecDeque<Bytes>,
    /// The line end of a chunk, and the last chunk.
    tail: &'static [u8],
    /// `None` once it was read to its end.
    body: Option<CallerBody>,
    /// With the length that is still to be read.
    framing: Framing,
    /// The transport may hold written bytes.
    unflushed: bool,
    /// Bytes written in all.
    sent: u64,
    /// The upstream does not accept the rest.
    error: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Framing {
    /// With the length that is left.
    Length(u64),
    #[default]
    Chunked,
}

impl Upload {
    /// Starts with a request, whose fields state the framing of its body.
    pub(super) fn begin(&mut self, head: &RequestHead, body: CallerBody, closes: bool) {
        self.lead.clear();
        self.written = 0;
        let RequestHead {
            method,
            target,
            fields,
            ..
        } = head;
        let framing = write_head(
            &mut self.lead,
            method,
            target.as_str(),
            fields.iter(),
            closes,
        );
        (self.framing, self.body) = match framing {
            RequestFraming::Absent | RequestFraming::Length(0) => (Framing::Length(0), None),
            RequestFraming::Length(length) => (Framing::Length(length), Some(body)),
            RequestFraming::Chunked => (Framing::Chunked, Some(body)),
        };
    }

    /// Sends what is at hand. Is ready when all is sent, and when the upstream accepts no more:
    /// it may have responded before.
    ///
    /// # Errors
    /// When the body fails. The connection must be closed.
    pub(super) fn poll<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadFault>> {
        while !self.is_done() {
            if self.pieces.is_empty() && self.tail.is_empty() {
                self.gather(cx)?;
            }
            let polled = if self.has_bytes() {
                self.poll_write(io, cx)
            } else if self.unflushed {
                let flushed = Pin::new(&mut *io).poll_flush(cx);
                self.unflushed = flushed.is_pending();
                flushed
            } else {
                return Poll::Pending;
            };
            if let Err(error) = ready!(polled) {
                self.stop(error);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Returns `true` if nothing is left to send.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && !self.is_blocked()
    }

    /// Returns `true` if bytes are at hand that the upstream has not accepted, also those that TLS
    /// has encrypted.
    pub(super) fn is_blocked(&self) -> bool {
        self.has_bytes() || self.unflushed
    }

    fn has_bytes(&self) -> bool {
        self.written < self.lead.len() || !self.pieces.is_empty() || !self.tail.is_empty()
    }

    /// Returns the number of bytes that were sent on this connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns `true` if the upstream did not accept all.
    pub(super) fn is_cut_off(&self) -> bool {
        self.error.is_some()
    }

    /// Takes the error with which the upstream did not accept the rest.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Releases what a large request has left.
    pub(super) fn shrink(&mut self) {
        if self.lead.capacity() > MAX_KEPT {
            self.lead = Vec::new();
            self.written = 0;
        }
    }

    /// Takes the frames of the body that have arrived, as one chunk if it is chunked.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), UploadFault> {
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let (mut gathered, mut ended) = (0, false);
        while !ended && self.pieces.len() < MAX_PIECES && gathered < MAX_GATHERED {
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Ready(Some(frame)) => frame?,
            };
            // Trailers are not sent: hop-by-hop rules remove the `Trailer` that announces them.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                gathered += data.len();
                self.pieces.push_back(data);
            }
            ended = body.is_end_stream();
        }
        self.frame(gathered as u64, ended)
    }

    /// Frames the bytes that were gathered.
    fn frame(&mut self, gathered: u64, mut ended: bool) -> Result<(), UploadFault> {
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(gathered).ok_or(UploadFault::Length)?;
                if ended && *left > 0 {
                    return Err(UploadFault::Length);
                }
                ended = *left == 0;
            }
            Framing::Chunked => {
                if gathered > 0 {
                    if self.written == self.lead.len() {
                        self.lead.clear();
                        self.written = 0;
                    }
                    write_chunk_size(&mut self.lead, gathered);
                }
                self.tail = match (gathered, ended) {
                    (0, false) => b"",
                    (0, true) => LAST_CHUNK,
                    (_, false) => END_OF_CHUNK,
                    (_, true) => END_AND_LAST_CHUNK,
                };
            }
        }
        if ended {
            self.body = None;
        }
        Ok(())
    }

    fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let io = Pin::new(io);
        let lead = &self.lead[self.written..];
        let written = if self.pieces.is_empty() && self.tail.is_empty() {
            ready!(io.poll_write(cx, lead))?
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES + 2];
            let parts = std::iter::once(lead)
                .chain(self.pieces.iter().map(|piece| &**piece))
                .chain(std::iter::once(self.tail))
                .filter(|part| !part.is_empty());
            let mut count = 0;
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            ready!(io.poll_write_vectored(cx, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.sent += written as u64;
        let of_lead = written.min(self.lead.len() - self.written);
        self.written += of_lead;
        written -= of_lead;
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        self.tail = &self.tail[written..];
    }

    fn stop(&mut self, error: io::Error) {
        self.written = self.lead.len();
        self.pieces.clear();
        self.tail = &[];
        self.body = None;
        self.unflushed = false;
        self.error = Some(error);
    }
}
