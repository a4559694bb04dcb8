//! Certificates of a test's own making.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A fresh certificate with this common name and these DNS names.
    pub fn issue(&self, name: &str, dns_names: &[&str]) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, dns_names).signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Issued {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

fn params(name: &str, dns_names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = dns_names
        .iter()
        .map(|&name| SanType::DnsName(name.try_into().unwrap()))
        .collect();
    params
}

/// The files of a listener that speaks TLS.
pub struct Files(TempDir);

impl Files {
    pub fn new(issued: &Issued) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.replace(issued);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes certificate and key anew, one after the other.
    pub fn replace(&self, issued: &Issued) {
        self.write("tls.key", &issued.key);
        self.write("tls.crt", &issued.certificate);
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `listen.tls`, with more keys.
    pub fn toml(&self, more: &str) -> String {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        format!("[listen.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}")
    }

    /// The same, and only callers whom `authority` knows have a certificate to show.
    pub fn toml_for_callers_of(&self, authority: &Authority, client_auth: &str) -> String {
        self.write("client-ca.pem", &authority.pem());
        let ca = self.path("client-ca.pem");
        self.toml(&format!(
            "client_ca = {ca:?}\nclient_auth = \"{client_auth}\""
        ))
    }
}

/// TLS that trusts `ca`, and shows `own` where it is asked for it.
pub fn tls_client_of(ca: &Authority, own: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![own.der()], key).unwrap()
        }
    })
}
