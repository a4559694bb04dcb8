//! Connects to one endpoint, step by step.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::certificate;
use super::check::{Check, CheckKind, CheckState};
use super::endpoint::Endpoint;
use crate::config::{ConnectProxy, UpstreamSettings};
use crate::error::chain;
use crate::upstream::dial::{self, DialConfig, DialTarget, EgressProxyFault, tunnel};
use crate::upstream::tls::Verifiers;

/// Steps in order.
const STEPS: [CheckKind; 4] = [
    CheckKind::Dns,
    CheckKind::Tcp,
    CheckKind::Egress,
    CheckKind::Tls,
];

/// Runs all steps, each within `upstream.connect_timeout`.
///
/// # Errors
/// The step that failed; later ones are reported as skipped.
pub(super) async fn examine(
    endpoint: &Endpoint,
    dial_config: &DialConfig,
    verifiers: &Verifiers,
    upstream: &UpstreamSettings,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    let outcome = steps(endpoint, dial_config, verifiers, upstream, report).await;
    if let Err(failed) = outcome {
        for step in STEPS.into_iter().skip_while(|step| *step != failed).skip(1) {
            report(Check::skipped(
                step,
                endpoint,
                format!("{} failed", failed.name()),
            ));
        }
    }
    outcome
}

async fn steps(
    endpoint: &Endpoint,
    dial_config: &DialConfig,
    verifiers: &Verifiers,
    upstream: &UpstreamSettings,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    let limit = upstream.connect_timeout;
    let proxy = dial_config.egress().proxy_for(&endpoint.host);
    let addresses = look_up(endpoint, proxy.as_ref(), dial_config, limit, report)
        .await
        .ok_or(CheckKind::Dns)?;
    let socket = connect(endpoint, proxy.as_ref(), &addresses, limit, report)
        .await
        .ok_or(CheckKind::Tcp)?;
    let socket = open_egress(endpoint, proxy.as_ref(), socket, limit, report)
        .await
        .ok_or(CheckKind::Egress)?;
    if !endpoint.tls {
        report(Check::skipped(
            CheckKind::Tls,
            endpoint,
            "plain HTTP, on this machine",
        ));
        return Ok(());
    }
    let Ok(name) = ServerName::try_from(endpoint.host.clone()) else {
        report(Check::failed(
            CheckKind::Tls,
            endpoint,
            "the host name is not valid in a certificate",
            "correct the host name",
        ));
        return Err(CheckKind::Tls);
    };
    let check =
        certificate::examine(endpoint, socket, &name, dial_config, verifiers, upstream).await;
    let failed = check.state == CheckState::Failed;
    report(check);
    if failed { Err(CheckKind::Tls) } else { Ok(()) }
}

/// Names the egress proxy, if there is one.
fn via(proxy: Option<&ConnectProxy>) -> String {
    proxy.map_or_else(String::new, |proxy| format!("the egress proxy {proxy}: "))
}

async fn look_up(
    endpoint: &Endpoint,
    proxy: Option<&ConnectProxy>,
    dial_config: &DialConfig,
    limit: Duration,
    report: &mut dyn FnMut(Check),
) -> Option<Vec<SocketAddr>> {
    let (host, port) = proxy.map_or((endpoint.host.as_str(), endpoint.port), |proxy| {
        (proxy.host(), proxy.port())
    });
    let advice = match proxy {
        Some(_) => "check its host in upstream.proxy_url or HTTPS_PROXY, and the resolver",
        None => {
            "check the host name and the resolver; if egress requires an HTTP proxy, set upstream.proxy_url"
        }
    };
    let began = Instant::now();
    let failed = |what: String| {
        let detail = format!("{}{host} not resolved: {what}", via(proxy));
        Check::failed(CheckKind::Dns, endpoint, detail, advice).took(began.elapsed())
    };
    let addresses = async {
        match proxy {
            Some(_) => dial::resolve(host, port).await,
            None => dial_config.resolve(host, port).await,
        }
    };
    match timeout(limit, addresses).await {
        Ok(Ok(addresses)) => {
            let listed: Vec<String> = addresses
                .iter()
                .map(|address| address.ip().to_string())
                .collect();
            let detail = format!("{}{}", via(proxy), listed.join(", "));
            report(
                Check::ok(CheckKind::Dns, endpoint, detail)
                    .took(began.elapsed())
                    .fact("addresses", listed),
            );
            Some(addresses)
        }
        Ok(Err(error)) => {
            report(failed(error.to_string()));
            None
        }
        Err(_) => {
            report(failed(format!(
                "no response within {}",
                humantime::format_duration(limit)
            )));
            None
        }
    }
}

async fn connect(
    endpoint: &Endpoint,
    proxy: Option<&ConnectProxy>,
    addresses: &[SocketAddr],
    limit: Duration,
    report: &mut dyn FnMut(Check),
) -> Option<TcpStream> {
    let advice = match proxy {
        Some(_) => "check that the proxy runs, its port, and firewalls",
        None => {
            "check firewalls and routes; if egress requires an HTTP proxy, set upstream.proxy_url"
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
            let detail = format!("{}connected to {address}", via(proxy));
            report(
                Check::ok(CheckKind::Tcp, endpoint, detail)
                    .took(began.elapsed())
                    .fact("address", address),
            );
            return Some(socket);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no response within {}", humantime::format_duration(limit)),
    };
    let detail = format!("{}no connection: {what}", via(proxy));
    report(Check::failed(CheckKind::Tcp, endpoint, detail, advice).took(began.elapsed()));
    None
}

async fn open_egress(
    endpoint: &Endpoint,
    proxy: Option<&ConnectProxy>,
    socket: TcpStream,
    limit: Duration,
    report: &mut dyn FnMut(Check),
) -> Option<TcpStream> {
    let Some(proxy) = proxy else {
        report(Check::ok(
            CheckKind::Egress,
            endpoint,
            "directly, without a proxy",
        ));
        return Some(socket);
    };
    let began = Instant::now();
    let peer = DialTarget {
        host: &endpoint.host,
        port: endpoint.port,
        server_name: None,
    };
    let opened = timeout(limit, tunnel::open(socket, proxy, peer)).await;
    let opened = opened.unwrap_or(Err(EgressProxyFault::Timeout(limit)));
    let (check, socket) = match opened {
        Ok(socket) => (
            Check::ok(
                CheckKind::Egress,
                endpoint,
                format!("the egress proxy {proxy} opened a tunnel"),
            ),
            Some(socket),
        ),
        Err(fault) => {
            let detail = format!("egress proxy {proxy}: {fault}{}", cause(&fault));
            (
                Check::failed(CheckKind::Egress, endpoint, detail, fault.advice()),
                None,
            )
        }
    };
    let authenticated = proxy.authorization().is_some();
    report(
        check
            .took(began.elapsed())
            .fact("proxy", proxy.to_string())
            .fact("authenticated", authenticated),
    );
    socket
}

/// Returns the innermost source of an error.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    chain::sources(error)
        .skip(1)
        .last()
        .map(|cause| format!(": {}", chain::text(cause)))
        .unwrap_or_default()
}
