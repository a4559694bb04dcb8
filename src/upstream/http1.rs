//! An HTTP/1.1 connection to an upstream.
//!
//! It has no task: its user polls it, which saves two wake-ups per request. The end of an idle
//! connection is therefore noticed only when it is polled once before reuse.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::may_be_ignored;
use super::{AttemptError, ResponseDeadline, UnsentBody, head_limit};
use crate::inbound::body::CallerBody;
use crate::upstream::dial::{ConnectError, UpstreamIo};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Time before the announced close at which a connection is no longer used: a request sent just
/// before would cross the close on its way.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// A connection that carries one exchange at a time.
pub struct Http1 {
    sender: SendRequest<CallerBody>,
    /// `None` once it has ended, because hyper then drops requests instead of returning them.
    connection: Option<Connection<TokioIo<UpstreamIo>, CallerBody>>,
    /// The response timeout, shared by consecutive exchanges: a rare expiry for an earlier exchange
    /// costs less than a reset for each.
    timer: Option<Pin<Box<Sleep>>>,
    /// Time at which it was opened.
    pub born: Instant,
    /// It has carried an exchange.
    pub(super) used: bool,
    /// `false` once it has carried a body that the upstream may take for the next request.
    reusable: bool,
    /// Time at which an eviction first saw it idle.
    pub idle_since: Option<Instant>,
    /// Idle time after which the upstream closes it, if the last response announced one.
    keep_alive: Option<Duration>,
    /// End of that time, less a margin.
    idle_until: Option<Instant>,
}

impl Http1 {
    /// Creates an HTTP/1.1 connection on a byte stream, which is first used by the first exchange.
    ///
    /// # Errors
    /// None that hyper documents.
    pub async fn open(io: UpstreamIo) -> Result<Box<Self>, ConnectError> {
        let (sender, connection) = Builder::new()
            .max_buf_size(head_limit::MAX_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| ConnectError::Http(error.into()))?;
        let now = Instant::now();
        Ok(Box::new(Self {
            sender,
            connection: Some(connection),
            timer: None,
            born: now,
            used: false,
            reusable: true,
            idle_since: None,
            keep_alive: None,
            idle_until: None,
        }))
    }

    /// Starts the idle time, which ends at the latest when the upstream closes the connection.
    pub(super) fn begin_idle(&mut self) {
        self.idle_since = None;
        self.idle_until = self.keep_alive.and_then(|timeout| {
            // The upstream may announce more than a clock can represent.
            Instant::now().checked_add(timeout.saturating_sub(KEEP_ALIVE_MARGIN))
        });
    }

    /// Returns `true` if the upstream has announced to close the idle connection about now.
    pub(super) fn is_about_to_close(&self) -> bool {
        self.idle_until.is_some_and(|until| Instant::now() >= until)
    }

    /// Lets hyper read and write. Responses and bodies receive the result through channels.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Returns `true` if an idle connection can carry a request. Polls it, which detects a close,
    /// unsolicited bytes or an unfinished upload.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Returns `true` if it may carry another request.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// Returns `true` if it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.connection.is_none()
    }

    /// Returns `true` if it is usable, like `is_usable`, without registering a waker.
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_usable(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends a request and waits for the response head.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<CallerBody>,
        deadline: &ResponseDeadline,
    ) -> Result<Response<Incoming>, AttemptError> {
        if may_be_ignored(request.method(), request.body()) {
            self.reusable = false;
            let close = HeaderValue::from_static("close");
            request.headers_mut().insert(CONNECTION, close);
        }
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            match response.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => {
                    self.keep_alive = announced_timeout(response.headers());
                    Poll::Ready(match head_limit::check(response.headers()) {
                        Ok(()) => Ok(response),
                        Err(_) => Err(AttemptError::HeadTooLarge),
                    })
                }
                Poll::Ready(Err(failed)) => Poll::Ready(Err(attempt_error(failed))),
                Poll::Pending => {
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(sleep_until(deadline.at())));
                    deadline
                        .poll_passed(timer.as_mut(), cx)
                        .map(|()| Err(AttemptError::TimedOut))
                }
            }
        })
        .await
    }
}

fn attempt_error(mut failed: TrySendError<Request<CallerBody>>) -> AttemptError {
    match failed.take_message() {
        // hyper returns a request of which it has written nothing.
        Some(request) => AttemptError::Unprocessed {
            body: UnsentBody::Whole(request.into_body()),
            error: failed.into_error().into(),
        },
        None if failed.error().is_parse_too_large() => AttemptError::HeadTooLarge,
        None => AttemptError::Broken(failed.into_error().into()),
    }
}

/// Returns `true` for the 408 that closes an idle connection. On a reused one, a request that crosses
/// it was not processed (RFC 9110 section 15.5.9).
pub fn is_idle_close<T>(response: &Response<T>) -> bool {
    let closes = || {
        response.version() == Version::HTTP_10
            || response
                .headers()
                .get_all(CONNECTION)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|option| option.trim().eq_ignore_ascii_case("close"))
    };
    response.status() == StatusCode::REQUEST_TIMEOUT && closes()
}

/// Returns the `timeout` of `Keep-Alive`, after which the upstream closes an idle connection.
fn announced_timeout(headers: &HeaderMap) -> Option<Duration> {
    // Hashing the name would cost more than the comparisons.
    let (_, value) = headers.iter().find(|(name, _)| *name == KEEP_ALIVE)?;
    let value = value.to_str().ok()?;
    let timeout = value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| seconds.trim().trim_matches('"').parse().ok())?
    })?;
    Some(Duration::from_secs(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_timeout_is_parsed_in_every_form() {
        for (value, expected) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100, Timeout = 5", Some(5)),
            ("timeout=\"5\"", Some(5)),
            ("timeout=0", Some(0)),
            ("max=100", None),
            ("timeout=-1", None),
            ("timeout=soon", None),
            ("5", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]);
            let expected = expected.map(Duration::from_secs);
            assert_eq!(announced_timeout(&headers), expected, "{value}");
        }
        assert_eq!(announced_timeout(&HeaderMap::new()), None);
    }
}
