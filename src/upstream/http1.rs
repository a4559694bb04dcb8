//! An HTTP/1.1 connection to an upstream.
//!
//! It has no task of its own: whoever uses it polls it. That saves two wake-ups a request, and it means that
//! nobody notices the end of an idle one, so that it is polled once before it is used again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{AttemptError, ResponseDeadline};
use crate::inbound::body::CallerBody;
use crate::upstream::dial::{ConnectError, UpstreamIo};

/// hyper reads at most this much of a response ahead of who takes it.
const READ_BUFFER: usize = 128 * 1024;

/// A connection that carries one exchange at a time.
pub struct Http1 {
    sender: SendRequest<CallerBody>,
    /// `None` once it ended. It must not outlive its end: hyper answers requests it never took by dropping them.
    connection: Option<Connection<TokioIo<UpstreamIo>, CallerBody>>,
    /// Rings when a response is overdue. One exchange after the other uses it: setting a timer anew costs more
    /// than to find, seldom, that it rang for an earlier one.
    alarm: Option<Pin<Box<Sleep>>>,
    /// When it was opened.
    pub born: Instant,
    /// Whether it was lent before.
    pub(super) used: bool,
    /// When housekeeping first saw it idle; no clock is read on the way.
    pub idle_since: Option<Instant>,
}

impl Http1 {
    /// Makes an HTTP/1.1 connection of a byte stream.
    ///
    /// # Errors
    /// None that hyper documents; the stream is only touched by the first exchange.
    pub async fn open(io: UpstreamIo) -> Result<Box<Self>, ConnectError> {
        let (sender, connection) = Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Http)?;
        let now = Instant::now();
        Ok(Box::new(Self {
            sender,
            connection: Some(connection),
            alarm: None,
            born: now,
            used: false,
            idle_since: None,
        }))
    }

    /// Lets hyper read and write. What it learns reaches the response and its body by channels.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether an idle connection can take a request: it is polled, which finds that the upstream closed it or
    /// sent bytes nobody asked for, or that an earlier upload is still under way.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.connection.is_none()
    }

    /// The same as `is_usable`, for housekeeping: nobody is woken later.
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_usable(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends a request and waits for the response's head.
    pub(super) async fn exchange(
        &mut self,
        request: Request<CallerBody>,
        deadline: &ResponseDeadline,
    ) -> Result<Response<Incoming>, AttemptError> {
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            match response.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut failed)) => Poll::Ready(Err(match failed.take_message() {
                    Some(request) => AttemptError::Unsent {
                        request: Box::new(request),
                        error: failed.into_error(),
                    },
                    None => AttemptError::Broken(failed.into_error()),
                })),
                Poll::Pending => {
                    let alarm = self
                        .alarm
                        .get_or_insert_with(|| Box::pin(sleep_until(deadline.at())));
                    deadline
                        .poll_passed(alarm.as_mut(), cx)
                        .map(|()| Err(AttemptError::TimedOut))
                }
            }
        })
        .await
    }
}
