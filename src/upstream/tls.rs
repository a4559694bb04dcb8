//! TLS to upstreams.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Http2Mode, UpstreamSettings};
use crate::system::files::{self, FileKind};
use crate::tls::{ALPN_H2, ALPN_HTTP1, TlsError, add_roots, provider};

/// Returns the system's roots and those of `ca_file`. Blocks.
///
/// # Errors
/// If `ca_file` is invalid, or there are no roots. Unreadable system roots are only logged.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "failed to read a system root certificate");
    }
    let (_, unusable) = roots.add_parsable_certificates(system.certs);
    if unusable > 0 {
        tracing::debug!(unusable, "system root certificates ignored");
    }
    if let Some(path) = ca_file {
        let pem = files::read(path, FileKind::Configuration).map_err(|source| TlsError::File {
            path: path.to_owned(),
            source,
        })?;
        add_roots(&mut roots, path, &pem)?;
    }
    if roots.is_empty() {
        Err(TlsError::NoRoots)
    } else {
        Ok(roots)
    }
}

/// Verifiers of upstream certificates, for diagnosis.
#[derive(Clone, Debug)]
pub struct Verifiers {
    /// With the system's roots and those of `upstream.ca_file`, as for connections.
    pub all: Arc<WebPkiServerVerifier>,
    /// With the system's roots only, if there are any.
    pub system: Option<Arc<WebPkiServerVerifier>>,
}

/// Returns the verifiers of upstream certificates. Blocks.
///
/// # Errors
/// As [`UpstreamTls::new`].
pub fn verifiers(upstream: &UpstreamSettings) -> Result<Verifiers, TlsError> {
    let verifier = |roots| {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        // Fails only without roots.
        builder.build().map_err(|_| TlsError::NoRoots)
    };
    let system = roots(None).ok().map(verifier).transpose()?;
    Ok(Verifiers {
        all: verifier(roots(upstream.ca_file.as_deref())?)?,
        system,
    })
}

/// The TLS client configuration for upstreams: API gateways and token endpoints.
#[derive(Clone)]
pub struct UpstreamTls {
    /// The configuration of new connections.
    pub config: Arc<ClientConfig>,
    /// The roots of `config`, which does not expose them.
    roots: Arc<RootCertStore>,
}

impl UpstreamTls {
    /// Creates the configuration. Blocks, since it reads the roots.
    ///
    /// # Errors
    /// If `ca_file` is invalid, or there are no roots.
    pub fn new(upstream: &UpstreamSettings) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(upstream.ca_file.as_deref())?);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        config.alpn_protocols = match upstream.http2 {
            Http2Mode::Auto => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
            Http2Mode::Never => vec![ALPN_HTTP1.to_vec()],
        };
        Ok(Self {
            config: Arc::new(config),
            roots,
        })
    }

    /// Returns `true` if both have the same roots and ALPN protocols, so that connections can be
    /// kept.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
            && self.config.alpn_protocols == other.config.alpn_protocols
    }
}

/// Returns the TLS configuration for upstreams. Blocks.
///
/// # Errors
/// As [`UpstreamTls::new`].
pub fn upstream_config(upstream: &UpstreamSettings) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(UpstreamTls::new(upstream)?.config)
}
