//! Where an upstream is.

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;

use crate::config::UpstreamUrl;

/// One upstream host and port: what a connection is good for.
#[derive(Debug)]
pub struct Origin {
    /// The place of its connections in a worker's pool.
    pub id: usize,
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
}

/// An upstream host that TLS cannot verify a certificate for.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a host name that a certificate can be for")]
pub struct BadHost(Authority);

impl Origin {
    /// The origin of a URL.
    ///
    /// # Errors
    /// When its host is none a certificate could be for.
    pub fn new(id: usize, url: &UpstreamUrl) -> Result<Self, BadHost> {
        let bad = || BadHost(url.authority.clone());
        let server_name = if url.scheme == Scheme::HTTPS {
            let host = unbracketed(url.authority.host()).to_owned();
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
        })
    }

    /// Whether connections to it serve `url` as well.
    pub fn is_of(&self, url: &UpstreamUrl) -> bool {
        self.authority == url.authority && self.scheme == url.scheme
    }

    /// The host to resolve, without the brackets of an IPv6 literal.
    pub fn host_to_resolve(&self) -> &str {
        unbracketed(self.authority.host())
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}
