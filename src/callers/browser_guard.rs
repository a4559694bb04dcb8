//! Rejects requests that web pages send through a browser (interface §4.1): where requests are
//! anonymous, where a caller has no secret, and always on the admin listener.
//!
//! A page in a browser on this network can send requests to the gateway under a name of its own
//! that resolves to the gateway's address (DNS rebinding), or cross-site.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName};

use super::Callers;
use crate::config::AllowedHosts;
use crate::error::{Failure, Reason};
use citrix_wire::host::{Authority, strip_root};
use citrix_wire::known_fields::KnownFields;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Rejects a host name that is neither local nor in `listen.hosts`. A request without an authority
/// is HTTP/1.0, which no browser sends.
///
/// # Errors
/// `foreign_host`.
pub fn check_host(hosts: &AllowedHosts, authority: Option<&Authority<'_>>) -> Result<(), Failure> {
    let (AllowedHosts::Only(names), Some(authority)) = (hosts, authority) else {
        return Ok(());
    };
    let name = authority.host();
    if names
        .iter()
        .any(|known| strip_root(known).eq_ignore_ascii_case(name))
    {
        return Ok(());
    }
    let detail = if authority.is_unspecified_or_mapped() {
        format!(
            "host {name} is an unspecified or IPv4-mapped address; use a plain one, for example 127.0.0.1"
        )
    } else if authority.is_address_or_localhost() {
        return Ok(());
    } else {
        format!("host name {name} is not in listen.hosts")
    };
    Err(Failure::new(Reason::ForeignHost, detail))
}

/// Rejects a browser's cross-site and cross-origin requests. `fields` are those of `headers`.
///
/// # Errors
/// `caller_forbidden`.
pub fn check_site(
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    fields: KnownFields,
) -> Result<(), Failure> {
    if !fields.has(KnownFields::BROWSER) {
        return Ok(());
    }
    let same_origin = |origin: &[u8]| authority.is_some_and(|own| is_origin_of(origin, own));
    for (name, value) in headers {
        let value = value.as_bytes();
        let detail = if *name == SEC_FETCH_SITE && !matches!(value, b"same-origin" | b"none") {
            "cross-site request of a web page (Sec-Fetch-Site)"
        } else if *name == ORIGIN && !same_origin(value) {
            "cross-origin request of a web page (Origin)"
        } else {
            continue;
        };
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    Ok(())
}

/// Returns `true` if a serialized origin (RFC 6454) is that of the request's authority.
fn is_origin_of(origin: &[u8], own: &Authority<'_>) -> bool {
    let Some((scheme, authority)) = str::from_utf8(origin)
        .ok()
        .and_then(|origin| origin.split_once("://"))
    else {
        return false;
    };
    matches!(scheme, "http" | "https")
        && Authority::parse(authority).is_ok_and(|origin| origin.is_same(own, scheme))
}

/// Admits an anonymous request if `permitted`, except for a browser's cross-site request.
/// `permitted` is `true` for a peer on this machine, or with `insecure.allow_anonymous`: a load
/// balancer on this machine must not lend its loopback address to its clients.
///
/// # Errors
/// `caller_forbidden`.
pub fn admit_anonymous(
    permitted: bool,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    fields: KnownFields,
) -> Result<(), Failure> {
    if !permitted {
        let detail =
            "no [[caller]] is configured; only clients on the gateway's machine are admitted";
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    check_site(authority, headers, fields)
}

/// Rejects a browser's cross-site request where the caller at `index` has no secret: a browser
/// connects and presents a certificate on its own.
///
/// # Errors
/// `caller_forbidden`.
pub fn reject_cross_site(
    callers: &Callers,
    index: usize,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    fields: KnownFields,
) -> Result<(), Failure> {
    if callers
        .get(index)
        .is_some_and(|caller| !caller.has_secret())
    {
        check_site(authority, headers, fields)?;
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
            .and_then(|()| check_site(authority.as_ref(), &headers, KnownFields::of(&headers)));
        checked.err().map(|failure| failure.reason().as_str())
    }

    #[test]
    fn foreign_hosts_and_cross_site_requests_are_rejected() {
        let only = AllowedHosts::Only(vec![
            "gw.example.net".to_owned(),
            "dot.example.net.".to_owned(),
        ]);
        let (foreign, forbidden) = (Some("foreign_host"), Some("caller_forbidden"));
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            ("127.0.0.1:8080", &[], None),
            ("[::1]:8080", &[], None),
            ("localhost", &[], None),
            ("GW.example.net:8443", &[], None),
            ("gw.example.net.", &[], None),
            ("gw.example.net.:8443", &[], None),
            ("dot.example.net", &[], None),
            ("dot.example.net.", &[], None),
            ("gw.example.net..", &[], foreign),
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
            (
                "gw.example.net.:8080",
                &[("origin", "http://gw.example.net:8080")],
                None,
            ),
            (
                "gw.example.net",
                &[("origin", "https://gw.example.net.")],
                None,
            ),
            (
                "gw.example.net.:8080",
                &[("origin", "http://gw.example.net.")],
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
