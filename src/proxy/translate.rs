//! Step 7: turns Citrix's response into the one for the caller.
//!
//! The gateway's own version and one `Content-Length` replace the upstream's, hop-by-hop fields and
//! `Alt-Svc` are removed, links are rewritten; everything else is forwarded unchanged.

mod links;

use http::header::ALT_SVC;
use http::{HeaderMap, HeaderName, Response, Version};

use super::send::Sent;
use crate::error::{Failure, Reason};
use crate::exchange::body::ForwardedBody;
use crate::state::HeldToken;
use citrix_wire::{hop_by_hop, response_framing};

pub use self::links::LinkContext;

/// Translates a response head and wraps the body.
///
/// # Errors
/// `upstream_broken` for a final response with a 1xx status, such as 101, or for framing that cannot
/// be forwarded.
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
    // The version is of one connection (RFC 9110 section 6.2). With the upstream's, hyper would
    // delimit the body of an HTTP/1.0 response by the close.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    response_framing::normalize(headers)
        .map_err(|fault| Failure::new(Reason::UpstreamBroken, fault.to_string()))?;
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
