//! The connection: name, TCP, TLS, login.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::super::certificate::{Observer, version};
use super::super::check::{Check, CheckKind};
use super::failure;
use crate::config::HostPort;
use crate::fleet::probe::{self, Peer, Probe};
use crate::fleet::{Access, Address, StoreError, Stream, Target};
use crate::tls::provider;
use crate::upstream::tls::Verifiers;

/// A connection to a store or sentinel that is being opened.
struct Opening<'a> {
    address: &'a Address,
    target: &'a Target,
    is_store: bool,
    /// The address that accepted a TCP connection.
    peer: Option<SocketAddr>,
    report: &'a mut dyn FnMut(Check),
}

/// Opens a connection to a store or sentinel, step by step.
///
/// # Errors
/// The step that failed.
pub(super) async fn open(
    address: &Address,
    target: &Target,
    is_store: bool,
    report: &mut dyn FnMut(Check),
) -> Result<Probe, CheckKind> {
    let mut opening = Opening {
        address,
        target,
        is_store,
        peer: None,
        report,
    };
    opening.open().await
}

impl Opening<'_> {
    fn failed<T>(&mut self, kind: CheckKind, error: &StoreError) -> Result<T, CheckKind> {
        (self.report)(failure(kind, self.address, error));
        Err(kind)
    }

    async fn open(&mut self) -> Result<Probe, CheckKind> {
        let stream: Box<dyn Stream> = match self.address {
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => {
                    let check = Check::ok(CheckKind::Tcp, self.address, "connected to the socket");
                    (self.report)(check);
                    Box::new(stream)
                }
                Err(error) => {
                    return self.failed(CheckKind::Tcp, &StoreError::Connect(error));
                }
            },
            Address::Tcp(host) => {
                let socket = self.connect(host).await?;
                let access = self.access().await?;
                return self.open_over(socket, host, &access).await;
            }
        };
        let access = self.access().await?;
        self.log_in(stream, &access).await
    }

    async fn open_over(
        &mut self,
        socket: TcpStream,
        host: &HostPort,
        access: &Access,
    ) -> Result<Probe, CheckKind> {
        let Some(tls) = &access.tls else {
            let why = "not configured (fleet.url has the scheme redis)";
            (self.report)(Check::skipped(CheckKind::Tls, self.address, why));
            return self.log_in(Box::new(socket), access).await;
        };
        let stream = self.secure(socket, host, tls).await?;
        self.log_in(stream, access).await
    }

    /// Reads passwords and certificates.
    async fn access(&mut self) -> Result<Access, CheckKind> {
        match self.target.access().await {
            Ok(access) => Ok(access),
            Err(error @ StoreError::Tls(_)) => self.failed(CheckKind::Tls, &error),
            Err(error) => self.failed(CheckKind::Auth, &error),
        }
    }

    async fn connect(&mut self, host: &HostPort) -> Result<TcpStream, CheckKind> {
        let (address, limit, began) = (self.address, self.target.timeout, Instant::now());
        let addresses = match probe::resolve(host, limit).await {
            Ok(addresses) => addresses,
            Err(error) => return self.failed(CheckKind::Dns, &error),
        };
        let listed: Vec<String> = addresses.iter().map(|one| one.ip().to_string()).collect();
        let check = Check::ok(CheckKind::Dns, address, listed.join(", "));
        (self.report)(check.took(began.elapsed()).fact("addresses", listed));
        let began = Instant::now();
        let connected = probe::connect(&addresses, limit).await;
        let connected = connected.and_then(|socket| {
            let peer = socket.peer_addr().map_err(StoreError::Connect)?;
            Ok((socket, peer))
        });
        let (socket, peer) = match connected {
            Ok(connected) => connected,
            Err(error) => return self.failed(CheckKind::Tcp, &error),
        };
        self.peer = Some(peer);
        let check = Check::ok(CheckKind::Tcp, address, format!("connected to {peer}"));
        let check = check.took(began.elapsed());
        (self.report)(check.fact("address", peer.to_string()));
        Ok(socket)
    }

    async fn secure(
        &mut self,
        socket: TcpStream,
        host: &HostPort,
        tls: &ClientConfig,
    ) -> Result<Box<dyn Stream>, CheckKind> {
        let observer = observer(self.target).await;
        let mut config = tls.clone();
        if let Some(observer) = &observer {
            let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(observer) as _;
            config.dangerous().set_certificate_verifier(verifier);
        }
        let began = Instant::now();
        let shaken = probe::secure(socket, host, &Arc::new(config), self.target.timeout).await;
        let signer = observer.and_then(|observer| observer.signer());
        match shaken {
            Ok(stream) => {
                let version = version(stream.get_ref().1.protocol_version());
                let signer = signer.unwrap_or_default();
                let detail = format!("{version}, signed by {signer}");
                let check = Check::ok(CheckKind::Tls, self.address, detail).took(began.elapsed());
                (self.report)(check.fact("version", version).fact("signer", signer));
                Ok(Box::new(stream))
            }
            Err(error) => {
                let check = failure(CheckKind::Tls, self.address, &error).took(began.elapsed());
                let check = match signer {
                    Some(signer) => Check {
                        detail: format!("{}; it is signed by {signer}", check.detail),
                        ..check.fact("signer", signer)
                    },
                    None => self.name_peer(check).await,
                };
                (self.report)(check);
                Err(CheckKind::Tls)
            }
        }
    }

    async fn log_in(
        &mut self,
        stream: Box<dyn Stream>,
        access: &Access,
    ) -> Result<Probe, CheckKind> {
        let (target, began) = (self.target, Instant::now());
        let login = Probe::log_in(stream, target, access.password.as_ref(), self.is_store).await;
        let user = target.user.as_deref().unwrap_or("default");
        let password = match access.password {
            Some(_) => "with a password",
            None => "without a password",
        };
        let (check, result) = match login {
            Ok(probe) => {
                let detail = format!("user {user}, {password}");
                (Check::ok(CheckKind::Auth, self.address, detail), Ok(probe))
            }
            Err(error) => {
                let mut check = failure(CheckKind::Auth, self.address, &error);
                if access.tls.is_none() {
                    check = self.name_peer(check).await;
                }
                (check, Err(CheckKind::Auth))
            }
        };
        (self.report)(check.took(began.elapsed()).fact("user", user));
        result
    }

    /// Names what responds at the port, if that explains the failure.
    async fn name_peer(&self, check: Check) -> Check {
        let Some(peer) = self.peer else { return check };
        let over_tls = self.target.tls.is_some();
        let (detail, advice) = match probe::identify(peer, self.target.timeout).await {
            Peer::Http => (
                "a web server responds at this port, not a store",
                "check host and port of fleet.url",
            ),
            Peer::Redis if over_tls => (
                "the store does not use TLS at this port",
                "use its port for TLS (tls-port); without TLS, redis:// is for loopback only",
            ),
            Peer::Tls if !over_tls => (
                "the server requires TLS at this port",
                "use the scheme rediss in fleet.url",
            ),
            Peer::Silent => (
                "the server at this port does not respond to Redis commands",
                "check the port of fleet.url; if it requires TLS, use rediss",
            ),
            _ => return check,
        };
        Check {
            detail: detail.to_owned(),
            advice: Some(advice.to_owned()),
            ..check
        }
    }
}

/// Returns a verifier that records the certificate; `None` if there are no roots.
async fn observer(target: &Target) -> Option<Arc<Observer>> {
    let files = target.tls.clone()?;
    let roots = spawn_blocking(move || files.trusted()).await.ok()?.ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    Some(Arc::new(Observer::new(Verifiers {
        all: verifier.build().ok()?,
        system: None,
    })))
}
