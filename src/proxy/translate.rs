//! Step 7: Citrix's answer as the caller may see it.

mod links;

use http::header::{ALT_SVC, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Response};

use super::send::Sent;
use crate::error::{Failure, Reason};
use crate::exchange::body::ForwardedBody;
use crate::state::snapshot::HeldToken;
use citrix_wire::hop_by_hop;

pub use self::links::Reader;

/// Takes out what is not for the caller, and makes links lead back to the gateway. Everything else passes as it
/// came.
///
/// # Errors
/// When the upstream switched protocols, which nobody asked it to, or used a transfer coding we do not know.
pub fn translate(sent: Sent, reader: &Reader<'_>) -> Result<Response<ForwardedBody>, Failure> {
    let Sent {
        mut response,
        token,
        elsewhere,
    } = sent;
    if response.status().is_informational() {
        let detail = format!(
            "the upstream answered {} without being asked to",
            response.status()
        );
        return Err(Failure::new(Reason::UpstreamBroken, detail));
    }
    let headers = response.headers_mut();
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            // hyper takes chunked off; another coding would reach the caller unnamed.
            let detail = "the upstream's answer has a transfer coding other than chunked";
            return Err(Failure::new(Reason::UpstreamBroken, detail));
        }
        // It overrides a length, which is then not to be passed on (RFC 9112 section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    hop_by_hop::remove(headers);
    // It would send the caller past the gateway, and without a token.
    headers.remove(ALT_SVC);
    remove_echoed_token(headers, &token);
    Ok(reader.rewrite(response, elsewhere.as_deref()))
}
/// An upstream that echoes request headers must not hand the token to the caller.
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
