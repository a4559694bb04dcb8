//! A request in the form both versions of HTTP share, and what is kept of it to send it again.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, Method, Request, Version};
use http_body::Body;

use crate::inbound::body::{BodyProgress, CallerBody};
use crate::proxy::prepare::frame;
use crate::state::snapshot::{Destination, HeldToken};
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::batch::Template;

/// A request on its way out.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: CallerBody,
}

/// A copy of a request's head, and the way to its body: what a replay is made of.
pub(super) struct ReplayCopy {
    head: Outgoing,
    /// `None` for a request without a body.
    upload: Option<Rc<BodyProgress>>,
    /// What the body is made of, where tokens stand in it.
    batch: Option<Box<Template>>,
}

impl Outgoing {
    /// What is needed to send it again. The body of a batch is there only when it is authorized.
    pub(super) fn spare(&self, batch: Option<Box<Template>>) -> ReplayCopy {
        ReplayCopy {
            head: self.without_body(),
            upload: self.body.progress(),
            batch,
        }
    }

    /// Whether it may go out twice: an idempotent method without a body (RFC 9110 section 9.2.2).
    pub(super) fn is_harmless(&self) -> bool {
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

    /// What hyper gave back unsent.
    pub(super) fn taken_back(request: Request<CallerBody>) -> Self {
        let (head, body) = request.into_parts();
        // It was made with a path, in either version.
        let target = head
            .uri
            .into_parts()
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        Self {
            method: head.method,
            target,
            headers: head.headers,
            body,
        }
    }

    /// HTTP/1.1 names the host in a field and the path in the request line.
    pub(super) fn into_http1(mut self, to: &Destination) -> Request<CallerBody> {
        self.headers.insert(HOST, to.host.clone());
        self.into_request(Version::HTTP_11, Uri::from)
    }

    /// HTTP/2 names scheme and authority in the target and knows neither `Host` nor codings of the transfer.
    pub(super) fn into_http2(mut self, to: &Destination) -> Request<CallerBody> {
        self.headers.remove(HOST);
        self.headers.remove(TRANSFER_ENCODING);
        let origin = Arc::clone(&to.origin);
        self.into_request(Version::HTTP_2, move |target| {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(origin.scheme.clone());
            parts.authority = Some(origin.authority.clone());
            parts.path_and_query = Some(target);
            // All three are there, so they make a URI.
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
    /// Writes the token into a request: into its head, and into its body where tokens stand there.
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
                .fill(batch.fill(|scheme| token.authorization(scheme)));
            let length = outgoing.body.size_hint().lower();
            outgoing.headers.insert(CONTENT_LENGTH, length.into());
        }
    }

    /// The request once more, if all of it is there: it had no body, or the whole body was kept.
    pub(super) fn again(&self) -> Option<Outgoing> {
        let body = match &self.upload {
            None => CallerBody::empty(),
            Some(_) if self.batch.is_some() => CallerBody::to_fill(),
            Some(upload) => CallerBody::again(upload.kept.borrow().whole()?),
        };
        let mut again = Outgoing {
            body,
            ..self.head.without_body()
        };
        // A batch is framed when it is filled.
        if self.upload.is_some() && self.batch.is_none() {
            frame(&again.method, &mut again.headers, &again.body);
        }
        Some(again)
    }

    /// Whether doing it twice is doing it once (RFC 9110 section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent()
    }

    /// Where it goes.
    pub(super) fn path(&self) -> &str {
        self.head.target.path()
    }

    /// The same with its query.
    pub(super) fn target(&self) -> &PathAndQuery {
        &self.head.target
    }

    /// Sends it elsewhere from now on.
    pub(super) fn redirect(&mut self, target: PathAndQuery) {
        self.head.target = target;
    }

    /// Lets go of the body: it will not be needed again.
    pub(super) fn forget(self) {
        if let Some(upload) = self.upload {
            upload.kept.borrow_mut().give_up();
        }
    }
}
