//! TLS for callers, which follows its files: certificate, key and client authorities.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use prometheus::Gauge;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use secrecy::zeroize::Zeroizing;

use super::pair::{self, certified_key};
use crate::config::{CertificateFiles, ClientCertificates};
use crate::system::clock::Clock;
use crate::system::files::{
    FileContent, FileDigest, FileKind, FileReader, FileSnapshot, Poller, ReadTrigger,
};
use crate::tls::{
    ALPN_H2, ALPN_HTTP1, ALPN_HTTP1_0, PemFile, TlsError, add_roots, provider, validity,
};

const CERTIFICATE: &str = "listen.tls.certificate";
const KEY: &str = "listen.tls.key";
const CLIENT_CA: &str = "listen.tls.client_ca";

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
    /// Returns the configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
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
        reader: &FileReader,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let snapshot = read(&files);
        let digests = snapshot.digests().to_vec();
        let poller = Poller::new(FileKind::Certificate, digests.clone(), reader);
        let sessions = Sessions::new()?;
        let loaded = Loaded::new(&files, snapshot, &sessions, clock)?;
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
        this.report_expiry(loaded.not_after, &loaded.warnings);
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
        let loaded = Loaded::new(&self.files, snapshot, &sessions, self.clock)?;
        self.tls.current.store(Arc::new(loaded.config));
        (self.sessions, self.client_ca) = (sessions, client_ca);
        self.report_expiry(loaded.not_after, &loaded.warnings);
        Ok(loaded
            .not_after
            .map(|end| humantime::format_rfc3339_seconds(UNIX_EPOCH + end).to_string()))
    }

    fn report_expiry(&self, not_after: Option<Duration>, warnings: &[String]) {
        self.expiry.set(not_after.unwrap_or_default().as_secs_f64());
        if not_after.is_none() {
            let certificate = self.files.certificate.display();
            tracing::warn!(%certificate, "failed to read the certificate's expiry");
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Checks the files of the listeners and returns warnings about them. Blocks.
///
/// # Errors
/// When a file cannot be read or used, or certificate and key do not match.
pub fn check(files: &CertificateFiles) -> Result<Vec<String>, TlsError> {
    let loaded = Loaded::new(files, read(files), &Sessions::new()?, Clock::SYSTEM)?;
    Ok(loaded.warnings)
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
    /// About certificates that have expired or soon will, and their order.
    warnings: Vec<String>,
}

impl Loaded {
    fn new(
        files: &CertificateFiles,
        snapshot: FileSnapshot,
        sessions: &Sessions,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let mut contents = snapshot.into_contents().into_iter();
        let (certificate, key) = (
            PemFile::new(CERTIFICATE, &files.certificate),
            PemFile::new(KEY, &files.key),
        );
        let chain = certificate.certificates(&content(certificate, contents.next())?)?;
        let private_key = key.private_key(&content(key, contents.next())?)?;
        let not_after = chain.first().and_then(validity::not_after);
        let mut warnings: Vec<String> = validity::warning(certificate, &chain, clock.now())
            .into_iter()
            .chain(pair::order_warning(certificate, &chain))
            .collect();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &files.clients {
            Some(clients) => {
                let file = PemFile::new(CLIENT_CA, &clients.ca_file);
                let pem = content(file, contents.next())?;
                let mut roots = RootCertStore::empty();
                let added = add_roots(&mut roots, file, &pem)?;
                warnings.extend(validity::warning(file, &added, clock.now()));
                builder.with_client_cert_verifier(verifier(clients, file, roots)?)
            }
            None => builder.with_no_client_auth(),
        };
        let pair = certified_key(certificate, chain, key, private_key)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = [ALPN_H2, ALPN_HTTP1, ALPN_HTTP1_0]
            .map(<[u8]>::to_vec)
            .into();
        config.ticketer = Arc::clone(&sessions.ticketer);
        config.session_storage = Arc::clone(&sessions.storage);
        Ok(Self {
            config,
            not_after,
            warnings,
        })
    }
}

fn content(
    file: PemFile<'_>,
    content: Option<FileContent>,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let content = content.unwrap_or_else(|| Ok(Zeroizing::default()));
    content.map_err(|error| file.problem(error.to_string()))
}

fn verifier(
    clients: &ClientCertificates,
    file: PemFile<'_>,
    roots: RootCertStore,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if clients.required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder
        .build()
        .map_err(|error| file.problem(error.to_string()))
}

#[cfg(test)]
mod tests;
