//! TLS to upstreams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, NamedGroup, RootCertStore};

use crate::config::{Http2Mode, UpstreamSettings};
use crate::system::clock::Clock;
use crate::system::files::{self, FileKind};
use crate::tls::{ALPN_H2, ALPN_HTTP1, PemFile, TlsError, add_roots, provider, validity};

const CA_FILE: &str = "upstream.ca_file";

/// Returns the system's roots. Blocks.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "failed to read a system root certificate");
    }
    let (_, unusable) = roots.add_parsable_certificates(system.certs);
    if unusable > 0 {
        tracing::debug!(unusable, "system root certificates ignored");
    }
    roots
}

/// Verifiers of upstream certificates, for diagnosis.
#[derive(Clone, Debug)]
pub struct Verifiers {
    /// With the system's roots and those of `upstream.ca_file`, as for connections.
    pub all: Arc<WebPkiServerVerifier>,
    /// With the system's roots only, if there are any.
    pub system: Option<Arc<WebPkiServerVerifier>>,
}

/// TLS client configurations that differ only in the size of their ClientHello.
#[derive(Clone, Debug)]
pub struct ClientConfigs {
    /// With a post-quantum key share of 1.2 KB: the ClientHello exceeds one packet.
    pub post_quantum: Arc<ClientConfig>,
    /// Without it.
    pub small: Arc<ClientConfig>,
    /// Their roots, for operators.
    pub trusted: Arc<TrustedRoots>,
}

/// The roots of an [`UpstreamTls`], which rustls does not expose.
#[derive(Debug, Default)]
pub struct TrustedRoots {
    /// Number of the system's.
    pub system: usize,
    /// `upstream.ca_file`.
    pub file: Option<PathBuf>,
    /// Subject and expiry, in Unix time, of the certificates in it, as far as they can be parsed.
    pub certificates: Vec<(String, Duration)>,
}

impl ClientConfigs {
    /// Creates both with these roots, without ALPN.
    ///
    /// # Errors
    /// None with the versions and suites of the provider.
    pub fn new(roots: impl Into<Arc<RootCertStore>>) -> Result<Self, rustls::Error> {
        let roots = roots.into();
        let classical = {
            let mut provider = CryptoProvider::clone(&provider());
            provider
                .kx_groups
                .retain(|group| group.name() != NamedGroup::X25519MLKEM768);
            Arc::new(provider)
        };
        let config = |provider| {
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(Arc::clone(&roots));
            Ok::<_, rustls::Error>(Arc::new(builder.with_no_client_auth()))
        };
        Ok(Self {
            post_quantum: config(provider())?,
            small: config(classical)?,
            trusted: Arc::default(),
        })
    }

    /// Returns both with the same change.
    #[must_use]
    pub fn with(self, change: impl Fn(&mut ClientConfig)) -> Self {
        let changed = |mut config: Arc<ClientConfig>| {
            change(Arc::make_mut(&mut config));
            config
        };
        Self {
            post_quantum: changed(self.post_quantum),
            small: changed(self.small),
            trusted: self.trusted,
        }
    }
}

/// The TLS client configuration for upstreams: API gateways and token endpoints.
#[derive(Clone)]
pub struct UpstreamTls {
    /// The configurations of new connections.
    pub configs: ClientConfigs,
    /// The roots of `configs`, which do not expose them.
    roots: Arc<RootCertStore>,
    /// The first of them are the system's.
    system_roots: usize,
    /// About a certificate of `ca_file` that has expired or soon will.
    pub warning: Option<String>,
}

impl UpstreamTls {
    /// Creates the configuration. Blocks, since it reads the roots.
    ///
    /// # Errors
    /// If `ca_file` is invalid, or there are no roots. Unreadable system roots are only logged.
    pub fn new(upstream: &UpstreamSettings) -> Result<Self, TlsError> {
        let mut roots = system_roots();
        let (system_roots, mut warning) = (roots.len(), None);
        let mut trusted = TrustedRoots {
            system: system_roots,
            ..TrustedRoots::default()
        };
        if let Some(path) = &upstream.ca_file {
            let file = PemFile::new(CA_FILE, path);
            let pem = files::read(path, FileKind::Configuration)
                .map_err(|error| file.problem(error.to_string()))?;
            let added = add_roots(&mut roots, file, &pem)?;
            warning = validity::warning(file, &added, Clock::SYSTEM.now());
            trusted.certificates = added.iter().filter_map(validity::subject_and_end).collect();
            trusted.file = Some(path.clone());
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let roots = Arc::new(roots);
        let alpn: &[&[u8]] = match upstream.http2 {
            Http2Mode::Auto => &[ALPN_H2, ALPN_HTTP1],
            Http2Mode::Never => &[ALPN_HTTP1],
        };
        let mut configs = ClientConfigs::new(Arc::clone(&roots))?.with(|config| {
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        });
        configs.trusted = Arc::new(trusted);
        Ok(Self {
            configs,
            roots,
            system_roots,
            warning,
        })
    }

    /// Returns the trusted roots.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// Returns the verifiers of upstream certificates.
    ///
    /// # Errors
    /// If there are no roots.
    pub fn verifiers(&self) -> Result<Verifiers, TlsError> {
        let verifier = |roots| {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
            // Fails only without roots.
            builder.build().map_err(|_| TlsError::NoRoots)
        };
        let system: RootCertStore = self
            .roots
            .roots
            .iter()
            .take(self.system_roots)
            .cloned()
            .collect();
        Ok(Verifiers {
            all: verifier(Arc::clone(&self.roots))?,
            system: verifier(Arc::new(system)).ok(),
        })
    }

    /// Returns `true` if both have the same roots and ALPN protocols, so that connections can be
    /// kept.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
            && self.configs.small.alpn_protocols == other.configs.small.alpn_protocols
    }
}

#[cfg(test)]
mod tests {
    use rustls::ClientConnection;

    use super::*;

    #[test]
    fn rfc8446_8_no_early_data_is_sent() {
        let configs = ClientConfigs::new(RootCertStore::empty()).unwrap();
        assert!(!configs.small.enable_early_data && !configs.post_quantum.enable_early_data);
    }

    #[test]
    fn post_quantum_client_hello_has_six_times_the_size_of_the_small_one() {
        let configs = ClientConfigs::new(RootCertStore::empty()).unwrap();
        let size = |config| {
            let name = "api.cloud.com".try_into().unwrap();
            let mut hello = Vec::new();
            let mut connection = ClientConnection::new(config, name).unwrap();
            connection.write_tls(&mut hello).unwrap()
        };
        let sizes = (size(configs.post_quantum), size(configs.small));
        assert_eq!(sizes, (1470, 248));
    }
}
