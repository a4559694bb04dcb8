//! An HTTP/1.1 connection to an upstream.
//!
//! It has no task: its user polls it, which saves two wake-ups per request. The end of an idle
//! connection is therefore noticed only when it is polled once before reuse.

mod connection;
mod upload;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::connection::{Connection, ExchangeError};
pub use self::upload::UploadFault;
use super::framing::may_be_ignored;
use super::request_head::RequestHead;
use super::{AttemptError, BoxError, ResponseDeadline};
use crate::inbound::body::CallerBody;
use crate::inbound::transfer_rate::IdleTimer;
use crate::upstream::dial::UpstreamIo;
use citrix_wire::http1::head::HeadError;
use citrix_wire::known_fields::KnownFields;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Time before the announced close at which a connection is no longer used: a request sent just
/// before would cross the close on its way.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// A connection that carries one exchange at a time.
pub struct Http1 {
    connection: Connection<UpstreamIo>,
    /// The response timeout, shared by consecutive exchanges: a rare expiry for an earlier exchange
    /// costs less than a reset for each.
    timer: Option<Pin<Box<Sleep>>>,
    /// Time at which it was opened.
    pub born: Instant,
    /// It has carried an exchange.
    pub(super) used: bool,
    /// Time at which an eviction first saw it idle.
    pub idle_since: Option<Instant>,
    /// Idle time after which the upstream closes it, if the last response announced one.
    keep_alive: Option<Duration>,
    /// End of that time, less a margin.
    idle_until: Option<Instant>,
}

impl Http1 {
    /// Creates an HTTP/1.1 connection on a byte stream, which is first used by the first exchange.
    pub fn new(io: UpstreamIo) -> Box<Self> {
        Box::new(Self {
            connection: Connection::new(io),
            timer: None,
            born: Instant::now(),
            used: false,
            idle_since: None,
            keep_alive: None,
            idle_until: None,
        })
    }

    /// Starts the idle time, which ends at the latest when the upstream closes the connection.
    pub(super) fn begin_idle(&mut self) {
        self.connection.shrink();
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

    /// Returns `true` if an idle connection can carry a request. Polls it, which detects a close
    /// and unsolicited bytes.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection.is_silent(cx)
    }

    /// Returns `true` if it may carry another request.
    pub(super) fn is_reusable(&self) -> bool {
        self.connection.is_reusable()
    }

    /// Returns `true` if it is usable, like `is_usable`, without registering a waker.
    pub(super) fn is_alive(&mut self) -> bool {
        self.is_usable(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends a request and waits for the response head.
    pub(super) async fn exchange(
        &mut self,
        head: &mut RequestHead,
        body: CallerBody,
        deadline: &ResponseDeadline,
    ) -> Result<Response<()>, AttemptError> {
        let closes = may_be_ignored(&head.method, &body);
        self.connection.begin(head, body, closes);
        let response = poll_fn(|cx| match self.connection.poll_response(cx) {
            Poll::Ready(response) => Poll::Ready(response.map_err(attempt_error)),
            Poll::Pending => {
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline.at())));
                deadline
                    .poll_passed(timer.as_mut(), cx)
                    .map(|()| Err(AttemptError::TimedOut))
            }
        });
        let response = response.await?;
        let may_announce = self.connection.fields().has(KnownFields::HOP_BY_HOP);
        self.keep_alive = match may_announce {
            true => announced_timeout(response.headers()),
            false => None,
        };
        Ok(response)
    }

    /// Returns the fields that the head of the last response has.
    pub(super) fn fields(&self) -> KnownFields {
        self.connection.fields()
    }

    /// Returns the next frame of the response body; meanwhile sends the rest of the request.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.connection.poll_frame(cx).map_err(BoxError::from)
    }

    /// Returns the length of the rest of the response body, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.connection.length()
    }

    /// Returns `true` if the response is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.connection.is_complete()
    }

    /// Returns `true` if the request is not sent completely.
    pub(super) fn is_sending(&self) -> bool {
        self.connection.is_sending()
    }

    /// Sends the rest of a request whose response is complete. Returns `true` if the connection may
    /// carry another one. The request body has its own timeout; an upstream that does not read is
    /// subject to `idle_timeout`.
    pub(super) async fn finish(&mut self, idle_timeout: Duration) -> bool {
        let mut idle = IdleTimer::new(idle_timeout);
        let mut sent = self.connection.sent();
        poll_fn(|cx| {
            if let Poll::Ready(finished) = self.connection.poll_finish(cx) {
                return Poll::Ready(finished);
            }
            if !self.connection.is_blocked() || self.connection.sent() != sent {
                sent = self.connection.sent();
                idle.progress();
            }
            if self.connection.is_blocked() {
                idle.poll_expired(cx).map(|()| false)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

fn attempt_error(error: ExchangeError) -> AttemptError {
    match error {
        ExchangeError::Head(HeadError::TooLarge(_)) => AttemptError::HeadTooLarge,
        error if error.is_invalid_response() => AttemptError::Malformed(error.into()),
        error => AttemptError::Broken(error.into()),
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
    use http::HeaderValue;

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
