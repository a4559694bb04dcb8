//! TLS with a generated certificate or with the operator's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::EmulatorError;
use super::hosts::CERTIFICATE_NAMES;
use super::options::Tls;
use crate::clock;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A TLS acceptor, and the CA of a generated certificate.
pub(super) struct TlsServer {
    pub(super) acceptor: TlsAcceptor,
    pub(super) ca_pem: Option<String>,
}

/// Returns the acceptor for `tls`, or `None` if TLS is off.
pub(super) fn server(tls: &Tls) -> Result<Option<TlsServer>, EmulatorError> {
    let (chain, key, ca_pem) = match tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => generate()?,
        Tls::Files { certificate, key } => (
            read(certificate, |path| {
                CertificateDer::pem_file_iter(path)?.collect()
            })?,
            read(key, |path| PrivateKeyDer::from_pem_file(path))?,
            None,
        ),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsServer {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca_pem,
    }))
}

fn read<T>(path: &Path, parse: impl Fn(&Path) -> Result<T, PemError>) -> Result<T, EmulatorError> {
    parse(path).map_err(|source| EmulatorError::ReadPem {
        path: path.to_owned(),
        source,
    })
}

type GeneratedCertificate = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    Option<String>,
);

/// Generates a CA and a leaf, both valid for a year; discards the key of the CA.
fn generate() -> Result<GeneratedCertificate, rcgen::Error> {
    let mut ca = params("Citrix Cloud emulator CA", Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let here = ["localhost", "127.0.0.1", "::1"].iter();
    let names = here
        .chain(&CERTIFICATE_NAMES)
        .map(ToString::to_string)
        .collect();
    let mut leaf = params("Citrix Cloud emulator", names)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers, such as Python's since 3.13, require this extension.
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &ca)?;
    Ok((vec![certificate.der().clone()], key.into(), Some(ca.pem())))
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    // One day of clock tolerance; platform verifiers reject long lifetimes.
    let now = clock::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
    Ok(params)
}
