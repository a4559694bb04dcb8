//! Where an upstream is.

use citrix_wire::host;
use http::HeaderValue;
use http::uri::{Authority, Scheme, Uri};
use rustls::pki_types::ServerName;

use crate::config::UpstreamUrl;
use crate::upstream::dial::{DialConfig, DialTarget};

/// One upstream host and port, and how it is reached: what a connection is good for.
#[derive(Debug)]
pub struct Origin {
    /// Its name in the workers' pools. No other origin ever has it, also after a reload: a connection that comes back
    /// late finds its own place or none.
    pub id: u64,
    /// `https`, or `http` for a loopback address.
    pub scheme: Scheme,
    /// What stands in `:authority`.
    pub authority: Authority,
    /// What stands in `Host`.
    pub host: HeaderValue,
    /// The port to connect to.
    pub port: u16,
    /// The name the certificate must be for; `None` speaks in clear.
    pub server_name: Option<ServerName<'static>>,
    /// How new connections leave, and whom they trust.
    pub dial_config: DialConfig,
}

/// An upstream host that TLS cannot verify a certificate for.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a host name that a certificate can be for")]
pub struct InvalidServerName(Authority);

impl Origin {
    /// The origin of a URL.
    ///
    /// # Errors
    /// When its host is none a certificate could be for.
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

    /// Whether connections to it serve `url` as well.
    pub fn is_of(&self, url: &UpstreamUrl) -> bool {
        self.authority == url.authority && self.scheme == url.scheme
    }

    /// Whether `uri` is one of its own: the same scheme, host and port, and no user in front.
    pub fn is_at(&self, uri: &Uri) -> bool {
        let Some(authority) = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
        else {
            return false;
        };
        let own = if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        };
        uri.scheme() == Some(&self.scheme)
            && authority.host().eq_ignore_ascii_case(self.authority.host())
            && port(authority).unwrap_or(Some(own)) == Some(self.port)
    }

    /// Whom connections are opened to.
    pub fn dial_target(&self) -> DialTarget<'_> {
        DialTarget {
            host: host::strip_brackets(self.authority.host()),
            port: self.port,
            server_name: self.server_name.as_ref(),
        }
    }
}

/// The port that is written, if any; `Some(None)` when it is none.
fn port(authority: &Authority) -> Option<Option<u16>> {
    let written = authority
        .as_str()
        .get(authority.host().len()..)?
        .strip_prefix(':')?;
    Some(written.parse().ok())
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
    fn a_url_is_an_origins_own_by_scheme_host_and_port() {
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
