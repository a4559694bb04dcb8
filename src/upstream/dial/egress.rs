//! The dial configuration: TLS and the egress proxy.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use rustls::client::danger::ServerCertVerifier;
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use tokio::net::TcpStream;

use crate::config::{Egress, FixedAddresses, SecretSource, UpstreamSettings};
use crate::system::files::{FileKind, FileReader, Poller};
use crate::upstream::tls::ClientConfigs;

/// TLS and the egress proxy of new connections. Clones share the proxy, which may change, and the
/// choice of the ClientHello.
#[derive(Clone)]
pub struct DialConfig {
    tls: ClientConfigs,
    /// The network rejects a large ClientHello.
    small_hello: Arc<AtomicBool>,
    egress: Arc<ArcSwap<Egress>>,
    /// `upstream.resolve`.
    resolve: Arc<FixedAddresses>,
    /// The addresses for callers, to which no connection may lead.
    own: Arc<[SocketAddr]>,
}

impl DialConfig {
    /// Creates a configuration.
    pub fn new(tls: ClientConfigs, egress: Egress) -> Self {
        Self {
            tls,
            small_hello: Arc::default(),
            egress: Arc::new(ArcSwap::from_pointee(egress)),
            resolve: Arc::default(),
            own: Arc::default(),
        }
    }

    /// Returns it with the addresses at which the gateway itself listens for callers.
    #[must_use]
    pub fn with_own_addresses(mut self, own: impl Into<Arc<[SocketAddr]>>) -> Self {
        self.own = own.into();
        self
    }

    /// Returns `true` for a connection to a listener of the gateway itself: a request sent there
    /// would arrive again and again (RFC 9110 section 7.6).
    pub(super) fn is_own(&self, socket: &TcpStream) -> bool {
        let (Ok(peer), Ok(local)) = (socket.peer_addr(), socket.local_addr()) else {
            return false;
        };
        let is_here = peer.ip() == local.ip();
        self.own.iter().any(|own| {
            own.port() == peer.port()
                && (own.ip() == peer.ip() || own.ip().is_unspecified() && is_here)
        })
    }

    /// Returns `true` for clones of one configuration.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.egress, &other.egress)
    }

    /// Returns the configuration for the upstreams of these settings.
    pub fn of(tls: ClientConfigs, settings: &UpstreamSettings) -> Self {
        Self {
            resolve: Arc::new(settings.resolve.clone()),
            ..Self::new(tls, settings.egress.clone())
        }
    }

    /// Returns `true` if the present proxy, its file and the fixed addresses are those of `settings`.
    pub fn matches(&self, settings: &UpstreamSettings) -> bool {
        let (current, egress) = (self.egress(), &settings.egress);
        **current == *egress
            && current.file_source() == egress.file_source()
            && *self.resolve == settings.resolve
    }

    /// Returns the addresses of a host: the fixed ones, else those of the system's resolver.
    ///
    /// # Errors
    /// When there is no address.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.resolve.get(host) {
            Some(fixed) => Ok(fixed.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            None => super::resolve(host, port).await,
        }
    }

    /// Returns the TLS configurations.
    pub fn tls(&self) -> &ClientConfigs {
        &self.tls
    }

    /// Returns it with another verifier of certificates.
    #[must_use]
    pub fn with_verifier(mut self, verifier: &Arc<dyn ServerCertVerifier>) -> Self {
        self.tls = self.tls.with(|config| {
            let verifier = Arc::clone(verifier);
            config.dangerous().set_certificate_verifier(verifier);
        });
        self
    }

    /// Returns `true` if connections use the small ClientHello, because the network rejects the
    /// large one.
    pub fn uses_small_hello(&self) -> bool {
        self.small_hello.load(Ordering::Relaxed)
    }

    /// Lets later connections use the small ClientHello.
    pub(super) fn use_small_hello(&self, host: &str) {
        if !self.small_hello.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                host,
                "network rejects a TLS ClientHello above one packet; connections use no post-quantum key exchange"
            );
        }
    }

    /// Returns the present egress proxy.
    pub fn egress(&self) -> Guard<Arc<Egress>> {
        self.egress.load()
    }

    /// Returns a configuration for tests that do not connect.
    #[cfg(test)]
    pub(crate) fn unreachable() -> Self {
        Self::without_roots(Egress::direct())
    }

    #[cfg(test)]
    fn without_roots(egress: Egress) -> Self {
        let tls = ClientConfigs::new(rustls::RootCertStore::empty()).unwrap();
        Self::new(tls, egress)
    }

    /// Follows the proxy's URL if it is in a file. An invalid URL is logged once and not used.
    pub async fn follow(self, reader: FileReader) -> Infallible {
        let source = self.egress().file_source().cloned();
        let Some((source, path)) = source
            .as_ref()
            .and_then(|source| Some((source, source.path()?)))
        else {
            return pending().await;
        };
        let mut poller = Poller::unread(FileKind::EgressProxy, [path.to_owned()], &reader);
        loop {
            let contents = poller.next().await.snapshot.into_contents();
            // The poller logs a file that cannot be read.
            let Some(Ok(content)) = contents.into_iter().next() else {
                continue;
            };
            let current = self.egress.load_full();
            match with_url(&current, source, path, content) {
                Ok(egress) if egress == *current => {}
                Ok(egress) => {
                    tracing::info!(proxy = ?egress.proxy(), "egress proxy changed");
                    self.egress.store(Arc::new(egress));
                }
                Err(error) => tracing::warn!(
                    error,
                    "invalid upstream.proxy_url; previous egress proxy stays in use"
                ),
            }
        }
    }
}

fn with_url(
    current: &Egress,
    source: &SecretSource,
    path: &Path,
    content: Zeroizing<Vec<u8>>,
) -> Result<Egress, String> {
    let url = SecretSource::from_content(path, Ok(content));
    let url = url.map_err(|error| source.problem(&error))?;
    let egress = current.with_url(url.expose_secret());
    egress.map_err(|error| error.to_string())
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig")
            .field("egress", &*self.egress())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus::Registry;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;
    use crate::system::files::READ_INTERVAL;

    fn dial_config(url: &str, file: &Path) -> DialConfig {
        let source = SecretSource::File(file.to_owned());
        DialConfig::without_roots(Egress::through(url, Some(source), "a.example").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn url_in_a_file_is_followed_and_an_invalid_one_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "http://user:first@proxy:1\n").unwrap();
        let dial_config = dial_config("http://user:first@proxy:1", file.path());
        let mut tasks = JoinSet::new();
        let reader = FileReader::register(&Registry::new()).unwrap();
        tasks.spawn(dial_config.clone().follow(reader));
        let dialler = dial_config.clone();
        for (content, address, authorization) in [
            (
                "http://user:first@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpmaXJzdA==",
            ),
            (
                "http://user:second@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
            (
                "socks5://user:third@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
            ("", "proxy:1", "Basic dXNlcjpzZWNvbmQ="),
            (
                "http://user:second@other:2\n",
                "other:2",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
        ] {
            fs::write(file.path(), content).unwrap();
            // Time passes only while no file is read.
            sleep(READ_INTERVAL * 2).await;
            let egress = dialler.egress();
            let proxy = egress.proxy_for("api.cloud.com").unwrap();
            assert_eq!(
                (
                    proxy.to_string().as_str(),
                    proxy.authorization().unwrap().to_str().unwrap()
                ),
                (address, authorization)
            );
            assert_eq!(egress.proxy_for("a.example"), None);
        }
    }
}
