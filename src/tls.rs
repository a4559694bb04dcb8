//! TLS on both sides: rustls with aws-lc-rs, TLS 1.2 and 1.3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::CertificateFiles;
use crate::system::files::ReadError;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::server::VerifierBuilderError;

/// ALPN's name of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN's name of HTTP/1.1.
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file was not read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ReadError,
    },
    /// The file is not PEM.
    #[error("{path}: {source}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A file without a certificate in it.
    #[error("{path} contains no certificate; expected PEM blocks that begin with BEGIN CERTIFICATE", path = .0.display())]
    NoCertificate(PathBuf),
    /// A file without a private key in it.
    #[error("{path} contains no private key; expected a PEM block that begins with BEGIN PRIVATE KEY", path = .0.display())]
    NoKey(PathBuf),
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

/// The certificates in the text of the file at `path`.
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
