//! Connections to Citrix: dialling, pooling, one exchange on one of them. Each worker has its own.

pub mod body;
pub mod http1;
pub mod http2;
pub mod origin;
pub mod passed;
pub mod pool;

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
    pub fn is_loss(&self) -> bool {
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

/// The deadline for a response's head. It runs from the request's end: an upload may take as long as it moves.
pub struct ResponseDeadline {
    limit: Duration,
    began: Instant,
    upload: Option<Rc<BodyProgress>>,
}

impl ResponseDeadline {
    /// Runs from `began`, or from when `upload` last moved.
    pub fn new(limit: Duration, began: Instant, upload: Option<Rc<BodyProgress>>) -> Self {
        Self { limit, began, upload }
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
        self.upload.as_ref().map_or(self.began, |upload| upload.moved.get().max(self.began)) + self.limit
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
            Poll::Pending => self.poll_passed(sleep.as_mut(), cx).map(|()| Err(AttemptError::TimedOut)),
        })
        .await
    }

    fn poll_passed(&self, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        if sleep.deadline() > self.at() {
            sleep.as_mut().reset(self.at());
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            let deadline = self.at();
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It rang for an earlier exchange, or the upload has moved on since.
            sleep.as_mut().reset(deadline);
        }
    }
}
