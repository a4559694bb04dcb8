//! The request of all attempts: its head, and the ways to its body.

use std::rc::Rc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::inbound::body::{BodyProgress, CallerBody};
use crate::state::{Destination, HeldToken};
use crate::upstream::UnsentBody;
use crate::upstream::request_head::RequestHead;
use citrix_wire::citrix::batch::BatchTemplate;

/// A request that may be sent several times. Each attempt borrows the head and consumes a body.
pub(super) struct Outgoing<'r> {
    pub(super) head: &'r mut RequestHead,
    /// The progress and replay buffer of the body; `None` for a request without one.
    upload: Option<Rc<BodyProgress>>,
    /// The batch, if the body is one: it is rendered with each token.
    batch: Option<Box<BatchTemplate>>,
}

impl<'r> Outgoing<'r> {
    /// Returns the request with this head and body.
    pub(super) fn new(
        head: &'r mut RequestHead,
        body: &CallerBody,
        batch: Option<Box<BatchTemplate>>,
    ) -> Self {
        Self {
            head,
            upload: body.progress(),
            batch,
        }
    }

    /// Writes `Host` and `Authorization` for an attempt, and renders a batch with the token.
    pub(super) fn authorize(
        &mut self,
        body: &mut CallerBody,
        token: &HeldToken,
        destination: &Destination,
    ) {
        let fields = &mut self.head.fields;
        fields.set_only(HOST, destination.host.clone());
        let authorization = token.authorization(destination.authorization).clone();
        fields.set_only(AUTHORIZATION, authorization);
        if let Some(batch) = &self.batch {
            body.set_content(batch.fill(|scheme| token.authorization(scheme)));
            fields.set(CONTENT_LENGTH, body.size_hint().lower().into());
        }
    }

    /// Returns the body for another attempt, if there is none or all of it is in the replay buffer.
    pub(super) fn body_again(&mut self) -> Option<CallerBody> {
        let body = match &self.upload {
            None => CallerBody::empty(),
            Some(_) if self.batch.is_some() => CallerBody::placeholder(),
            Some(upload) => CallerBody::replayed(upload.replay_buffer.borrow().complete_body()?),
        };
        Some(self.framed(body))
    }

    /// Returns the body of a request that was not processed for another attempt, if all of it is at
    /// hand, for which the rest may have to be read.
    pub(super) async fn unprocessed(&mut self, body: UnsentBody) -> Option<CallerBody> {
        match body {
            UnsentBody::Whole(body) => return Some(self.framed(body)),
            UnsentBody::Rest(mut body) => {
                while self.may_buffer_more() {
                    match body.frame().await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => break,
                    }
                }
            }
            UnsentBody::Nothing => {}
        }
        self.body_again()
    }

    fn may_buffer_more(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| upload.replay_buffer.borrow().may_grow())
    }

    fn framed(&mut self, body: CallerBody) -> CallerBody {
        // The length of a batch is set when it is rendered.
        if self.upload.is_some() && self.batch.is_none() {
            self.head.frame_again(&body);
        }
        body
    }

    /// Returns `true` if the method is idempotent (RFC 9110 section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent()
    }

    pub(super) fn path(&self) -> &str {
        self.head.target.path()
    }

    /// Releases the replay buffer.
    pub(super) fn release(self) {
        if let Some(upload) = self.upload {
            upload.replay_buffer.borrow_mut().discard();
        }
    }
}
