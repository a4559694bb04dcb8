//! URLs.

use std::net::{IpAddr, Ipv6Addr};

use citrix_wire::host;
use http::Uri;
use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;

use crate::config::UpstreamUrl;
use crate::config::value::{Checked, shown};

/// Parses the base URL of an upstream.
pub(super) fn upstream(text: &str) -> Checked<UpstreamUrl> {
    base(text, confidential(text)?)
}

/// Parses the base URL of the gateway, which may use `http`: no credentials are sent to it.
pub(super) fn public(text: &str) -> Checked<UpstreamUrl> {
    base(text, absolute(text)?)
}

fn base(text: &str, uri: Uri) -> Checked<UpstreamUrl> {
    let base_path = uri.path().trim_end_matches('/').to_owned();
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(invalid(text, "scheme or host is missing"));
    };
    let authority = normalized(&scheme, &authority);
    UpstreamUrl::new(scheme, authority, base_path)
        .ok_or_else(|| invalid(text, "no certificate can name this host"))
}

/// Parses a URL that may receive tokens and secrets: `https`, or `http` on a loopback host.
pub(super) fn confidential(text: &str) -> Checked<Uri> {
    let uri = absolute(text)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !is_loopback(host) => Err(invalid(
            text,
            "http would expose the token and is permitted for loopback hosts only",
        )),
        _ => Ok(uri),
    }
}

/// Parses an absolute `http` or `https` URL, and rejects components that would be ignored.
fn absolute(text: &str) -> Checked<Uri> {
    let invalid = |reason: &str| invalid(text, reason);
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(invalid("use visible ASCII"));
    }
    if text.contains(['?', '#']) {
        return Err(invalid("query and fragment are not supported"));
    }
    let uri: Uri = text.parse().map_err(|_| invalid("syntax error"))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme().is_some()) else {
        return Err(invalid("scheme or host is missing"));
    };
    if authority.as_str().contains('@') {
        return Err(invalid("user information is not supported"));
    }
    if !is_valid_host(authority.host()) {
        return Err(invalid("no certificate can name this host"));
    }
    let port = authority
        .as_str()
        .get(authority.host().len()..)
        .and_then(|rest| rest.strip_prefix(':'));
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(invalid("the port is not between 1 and 65535"));
    }
    match uri.scheme_str() {
        Some("https" | "http") => Ok(uri),
        _ => Err(invalid("the scheme must be https or http")),
    }
}

/// Formats a problem. A URL that may contain a password or key is not quoted.
fn invalid(text: &str, reason: &str) -> String {
    if text.contains(['@', '?', '#']) {
        format!("invalid URL: {reason}")
    } else {
        format!("invalid URL {}: {reason}", shown(text))
    }
}

/// Returns `true` for hosts that a certificate can name.
pub(super) fn is_valid_host(host: &str) -> bool {
    match host::ip_literal(host) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => ServerName::try_from(host).is_ok(),
    }
}

/// Returns `true` for `localhost` and loopback addresses. Names are not resolved: the result could
/// change.
pub(super) fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host::strip_brackets(host).parse();
    address.map_or_else(
        |_| host.eq_ignore_ascii_case("localhost"),
        |address| address.is_loopback(),
    )
}

/// Converts to lower case and removes the default port, as in `Host`.
fn normalized(scheme: &Scheme, authority: &Authority) -> Authority {
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let text = if authority.port_u16() == Some(default_port) {
        authority.host()
    } else {
        authority.as_str()
    };
    Authority::try_from(text.to_ascii_lowercase()).unwrap_or_else(|_| authority.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_and_loopback_urls_are_valid_upstreams() {
        for (text, scheme, authority, base_path) in [
            ("https://api.cloud.com", "https", "api.cloud.com", ""),
            ("https://api.cloud.com/", "https", "api.cloud.com", ""),
            (
                "https://API.cloud.com:443/a/b//",
                "https",
                "api.cloud.com",
                "/a/b",
            ),
            ("https://h:8443/a%2Fb", "https", "h:8443", "/a%2Fb"),
            ("https://[2001:db8::1]:443", "https", "[2001:db8::1]", ""),
            ("https://10.0.0.1", "https", "10.0.0.1", ""),
            ("http://127.0.0.1:9", "http", "127.0.0.1:9", ""),
            ("http://127.8.9.1:80/x", "http", "127.8.9.1", "/x"),
            ("http://[::1]:9", "http", "[::1]:9", ""),
            ("http://LocalHost", "http", "localhost", ""),
        ] {
            let url = upstream(text).unwrap();
            let (found, host) = (url.scheme.as_str(), url.authority.as_str());
            assert_eq!(
                (found, host, url.base_path.as_str()),
                (scheme, authority, base_path),
                "{text}"
            );
        }
    }

    #[test]
    fn invalid_upstream_url_is_rejected() {
        for (text, why) in [
            ("", "syntax error"),
            ("api.cloud.com", "scheme or host is missing"),
            ("/path", "scheme or host is missing"),
            ("https://", "syntax error"),
            ("https:///path", "syntax error"),
            ("ftp://host", "the scheme must be"),
            ("http://api.cloud.com", "loopback hosts only"),
            ("http://127.0.0.1.example.com", "loopback hosts only"),
            ("http://localhost.example.com", "loopback hosts only"),
            ("http://0.0.0.0", "loopback hosts only"),
            ("http://10.0.0.1", "loopback hosts only"),
            ("https://user:c4nary@host", "user information"),
            ("https://host?key=c4nary", "query"),
            ("https://host/a#c4nary", "fragment"),
            ("https://ho st", "visible ASCII"),
            ("https://hóst", "visible ASCII"),
            ("https://host:0", "port"),
            ("https://host:", "port"),
            ("https://host:99999", "port"),
            ("https://[::1", "syntax error"),
            ("https://a,b", "host"),
        ] {
            let problem = upstream(text).unwrap_err();
            assert!(problem.contains(why), "{text}: {problem}");
            assert!(!problem.contains("c4nary"), "{problem}");
        }
    }

    #[test]
    fn token_url_is_unchanged() {
        let text = "https://trust.citrixworkspacesapi.net/root/tokens/clients";
        assert_eq!(confidential(text).unwrap().to_string(), text);
    }
}
