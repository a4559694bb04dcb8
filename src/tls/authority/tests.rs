use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};

use super::*;
use crate::system::clock::Clock;

fn new(domains: &[&str]) -> NewAuthority {
    let domains: Vec<String> = domains.iter().map(|&domain| domain.to_owned()).collect();
    create(&domains, Clock::SYSTEM.now()).unwrap()
}

fn read(chain: &str, key: &str) -> Result<(Authority, Vec<String>), String> {
    let files = (
        (
            PemFile::new("intercept.ca.certificate", Path::new("ca.pem")),
            chain.as_bytes(),
        ),
        (
            PemFile::new("intercept.ca.key", Path::new("ca.key")),
            key.as_bytes(),
        ),
    );
    Authority::read(files.0, files.1, Clock::SYSTEM.now()).map_err(|error| error.to_string())
}

/// Returns an authority for these domains.
pub(crate) fn authority(domains: &[&str]) -> Authority {
    let new = new(domains);
    read(&new.chain, &new.key).unwrap().0
}

/// Verifies the certificate of a host against a root in PEM, as clients do.
fn verify(root: &str, issued: &CertifiedKey, host: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let (leaf, above) = issued.cert.split_first().unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let verifier = verifier.build().unwrap();
    verifier
        .verify_server_cert(leaf, above, &name, &[], UnixTime::now())
        .map(drop)
}

#[test]
fn certificates_of_permitted_hosts_are_valid_below_the_root_alone() {
    let new = new(&["cloud.com", "reports.example.net"]);
    let (authority, warnings) = read(&new.chain, &new.key).unwrap();
    assert_eq!(warnings, [] as [String; 0]);
    let long = format!("{}.{}.cloud.com", "a".repeat(60), "b".repeat(60));
    for host in [
        "api.cloud.com",
        "cloud.com",
        "a.b.cloud.com",
        "reports.example.net",
        &long,
    ] {
        let issued = authority.issue(host, Clock::SYSTEM.now()).unwrap();
        assert_eq!(issued.cert.len(), 2, "leaf and issuing authority");
        verify(&new.root, &issued, host).unwrap();
        assert!(verify(&new.root, &issued, "other.cloud.com").is_err());
    }
}

#[test]
fn rfc5280_4_2_1_10_certificate_of_another_domain_is_rejected() {
    let new = new(&["cloud.com"]);
    let (authority, _) = read(&new.chain, &new.key).unwrap();
    for host in [
        "bank.example",
        "evilcloud.com",
        "cloud.com.evil.example",
        "com",
        "localhost",
    ] {
        let issued = authority.issue(host, Clock::SYSTEM.now()).unwrap();
        let error = verify(&new.root, &issued, host).unwrap_err();
        let rustls::Error::InvalidCertificate(CertificateError::Other(cause)) = &error else {
            panic!("{host}: {error}");
        };
        assert!(
            cause.to_string().contains("NameConstraint"),
            "{host}: {cause}"
        );
    }
}

#[test]
fn validity_is_a_week_within_that_of_the_authority() {
    let authority = authority(&["cloud.com"]);
    let validity = |now| {
        let issued = authority.issue("api.cloud.com", now).unwrap();
        let leaf = Certificate::from_der(&issued.cert[0]).unwrap();
        let validity = leaf.tbs_certificate().validity();
        [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs())
    };
    let now = since_epoch(Clock::SYSTEM.now()).as_secs();
    let [from, until] = validity(UNIX_EPOCH + Duration::from_secs(now));
    assert!(from <= now - CLOCK_SKEW.as_secs() + 5);
    assert_eq!(until, now + LEAF_LIFETIME.as_secs());
    assert_eq!(
        validity(UNIX_EPOCH + AUTHORITY_LIFETIME * 10)[1],
        authority.not_after.as_secs()
    );
}

#[test]
fn file_that_is_not_that_of_the_key_is_rejected() {
    let (one, other) = (new(&["cloud.com"]), new(&["cloud.com"]));
    for (chain, key, problem) in [
        (
            one.chain.as_str(),
            other.key.as_str(),
            "belongs to no certificate",
        ),
        (&one.root, &one.key, "belongs to no certificate"),
        (
            &one.key,
            &one.key,
            "contains a private key and no certificate",
        ),
        (
            &one.chain,
            &one.chain,
            "contains a certificate and no private key",
        ),
        ("", &one.key, "the file is empty"),
    ] {
        let error = read(chain, key).map(drop).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let reversed = format!("{}{}", one.root, one.chain);
    assert!(read(&reversed, &one.key).is_ok(), "in any order");
}

#[test]
fn certificate_of_a_host_is_no_authority_and_one_without_constraints_has_a_warning() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = named("plain");
    let leaf = params.clone().self_signed(&key).unwrap().pem();
    let error = read(&leaf, &key.serialize_pem()).map(drop).unwrap_err();
    assert!(error.contains("not that of an authority"), "{error}");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let plain = params.self_signed(&key).unwrap().pem();
    let (authority, warnings) = read(&plain, &key.serialize_pem()).unwrap();
    assert!(warnings[0].contains("no name constraints"), "{warnings:?}");
    let issued = authority
        .issue("api.cloud.com", Clock::SYSTEM.now())
        .unwrap();
    assert_eq!(issued.cert.len(), 1, "a root is not sent");
    verify(&plain, &issued, "api.cloud.com").unwrap();
}

/// OpenSSL is the verifier of Python, curl, Node and many others.
#[test]
fn openssl_accepts_permitted_hosts_and_rejects_others() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let new = new(&["cloud.com"]);
    let (authority, _) = read(&new.chain, &new.key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, der: &[u8]| {
        std::fs::write(path(name), der).unwrap();
    };
    std::fs::write(path("root.pem"), &new.root).unwrap();
    for (host, expected) in [("api.cloud.com", true), ("bank.example", false)] {
        let issued = authority.issue(host, Clock::SYSTEM.now()).unwrap();
        write("leaf.der", &issued.cert[0]);
        write("issuing.der", &issued.cert[1]);
        let verified = Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                host,
            ])
            .arg("-CAfile")
            .arg(path("root.pem"))
            .arg("-untrusted")
            .arg(path("issuing.der"))
            .arg(path("leaf.der"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert_eq!(verified.status.success(), expected, "{host}: {text}");
        assert!(
            expected || text.contains("permitted subtree violation"),
            "{text}"
        );
    }
}
