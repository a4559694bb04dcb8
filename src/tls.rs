//! TLS for both sides: rustls with aws-lc-rs, TLS 1.2 and 1.3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::CertificateFiles;
use crate::system::files::ReadError;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::server::VerifierBuilderError;

/// The ALPN protocol id of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// The ALPN protocol id of HTTP/1.1.
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// An invalid TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file was not read.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: ReadError },
    /// The file is not PEM.
    #[error("{path}: {source}", path = path.display())]
    Pem {
        path: PathBuf,
        /// From the PEM parser.
        source: PemError,
    },
    /// A file without a certificate.
    #[error("{path} contains no certificate; expected PEM blocks that begin with BEGIN CERTIFICATE", path = .0.display())]
    NoCertificate(PathBuf),
    /// A file without a private key.
    #[error("{path} contains no private key; expected a PEM block that begins with BEGIN PRIVATE KEY", path = .0.display())]
    NoKey(PathBuf),
    /// A certificate and key that do not match or that rustls does not support.
    #[error("{certificate} and {key}: {source}", certificate = files.certificate.display(), key = files.key.display())]
    Pair {
        /// Boxed, because the paths are large.
        files: Box<CertificateFiles>,
        source: rustls::Error,
    },
    /// A certificate that cannot be a root.
    #[error("{path}: invalid root certificate: {source}", path = path.display())]
    Root {
        path: PathBuf,
        source: rustls::Error,
    },
    /// Unusable authorities of client certificates.
    #[error("{path}: {source}", path = path.display())]
    Verifier {
        path: PathBuf,
        source: VerifierBuilderError,
    },
    /// No root at all.
    #[error(
        "no root certificate found: install the system's (ca-certificates) or set upstream.ca_file"
    )]
    NoRoots,
    /// From rustls; not expected with its default settings.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn add_roots(
    roots: &mut RootCertStore,
    path: &Path,
    pem: &[u8],
) -> Result<(), TlsError> {
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|source| TlsError::Root {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Parses the certificates in the content of the file at `path`.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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
