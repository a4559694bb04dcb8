//! Connections to upstreams: dialling, pooling, exchanges. Each worker has its own.

pub mod body;
pub mod bounded;
pub mod connections;
pub mod control_plane;
pub mod dial;
pub mod exchange;
pub mod framing;
pub mod http1;
pub mod http2;
pub mod origin;
pub mod pool;
pub mod request_head;
pub mod share;
mod source;
pub mod tls;
pub mod window;

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Reason;
use crate::inbound::body::{BodyFault, BodyProgress, CallerBody};

/// A failure of one of several libraries.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An attempt without a response.
#[derive(Debug)]
pub enum AttemptError {
    /// The upstream has certainly not processed the request, so that it can be resent on another
    /// connection whatever the method: nothing of it was sent, the stream was refused, or a GOAWAY
    /// names a lower last stream (RFC 9113 section 8.7). Besides this, only [`http1::is_idle_close`]
    /// shows it.
    Unprocessed { body: UnsentBody, error: BoxError },
    /// The connection failed. The upstream may have processed the request.
    Broken(BoxError),
    /// What arrived is no valid response, perhaps left from an earlier one. The upstream may have
    /// processed the request.
    Malformed(BoxError),
    /// The response head exceeds the bound of [`citrix_wire::head_limit`].
    HeadTooLarge,
    /// No response head within `upstream.response_timeout`.
    TimedOut,
}

/// The body of a request that was not processed.
#[derive(Debug)]
pub enum UnsentBody {
    /// All of it.
    Whole(CallerBody),
    /// The part that had not been read; the first part may be in the replay buffer.
    Rest(CallerBody),
    /// All of it was read.
    Nothing,
}

impl AttemptError {
    /// Returns the failure of a request whose connection closed before any of it was sent.
    pub fn closed(body: CallerBody) -> Self {
        Self::Unprocessed {
            body: UnsentBody::Whole(body),
            error: http1::ExchangeError::Closed.into(),
        }
    }

    /// Returns the reason for the caller if there is no other attempt.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TimedOut => Reason::UpstreamTimeout,
            Self::Unprocessed { .. }
            | Self::Broken(_)
            | Self::Malformed(_)
            | Self::HeadTooLarge => Reason::UpstreamBroken,
        }
    }
}

/// The deadline of a response head. It counts from the last progress of the request body, and
/// extends while the upload waits for the caller.
pub struct ResponseDeadline {
    limit: Duration,
    began: Instant,
    upload: Option<Rc<BodyProgress>>,
}

impl ResponseDeadline {
    /// Counts from `began`, or from the last progress of `upload`.
    pub fn new(limit: Duration, began: Instant, upload: Option<Rc<BodyProgress>>) -> Self {
        Self {
            limit,
            began,
            upload,
        }
    }

    /// Returns the configured timeout.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the fault of the request body, if that failed.
    pub fn upload_fault(&self) -> Option<BodyFault> {
        self.upload.as_ref()?.fault.get()
    }

    fn at(&self) -> Instant {
        let Some(upload) = &self.upload else {
            return self.began + self.limit;
        };
        upload.last_progress.get().max(self.began) + upload.caller_wait.get() + self.limit
    }

    /// Returns the output of `attempt`, or `TimedOut`.
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
            // It was set for an earlier exchange, or the upload has progressed. While the caller is
            // waited for, progress may bring the deadline nearer without a wake-up.
            sleep.as_mut().reset(deadline.min(now + self.limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Returns the seconds until a silent upstream times out while `caller` drives the upload.
    async fn timed_out_after<F: Future<Output = ()>>(
        caller: impl FnOnce(Rc<BodyProgress>) -> F,
    ) -> u64 {
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
    async fn response_timeout_counts_from_the_end_of_the_request() {
        assert_eq!(timed_out_after(|_| async {}).await, 10);
        let frame_after_three = |upload: Rc<BodyProgress>| async move {
            seconds(3).await;
            upload.last_progress.set(Instant::now());
        };
        assert_eq!(timed_out_after(frame_after_three).await, 13);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_for_the_caller_does_not_count() {
        let caller_resumes_after_fifteen = |upload: Rc<BodyProgress>| async move {
            upload.caller_wait.set(Duration::from_secs(60));
            seconds(15).await;
            upload.caller_wait.set(Duration::ZERO);
            upload.last_progress.set(Instant::now());
        };
        assert_eq!(timed_out_after(caller_resumes_after_fifteen).await, 25);
        // Normally the body times out before.
        let caller_never_resumes = |upload: Rc<BodyProgress>| async move {
            upload.caller_wait.set(Duration::from_secs(60))
        };
        assert_eq!(timed_out_after(caller_never_resumes).await, 70);
    }
}
