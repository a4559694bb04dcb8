//! Rewrites links and the scope of cookies in responses, so that both lead to the gateway
//! (interface §4.2).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

use crate::exchange::body::{ForwardedBody, RewrittenBody};
use crate::proxy::pick_route::Picked;
use crate::state::{Customer, Snapshot};
use crate::upstream::body::ResponseBody;
use crate::upstream::origin::Origin;
use citrix_wire::cache_control::forbids_transformation;
use citrix_wire::coding::ContentCoding;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::link_rewrite::{
    BodyRewriter, CookieScope, LinkRewriter, rewrite_cookies, rewrite_headers,
    strip_content_metadata,
};

/// Facts of a request on which the links in its response depend.
pub struct LinkContext<'s> {
    pub snapshot: &'s Snapshot,
    /// The customer; its hosts are known hosts.
    pub customer: &'s Customer,
    /// The route and upstream of the request.
    pub picked: Picked<'s>,
    /// Authority by which the caller addressed the gateway; HTTP/1.0 may have none.
    pub host: Option<HeaderValue>,
    /// `true` if the caller uses TLS.
    pub secure: bool,
    /// The caller sent the request to Citrix's host: links to it lead here again.
    pub is_intercepted: bool,
}

impl LinkContext<'_> {
    /// Rewrites the links of a response with these fields. `redirected_to` is the origin that responded, if not the
    /// route's.
    pub(super) fn rewrite(
        &self,
        mut response: Box<Response<ResponseBody>>,
        fields: KnownFields,
        redirected_to: Option<&Origin>,
    ) -> Response<ForwardedBody> {
        if self.is_intercepted {
            return with_body(response, ForwardedBody::Unchanged);
        }
        let headers = response.headers_mut();
        let in_head = fields.has(KnownFields::LINK);
        let in_body = self.picked.route.config.rewrite_links
            && is_json(headers)
            && !forbids_transformation(headers);
        let rewriter = (in_head || in_body).then(|| self.rewriter(redirected_to));
        let Some(rewriter) = rewriter.flatten() else {
            return with_body(response, ForwardedBody::Unchanged);
        };
        if in_head {
            self.snapshot
                .metrics
                .links
                .add(rewrite_headers(&rewriter, headers));
        }
        // Part of a body is not JSON, and a body in an unknown coding cannot be read. Without content
        // there is nothing to rewrite, and the fields remain true.
        let is_whole = response.status() != StatusCode::PARTIAL_CONTENT;
        let has_content = !response.body().is_end_stream();
        let (true, Ok(coding)) = (
            in_body && is_whole && has_content,
            ContentCoding::from_headers(response.headers()),
        ) else {
            return with_body(response, ForwardedBody::Unchanged);
        };
        strip_content_metadata(response.headers_mut());
        let counters = self.snapshot.metrics.links.clone();
        with_body(response, |body| {
            let rewriter = BodyRewriter::new(rewriter, coding);
            ForwardedBody::Rewritten(RewrittenBody::new(body, rewriter, counters))
        })
    }

    /// Rewrites the scope of cookies in the response to a request for `path` at the gateway.
    pub(super) fn rewrite_cookies(
        &self,
        headers: &mut HeaderMap,
        path: &str,
        redirected_to: Option<&Origin>,
    ) {
        if self.is_intercepted {
            return;
        }
        let config = &self.picked.route.config;
        // As the caller wrote it, since clients compare paths byte for byte; a retired address
        // begins otherwise.
        let prefix = path
            .get(..config.prefix.len())
            .filter(|written| written.eq_ignore_ascii_case(&config.prefix))
            .unwrap_or(&config.prefix);
        let kept = if config.strip_prefix { "" } else { prefix };
        let scope = CookieScope {
            request_path: path,
            prefix,
            upstream_path: &format!("{}{kept}", self.picked.destination.base_path),
        };
        let base = self.snapshot.live.public_url.as_deref().unwrap_or_default();
        let map = self.snapshot.links(self.customer);
        let links = LinkRewriter::new(map, base, self.sender(redirected_to));
        rewrite_cookies(&links, scope, headers);
    }

    /// Returns the authority of the upstream that responded.
    fn sender<'o>(&'o self, redirected_to: Option<&'o Origin>) -> &'o str {
        redirected_to
            .unwrap_or(&self.picked.destination.origin)
            .url
            .authority
            .as_str()
    }

    /// Returns `None` if neither the configuration nor the request names the gateway.
    fn rewriter(&self, redirected_to: Option<&Origin>) -> Option<LinkRewriter> {
        let map = self.snapshot.links(self.customer);
        let upstream = self.sender(redirected_to);
        if let Some(base) = &self.snapshot.live.public_url {
            return Some(LinkRewriter::new(map, base, upstream));
        }
        let scheme = if self.secure { "https" } else { "http" };
        let host = self.host.as_ref()?.to_str().ok()?;
        let base = format!("{scheme}://{host}");
        Some(LinkRewriter::new(map, &base, upstream))
    }
}

/// Returns a response with the head of `response` and the body that `forward` makes of the rest.
fn with_body(
    mut response: Box<Response<ResponseBody>>,
    forward: impl FnOnce(Box<Response<ResponseBody>>) -> ForwardedBody,
) -> Response<ForwardedBody> {
    let (status, version) = (response.status(), response.version());
    let headers = std::mem::take(response.headers_mut());
    let extensions = std::mem::take(response.extensions_mut());
    let mut forwarded = Response::new(forward(response));
    *forwarded.status_mut() = status;
    *forwarded.version_mut() = version;
    *forwarded.headers_mut() = headers;
    *forwarded.extensions_mut() = extensions;
    forwarded
}

/// Returns `true` for `application/json` and for types with the suffix `+json` (RFC 6839
/// section 3.1).
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let essence = value
        .as_bytes()
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let suffix = &essence[essence.len().saturating_sub(4)..];
    suffix.eq_ignore_ascii_case(b"json")
}
