//! Checks of a request head that do not depend on its caller.

use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::browser_guard;
use crate::config::Live;
use crate::error::{Failure, Reason};
use crate::inbound::intercepted::{CallerSource, Intercepted};
use crate::inbound::strict;
use citrix_wire::host::{self, Authority};
use citrix_wire::known_fields::KnownFields;

/// Rejects an ambiguous head, a method that is not forwarded, and a foreign host: for an intercepted
/// request, any but that of its connection. Returns the authority. `fields` are those of the head.
///
/// # Errors
/// `bad_request`, `headers_too_large` or `foreign_host`.
pub fn check_head<'h>(
    live: &Live,
    head: &'h Parts,
    fields: KnownFields,
    intercepted: Option<&Intercepted>,
) -> Result<Option<Authority<'h>>, Failure> {
    strict::check(head, fields)?;
    if !is_forwardable(&head.method) {
        let detail = format!("method {} is not supported", head.method);
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    let authority = host::authority(head.version, &head.uri, &head.headers)
        .map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
    match intercepted {
        None => browser_guard::check_host(&live.hosts, authority.as_ref())?,
        // An absolute target is its only source.
        Some(it) if matches!(it.caller, CallerSource::ProxyField) => {}
        Some(it) if !is_of(it, authority.as_ref()) => {
            let detail = "the host of the request is not that of its connection";
            return Err(Failure::new(Reason::ForeignHost, detail));
        }
        Some(_) => {}
    }
    Ok(authority)
}

/// Returns `true` for the host of the connection, as clients write it: without the dot of the root.
fn is_of(intercepted: &Intercepted, authority: Option<&Authority<'_>>) -> bool {
    authority.is_some_and(|authority| {
        let text = authority.as_str();
        let name = text.split_once(':').map_or(text, |(name, _)| name);
        let port = authority.port().unwrap_or(intercepted.default_port);
        name.eq_ignore_ascii_case(&intercepted.host) && port == intercepted.default_port
    })
}

/// Returns `false` for `CONNECT`, for `PRI`, which begins HTTP/2, and for methods that reflect the
/// request or start a debugger. Methods are case-sensitive (RFC 9110 section 9.1).
fn is_forwardable(method: &Method) -> bool {
    !matches!(
        method.as_str(),
        "CONNECT" | "DEBUG" | "PRI" | "TRACE" | "TRACK"
    )
}

/// Rejects transfer codings other than `chunked`: hyper decodes only the chunks, and
/// `Transfer-Encoding` is a hop-by-hop field that is not forwarded (RFC 9112 section 6.1).
///
/// # Errors
/// `bad_request`.
pub fn reject_codings(headers: &HeaderMap) -> Result<(), Failure> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    if codings.next().is_some_and(|first| !chunked(first)) || codings.next().is_some() {
        let detail = "unsupported transfer coding; only chunked is accepted";
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_9_3_methods_that_reflect_or_tunnel_are_not_forwarded() {
        for method in ["TRACE", "TRACK", "DEBUG", "PRI", "CONNECT"] {
            assert!(!is_forwardable(&method.parse().unwrap()), "{method}");
        }
        for method in [
            "GET", "OPTIONS", "PATCH", "PROPFIND", "trace", "Trace", "debug",
        ] {
            assert!(is_forwardable(&method.parse().unwrap()), "{method}");
        }
    }
}
