//! URLs that requests or secrets go to.

use std::net::{IpAddr, Ipv6Addr};

use citrix_wire::host;
use http::Uri;
use http::uri::{Authority, Scheme};

use crate::config::UpstreamUrl;
use crate::config::value::{Checked, shown};

/// The base URL of an upstream.
pub(super) fn upstream(text: &str) -> Checked<UpstreamUrl> {
    base(text, checked(text)?)
}

/// The base URL by which callers reach the gateway. No secret of ours goes there, so it may be `http`.
pub(super) fn public(text: &str) -> Checked<UpstreamUrl> {
    base(text, well_formed(text)?)
}

fn base(text: &str, uri: Uri) -> Checked<UpstreamUrl> {
    let base_path = uri.path().trim_end_matches('/').to_owned();
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(format!("{} is not a whole URL", repeated(text)));
    };
    let authority = normal(&scheme, &authority);
    Ok(UpstreamUrl {
        scheme,
        authority,
        base_path,
    })
}

/// A URL that a token or a secret may be sent to: `https`, or `http` on this machine.
pub(super) fn checked(text: &str) -> Checked<Uri> {
    let uri = well_formed(text)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !is_loopback(host) => {
            let what = "would carry a token in clear: http is for loopback hosts only, use https";
            Err(format!("{} {what}", repeated(text)))
        }
        _ => Ok(uri),
    }
}

/// A whole URL of either scheme, without what would be lost.
fn well_formed(text: &str) -> Checked<Uri> {
    let wrong = |what: &str| format!("{} {what}", repeated(text));
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(wrong(
            "is not a URL: only visible ASCII characters may be in it",
        ));
    }
    if text.contains(['?', '#']) {
        return Err(wrong("has a query or a fragment, which would be lost"));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme().is_some()) else {
        return Err(wrong(
            "is not a whole URL: it must begin with https:// and a host",
        ));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("has a user name in it, which would not be sent"));
    }
    check_host(authority.host()).map_err(wrong)?;
    let port = authority
        .as_str()
        .get(authority.host().len()..)
        .and_then(|rest| rest.strip_prefix(':'));
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(wrong("has a port that is not between 1 and 65535"));
    }
    match uri.scheme_str() {
        Some("https" | "http") => Ok(uri),
        _ => Err(wrong("is neither https nor http")),
    }
}

/// A URL for a message, unless there may be a password or a key in it.
fn repeated(text: &str) -> String {
    if text.contains(['@', '?', '#']) {
        "this URL".to_owned()
    } else {
        shown(text)
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let valid = match host::ip_literal(host) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    valid.then_some(()).ok_or("has no valid host")
}

/// By what is written, not by what a name resolves to, which may change.
fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host::strip_brackets(host).parse();
    address.map_or_else(
        |_| host.eq_ignore_ascii_case("localhost"),
        |address| address.is_loopback(),
    )
}

/// Lower case, and without the scheme's own port: as it is sent in `Host`.
fn normal(scheme: &Scheme, authority: &Authority) -> Authority {
    let own = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let text = authority.as_str().to_ascii_lowercase();
    let host = if authority.port_u16() == Some(own) {
        authority.host().to_ascii_lowercase()
    } else {
        text
    };
    Authority::try_from(host).unwrap_or_else(|_| authority.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_https_or_loopback() {
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
    fn other_urls_are_refused() {
        for (text, why) in [
            ("", "is not a URL"),
            ("api.cloud.com", "whole URL"),
            ("/path", "whole URL"),
            ("https://", "is not a URL"),
            ("https:///path", "is not a URL"),
            ("ftp://host", "neither https nor http"),
            ("http://api.cloud.com", "in clear"),
            ("http://127.0.0.1.example.com", "in clear"),
            ("http://localhost.example.com", "in clear"),
            ("http://0.0.0.0", "in clear"),
            ("http://10.0.0.1", "in clear"),
            ("https://user:c4nary@host", "user name"),
            ("https://host?key=c4nary", "query"),
            ("https://host/a#c4nary", "fragment"),
            ("https://ho st", "visible ASCII"),
            ("https://hóst", "visible ASCII"),
            ("https://host:0", "port"),
            ("https://host:", "port"),
            ("https://host:99999", "port"),
            ("https://[::1", "is not a URL"),
            ("https://a,b", "host"),
        ] {
            let wrong = upstream(text).unwrap_err();
            assert!(wrong.contains(why), "{text}: {wrong}");
            assert!(!wrong.contains("c4nary"), "{wrong}");
        }
    }

    #[test]
    fn a_token_url_is_kept_as_written() {
        let text = "https://trust.citrixworkspacesapi.net/root/tokens/clients";
        assert_eq!(checked(text).unwrap().to_string(), text);
    }
}
