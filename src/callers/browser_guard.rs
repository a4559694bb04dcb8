//! Keeps web pages out wherever nobody has to show who he is (interface §4.1), and where a caller is known by what a
//! browser does by itself; on the admin listener always.
//!
//! A page in a browser on this network can send requests to us: by a name of its own that it points at our
//! address (DNS rebinding), or straight from its own site. Neither may get in.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName};

use super::Callers;
use crate::config::AllowedHosts;
use crate::config::Caller;
use crate::error::{Failure, Reason};
use citrix_wire::host::Authority;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses foreign names. `authority` is what the request names; a request without one is of HTTP/1.0, which comes
/// from old tools and never from a browser.
///
/// # Errors
/// `foreign_host`.
pub fn check_host(hosts: &AllowedHosts, authority: Option<&Authority<'_>>) -> Result<(), Failure> {
    let (AllowedHosts::Only(names), Some(authority)) = (hosts, authority) else {
        return Ok(());
    };
    let name = authority.host();
    if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let detail = if authority.is_unspecified_or_mapped() {
        format!(
            "this gateway does not answer to {name}, which hides web pages; use its address, as in 127.0.0.1"
        )
    } else if authority.is_address_or_localhost() {
        return Ok(());
    } else {
        format!("this gateway does not answer to the name {name}; add it to listen.hosts")
    };
    Err(Failure::new(Reason::ForeignHost, detail))
}

/// Refuses what pages of other sites send.
///
/// # Errors
/// `caller_forbidden`.
pub fn check_site(authority: Option<&Authority<'_>>, headers: &HeaderMap) -> Result<(), Failure> {
    let same_site = |value: &[u8]| matches!(value, b"same-origin" | b"none");
    if headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .any(|value| !same_site(value.as_bytes()))
    {
        let detail = "a web page of another site may not call this gateway";
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    let foreign = |origin: &[u8]| !authority.is_some_and(|own| is_origin_of(origin, own));
    if headers
        .get_all(ORIGIN)
        .iter()
        .any(|value| foreign(value.as_bytes()))
    {
        let detail = "a web page of another origin may not call this gateway";
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    Ok(())
}

/// Whether a serialized origin (RFC 6454) is that of the authority the request names.
fn is_origin_of(origin: &[u8], own: &Authority<'_>) -> bool {
    let authority = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own.as_str().as_bytes()))
}

/// Admits an anonymous request if the configuration or its origin permits that, except for a browser's cross-site
/// request. `permitted` is false for a peer that is not this machine, unless `insecure.allow_anonymous` is set: a load
/// balancer on this machine must not lend its loopback address to its clients.
///
/// # Errors
/// `caller_forbidden`.
pub fn admit_anonymous(
    permitted: bool,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    if !permitted {
        let detail = "nobody is configured as a caller, so only this machine may use the gateway";
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    check_site(authority, headers)
}

/// Rejects a browser's cross-site request where the caller at `number` has no secret: a browser connects and presents
/// a certificate by itself.
///
/// # Errors
/// `caller_forbidden`.
pub fn reject_cross_site(
    callers: &Callers,
    number: usize,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let has_no_secret = |caller: &Caller| caller.secret.is_none();
    if callers.get(number).is_some_and(has_no_secret) {
        check_site(authority, headers)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(
        hosts: &AllowedHosts,
        host: &str,
        fields: &[(&str, &str)],
    ) -> Option<&'static str> {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let authority = (!host.is_empty()).then(|| Authority::parse(host).unwrap());
        let checked = check_host(hosts, authority.as_ref())
            .and_then(|()| check_site(authority.as_ref(), &headers));
        checked.err().map(|failure| failure.reason().as_str())
    }

    #[test]
    fn names_of_others_and_pages_of_other_sites_are_kept_out() {
        let only = AllowedHosts::Only(vec!["gw.example.net".to_owned()]);
        let (foreign, forbidden) = (Some("foreign_host"), Some("caller_forbidden"));
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            ("127.0.0.1:8080", &[], None),
            ("[::1]:8080", &[], None),
            ("localhost", &[], None),
            ("GW.example.net:8443", &[], None),
            ("", &[], None),
            ("rebound.evil.example", &[], foreign),
            ("gw.example.net.evil.example", &[], foreign),
            ("0.0.0.0:8080", &[], foreign),
            ("[::ffff:7f00:1]:8080", &[], foreign),
            ("localhost", &[("sec-fetch-site", "cross-site")], forbidden),
            ("localhost", &[("sec-fetch-site", "same-site")], forbidden),
            ("localhost", &[("sec-fetch-site", "none")], None),
            ("localhost", &[("sec-fetch-mode", "cors")], None),
            (
                "localhost:8080",
                &[("origin", "http://localhost:8080")],
                None,
            ),
            (
                "localhost:8080",
                &[("origin", "http://localhost:3000")],
                forbidden,
            ),
            ("localhost:8080", &[("origin", "null")], forbidden),
            ("", &[("origin", "http://localhost")], forbidden),
        ];
        for (host, fields, expected) in cases {
            assert_eq!(
                check_with(&only, host, fields),
                *expected,
                "{host} {fields:?}"
            );
        }
        assert_eq!(
            check_with(&AllowedHosts::Any, "anything.example", &[]),
            None
        );
    }
}
