//! A host that is checked.

use std::fmt;
use std::io;

use citrix_wire::host;
use http::Uri;
use http::uri::Scheme;

use crate::config::UpstreamUrl;
use crate::error::chain;

/// Host, port, and whether TLS is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// An IPv6 address has no brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Endpoint {
    /// Returns the endpoint of an absolute URL; `None` for any other.
    pub(super) fn of_uri(uri: &Uri) -> Option<Self> {
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self {
            host: host::strip_brackets(uri.host()?).to_ascii_lowercase(),
            port,
            tls,
        })
    }

    pub(super) fn of(url: &UpstreamUrl) -> Self {
        let tls = url.scheme == Scheme::HTTPS;
        Self {
            host: host::strip_brackets(url.authority.host()).to_ascii_lowercase(),
            port: url.port(),
            tls,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", host::add_brackets(&self.host), self.port)
    }
}

/// Returns the text of the innermost source of a system or TLS error.
pub(super) fn innermost(error: &io::Error) -> String {
    chain::innermost(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_ignores_the_path() {
        for (url, endpoint) in [
            (
                "https://API.cloud.com/cctrustoauth2/acme/tokens/clients",
                "api.cloud.com:443",
            ),
            ("https://api.cloud.com:8443", "api.cloud.com:8443"),
            ("http://[::1]/x", "[::1]:80"),
        ] {
            assert_eq!(
                Endpoint::of_uri(&url.parse().unwrap()).unwrap().to_string(),
                endpoint
            );
        }
        let plain = Endpoint::of_uri(&"http://localhost:443".parse().unwrap());
        assert_ne!(
            plain,
            Endpoint::of_uri(&"https://localhost:443".parse().unwrap())
        );
        assert_eq!(Endpoint::of_uri(&"/x".parse().unwrap()), None);
    }
}
