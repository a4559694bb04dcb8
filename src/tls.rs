//! TLS for both sides: rustls with aws-lc-rs, TLS 1.2 and 1.3.

pub mod authority;
pub(crate) mod fault;
pub mod leaf_cache;
pub(crate) mod pem;
pub(crate) mod validity;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::ConfigProblem;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;

pub(crate) use pem::PemFile;

/// The ALPN protocol id of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// The ALPN protocol id of HTTP/1.1.
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";
/// The ALPN protocol id of HTTP/1.0. Offered alone by `curl --http1.0`.
pub(crate) const ALPN_HTTP1_0: &[u8] = b"http/1.0";

/// An invalid TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be used.
    #[error("{key}: {path}: {problem}", path = path.display())]
    File {
        /// The configuration key that names the file.
        key: &'static str,
        path: PathBuf,
        /// The problem and, after a semicolon, the action to take.
        problem: String,
    },
    /// No root at all.
    #[error(
        "no root certificate found; install the system's (ca-certificates) or set upstream.ca_file"
    )]
    NoRoots,
    /// From rustls; not expected with its default settings.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    /// Returns the problem of the configuration.
    pub fn config_problem(&self) -> ConfigProblem {
        match self {
            Self::File { key, path, problem } => {
                ConfigProblem::new(*key, format!("{}: {problem}", path.display()))
            }
            Self::NoRoots => ConfigProblem::new("upstream.ca_file", self.to_string()),
            Self::Rustls(error) => ConfigProblem::new("tls", error.to_string()),
        }
    }

    /// Returns both values, or all problems.
    ///
    /// # Errors
    /// If one of them is an error.
    pub fn both<A, B>(
        one: Result<A, Self>,
        other: Result<B, Self>,
    ) -> Result<(A, B), Vec<ConfigProblem>> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (one, other) => {
                let errors = [one.err(), other.err()];
                Err(errors.iter().flatten().map(Self::config_problem).collect())
            }
        }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Adds the certificates in the content of `file`, and returns them.
pub(crate) fn add_roots(
    roots: &mut RootCertStore,
    file: PemFile<'_>,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = file.certificates(content)?;
    for (index, certificate) in certificates.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            let number = index + 1;
            file.problem(format!(
                "certificate {number} cannot be a root: {}; see: openssl x509 -in {} -noout -text",
                fault::describe(&error),
                file.path.display()
            ))
        })?;
    }
    Ok(certificates)
}
