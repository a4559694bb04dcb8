//! TLS towards callers, which follows its files: certificate, key and the authorities of client certificates.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
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
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::caller::end_of;
use crate::config::{CertificateFiles, ClientCertificates};
use crate::system::clock::Clock;
use crate::tls::{ALPN_H2, ALPN_HTTP1, TlsError, add_roots, certificates, provider};

/// How often the files are looked at. A change counts once two looks in a row found the same, so that a certificate
/// without its key, or half of a chain, is not taken; with that it counts well within 10 s (interface §3.2).
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// What a file may hold: every public authority of the world is a quarter of it.
const LONGEST_FILE: u64 = 1 << 20;
/// Sessions of callers that resume without tickets.
const SESSIONS: usize = 256;

/// TLS towards callers as the files say it is. A handshake takes what is in force when it begins; connections that
/// are open keep theirs.
#[derive(Clone)]
pub struct InboundTls {
    current: Arc<ArcSwap<ServerConfig>>,
    look: Arc<Notify>,
}

impl InboundTls {
    /// What shakes hands with the next caller.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Has the files looked at now, and a change taken at once.
    pub fn look_now(&self) {
        self.look.notify_one();
    }
}

/// Keeps an [`InboundTls`] to its files. Polling, since what is mounted into a container changes by a symlink to a
/// folder that is swapped, which no watch on a file sees.
pub struct Reloader {
    files: CertificateFiles,
    tls: InboundTls,
    sessions: Sessions,
    client_ca: Hash,
    /// What the files held when they were last taken, or refused.
    settled: Hash,
    /// What the last look found, if it was something else.
    pending: Option<Hash>,
    expiry: Gauge,
    clock: Clock,
}

impl Reloader {
    /// Reads the files for the first time; `expiry` is set to the end of the certificate.
    ///
    /// # Errors
    /// When the files cannot be read or do not go together.
    pub fn new(files: CertificateFiles, expiry: Gauge, clock: Clock) -> Result<Self, TlsError> {
        let reading = Reading::of(&files);
        let (settled, client_ca) = (reading.hash(), reading.hash_of_client_ca());
        let sessions = Sessions::new()?;
        let built = Built::new(&files, reading, &sessions)?;
        let tls = InboundTls {
            current: Arc::new(ArcSwap::from_pointee(built.config)),
            look: Arc::new(Notify::new()),
        };
        let this = Self {
            files,
            tls,
            sessions,
            client_ca,
            settled,
            pending: None,
            expiry,
            clock,
        };
        this.tell_end(built.end);
        Ok(this)
    }

    /// What it keeps.
    pub fn tls(&self) -> InboundTls {
        self.tls.clone()
    }

    /// Looks at the files again and again.
    pub async fn keep(mut self) -> Infallible {
        loop {
            let asked = tokio::time::timeout(LOOK_INTERVAL, self.tls.look.notified())
                .await
                .is_ok();
            let files = self.files.clone();
            // A disk that hangs holds up this task and nobody else.
            if let Ok(reading) = tokio::task::spawn_blocking(move || Reading::of(&files)).await {
                self.consider(reading, asked);
            }
        }
    }

    fn consider(&mut self, reading: Reading, at_once: bool) {
        let found = reading.hash();
        if found == self.settled {
            self.pending = None;
        } else if at_once || self.pending == Some(found) {
            self.pending = None;
            self.settled = found;
            let certificate = self.files.certificate.display().to_string();
            match self.take(reading) {
                Ok(expires) => tracing::info!(
                    certificate,
                    expires,
                    "the certificate files changed; new connections get what they hold now"
                ),
                Err(error) => tracing::error!(
                    %error,
                    "the certificate files changed, but cannot be used; what was read before stays in use"
                ),
            }
        } else {
            self.pending = Some(found);
        }
    }

    /// Puts what was read in force, if it can be; tells when the certificate ends.
    fn take(&mut self, reading: Reading) -> Result<Option<String>, TlsError> {
        let client_ca = reading.hash_of_client_ca();
        // Sessions go on, unless other authorities are trusted now: a resumed session brings the certificate it began
        // with, and nobody verifies it again.
        let sessions = if client_ca == self.client_ca {
            self.sessions.clone()
        } else {
            Sessions::new()?
        };
        let built = Built::new(&self.files, reading, &sessions)?;
        self.tls.current.store(Arc::new(built.config));
        (self.sessions, self.client_ca) = (sessions, client_ca);
        self.tell_end(built.end);
        Ok(built
            .end
            .map(|end| humantime::format_rfc3339_seconds(UNIX_EPOCH + end).to_string()))
    }

    fn tell_end(&self, end: Option<Duration>) {
        self.expiry.set(end.unwrap_or_default().as_secs_f64());
        let certificate = self.files.certificate.display();
        match end {
            Some(end) if UNIX_EPOCH + end <= self.clock.now() => {
                tracing::warn!(%certificate, "the certificate has expired; callers will refuse it");
            }
            Some(_) => {}
            None => tracing::warn!(%certificate, "the certificate's end cannot be read"),
        }
    }
}

/// A listener's configuration from its files: HTTP/2 or HTTP/1.1 by ALPN, the caller's choice first in our order.
///
/// # Errors
/// When the files cannot be read or do not go together.
pub fn server_config(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(Arc::new(
        Built::new(files, Reading::of(files), &Sessions::new()?)?.config,
    ))
}

/// What resumes sessions: callers that open a connection per request do not shake hands in full each time.
#[derive(Clone)]
struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    fn new() -> Result<Self, TlsError> {
        Ok(Self {
            ticketer: Ticketer::new()?,
            storage: ServerSessionMemoryCache::new(SESSIONS),
        })
    }
}

/// SHA-256.
type Hash = [u8; 32];

/// A file's bytes, wiped when dropped: they may be a key.
type Bytes = Result<Zeroizing<Vec<u8>>, TlsError>;

/// What the files hold at one moment.
struct Reading {
    certificate: Bytes,
    key: Bytes,
    client_ca: Option<Bytes>,
}

impl Reading {
    fn of(files: &CertificateFiles) -> Self {
        Self {
            certificate: read(&files.certificate),
            key: read(&files.key),
            client_ca: files.clients.as_ref().map(|clients| read(&clients.ca_file)),
        }
    }

    /// The same as long as nothing changes; so is the lack of a file.
    fn hash(&self) -> Hash {
        hash(
            [
                Some(&self.certificate),
                Some(&self.key),
                self.client_ca.as_ref(),
            ]
            .into_iter()
            .flatten(),
        )
    }

    fn hash_of_client_ca(&self) -> Hash {
        hash(self.client_ca.as_ref())
    }
}

fn hash<'b>(files: impl IntoIterator<Item = &'b Bytes>) -> Hash {
    let mut context = Context::new(&SHA256);
    for file in files {
        let error = file.as_ref().err().map(ToString::to_string);
        let bytes = match (file, &error) {
            (Ok(bytes), _) => bytes.as_slice(),
            (Err(_), error) => error.as_deref().unwrap_or_default().as_bytes(),
        };
        context.update(&[u8::from(error.is_some())]);
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn read(path: &Path) -> Bytes {
    let failed = |error| TlsError::Pem {
        path: path.to_owned(),
        source: PemError::Io(error),
    };
    let file = File::open(path).map_err(failed)?;
    let length = file
        .metadata()
        .map_or(0, |about| about.len())
        .min(LONGEST_FILE);
    // Allocated whole, so that growing leaves no copies of a key.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(length).unwrap_or_default() + 1,
    ));
    file.take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
            longest: LONGEST_FILE,
        });
    }
    Ok(bytes)
}

/// What became of the files.
struct Built {
    config: ServerConfig,
    /// When the certificate ends, in Unix time, if that can be read.
    end: Option<Duration>,
}

impl Built {
    fn new(
        files: &CertificateFiles,
        reading: Reading,
        sessions: &Sessions,
    ) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate, &reading.certificate?)?;
        let key = PrivateKeyDer::from_pem_slice(&reading.key?).map_err(|error| match error {
            PemError::NoItemsFound => TlsError::NoKey(files.key.clone()),
            source => TlsError::Pem {
                path: files.key.clone(),
                source,
            },
        })?;
        let end = chain
            .first()
            .and_then(|leaf: &CertificateDer<'_>| end_of(leaf));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match (&files.clients, reading.client_ca) {
            (Some(clients), Some(pem)) => {
                builder.with_client_cert_verifier(verifier(clients, &pem?)?)
            }
            _ => builder.with_no_client_auth(),
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
        Ok(Self { config, end })
    }
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
