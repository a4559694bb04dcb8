//! One response for several requests (interface §4.7): a task reads it into a window, from which the
//! request that was sent and its followers read.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::body::{ResponseBody, ResponseBodyError};
use super::exchange::UpstreamResponse;
use super::origin::Origin;
use super::window::{Room, SharedWindow, Window, WindowReader};
use crate::error::chain;
use crate::limit::{QueuePermit, QueueWatch};
use citrix_wire::known_fields::KnownFields;

/// Checks of the readers during one such limit.
const CHECKS: u32 = 10;

/// A response as a follower gets it.
#[derive(Debug)]
pub struct SharedResponse {
    head: Response<()>,
    fields: KnownFields,
    /// The length of the body, if it is known.
    length: Option<u64>,
    reader: WindowReader,
    /// The way in which the request was sent.
    pub sent: SentFacts,
}

/// Facts of a request on which its followers depend.
#[derive(Clone, Debug)]
pub struct SentFacts {
    /// `Citrix-TransactionId` of the request.
    pub transaction_id: HeaderValue,
    /// The gateway of another region that responded, and the path there.
    pub redirected_to: Option<(Arc<Origin>, Box<str>)>,
}

/// The group that shares a response, and the permit under which it is read.
pub struct Sharing {
    pub followers: Vec<oneshot::Sender<SharedResponse>>,
    /// Held until the whole response has been received.
    pub permit: Option<QueuePermit>,
    /// Maximum time that readers make others wait.
    pub max_wait: Duration,
    pub sent: SentFacts,
    /// Removes what callers must not get from the trailers.
    pub filter_trailers: Box<dyn Fn(&mut HeaderMap)>,
}

/// The part of [`Sharing`] that the task uses.
struct Task {
    followers: Vec<(oneshot::Sender<SharedResponse>, SharedResponse)>,
    permit: Option<QueuePermit>,
    max_wait: Duration,
    filter_trailers: Box<dyn Fn(&mut HeaderMap)>,
}

/// Fails the window of a task that is aborted.
struct Writer(Arc<Window>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.fail("the gateway stopped");
    }
}

/// The next step of a task.
enum Step {
    Abandoned,
    Full,
    Frame(Option<Result<Frame<Bytes>, ResponseBodyError>>),
}

impl SharedResponse {
    /// Returns the response, which begins at its first byte.
    pub fn into_response(self) -> UpstreamResponse {
        let body = ResponseBody::shared(self.reader, self.length);
        UpstreamResponse {
            message: Box::new(self.head.map(|()| body)),
            fields: self.fields,
        }
    }
}

/// Shares a response, whose head must be fit for every caller, with the followers, and returns it for
/// the request that was sent.
pub fn share(
    response: UpstreamResponse,
    shared: SharedWindow,
    sharing: Sharing,
) -> UpstreamResponse {
    let UpstreamResponse { message, fields } = response;
    let (parts, source) = message.into_parts();
    let head = Response::from_parts(parts, ());
    let length = source.size_hint().exact();
    let mut for_others = head.clone();
    // A session is of the caller whose request was sent.
    for_others.headers_mut().remove(SET_COOKIE);
    let followers = sharing.followers.into_iter().zip(shared.others);
    let followers = followers.map(|(follower, reader)| {
        let response = SharedResponse {
            head: for_others.clone(),
            fields,
            length,
            reader,
            sent: sharing.sent.clone(),
        };
        (follower, response)
    });
    let task = Task {
        followers: followers.collect(),
        permit: sharing.permit,
        max_wait: sharing.max_wait,
        filter_trailers: sharing.filter_trailers,
    };
    // It ends with the response or its last reader.
    drop(tokio::task::spawn_local(task.read(source, shared.window)));
    let body = ResponseBody::shared(shared.own, length);
    UpstreamResponse {
        message: Box::new(head.map(|()| body)),
        fields,
    }
}

impl Task {
    /// Reads a response into the window. Followers start when it is complete, or when the window is
    /// full for the first time; before that they notice no failure but the lack of a response.
    async fn read(mut self, mut source: ResponseBody, window: Arc<Window>) {
        let writer = Writer(window);
        let window = &writer.0;
        let mut trailers = None;
        loop {
            let step = poll_fn(|cx| match window.room(cx) {
                Room::Abandoned => Poll::Ready(Step::Abandoned),
                Room::Full => Poll::Ready(Step::Full),
                Room::Free => Pin::new(&mut source).poll_frame(cx).map(Step::Frame),
            });
            match step.await {
                Step::Abandoned => return,
                Step::Full => {
                    self.start_followers();
                    self.wait_for_room(window).await;
                }
                Step::Frame(None) => break,
                Step::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => window.push(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Step::Frame(Some(Err(error))) => {
                    let causes: Vec<_> = chain::sources(&error).map(chain::text).collect();
                    return window.fail(&causes.join(": "));
                }
            }
        }
        if let Some(trailers) = &mut trailers {
            (self.filter_trailers)(trailers);
        }
        // The next request to Citrix does not wait for the readers.
        self.permit = None;
        window.complete(trailers);
        self.start_followers();
    }

    fn start_followers(&mut self) {
        for (follower, response) in self.followers.drain(..) {
            // Its reader leaves if the request is gone.
            let _ = follower.send(response);
        }
    }

    async fn wait_for_room(&self, window: &Window) {
        let watch = self.permit.as_ref().map(QueuePermit::watch);
        let is_contended = || watch.as_ref().is_some_and(QueueWatch::is_contended);
        let mut wait = window.begin_wait();
        loop {
            let room = poll_fn(|cx| match window.room(cx) {
                Room::Full => Poll::Pending,
                Room::Free | Room::Abandoned => Poll::Ready(()),
            });
            let has_room = timeout(self.max_wait / CHECKS, room).await.is_ok();
            window.count_wait(&mut wait, self.max_wait, is_contended());
            if has_room {
                return;
            }
        }
    }
}
