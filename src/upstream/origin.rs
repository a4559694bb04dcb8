//! Upstream origins.

use std::num::ParseIntError;

use citrix_wire::host;
use http::HeaderValue;
use http::uri::{Authority, Scheme, Uri};
use rustls::pki_types::ServerName;

use crate::config::UpstreamUrl;
use crate::upstream::dial::{DialConfig, DialTarget};

/// The scheme, host and port of an upstream, and how to dial it. Connections are pooled by origin.
#[derive(Debug)]
pub struct Origin {
    /// Its id in the workers' pools, unique also across reloads.
    pub id: u64,
    /// `https`, or `http` for a loopback address.
    pub scheme: Scheme,
    /// The value of `:authority`.
    pub authority: Authority,
    /// The value of `Host`.
    pub host: HeaderValue,
    /// The port, explicit or the scheme's.
    pub port: u16,
    /// The name in the certificate; `None` without TLS.
    pub server_name: Option<ServerName<'static>>,
    /// TLS and the egress proxy of new connections.
    pub dial_config: DialConfig,
}

/// An upstream host that no certificate can name.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a host name that a certificate can contain")]
pub struct InvalidServerName(Authority);

impl Origin {
    /// Returns the origin of a URL.
    ///
    /// # Errors
    /// When no certificate can name its host.
    pub fn new(
        id: u64,
        url: &UpstreamUrl,
        dial_config: &DialConfig,
    ) -> Result<Self, InvalidServerName> {
        let bad = || InvalidServerName(url.authority.clone());
        let server_name = if url.scheme == Scheme::HTTPS {
            let host = host::strip_brackets(url.authority.host()).to_owned();
            Some(ServerName::try_from(host).map_err(|_| bad())?)
        } else {
            None
        };
        Ok(Self {
            id,
            scheme: url.scheme.clone(),
            host: HeaderValue::from_str(url.authority.as_str()).map_err(|_| bad())?,
            authority: url.authority.clone(),
            port: url.port(),
            server_name,
            dial_config: dial_config.clone(),
        })
    }

    /// Returns `true` if `url` has this origin.
    pub fn matches(&self, url: &UpstreamUrl) -> bool {
        self.authority == url.authority && self.scheme == url.scheme
    }

    /// Returns `true` if `uri` has this scheme, host and port, and no userinfo.
    pub fn is_at(&self, uri: &Uri) -> bool {
        let Some(authority) = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
        else {
            return false;
        };
        let default = if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        uri.scheme() == Some(&self.scheme)
            && authority.host().eq_ignore_ascii_case(self.authority.host())
            && port(authority).is_ok_and(|port| port.unwrap_or(default) == self.port)
    }

    /// Returns the target of new connections.
    pub fn dial_target(&self) -> DialTarget<'_> {
        DialTarget {
            host: host::strip_brackets(self.authority.host()),
            port: self.port,
            server_name: self.server_name.as_ref(),
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
        let url = UpstreamUrl {
            scheme,
            authority,
            base_path: String::new(),
        };
        Origin::new(0, &url, &DialConfig::unreachable()).unwrap()
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
