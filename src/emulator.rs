//! A small Citrix Cloud: two token endpoints, a handful of services and their quirks (contract 8).
//!
//! For `demo`, for users' own CI and for our tests. It is a test double: whoever reaches its address may read
//! its counters and revoke its tokens.
//!
//! A request's way: `routes` finds the service in a table, `access` judges token and customer, the service
//! answers, and `routes` stamps the transaction id under the name which that service uses.

mod access;
mod answers;
mod args;
mod control;
mod cvad;
mod faults;
mod helpers;
mod jobs;
mod monitor;
mod platform;
mod query;
mod routes;
mod state;
mod stats;
mod tls;
mod tokens;
mod trust;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

pub use args::{EmulatorArgs, run};
pub use faults::{Faults, TokenFault};
pub use stats::Stats;

use state::State;

/// How long to leave the listener alone when accepting failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What to emulate. Not `Debug`: it holds the client secret.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether to speak TLS, and with which certificate.
    pub tls: Tls,
    /// The one customer there is.
    pub customer_id: String,
    /// Its API client's id.
    pub client_id: String,
    /// Its API client's secret.
    pub client_secret: String,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// The customer's one CVAD site.
    pub site_id: String,
    /// What goes wrong on purpose.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: Tls::Off,
            customer_id: "acme".to_owned(),
            client_id: "emulator-client".to_owned(),
            client_secret: random_secret(),
            token_lifetime: Duration::from_secs(3600),
            site_id: Uuid::new_v4().to_string(),
            faults: Faults::default(),
        }
    }
}

/// Real secrets end in `==`, which trips callers that forget to url-encode the form (contract 1.1); sixteen
/// bytes of base64 do too.
fn random_secret() -> String {
    STANDARD.encode(Uuid::new_v4().as_bytes())
}

/// Whether and how the emulator speaks TLS.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// Plain HTTP, with HTTP/2 by prior knowledge.
    #[default]
    Off,
    /// A fresh CA and a leaf of it for `localhost`, `127.0.0.1` and `::1`.
    SelfSigned,
    /// The user's own certificate.
    Files {
        /// The chain, leaf first, as PEM.
        certificate: PathBuf,
        /// Its key, as PEM.
        key: PathBuf,
    },
}

/// Why the emulator could not start or tell about itself.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key file cannot be read or parsed.
    #[error("cannot read {path}")]
    ReadPem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// The fresh certificates could not be made.
    #[error("cannot make a certificate")]
    MakeCertificate(#[from] rcgen::Error),
    /// Certificate and key do not make a TLS server.
    #[error("cannot set up TLS")]
    SetUpTls(#[from] rustls::Error),
    /// The CA certificate could not be written.
    #[error("cannot write {path}")]
    WriteCa {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output or the signal handlers failed.
    #[error("cannot report or wait for a signal")]
    Io(#[from] io::Error),
}

/// A running emulator. Dropping it stops it too, only without waiting for it.
pub struct Emulator {
    address: SocketAddr,
    ca_pem: Option<String>,
    state: Arc<State>,
    /// Never sent on: the accept loop ends when this is dropped.
    stop: oneshot::Sender<Infallible>,
    accepting: JoinHandle<()>,
}

/// Binds, starts serving on the current tokio runtime and returns at once.
///
/// # Errors
/// When the address is taken, or a certificate cannot be read or made.
pub async fn start(options: Options) -> Result<Emulator, EmulatorError> {
    let tls = tls::server(&options.tls)?;
    let cannot_listen = |source| EmulatorError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let (acceptor, ca_pem) = match tls {
        Some(tls::Server { acceptor, ca_pem }) => (Some(acceptor), ca_pem),
        None => (None, None),
    };
    let state = Arc::new(State::new(options, base_url(address, acceptor.is_some())));
    let (stop, stopped) = oneshot::channel();
    let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&state), stopped));
    Ok(Emulator { address, ca_pem, state, stop, accepting })
}

/// The origin as callers reach it: over TLS by name, as certificates for addresses are rare.
fn base_url(address: SocketAddr, tls: bool) -> String {
    let port = address.port();
    if tls {
        return format!("https://localhost:{port}");
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, port))
}

impl Emulator {
    /// The address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://localhost:PORT`, or `http://ADDRESS:PORT` without TLS; no slash at the end.
    pub fn base_url(&self) -> String {
        self.state.base_url.clone()
    }

    /// The form endpoint for a customer id or `root`.
    pub fn token_url(&self, customer: &str) -> String {
        format!("{}/cctrustoauth2/{customer}/tokens/clients", self.state.base_url)
    }

    /// The legacy JSON endpoint.
    pub fn trust_url(&self) -> String {
        format!("{}/root/tokens/clients", self.state.base_url)
    }

    /// The CA that [`Tls::SelfSigned`] made.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The customer.
    pub fn customer_id(&self) -> &str {
        &self.state.customer_id
    }

    /// The customer's site.
    pub fn site_id(&self) -> &str {
        &self.state.site_id
    }

    /// The API client's id.
    pub fn client_id(&self) -> &str {
        &self.state.client_id
    }

    /// The API client's secret.
    pub fn client_secret(&self) -> &str {
        &self.state.client_secret
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.state.counters.snapshot()
    }

    /// Revokes every token issued so far; later ones are good.
    pub fn revoke_all(&self) {
        self.state.tokens.revoke_all();
    }

    /// Lets every token issued so far expire now.
    pub fn expire_all(&self) {
        self.state.tokens.expire_all();
    }

    /// Replaces what goes wrong on purpose, from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// Closes the listener and every connection, and returns when that is done.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic in there was reported where it happened.
        self.accepting.await.ok();
    }
}

/// Serves until the sender of `stopped` is dropped.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    mut stopped: oneshot::Receiver<Infallible>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    state.counters.connection();
                    connections.spawn(connection(stream, tls.clone(), Arc::clone(&state)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // Without it, the small last piece of an answer would wait for an acknowledgement.
    stream.set_nodelay(true).ok();
    match tls {
        None => serve(stream, state).await,
        Some(acceptor) => {
            // A failed handshake is the caller's affair.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, state).await;
            }
        }
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(routes::serve(&state, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // A connection that breaks is the caller's affair too.
    builder.serve_connection(TokioIo::new(io), service).await.ok();
}
