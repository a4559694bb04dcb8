//! An HTTP/2 connection to an upstream: one per worker and origin, shared by all its requests.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::AttemptError;
use crate::inbound::body::CallerBody;
use crate::upstream::dial::{ConnectError, UpstreamIo};

/// Bytes of one response that are buffered for its caller.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all responses of a connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Maximum frame size; larger than the default, for fewer frames.
const MAX_FRAME_BYTES: u32 = 64 * 1024;

/// A connection that carries many exchanges.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<CallerBody>,
    /// It has carried an exchange.
    pub(super) used: Rc<Cell<bool>>,
    /// Time at which it was opened.
    pub born: Instant,
}

/// Spawns hyper's tasks on the worker's thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Http2 {
    /// Creates an HTTP/2 connection on a byte stream. Its task ends with it.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn open(io: UpstreamIo) -> Result<Self, ConnectError> {
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Http)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream failed");
            }
        });
        Ok(Self {
            sender,
            used: Rc::default(),
            born: Instant::now(),
        })
    }

    /// Returns `true` if it can carry another request.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the response head.
    pub(super) async fn exchange(
        &mut self,
        request: Request<CallerBody>,
    ) -> Result<Response<Incoming>, AttemptError> {
        self.sender
            .try_send_request(request)
            .await
            .map_err(|mut failed| match failed.take_message() {
                Some(request) => AttemptError::Unsent {
                    request: Box::new(request),
                    error: failed.into_error(),
                },
                None => {
                    let error = failed.into_error();
                    if was_refused(&error) {
                        AttemptError::Refused(error)
                    } else {
                        AttemptError::Broken(error)
                    }
                }
            })
    }
}

/// Returns `true` for REFUSED_STREAM: the request was not processed (RFC 9113 section 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        next = cause.source();
    }
    false
}
