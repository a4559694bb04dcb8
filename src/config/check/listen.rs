//! `[listen]`: where callers are served, and who may be.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::caller::Door;
use super::{Report, file, network, url};
use crate::config::value::{Checked, Leaf, shown};
use crate::config::{
    AllowedHosts, BindAddress, CertificateFiles, ClientCertificates, ListenAddress, Networks,
};

/// What a unix socket's path may be long, less the zero behind it.
const LONGEST_SOCKET_PATH: usize = 107;
const EXAMPLE: &str = "\"127.0.0.1:8080\"";
const DEFAULT_PORT: u16 = 8080;

/// What `[listen]` means.
pub(super) struct Listen {
    pub(super) listeners: Vec<ListenAddress>,
    pub(super) certificate: Option<CertificateFiles>,
    pub(super) unix_mode: u32,
    pub(super) workers: NonZeroUsize,
    pub(super) hosts: AllowedHosts,
    pub(super) proxy_protocol: Networks,
    pub(super) trusted_forwarders: Networks,
    pub(super) public_url: Option<String>,
}

pub(super) fn check(listen: &file::Listen, door: Door, report: &mut Report<'_>) -> Listen {
    let plain = listen
        .tls
        .as_ref()
        .is_none_or(|tls| tls.address.value.is_some());
    let mut listeners = check_addresses(&listen.address, !plain, door, report);
    let certificate = listen.tls.as_ref().and_then(|tls| {
        if let Some(address) = report.read(&tls.address, "\"127.0.0.1:8443\"", |leaf| {
            bind(leaf.text()?)
        }) {
            add(
                &tls.address,
                &mut listeners,
                ListenAddress { address, tls: true },
                door,
                report,
            );
        }
        check_certificate(tls, report)
    });
    let public_url = report.read(
        &listen.public_url,
        "\"https://citrix-gw.example.net\"",
        |leaf| url::public(leaf.text()?),
    );
    let mut hosts = check_hosts(&listen.hosts, door, report);
    match (&mut hosts, &public_url) {
        (AllowedHosts::Only(names), Some(url)) => names.push(url.authority.host().to_owned()),
        // Any name would do but for such a caller: a surprise to who adds the first.
        (AllowedHosts::Only(_), None) if listen.hosts.value.is_none() && door == Door::Known => report.warn(format!(
            "{}: not set, and a [[caller]] is known by where it comes from alone, so the gateway answers to its \
             addresses and to localhost only, and refuses any other name (421); list its names here",
            listen.hosts.path
        )),
        _ => {}
    }
    Listen {
        listeners,
        certificate,
        unix_mode: report
            .read(&listen.unix_mode, "\"0660\"", mode)
            .unwrap_or(0o660),
        workers: check_workers(&listen.workers, report),
        hosts,
        proxy_protocol: network::networks(&listen.proxy_protocol, report),
        trusted_forwarders: network::networks(&listen.trusted_forwarders, report),
        public_url: public_url.map(|url| url.to_string()),
    }
}

fn check_addresses(
    leaf: &Leaf,
    tls: bool,
    door: Door,
    report: &mut Report<'_>,
) -> Vec<ListenAddress> {
    let mut listeners = Vec::new();
    let Some(texts) = report.read(leaf, EXAMPLE, Leaf::text_or_texts) else {
        let address = BindAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)));
        return vec![ListenAddress { address, tls }];
    };
    if texts.is_empty() {
        report.wrong(leaf, "names no address, so nobody would be served", EXAMPLE);
    }
    for text in texts {
        match bind(&text) {
            Ok(address) => add(
                leaf,
                &mut listeners,
                ListenAddress { address, tls },
                door,
                report,
            ),
            Err(what) => report.wrong(leaf, what, EXAMPLE),
        }
    }
    listeners
}

/// Adds a listener, if nobody can come in there who should not, and it is not there yet.
fn add(
    leaf: &Leaf,
    listeners: &mut Vec<ListenAddress>,
    new: ListenAddress,
    door: Door,
    report: &mut Report<'_>,
) {
    if let BindAddress::Tcp(address) = &new.address
        && door == (Door::Open { anywhere: false })
        && !address.ip().to_canonical().is_loopback()
    {
        let what = format!(
            "{address} can be reached from other machines, and whoever reaches it acts with this API client's \
             rights; say who may by [[caller]] blocks (citrix-auth-proxy caller new NAME), listen on loopback or a \
             unix socket, or serve anyone by allow_anonymous = true in [insecure]"
        );
        report.wrong(leaf, what, EXAMPLE);
    }
    let ephemeral =
        |address: &BindAddress| matches!(address, BindAddress::Tcp(address) if address.port() == 0);
    if listeners
        .iter()
        .any(|listener| listener.address == new.address)
        && !ephemeral(&new.address)
    {
        report.wrong(
            leaf,
            format!("{} is listened on twice", new.address),
            EXAMPLE,
        );
    }
    listeners.push(new);
}

/// `host:port` or `unix:/path`.
fn bind(text: &str) -> Checked<BindAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(BindAddress::Unix);
    }
    tcp(text).map(BindAddress::Tcp)
}

/// `host:port`, where a host is an IP address or `localhost`: what other names resolve to may change, and with
/// it who can connect.
pub(super) fn tcp(text: &str) -> Checked<SocketAddr> {
    let literal = match text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text.to_owned(),
    };
    literal
        .parse()
        .map_err(|_| format!("{} is not an IP address with a port", shown(text)))
}

fn socket_path(path: &str) -> Checked<PathBuf> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(format!(
            "{} is not an absolute path of a socket",
            shown(path)
        ));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "{} is longer than the {LONGEST_SOCKET_PATH} bytes of a socket's path",
            shown(path)
        ));
    }
    Ok(path.into())
}

fn check_certificate(tls: &file::Tls, report: &mut Report<'_>) -> Option<CertificateFiles> {
    let clients = check_clients(tls, report);
    let parts = [
        (&tls.certificate, "\"/etc/citrix-auth-proxy/tls.crt\""),
        (&tls.key, "\"/etc/citrix-auth-proxy/tls.key\""),
    ];
    let [certificate, key] = parts.map(|(leaf, example)| {
        if leaf.value.is_none() {
            report.missing(
                leaf,
                "missing: TLS needs a certificate and its key",
                example,
            );
        }
        report.file(leaf, example)
    });
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
        clients,
    })
}

fn check_clients(tls: &file::Tls, report: &mut Report<'_>) -> Option<ClientCertificates> {
    const EXAMPLE: &str = "\"/etc/citrix-auth-proxy/client-ca.pem\"";
    let required = report.choice(&tls.client_auth, &[("optional", false), ("required", true)]);
    if tls.client_ca.value.is_none() && required.is_some() {
        report.missing(
            &tls.client_ca,
            "missing: a client certificate must be of somebody's",
            EXAMPLE,
        );
    }
    let ca_file = report.file(&tls.client_ca, EXAMPLE)?;
    Some(ClientCertificates {
        ca_file,
        required: required.unwrap_or(false),
    })
}

fn mode(leaf: &Leaf) -> Checked<u32> {
    const MOST: u32 = 0o777;
    let wrong = || {
        format!(
            "{} is not a file mode, which is up to four octal digits in quotes",
            leaf.shown()
        )
    };
    let text = leaf.text().map_err(|_| wrong())?;
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| octal && *mode <= MOST);
    mode.ok_or_else(wrong)
}

fn check_workers(leaf: &Leaf, report: &mut Report<'_>) -> NonZeroUsize {
    const MOST: usize = 1024;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(report.whole(leaf, 0, 0..=MOST)).unwrap_or_else(cores)
}

fn check_hosts(leaf: &Leaf, door: Door, report: &mut Report<'_>) -> AllowedHosts {
    const EXAMPLE: &str = "[\"citrix-gw.example.net\"]";
    if leaf.value.is_none() && door == Door::Shown {
        return AllowedHosts::Any;
    }
    let names = report.read(leaf, EXAMPLE, Leaf::texts).unwrap_or_default();
    if names == ["*"] {
        if door != Door::Shown {
            report.warn(format!(
                "{} = [\"*\"]: every Host is answered, so a web page can reach the gateway by a name of its own, \
                 while not everybody has to show who he is",
                leaf.path
            ));
        }
        return AllowedHosts::Any;
    }
    for name in names.iter().filter(|name| !is_host_name(name)) {
        let what = match name.as_str() {
            "*" => "\"*\" stands for every name, so it must stand alone".to_owned(),
            _ => format!("{} is not a host name without scheme and port", shown(name)),
        };
        report.wrong(leaf, what, EXAMPLE);
    }
    AllowedHosts::Only(
        names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
    )
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.split('.').all(label)
}
