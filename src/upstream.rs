//! Connections to Citrix: dialling, pooling, one exchange on one of them. Each worker has its own.

pub mod body;
pub mod control_plane;
pub mod dial;
pub mod framing;
pub mod http1;
pub mod http2;
pub mod origin;
pub mod pool;
pub mod tls;

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Reason;
use crate::inbound::body::{BodyProgress, CallerBody};

/// Why one attempt on one connection got no response.
#[derive(Debug)]
pub enum AttemptError {
    /// Not a byte of the request left: it can go out on another connection whatever it is.
    Unsent {
        /// The request, whole.
        request: Box<Request<CallerBody>>,
        /// What hyper says.
        error: hyper::Error,
    },
    /// The upstream said that it did not look at the request (HTTP/2's REFUSED_STREAM).
    Refused(hyper::Error),
    /// The connection broke, or what came was not HTTP; the upstream may have acted on the request.
    Broken(hyper::Error),
    /// No response head within `upstream.response_timeout`.
    TimedOut,
}

impl AttemptError {
    /// Whether the connection, not the time, was lost.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Broken(_))
    }

    /// What a caller is told when there is no other attempt.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut => Reason::UpstreamTimeout,
            Self::Unsent { .. } | Self::Refused(_) | Self::Broken(_) => Reason::UpstreamBroken,
        }
    }
}

/// The deadline for a response's head. It runs from the request's end: an upload may take as long as it moves, and as
/// long as its caller is caller_wait with, whose stalling is not the upstream's.
pub struct ResponseDeadline {
    limit: Duration,
    began: Instant,
    upload: Option<Rc<BodyProgress>>,
}

impl ResponseDeadline {
    /// Runs from `began`, or from when `upload` last moved.
    pub fn new(limit: Duration, began: Instant, upload: Option<Rc<BodyProgress>>) -> Self {
        Self {
            limit,
            began,
            upload,
        }
    }

    /// The request's body, if it has one.
    fn upload(&self) -> Option<Rc<BodyProgress>> {
        self.upload.clone()
    }

    /// How long a response may take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    fn at(&self) -> Instant {
        let Some(upload) = &self.upload else {
            return self.began + self.limit;
        };
        upload.moved.get().max(self.began) + upload.caller_wait.get() + self.limit
    }

    /// The output of `attempt`, or `TimedOut`.
    async fn bound<F, T>(&self, attempt: F) -> Result<T, AttemptError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let mut attempt = pin!(attempt);
        let mut sleep = pin!(sleep_until(self.at()));
        std::future::poll_fn(|cx| match attempt.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self
                .poll_passed(sleep.as_mut(), cx)
                .map(|()| Err(AttemptError::TimedOut)),
        })
        .await
    }

    fn poll_passed(&self, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        if sleep.deadline() > self.at() {
            sleep.as_mut().reset(self.at());
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            let (now, deadline) = (Instant::now(), self.at());
            if now >= deadline {
                return Poll::Ready(());
            }
            // It rang for an earlier exchange, or the upload has moved on since. Where the caller is waited for it may
            // move on, and bring the deadline nearer, unnoticed.
            sleep.as_mut().reset(deadline.min(now + self.limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// When an upstream that never answers is given up, if `caller` is what becomes of the upload.
    async fn given_up<F: Future<Output = ()>>(caller: impl FnOnce(Rc<BodyProgress>) -> F) -> u64 {
        let start = Instant::now();
        let upload = CallerBody::placeholder().progress().unwrap();
        let deadline = ResponseDeadline::new(LIMIT, start, Some(Rc::clone(&upload)));
        let (outcome, ()) = tokio::join!(
            async {
                (
                    deadline.bound(pending::<Result<(), _>>()).await,
                    start.elapsed().as_secs(),
                )
            },
            caller(upload),
        );
        assert!(matches!(outcome.0, Err(AttemptError::TimedOut)));
        outcome.1
    }

    async fn seconds(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_from_the_end_of_the_request() {
        assert_eq!(given_up(|_| async {}).await, 10);
        let piece_after_three = |upload: Rc<BodyProgress>| async move {
            seconds(3).await;
            upload.moved.set(Instant::now());
        };
        assert_eq!(given_up(piece_after_three).await, 13);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_is_waited_for_takes_nothing_of_the_upstreams_time() {
        let back_after_fifteen = |upload: Rc<BodyProgress>| async move {
            upload.caller_wait.set(Duration::from_secs(60));
            seconds(15).await;
            upload.caller_wait.set(Duration::ZERO);
            upload.moved.set(Instant::now());
        };
        assert_eq!(given_up(back_after_fifteen).await, 25);
        // The body gives a caller up before; if nobody asks it any more this ends all the same.
        let never_back = |upload: Rc<BodyProgress>| async move {
            upload.caller_wait.set(Duration::from_secs(60))
        };
        assert_eq!(given_up(never_back).await, 70);
    }
}
