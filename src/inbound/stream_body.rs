//! Request bodies of HTTP/2 streams.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::{Frame, SizeHint};

/// Bytes that a caller may send on one stream before they are read: the initial window of HTTP/2, so
/// that no settings are needed to reduce it.
pub(super) const STREAM_WINDOW: u32 = 65_535;

/// The response side of a stream, shared with its request body.
pub(super) type Respond = Rc<RefCell<SendResponse<Bytes>>>;

/// A request body in DATA frames. The first poll sends `100 Continue` if the caller expects it.
pub struct StreamBody {
    receive: RecvStream,
    /// Remaining bytes according to `Content-Length`, which `h2` enforces.
    announced: Option<u64>,
    /// The stream on which `100 Continue` is still to be sent.
    wants_continue: Option<Respond>,
    data_ended: bool,
}

impl StreamBody {
    pub(super) fn new(receive: RecvStream, headers: &HeaderMap, respond: &Respond) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let expects =
            text(header::EXPECT).is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Self {
            receive,
            announced: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            wants_continue: expects.then(|| Rc::clone(respond)),
            data_ended: false,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.receive.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn send_continue(&mut self) {
        if let Some(respond) = self.wants_continue.take() {
            let mut informational = Response::new(());
            *informational.status_mut() = StatusCode::CONTINUE;
            // A failure also fails the next read.
            let _ = respond.borrow_mut().send_informational(informational);
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.send_continue();
        if !self.data_ended {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.receive.flow_control().release_capacity(data.len())?;
                    if let Some(left) = &mut self.announced {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.receive.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
