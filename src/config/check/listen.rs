//! `[listen]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::caller::AccessMode;
use super::{Report, network, url};
use crate::config::raw::{RawListen, RawTls};
use crate::config::value::{Checked, Leaf, shown};
use crate::config::{
    AllowedHosts, BindAddress, CertificateFiles, ClientCertificates, ListenAddress, Networks,
    UpstreamUrl,
};
use citrix_wire::host::strip_root;

/// The maximum length of a unix socket path (`sun_path` without the terminating zero).
const MAX_SOCKET_PATH: usize = 107;
const EXAMPLE: &str = "\"127.0.0.1:8080\"";
const DEFAULT_PORT: u16 = 8080;

pub(super) struct CheckedListen {
    pub(super) listeners: Vec<ListenAddress>,
    pub(super) certificate: Option<CertificateFiles>,
    pub(super) unix_mode: u32,
    pub(super) workers: NonZeroUsize,
    pub(super) hosts: AllowedHosts,
    pub(super) proxy_protocol: Networks,
    pub(super) trusted_forwarders: Networks,
    pub(super) public_url: Option<String>,
}

pub(super) fn check_listen(
    listen: &RawListen,
    access: AccessMode,
    report: &mut Report<'_>,
) -> CheckedListen {
    let public_url = report.read(
        &listen.public_url,
        "\"https://citrix-gw.example.net\"",
        |leaf| url::public(leaf.text()?),
    );
    CheckedListen {
        listeners: check_addresses(listen, access, report),
        certificate: listen
            .tls
            .as_ref()
            .and_then(|tls| check_certificate(tls, report)),
        unix_mode: report
            .read(&listen.unix_mode, "\"0660\"", file_mode)
            .unwrap_or(0o660),
        workers: check_workers(&listen.workers, report),
        hosts: check_hosts(&listen.hosts, public_url.as_ref(), access, report),
        proxy_protocol: network::networks(&listen.proxy_protocol, report),
        trusted_forwarders: network::networks(&listen.trusted_forwarders, report),
        public_url: public_url.map(|url| url.to_string()),
    }
}

/// Checks `address` and `tls.address`. With the latter, only that one uses TLS.
fn check_addresses(
    listen: &RawListen,
    access: AccessMode,
    report: &mut Report<'_>,
) -> Vec<ListenAddress> {
    let mut listeners = Vec::new();
    let tls_address = listen.tls.as_ref().map(|tls| &tls.address);
    let tls = tls_address.is_some_and(|leaf| leaf.value.is_none());
    match report.read(&listen.address, EXAMPLE, Leaf::text_or_texts) {
        None => {
            let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
            listeners.push(ListenAddress {
                address: BindAddress::Tcp(default),
                tls,
            });
        }
        Some(texts) if texts.is_empty() => {
            report.invalid(&listen.address, "must not be an empty list", EXAMPLE);
        }
        Some(texts) => add_all(&listen.address, &texts, tls, &mut listeners, access, report),
    }
    if let Some(leaf) = tls_address
        && let Some(address) = report.read(leaf, "\"127.0.0.1:8443\"", |leaf| {
            bind_address(leaf.text()?)
        })
    {
        let new = ListenAddress { address, tls: true };
        add(leaf, &mut listeners, new, access, report);
    }
    listeners
}

/// Adds the listeners of a key that lists addresses.
pub(super) fn add_all(
    leaf: &Leaf,
    texts: &[String],
    tls: bool,
    listeners: &mut Vec<ListenAddress>,
    access: AccessMode,
    report: &mut Report<'_>,
) {
    for text in texts {
        match bind_address(text) {
            Ok(address) => {
                let new = ListenAddress { address, tls };
                add(leaf, listeners, new, access, report);
            }
            Err(problem) => report.invalid(leaf, problem, EXAMPLE),
        }
    }
}

/// Adds a listener, and reports a duplicate or one that would expose the API client to other
/// machines.
fn add(
    leaf: &Leaf,
    listeners: &mut Vec<ListenAddress>,
    new: ListenAddress,
    access: AccessMode,
    report: &mut Report<'_>,
) {
    if let BindAddress::Tcp(address) = &new.address
        && access == (AccessMode::Anonymous { remote: false })
        && !address.ip().to_canonical().is_loopback()
    {
        let problem = format!(
            "{address} is not a loopback address, and without [[caller]] blocks every client that can connect acts \
             with the API client's permissions; add [[caller]] blocks (citrix-auth-proxy caller new NAME), listen on \
             loopback or a unix socket, or set allow_anonymous = true in [insecure]"
        );
        report.add(&leaf.path, problem);
    }
    if let Some(other) = conflicting(listeners, &new.address) {
        report.add(&leaf.path, conflict(&new.address, other));
    }
    listeners.push(new);
}

/// Returns the listener that prevents one on `address`: on the same address, or on the same port
/// and all addresses of the family.
pub(super) fn conflicting<'l>(
    listeners: &'l [ListenAddress],
    address: &BindAddress,
) -> Option<&'l BindAddress> {
    let conflicts = |other: &BindAddress| match (other, address) {
        (BindAddress::Tcp(one), BindAddress::Tcp(other)) => {
            let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port()
                && one.port() != 0
                && one.is_ipv4() == other.is_ipv4()
                && (is_any || one.ip() == other.ip())
        }
        _ => other == address,
    };
    listeners
        .iter()
        .map(|listener| &listener.address)
        .find(|other| conflicts(other))
}

fn conflict(address: &BindAddress, other: &BindAddress) -> String {
    if address == other {
        return format!("duplicate address {address}");
    }
    format!("{address} conflicts with {other}; one of them includes the other")
}

/// Parses `host:port` or `unix:/path`.
fn bind_address(text: &str) -> Checked<BindAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(BindAddress::Unix);
    }
    tcp_address(text).map(BindAddress::Tcp)
}

/// Parses `host:port`. The host is an IP address or `localhost`: what another name resolves to may
/// change, and with it the clients that can connect.
pub(super) fn tcp_address(text: &str) -> Checked<SocketAddr> {
    let literal = match text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text.to_owned(),
    };
    literal.parse().map_err(|_| {
        format!(
            "invalid address {}: not an IP address with a port",
            shown(text)
        )
    })
}

fn socket_path(path: &str) -> Checked<PathBuf> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(format!("invalid socket path {}: not absolute", shown(path)));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "invalid socket path {}: longer than {MAX_SOCKET_PATH} bytes",
            shown(path)
        ));
    }
    Ok(path.into())
}

fn check_certificate(tls: &RawTls, report: &mut Report<'_>) -> Option<CertificateFiles> {
    let clients = check_clients(tls, report);
    let parts = [
        (&tls.certificate, "\"/etc/citrix-auth-proxy/tls.crt\""),
        (&tls.key, "\"/etc/citrix-auth-proxy/tls.key\""),
    ];
    let [certificate, key] = parts.map(|(leaf, example)| {
        report.require(leaf, "TLS requires a certificate and its key", example);
        report.file(leaf, example)
    });
    if let Some(key) = &key {
        report.check_mode(&tls.key, key);
    }
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
        clients,
    })
}

fn check_clients(tls: &RawTls, report: &mut Report<'_>) -> Option<ClientCertificates> {
    const EXAMPLE: &str = "\"/etc/citrix-auth-proxy/client-ca.pem\"";
    let required = report.choice(&tls.client_auth, &[("optional", false), ("required", true)]);
    if required.is_some() {
        report.require(&tls.client_ca, "required by client_auth", EXAMPLE);
    }
    let ca_file = report.file(&tls.client_ca, EXAMPLE)?;
    Some(ClientCertificates {
        ca_file,
        required: required.unwrap_or(false),
    })
}

/// Parses up to four octal digits.
fn file_mode(leaf: &Leaf) -> Checked<u32> {
    const MAX_MODE: u32 = 0o777;
    let invalid = || format!("invalid file mode {}", leaf.shown());
    let text = leaf.text().map_err(|_| invalid())?;
    // `from_str_radix` would accept a sign.
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= MAX_MODE)
        .ok_or_else(invalid)
}

fn check_workers(leaf: &Leaf, report: &mut Report<'_>) -> NonZeroUsize {
    const MAX_WORKERS: usize = 1024;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(report.integer(leaf, 0, 0..=MAX_WORKERS)).unwrap_or_else(cores)
}

/// Returns `hosts` and the host of `public_url`. The default permits any name if all callers
/// authenticate: then a web page that reaches the gateway through DNS rebinding lacks credentials.
fn check_hosts(
    leaf: &Leaf,
    public_url: Option<&UpstreamUrl>,
    access: AccessMode,
    report: &mut Report<'_>,
) -> AllowedHosts {
    const EXAMPLE: &str = "[\"citrix-gw.example.net\"]";
    if leaf.value.is_none() {
        if access == AccessMode::Authenticated {
            return AllowedHosts::Any;
        }
        // The first such caller changes the default.
        if access == AccessMode::ByNetwork && public_url.is_none() {
            report.warn(format!(
                "{}: not set, and a [[caller]] has neither secret nor certificate, so requests for host names other \
                 than localhost and IP addresses are rejected (421); list the gateway's names here",
                leaf.path
            ));
        }
    }
    let names = report.read(leaf, EXAMPLE, Leaf::texts).unwrap_or_default();
    if names == ["*"] {
        if access != AccessMode::Authenticated {
            report.warn(format!(
                "{} = [\"*\"]: any Host is permitted although not all callers authenticate, so a web page can reach \
                 the gateway by a name of its own (DNS rebinding)",
                leaf.path
            ));
        }
        return AllowedHosts::Any;
    }
    for name in names.iter().filter(|name| !is_host_name(name)) {
        let problem = match name.as_str() {
            "*" => "\"*\" must be the only entry".to_owned(),
            _ => format!("invalid host name {}", shown(name)),
        };
        report.invalid(leaf, problem, EXAMPLE);
    }
    let public_name = public_url.map(|url| url.authority.host().to_owned());
    let names = names.into_iter().map(|name| name.to_ascii_lowercase());
    AllowedHosts::Only(names.chain(public_name).collect())
}

/// Returns `true` for a host name, with or without the dot of the root.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    strip_root(name).split('.').all(is_label)
}
