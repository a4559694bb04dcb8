//! Links in an answer, made to lead back to the gateway (design 4.2).

use http::header::{CONTENT_LOCATION, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::exchange::body::{ForwardedBody, RewrittenBody};
use crate::proxy::pick_route::Picked;
use crate::state::snapshot::{Customer, Snapshot};
use crate::upstream::body::ResponseBody;
use crate::upstream::origin::Origin;
use citrix_wire::coding::Coding;
use citrix_wire::link_rewrite::{
    BodyRewriter, LinkRewriter, rewrite_headers, strip_content_metadata,
};

/// Whom an answer is for: what its links have to begin with, and where they may lead.
pub struct Reader<'s> {
    /// The routes.
    pub snapshot: &'s Snapshot,
    /// Whose hosts are known.
    pub customer: &'s Customer,
    /// Who answers.
    pub picked: Picked<'s>,
    /// The gateway as this caller named it; none did in HTTP/1.0.
    pub host: Option<HeaderValue>,
    /// Whether the caller came over TLS.
    pub secure: bool,
}

impl Reader<'_> {
    /// Rewrites what links there are. An answer without any costs a look at its head. `elsewhere` is who answered, if
    /// not who was asked.
    pub(super) fn rewrite(
        &self,
        mut response: Response<ResponseBody>,
        elsewhere: Option<&Origin>,
    ) -> Response<ForwardedBody> {
        let headers = response.headers_mut();
        let in_head = [LOCATION, CONTENT_LOCATION, LINK]
            .iter()
            .any(|name| headers.contains_key(name));
        let in_body = self.picked.route.config.rewrite_links && is_json(headers);
        let Some(links) = (in_head || in_body)
            .then(|| self.links(elsewhere))
            .flatten()
        else {
            return response.map(ForwardedBody::AsIs);
        };
        if in_head {
            self.snapshot
                .metrics
                .links
                .add(rewrite_headers(&links, headers));
        }
        let coding = Coding::from_headers(headers);
        // A part of a body is no JSON, and a coding that is not known hides it.
        let (true, Ok(coding)) = (
            in_body && response.status() != StatusCode::PARTIAL_CONTENT,
            coding,
        ) else {
            return response.map(ForwardedBody::AsIs);
        };
        // Also where no body follows: what is said of it is said of the one that GET would bring.
        strip_content_metadata(response.headers_mut());
        let counters = self.snapshot.metrics.links.clone();
        response.map(|body| {
            let rewriter = BodyRewriter::new(links, coding);
            ForwardedBody::Rewritten(RewrittenBody::new(body, rewriter, counters))
        })
    }

    fn links(&self, elsewhere: Option<&Origin>) -> Option<LinkRewriter> {
        let map = self.snapshot.links(self.customer);
        let upstream = elsewhere
            .unwrap_or(&self.picked.destination.origin)
            .authority
            .as_str();
        if let Some(base) = &self.snapshot.live.public_url {
            return Some(LinkRewriter::new(map, base, upstream));
        }
        let scheme = if self.secure { "https" } else { "http" };
        let host = self.host.as_ref()?.to_str().ok()?;
        Some(LinkRewriter::new(
            map,
            &format!("{scheme}://{host}"),
            upstream,
        ))
    }
}

/// `application/json`, with whatever parameters, and what is built on it (RFC 6839 section 3.1).
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
    let tail = &essence[essence.len().saturating_sub(4)..];
    tail.eq_ignore_ascii_case(b"json")
}
