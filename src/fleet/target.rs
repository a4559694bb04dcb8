//! Parameters of connections to a store. Their files are read again for each connection, so that
//! replaced certificates and passwords take effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::task::spawn_blocking;

use super::error::{Step, StoreError};
use crate::config::{SecretSource, StoreTls};
use crate::system::files::{self, FileKind};
use crate::tls::{PemFile, TlsError, add_roots, provider};

/// Parameters of a connection.
#[derive(Clone, Debug)]
pub struct Target {
    /// `None` without TLS.
    pub tls: Option<TlsFiles>,
    /// The user; the default user without.
    pub user: Option<String>,
    pub password: Option<SecretSource>,
    /// The database; zero in sentinels.
    pub database: u16,
    /// Time for the stream, the handshake and each preparation.
    pub timeout: Duration,
}

/// The configuration of TLS to a store.
#[derive(Clone)]
pub struct TlsFiles {
    /// The roots of `[upstream]`.
    pub roots: Arc<RootCertStore>,
    pub files: StoreTls,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

/// The client certificate and the trusted roots of a connection.
pub struct Access {
    pub tls: Option<Arc<ClientConfig>>,
    pub password: Option<SecretString>,
}

impl Target {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub async fn access(&self) -> Result<Access, StoreError> {
        let (tls, password) = (self.tls.clone(), self.password.clone());
        let reading = spawn_blocking(move || {
            let config = tls.map(|tls| tls.client_config()).transpose()?;
            Ok(Access {
                tls: config.map(Arc::new),
                password: password.map(|source| source.read()).transpose()?,
            })
        });
        // Cancelled at the end of the program only.
        reading
            .await
            .unwrap_or(Err(StoreError::Timeout(Step::Read)))
    }
}

impl TlsFiles {
    /// Returns the trusted roots. Blocks.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn trusted(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::clone(&self.roots);
        if let Some(path) = &self.files.ca_file {
            let file = PemFile::new("fleet.tls.ca_file", path);
            add_roots(&mut roots, file, &read(file)?)?;
        }
        Ok(roots)
    }

    /// Creates the configuration of a connection. Blocks.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.trusted()?);
        let Some((certificate, key)) = &self.files.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let certificate = PemFile::new("fleet.tls.certificate", certificate);
        let key = PemFile::new("fleet.tls.key", key);
        let chain = certificate.certificates(&read(certificate)?)?;
        let private = key.private_key(&read(key)?)?;
        let with_identity = builder.with_client_auth_cert(chain, private);
        with_identity.map_err(|error| key.problem(error.to_string()))
    }
}

fn read(file: PemFile<'_>) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    files::read(file.path, FileKind::Certificate).map_err(|error| file.problem(error.to_string()))
}
