//! TLS on both sides: rustls with aws-lc-rs, TLS 1.2 and 1.3.

mod caller;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{CertificateFiles, Http2, Upstream};

pub use caller::CallerCertificate;

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
    /// Certificate and key do not go together, or rustls does not take them.
    #[error("{certificate} and {key}: {source}", certificate = files.certificate.display(), key = files.key.display())]
    Pair {
        /// The files.
        files: CertificateFiles,
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
    /// Nobody could be trusted.
    #[error("no root certificate found: install the system's (ca-certificates) or set upstream.ca_file")]
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
        tracing::debug!(unusable, "system root certificates that rustls does not take");
    }
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| TlsError::Root { path: path.to_owned(), source })?;
        }
    }
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// The configuration for connections to Citrix, data and tokens alike.
///
/// # Errors
/// When `ca_file` cannot be used, or when nobody is trusted.
pub fn upstream_config(upstream: &Upstream) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(upstream.ca_file.as_deref())?)
        .with_no_client_auth();
    config.alpn_protocols = match upstream.http2 {
        Http2::Auto => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
        Http2::Never => vec![ALPN_HTTP1.to_vec()],
    };
    Ok(Arc::new(config))
}

/// A listener's configuration: HTTP/2 or HTTP/1.1 by ALPN, the caller's choice first in our order.
///
/// # Errors
/// When the files cannot be read or do not go together.
pub fn server_config(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Pair { files: files.clone(), source })?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    // Callers that open a connection per request resume their session instead of shaking hands in full.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}
