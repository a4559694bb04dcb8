//! A request in the form that HTTP/1.1 and HTTP/2 share, and the copy from which it is sent again.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, Method, Request, Version};
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::inbound::body::{BodyProgress, CallerBody};
use crate::state::{Destination, HeldToken};
use crate::upstream::UnsentBody;
use crate::upstream::framing::frame;
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::batch::BatchTemplate;

/// A request to be sent once.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: CallerBody,
}

/// A copy of the request head, and access to the replay buffer of its body.
pub(super) struct ReplayCopy {
    head: Outgoing,
    /// `None` for a request without a body.
    upload: Option<Rc<BodyProgress>>,
    /// The batch, if the body is one: it is rendered with each token.
    batch: Option<Box<BatchTemplate>>,
}

impl Outgoing {
    /// Returns the copy for sending it again. The body of a batch is rendered by
    /// [`ReplayCopy::authorize`].
    pub(super) fn replay_copy(&self, batch: Option<Box<BatchTemplate>>) -> ReplayCopy {
        ReplayCopy {
            head: self.without_body(),
            upload: self.body.progress(),
            batch,
        }
    }

    /// Returns `true` if it may be sent twice: an idempotent method and no body (RFC 9110
    /// section 9.2.2).
    pub(super) fn is_repeatable(&self) -> bool {
        self.method.is_idempotent() && self.body.is_end_stream()
    }

    fn without_body(&self) -> Self {
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: CallerBody::empty(),
        }
    }

    /// Converts it for HTTP/1.1: `Host`, and an origin-form target.
    pub(super) fn into_http1(mut self, to: &Destination) -> Request<CallerBody> {
        self.headers.insert(HOST, to.host.clone());
        self.into_request(Version::HTTP_11, Uri::from)
    }

    /// Converts it for HTTP/2: scheme and authority in the target, no `Host`, no
    /// `Transfer-Encoding`.
    pub(super) fn into_http2(mut self, to: &Destination) -> Request<CallerBody> {
        self.headers.remove(HOST);
        self.headers.remove(TRANSFER_ENCODING);
        let origin = Arc::clone(&to.origin);
        self.into_request(Version::HTTP_2, move |target| {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(origin.scheme.clone());
            parts.authority = Some(origin.authority.clone());
            parts.path_and_query = Some(target);
            // All three are present, so this does not fail.
            Uri::from_parts(parts).unwrap_or_default()
        })
    }

    fn into_request(
        self,
        version: Version,
        uri: impl FnOnce(PathAndQuery) -> Uri,
    ) -> Request<CallerBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri(self.target);
        *request.version_mut() = version;
        *request.headers_mut() = self.headers;
        request
    }
}

impl ReplayCopy {
    /// Writes the token into `Authorization`, and renders a batch with it.
    pub(super) fn authorize(
        &self,
        outgoing: &mut Outgoing,
        token: &HeldToken,
        scheme: AuthorizationScheme,
    ) {
        outgoing
            .headers
            .insert(AUTHORIZATION, token.authorization(scheme).clone());
        if let Some(batch) = &self.batch {
            outgoing
                .body
                .set_content(batch.fill(|scheme| token.authorization(scheme)));
            let length = outgoing.body.size_hint().lower();
            outgoing.headers.insert(CONTENT_LENGTH, length.into());
        }
    }

    /// Returns the request again, if it has no body or the whole body is in the replay buffer.
    pub(super) fn outgoing(&self) -> Option<Outgoing> {
        let body = match &self.upload {
            None => CallerBody::empty(),
            Some(_) if self.batch.is_some() => CallerBody::placeholder(),
            Some(upload) => CallerBody::replayed(upload.replay_buffer.borrow().complete_body()?),
        };
        Some(self.with_body(body))
    }

    /// Returns a request that was not processed again, if its whole body is at hand, for which the
    /// rest may have to be read.
    pub(super) async fn unprocessed(&self, body: UnsentBody) -> Option<Outgoing> {
        match body {
            UnsentBody::Whole(body) => return Some(self.with_body(body)),
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
        self.outgoing()
    }

    fn may_buffer_more(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| upload.replay_buffer.borrow().may_grow())
    }

    fn with_body(&self, body: CallerBody) -> Outgoing {
        let mut again = Outgoing {
            body,
            ..self.head.without_body()
        };
        // The length of a batch is set when it is rendered.
        if self.upload.is_some() && self.batch.is_none() {
            frame(&again.method, &mut again.headers, &again.body);
        }
        again
    }

    /// Returns `true` if the method is idempotent (RFC 9110 section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent()
    }

    pub(super) fn method(&self) -> &Method {
        &self.head.method
    }

    pub(super) fn path(&self) -> &str {
        self.head.target.path()
    }

    pub(super) fn target(&self) -> &PathAndQuery {
        &self.head.target
    }

    /// Replaces the target of later attempts.
    pub(super) fn set_target(&mut self, target: PathAndQuery) {
        self.head.target = target;
    }

    /// Releases the replay buffer.
    pub(super) fn release(self) {
        if let Some(upload) = self.upload {
            upload.replay_buffer.borrow_mut().discard();
        }
    }
}
