//! Requests that were sent to a host of Citrix and arrived here.

use crate::error::Failure;
use crate::system::digest::Sha256;

/// The host that a request was sent to, and the source of its caller. An extension of the request.
#[derive(Debug)]
pub struct Intercepted {
    /// In lower case: of CONNECT and the TLS handshake, or of an absolute target.
    pub host: Box<str>,
    /// The port of an authority without one.
    pub default_port: u16,
    pub caller: CallerSource,
}

/// The source of a request's caller.
#[derive(Debug)]
pub enum CallerSource {
    /// The request, like any other: over TLS without CONNECT.
    Request,
    /// The CONNECT request; `None` for an anonymous one.
    Tunnel(Option<TunnelCaller>),
    /// `Proxy-Authorization` of the request: with an absolute target.
    ProxyField,
}

/// The caller of a tunnel. It is looked up again for each request, since a reload may change it.
#[derive(Debug)]
pub struct TunnelCaller {
    pub name: Box<str>,
    /// The hash of the secret that was presented.
    pub secret: Option<Sha256>,
}

impl Intercepted {
    /// Returns the caller of the tunnel, if the request arrived through one of a caller.
    pub fn tunnel_caller(&self) -> Option<&TunnelCaller> {
        match &self.caller {
            CallerSource::Tunnel(caller) => caller.as_ref(),
            CallerSource::Request | CallerSource::ProxyField => None,
        }
    }
}

/// The paths of an intercepted request.
#[derive(Debug)]
pub struct MappedPath {
    /// At Citrix's host.
    pub path: Box<str>,
    /// At the gateway, or the reason why there is none.
    pub mapped: Result<Box<str>, Failure>,
}
