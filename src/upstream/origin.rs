//! Upstream origins.

use std::num::ParseIntError;

use citrix_wire::host;
use http::uri::{Authority, Scheme, Uri};

use crate::config::UpstreamUrl;
use crate::upstream::dial::{DialConfig, DialTarget};

/// The scheme, host and port of an upstream, and how to dial it. Connections are pooled by origin.
#[derive(Debug)]
pub struct Origin {
    /// Its id in the workers' pools, unique also across reloads.
    pub id: u64,
    /// Its URL, without a path.
    pub url: UpstreamUrl,
    /// TLS and the egress proxy of new connections.
    pub dial_config: DialConfig,
}

impl Origin {
    /// Returns the origin of a URL.
    pub fn new(id: u64, url: &UpstreamUrl, dial_config: &DialConfig) -> Self {
        Self {
            id,
            url: url.with_path(String::new()),
            dial_config: dial_config.clone(),
        }
    }

    /// Returns `true` if `url` has this origin.
    pub fn matches(&self, url: &UpstreamUrl) -> bool {
        self.url.authority == url.authority && self.url.scheme == url.scheme
    }

    /// Returns `true` if `uri` has this scheme, host and port, and no userinfo.
    pub fn is_at(&self, uri: &Uri) -> bool {
        let Some(authority) = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
        else {
            return false;
        };
        let default = if self.url.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        uri.scheme() == Some(&self.url.scheme)
            && authority
                .host()
                .eq_ignore_ascii_case(self.url.authority.host())
            && port(authority).is_ok_and(|port| port.unwrap_or(default) == self.url.port())
    }

    /// Returns the target of new connections.
    pub fn dial_target(&self) -> DialTarget<'_> {
        DialTarget {
            host: host::strip_brackets(self.url.authority.host()),
            port: self.url.port(),
            server_name: self.url.server_name(),
        }
    }
}

/// Returns the explicit port, if any.
fn port(authority: &Authority) -> Result<Option<u16>, ParseIntError> {
    let written = authority
        .as_str()
        .get(authority.host().len()..)
        .and_then(|rest| rest.strip_prefix(':'));
    written.map(str::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(scheme: Scheme, authority: &'static str) -> Origin {
        let authority = Authority::from_static(authority);
        let url = UpstreamUrl::new(scheme, authority, String::new()).unwrap();
        Origin::new(0, &url, &DialConfig::unreachable())
    }

    #[test]
    fn url_matches_by_scheme_host_and_port() {
        let https = origin(Scheme::HTTPS, "api-eu.cloud.com");
        for (url, own) in [
            ("https://api-eu.cloud.com/x", true),
            ("HTTPS://API-EU.cloud.com:443/x?y", true),
            ("http://api-eu.cloud.com/x", false),
            ("http://api-eu.cloud.com:443/x", false),
            ("https://api-eu.cloud.com:8443/x", false),
            ("https://api-eu.cloud.com:/x", false),
            ("https://api-eu.cloud.com:99999/x", false),
            ("https://api-eu.cloud.com.evil.example/x", false),
            ("https://evil-api-eu.cloud.com/x", false),
            ("https://api-eu.cloud.com./x", false),
            ("https://me@api-eu.cloud.com/x", false),
            ("https://api-eu.cloud.com@evil.example/x", false),
            ("https://api-eu.cloud.com:443@evil.example/x", false),
            ("//api-eu.cloud.com/x", false),
            ("/x", false),
        ] {
            assert_eq!(url.parse().is_ok_and(|url| https.is_at(&url)), own, "{url}");
        }
        let http = origin(Scheme::HTTP, "[::1]:9");
        assert!(http.is_at(&"http://[::1]:9/x".parse().unwrap()));
        assert!(!http.is_at(&"http://[::1]/x".parse().unwrap()));
        assert!(!http.is_at(&"https://[::1]:9/x".parse().unwrap()));
    }
}
