//! The head of a request to an upstream.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{self, PathAndQuery, Uri};
use http::{HeaderMap, Method, Request, Version};
use http_body::Body;

use super::framing::framing_field;
use super::origin::Origin;
use citrix_wire::field_list::FieldList;

/// The head of a request, in the form that HTTP/1.1 and HTTP/2 share.
pub struct RequestHead {
    pub method: Method,
    pub target: PathAndQuery,
    /// With `Host`.
    pub fields: FieldList,
    /// An empty map with space for the fields of the response.
    pub spare: HeaderMap,
}

impl RequestHead {
    /// Adds the framing fields of the body as it is sent. There must be none yet.
    pub fn frame(&mut self, body: &impl Body) {
        if let Some((name, value)) = framing_field(&self.method, body) {
            self.fields.push(name, value);
        }
    }

    /// Replaces the framing fields, because the body has changed. The order of fields is kept.
    pub fn frame_again(&mut self, body: &impl Body) {
        let framing = framing_field(&self.method, body);
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            if !framing.as_ref().is_some_and(|(kept, _)| *kept == name) {
                self.fields.remove(&name);
            }
        }
        if let Some((name, value)) = framing {
            self.fields.set(name, value);
        }
    }

    /// Returns it for HTTP/2: scheme and authority in the target, no `Host`, no
    /// `Transfer-Encoding`.
    pub(super) fn to_http2(&self, to: &Origin) -> Request<()> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(to.url.scheme.clone());
        parts.authority = Some(to.url.authority.clone());
        parts.path_and_query = Some(self.target.clone());
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        // All three are present, so this does not fail.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let mut headers = self.fields.to_map();
        headers.remove(HOST);
        headers.remove(TRANSFER_ENCODING);
        *request.headers_mut() = headers;
        request
    }
}

impl From<Parts> for RequestHead {
    fn from(head: Parts) -> Self {
        let target = head.uri.into_parts().path_and_query;
        Self {
            method: head.method,
            target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
            fields: head.headers.into(),
            spare: HeaderMap::new(),
        }
    }
}
