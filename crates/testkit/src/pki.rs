//! A certificate authority for tests, and files and TLS clients that use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

pub struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct TestCertificate {
    pub certificate: String,
    pub key: String,
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap())
    }

    /// Creates an authority with an RSA key, which signs with rsa_pkcs1_sha256.
    pub fn with_rsa_key(name: &str) -> Self {
        Self::with_key(name, rsa_key())
    }

    fn with_key(name: &str, key: KeyPair) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, name: &str, dns_names: &[&str]) -> TestCertificate {
        self.sign(params(name, dns_names), KeyPair::generate().unwrap())
    }

    /// Issues a certificate with a new RSA key.
    pub fn issue_rsa(&self, name: &str, dns_names: &[&str]) -> TestCertificate {
        self.sign(params(name, dns_names), rsa_key())
    }

    /// Issues a certificate that is valid in a period.
    pub fn issue_valid(
        &self,
        name: &str,
        dns_names: &[&str],
        from: SystemTime,
        until: SystemTime,
    ) -> TestCertificate {
        let mut params = params(name, dns_names);
        (params.not_before, params.not_after) = (from.into(), until.into());
        self.sign(params, KeyPair::generate().unwrap())
    }

    fn sign(&self, params: CertificateParams, key: KeyPair) -> TestCertificate {
        let certificate = params.signed_by(&key, &self.0).unwrap();
        TestCertificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl TestCertificate {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// Returns the configuration of a server with this certificate.
    pub fn server_config(&self) -> ServerConfig {
        self.server_config_of(ALL_VERSIONS)
    }

    /// Like [`TestCertificate::server_config`], with these versions of TLS.
    pub fn server_config_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key)
            .unwrap()
    }
}

/// Returns a new RSA key of 2048 bits.
fn rsa_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()
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

/// A temporary directory with the certificate and key files of a TLS listener.
pub struct TlsFiles(TempDir);

impl TlsFiles {
    pub fn new(issued: &TestCertificate) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.replace(issued);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Overwrites the key, then the certificate.
    pub fn replace(&self, issued: &TestCertificate) {
        self.write("tls.key", &issued.key);
        self.write("tls.crt", &issued.certificate);
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Returns a `[listen.tls]` section with the lines of `more` appended.
    pub fn toml(&self, more: &str) -> String {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        format!("[listen.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}")
    }

    /// Returns a `[listen.tls]` section that verifies client certificates against `authority`.
    pub fn toml_with_client_ca(&self, authority: &TestCa, client_auth: &str) -> String {
        self.write("client-ca.pem", &authority.pem());
        let ca = self.path("client-ca.pem");
        self.toml(&format!(
            "client_ca = {ca:?}\nclient_auth = \"{client_auth}\""
        ))
    }
}

/// Returns a client configuration that trusts `ca` and presents `own` on request.
pub fn tls_client_config(ca: &TestCa, own: Option<&TestCertificate>) -> Arc<ClientConfig> {
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
