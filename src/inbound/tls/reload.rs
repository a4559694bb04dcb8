//! TLS for callers, which follows its files: certificate, key and client authorities.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use prometheus::Gauge;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::{RootCertStore, ServerConfig};
use secrecy::zeroize::Zeroizing;
use tokio_rustls::TlsAcceptor;

use super::caller::not_after;
use crate::config::{CertificateFiles, ClientCertificates};
use crate::system::clock::Clock;
use crate::system::files::{
    FileContent, FileDigest, FileKind, FileSnapshot, Poller, ReadFailures, ReadTrigger,
};
use crate::tls::{ALPN_H2, ALPN_HTTP1, TlsError, add_roots, certificates, provider};

/// Sessions kept for resumption without tickets.
const MAX_SESSIONS: usize = 256;

/// The TLS configuration for callers. A handshake uses the one in force when it begins; open
/// connections keep theirs.
#[derive(Clone)]
pub struct InboundTls {
    current: Arc<ArcSwap<ServerConfig>>,
    trigger: ReadTrigger,
}

impl InboundTls {
    /// Returns the acceptor for the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Requests an immediate read of the files.
    pub fn request_read(&self) {
        self.trigger.request();
    }
}

/// Replaces the configuration of an [`InboundTls`] when its files change.
pub struct CertificateReloader {
    files: CertificateFiles,
    poller: Poller,
    tls: InboundTls,
    sessions: Sessions,
    client_ca: Option<FileDigest>,
    expiry: Gauge,
    clock: Clock,
}

impl CertificateReloader {
    /// Reads the files for the first time; `expiry` is set to the certificate's expiry.
    ///
    /// # Errors
    /// When a file cannot be read, or certificate and key do not match.
    pub fn new(
        files: CertificateFiles,
        expiry: Gauge,
        failures: &ReadFailures,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let snapshot = read(&files);
        let digests = snapshot.digests().to_vec();
        let poller = Poller::new(FileKind::Certificate, digests.clone()).counted_by(failures);
        let sessions = Sessions::new()?;
        let loaded = Loaded::new(&files, snapshot, &sessions)?;
        let tls = InboundTls {
            current: Arc::new(ArcSwap::from_pointee(loaded.config)),
            trigger: poller.trigger(),
        };
        let this = Self {
            files,
            poller,
            tls,
            sessions,
            client_ca: client_ca(&digests),
            expiry,
            clock,
        };
        this.report_expiry(loaded.not_after);
        Ok(this)
    }

    /// Returns the configuration that is kept up to date.
    pub fn tls(&self) -> InboundTls {
        self.tls.clone()
    }

    /// Polls the files.
    pub async fn run(mut self) -> Infallible {
        loop {
            let update = self.poller.next().await;
            // The poller has logged a file that could not be read.
            if !update.changed || !update.snapshot.is_complete() {
                continue;
            }
            let certificate = self.files.certificate.display().to_string();
            match self.load(update.snapshot) {
                Ok(expires) => {
                    tracing::info!(certificate, expires, "certificate reloaded");
                }
                Err(error) => tracing::error!(
                    %error,
                    "failed to load certificate; previous certificate stays in use"
                ),
            }
        }
    }

    /// Returns the expiry of the new certificate as RFC 3339.
    fn load(&mut self, snapshot: FileSnapshot) -> Result<Option<String>, TlsError> {
        let client_ca = client_ca(snapshot.digests());
        // A resumed session is not verified again, so sessions must not survive a change of the
        // authorities.
        let sessions = if client_ca == self.client_ca {
            self.sessions.clone()
        } else {
            Sessions::new()?
        };
        let loaded = Loaded::new(&self.files, snapshot, &sessions)?;
        self.tls.current.store(Arc::new(loaded.config));
        (self.sessions, self.client_ca) = (sessions, client_ca);
        self.report_expiry(loaded.not_after);
        Ok(loaded
            .not_after
            .map(|end| humantime::format_rfc3339_seconds(UNIX_EPOCH + end).to_string()))
    }

    fn report_expiry(&self, not_after: Option<Duration>) {
        self.expiry.set(not_after.unwrap_or_default().as_secs_f64());
        let certificate = self.files.certificate.display();
        match not_after {
            Some(end) if UNIX_EPOCH + end <= self.clock.now() => {
                tracing::warn!(%certificate, "certificate has expired; callers will reject it");
            }
            Some(_) => {}
            None => tracing::warn!(%certificate, "failed to read the certificate's expiry"),
        }
    }
}

/// Builds the TLS configuration of the listeners from its files. Blocks.
///
/// # Errors
/// When a file cannot be read, or certificate and key do not match.
pub fn server_config(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let loaded = Loaded::new(files, read(files), &Sessions::new()?)?;
    Ok(Arc::new(loaded.config))
}

/// Reads certificate, key and, if configured, client authorities. Blocks.
fn read(files: &CertificateFiles) -> FileSnapshot {
    let mut paths = vec![files.certificate.clone(), files.key.clone()];
    paths.extend(
        files
            .clients
            .as_ref()
            .map(|clients| clients.ca_file.clone()),
    );
    FileSnapshot::read(&paths, FileKind::Certificate)
}

fn client_ca(digests: &[FileDigest]) -> Option<FileDigest> {
    digests.get(2).cloned()
}

/// State for session resumption, so that a client that opens a connection per request avoids full
/// handshakes.
#[derive(Clone)]
struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    fn new() -> Result<Self, TlsError> {
        Ok(Self {
            ticketer: Ticketer::new()?,
            storage: ServerSessionMemoryCache::new(MAX_SESSIONS),
        })
    }
}

/// A configuration and its certificate's expiry.
struct Loaded {
    config: ServerConfig,
    /// Unix time; `None` if only rustls can parse the certificate.
    not_after: Option<Duration>,
}

impl Loaded {
    fn new(
        files: &CertificateFiles,
        snapshot: FileSnapshot,
        sessions: &Sessions,
    ) -> Result<Self, TlsError> {
        let mut contents = snapshot.into_contents().into_iter();
        let chain = certificates(
            &files.certificate,
            &content(&files.certificate, contents.next())?,
        )?;
        let key = private_key(&files.key, &content(&files.key, contents.next())?)?;
        let not_after = chain
            .first()
            .and_then(|leaf: &CertificateDer<'_>| not_after(leaf));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &files.clients {
            Some(clients) => {
                let pem = content(&clients.ca_file, contents.next())?;
                builder.with_client_cert_verifier(verifier(clients, &pem)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Pair {
                files: Box::new(files.clone()),
                source,
            })?;
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        config.ticketer = Arc::clone(&sessions.ticketer);
        config.session_storage = Arc::clone(&sessions.storage);
        Ok(Self { config, not_after })
    }
}

fn content(path: &Path, content: Option<FileContent>) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let content = content.unwrap_or_else(|| Ok(Zeroizing::default()));
    content.map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey(path.to_owned()),
        source => TlsError::Pem {
            path: path.to_owned(),
            source,
        },
    })
}

fn verifier(
    clients: &ClientCertificates,
    pem: &[u8],
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, &clients.ca_file, pem)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if clients.required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map_err(|source| TlsError::Verifier {
        path: clients.ca_file.clone(),
        source,
    })
}

#[cfg(test)]
mod tests;
