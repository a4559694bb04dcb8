//! TLS on both sides: rustls with aws-lc-rs, TLS 1.2 and 1.3.

mod caller;
mod inbound;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::server::VerifierBuilderError;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{CertificateFiles, Http2, Upstream};

pub use caller::{CallerCertificate, CertificateError};
pub use inbound::{InboundTls, Reloader, server_config};

/// ALPN's name of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN's name of HTTP/1.1.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is no PEM.
    #[error("{path}: {source}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A file without a certificate in it.
    #[error("{path} holds no certificate; expected PEM blocks that begin with BEGIN CERTIFICATE", path = .0.display())]
    NoCertificate(PathBuf),
    /// A file without a private key in it.
    #[error("{path} holds no private key; expected a PEM block that begins with BEGIN PRIVATE KEY", path = .0.display())]
    NoKey(PathBuf),
    /// A file larger than any certificate.
    #[error("{path} is larger than {longest} bytes, which no certificate is", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may be.
        longest: u64,
    },
    /// Certificate and key do not go together, or rustls does not take them.
    #[error("{certificate} and {key}: {source}", certificate = files.certificate.display(), key = files.key.display())]
    Pair {
        /// The files; boxed, as they are long.
        files: Box<CertificateFiles>,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A root certificate that cannot be used.
    #[error("{path}: a certificate in it cannot be a root: {source}", path = path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The authorities of client certificates.
    #[error("{path}: {source}", path = path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: VerifierBuilderError,
    },
    /// Nobody could be trusted.
    #[error(
        "no root certificate found: install the system's (ca-certificates) or set upstream.ca_file"
    )]
    NoRoots,
    /// rustls refuses its own defaults; it never does.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What is trusted upstream: the system's roots and those of `ca_file`.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a system root certificate cannot be read");
    }
    let (_, unusable) = roots.add_parsable_certificates(system.certs);
    if unusable > 0 {
        tracing::debug!(
            unusable,
            "system root certificates that rustls does not take"
        );
    }
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|error| TlsError::Pem {
            path: path.to_owned(),
            source: PemError::Io(error),
        })?;
        add_roots(&mut roots, path, &pem)?;
    }
    if roots.is_empty() {
        Err(TlsError::NoRoots)
    } else {
        Ok(roots)
    }
}

/// Who decides whether an upstream's certificate is to be trusted.
#[derive(Clone, Debug)]
pub struct Verifiers {
    /// As connections to Citrix do: by the system's roots and those of `upstream.ca_file`.
    pub all: Arc<WebPkiServerVerifier>,
    /// By the system's roots alone, if it has any.
    pub system: Option<Arc<WebPkiServerVerifier>>,
}

/// The verifiers of connections to Citrix, for whoever wants to look on.
///
/// # Errors
/// As [`upstream_config`].
pub fn verifiers(upstream: &Upstream) -> Result<Verifiers, TlsError> {
    let verifier = |roots| {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        // The only thing it refuses is an empty set of roots.
        builder.build().map_err(|_| TlsError::NoRoots)
    };
    let system = roots(None).ok().map(verifier).transpose()?;
    Ok(Verifiers {
        all: verifier(roots(upstream.ca_file.as_deref())?)?,
        system,
    })
}

/// TLS towards Citrix, for data and tokens alike.
#[derive(Clone)]
pub struct UpstreamTls {
    /// What shakes hands.
    pub config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl UpstreamTls {
    /// Reads the roots. Blocks for as long as their files do.
    ///
    /// # Errors
    /// When `ca_file` cannot be used, or when nobody is trusted.
    pub fn new(upstream: &Upstream) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(upstream.ca_file.as_deref())?);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        config.alpn_protocols = match upstream.http2 {
            Http2::Auto => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
            Http2::Never => vec![ALPN_HTTP1.to_vec()],
        };
        Ok(Self {
            config: Arc::new(config),
            roots,
        })
    }

    /// Whether both trust the same and offer the same, so that connections made with one are as good as those made
    /// with the other.
    pub fn is_like(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
            && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

/// The configuration for connections to Citrix, data and tokens alike.
///
/// # Errors
/// When `ca_file` cannot be used, or when nobody is trusted.
pub fn upstream_config(upstream: &Upstream) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(UpstreamTls::new(upstream)?.config)
}

fn add_roots(roots: &mut RootCertStore, path: &Path, pem: &[u8]) -> Result<(), TlsError> {
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|source| TlsError::Root {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// The certificates in the text of the file at `path`.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if found.is_empty() {
        Err(TlsError::NoCertificate(path.to_owned()))
    } else {
        Ok(found)
    }
}
