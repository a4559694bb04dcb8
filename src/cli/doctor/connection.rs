//! A connection to one host, step by step.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use citrix_wire::host;
use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::certificate;
use super::check::{Check, Kind};
use crate::config::{ConnectProxy, UpstreamSettings, UpstreamUrl};
use crate::upstream::control_plane::sources;
use crate::upstream::dial::{self, DialConfig, DialTarget, EgressProxyFault, tunnel};
use crate::upstream::tls::Verifiers;

/// A host and port, and whether TLS is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// An IPv6 address without brackets.
    host: String,
    port: u16,
    tls: bool,
}

impl Place {
    /// Where a URL leads; `None` if it is no whole one.
    pub(super) fn of_uri(uri: &Uri) -> Option<Self> {
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self {
            host: host::strip_brackets(uri.host()?).to_ascii_lowercase(),
            port,
            tls,
        })
    }

    /// Where an upstream is.
    pub(super) fn of(url: &UpstreamUrl) -> Self {
        let tls = url.scheme == Scheme::HTTPS;
        Self {
            host: host::strip_brackets(url.authority.host()).to_ascii_lowercase(),
            port: url.port(),
            tls,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", host::add_brackets(&self.host), self.port)
    }
}

/// The steps in the order they are taken.
const STEPS: [Kind; 4] = [Kind::Dns, Kind::Tcp, Kind::Egress, Kind::Tls];

/// Takes all steps, each within `upstream.connect_timeout`.
///
/// # Errors
/// The step that fails; those behind it are told as skipped.
pub(super) async fn examine(
    place: &Place,
    dial_config: &DialConfig,
    verifiers: &Verifiers,
    upstream: &UpstreamSettings,
    tell: &mut dyn FnMut(Check),
) -> Result<(), Kind> {
    let outcome = steps(place, dial_config, verifiers, upstream, tell).await;
    if let Err(failed) = outcome {
        for step in STEPS.into_iter().skip_while(|step| *step != failed).skip(1) {
            tell(Check::skipped(
                step,
                place,
                format!("{} failed", failed.name()),
            ));
        }
    }
    outcome
}

async fn steps(
    place: &Place,
    dial_config: &DialConfig,
    verifiers: &Verifiers,
    upstream: &UpstreamSettings,
    tell: &mut dyn FnMut(Check),
) -> Result<(), Kind> {
    let limit = upstream.connect_timeout;
    let proxy = dial_config.egress().proxy_for(&place.host);
    let addresses = look_up(place, proxy.as_ref(), limit, tell)
        .await
        .ok_or(Kind::Dns)?;
    let socket = connect(place, proxy.as_ref(), &addresses, limit, tell)
        .await
        .ok_or(Kind::Tcp)?;
    let socket = leave(place, proxy.as_ref(), socket, limit, tell)
        .await
        .ok_or(Kind::Egress)?;
    if !place.tls {
        tell(Check::skipped(
            Kind::Tls,
            place,
            "plain HTTP, on this machine",
        ));
        return Ok(());
    }
    let Ok(name) = ServerName::try_from(place.host.clone()) else {
        tell(Check::failed(
            Kind::Tls,
            place,
            "no certificate can be for this host",
            "correct its name",
        ));
        return Err(Kind::Tls);
    };
    let check = certificate::examine(place, socket, &name, dial_config, verifiers, upstream).await;
    let failed = check.state == super::State::Failed;
    tell(check);
    if failed { Err(Kind::Tls) } else { Ok(()) }
}

/// Which way it goes, for a sentence.
fn whose(proxy: Option<&ConnectProxy>) -> String {
    proxy.map_or_else(String::new, |proxy| format!("the egress proxy {proxy}: "))
}

async fn look_up(
    place: &Place,
    proxy: Option<&ConnectProxy>,
    limit: Duration,
    tell: &mut dyn FnMut(Check),
) -> Option<Vec<SocketAddr>> {
    let (host, port) = proxy.map_or((place.host.as_str(), place.port), |proxy| {
        (proxy.host(), proxy.port())
    });
    let advice = match proxy {
        Some(_) => "check its host in upstream.proxy_url or HTTPS_PROXY, and the resolver",
        None => {
            "check the host and the resolver; where only an HTTP proxy leads out, set upstream.proxy_url"
        }
    };
    let began = Instant::now();
    let failed = |what: String| {
        let detail = format!("{}{host} cannot be resolved: {what}", whose(proxy));
        Check::failed(Kind::Dns, place, detail, advice).took(began.elapsed())
    };
    match timeout(limit, dial::resolve(host, port)).await {
        Ok(Ok(addresses)) => {
            let listed: Vec<String> = addresses
                .iter()
                .map(|address| address.ip().to_string())
                .collect();
            let detail = format!("{}{}", whose(proxy), listed.join(", "));
            tell(
                Check::ok(Kind::Dns, place, detail)
                    .took(began.elapsed())
                    .fact("addresses", listed),
            );
            Some(addresses)
        }
        Ok(Err(error)) => {
            tell(failed(error.to_string()));
            None
        }
        Err(_) => {
            tell(failed(format!(
                "no answer within {}",
                humantime::format_duration(limit)
            )));
            None
        }
    }
}

async fn connect(
    place: &Place,
    proxy: Option<&ConnectProxy>,
    addresses: &[SocketAddr],
    limit: Duration,
    tell: &mut dyn FnMut(Check),
) -> Option<TcpStream> {
    let advice = match proxy {
        Some(_) => "check that it runs, its port, and firewalls",
        None => {
            "check firewalls and routes; where only an HTTP proxy leads out, set upstream.proxy_url"
        }
    };
    let began = Instant::now();
    let connected = timeout(limit, dial::connect(addresses)).await;
    let what = match connected {
        Ok(Ok(socket)) => {
            let address = socket
                .peer_addr()
                .map(|address| address.to_string())
                .unwrap_or_default();
            let detail = format!("{}connected to {address}", whose(proxy));
            tell(
                Check::ok(Kind::Tcp, place, detail)
                    .took(began.elapsed())
                    .fact("address", address),
            );
            return Some(socket);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "nobody answers within {}",
            humantime::format_duration(limit)
        ),
    };
    let detail = format!("{}no connection: {what}", whose(proxy));
    tell(Check::failed(Kind::Tcp, place, detail, advice).took(began.elapsed()));
    None
}

async fn leave(
    place: &Place,
    proxy: Option<&ConnectProxy>,
    socket: TcpStream,
    limit: Duration,
    tell: &mut dyn FnMut(Check),
) -> Option<TcpStream> {
    let Some(proxy) = proxy else {
        tell(Check::ok(Kind::Egress, place, "directly, without a proxy"));
        return Some(socket);
    };
    let began = Instant::now();
    let peer = DialTarget {
        host: &place.host,
        port: place.port,
        server_name: None,
    };
    let opened = timeout(limit, tunnel::open(socket, proxy, peer)).await;
    let opened = opened.unwrap_or(Err(EgressProxyFault::Timeout(limit)));
    let (check, socket) = match opened {
        Ok(socket) => (
            Check::ok(
                Kind::Egress,
                place,
                format!("the egress proxy {proxy} opened a tunnel"),
            ),
            Some(socket),
        ),
        Err(fault) => {
            let detail = format!("the egress proxy {proxy} {fault}{}", cause(&fault));
            (
                Check::failed(Kind::Egress, place, detail, fault.advice()),
                None,
            )
        }
    };
    let authenticated = proxy.authorization().is_some();
    tell(
        check
            .took(began.elapsed())
            .fact("proxy", proxy.to_string())
            .fact("authenticated", authenticated),
    );
    socket
}

/// What is behind an error, if that says more.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    sources(error)
        .skip(1)
        .last()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default()
}

/// A text for an error of the system or of TLS.
pub(super) fn innermost(error: &io::Error) -> String {
    sources(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_host_and_port_whatever_the_path() {
        for (url, place) in [
            (
                "https://API.cloud.com/cctrustoauth2/acme/tokens/clients",
                "api.cloud.com:443",
            ),
            ("https://api.cloud.com:8443", "api.cloud.com:8443"),
            ("http://[::1]/x", "[::1]:80"),
        ] {
            assert_eq!(
                Place::of_uri(&url.parse().unwrap()).unwrap().to_string(),
                place
            );
        }
        let plain = Place::of_uri(&"http://localhost:443".parse().unwrap());
        assert_ne!(
            plain,
            Place::of_uri(&"https://localhost:443".parse().unwrap())
        );
        assert_eq!(Place::of_uri(&"/x".parse().unwrap()), None);
    }
}
