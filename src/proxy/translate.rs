//! Step 7: turns Citrix's response into the one for the caller.
//!
//! Hop-by-hop fields and `Alt-Svc` are removed, links are rewritten; everything else is forwarded
//! unchanged.

mod links;

use http::header::{ALT_SVC, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Response};

use super::send::Sent;
use crate::error::{Failure, Reason};
use crate::exchange::body::ForwardedBody;
use crate::state::HeldToken;
use citrix_wire::hop_by_hop;

pub use self::links::LinkContext;

/// Translates a response head and wraps the body.
///
/// # Errors
/// `upstream_broken` for a final response with a 1xx status, such as 101, or a transfer coding
/// other than chunked.
pub fn translate(sent: Sent, links: &LinkContext<'_>) -> Result<Response<ForwardedBody>, Failure> {
    let Sent {
        mut response,
        token,
        redirected_to,
    } = sent;
    if response.status().is_informational() {
        let detail = format!(
            "unexpected response {} from the upstream",
            response.status()
        );
        return Err(Failure::new(Reason::UpstreamBroken, detail));
    }
    let headers = response.headers_mut();
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            // hyper decodes chunked only; the field that names another coding is not forwarded.
            let detail = "the upstream's response has a transfer coding other than chunked";
            return Err(Failure::new(Reason::UpstreamBroken, detail));
        }
        // Transfer-Encoding overrides Content-Length (RFC 9112 section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    hop_by_hop::remove(headers);
    // It would direct the caller past the gateway.
    headers.remove(ALT_SVC);
    remove_echoed_token(headers, &token);
    Ok(links.rewrite(response, redirected_to.as_deref()))
}

/// Removes fields that contain the token, from an upstream that echoes request fields.
fn remove_echoed_token(headers: &mut HeaderMap, token: &HeldToken) {
    let echoes: Vec<HeaderName> = headers
        .iter()
        .filter(|(_, value)| token.occurs_in(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in echoes {
        headers.remove(&name);
    }
}
