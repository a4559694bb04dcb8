//! A certificate chain and its private key, with the reason why they cannot be used together.

use rustls::Error;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::tls::{PemFile, TlsError, provider, validity};

/// Returns the chain with its key.
///
/// # Errors
/// If the key belongs to another certificate, or one of them is not supported.
pub(super) fn certified_key(
    certificate: PemFile<'_>,
    chain: Vec<CertificateDer<'static>>,
    key: PemFile<'_>,
    private_key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    if chain.first().is_some_and(validity::is_outdated_version) {
        return Err(certificate.problem(certificate.hint(
            "an X.509 certificate of version 1, which clients reject; issue it with extensions (subjectAltName), \
             as version 3; see:",
            "openssl x509 -in FILE -noout -text",
        )));
    }
    let signer = provider()
        .key_provider
        .load_private_key(private_key)
        .map_err(|_| {
            key.problem(key.hint(
                "the private key is damaged or not supported; use RSA with 2048 to 8192 bits, ECDSA with P-256, \
                 P-384 or P-521, or Ed25519; see:",
                "openssl pkey -in FILE -noout -text",
            ))
        })?;
    let owner = signer.public_key().and_then(|public| {
        chain
            .iter()
            .position(|one| public_key(one).is_some_and(|of_one| of_one == *public))
    });
    let pair = CertifiedKey::new(chain, signer);
    match (pair.keys_match(), owner) {
        (Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)), _) => Ok(pair),
        (Err(Error::InconsistentKeys(_)), Some(owner)) => Err(certificate.problem(format!(
            "the certificate of {} ({}) is number {} in the file; put it first, then the one that signed it, and so on",
            key.path.display(),
            key.key,
            owner + 1
        ))),
        (Err(Error::InconsistentKeys(_)), None) => Err(key.problem(format!(
            "the key does not belong to the certificate in {} ({}); these must print the same: \
             openssl pkey -in {} -pubout, openssl x509 -in {} -noout -pubkey",
            certificate.path.display(),
            certificate.key,
            key.path.display(),
            certificate.path.display()
        ))),
        (Err(error), _) => Err(certificate.problem(certificate.hint(
            &format!("the certificate cannot be used ({error}); see:"),
            "openssl x509 -in FILE -noout -text",
        ))),
    }
}

/// Returns the public key (SubjectPublicKeyInfo) in DER.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .ok()
}

/// Returns a warning if a certificate of the chain is not signed by the next one: strict clients
/// reject such a chain (RFC 5246 section 7.4.2).
pub(super) fn order_warning(file: PemFile<'_>, chain: &[CertificateDer<'_>]) -> Option<String> {
    let parsed: Vec<Certificate> = chain
        .iter()
        .map_while(|certificate| Certificate::from_der(certificate).ok())
        .collect();
    let wrong = parsed
        .windows(2)
        .position(|pair| matches!(pair, [one, next] if one.tbs_certificate().issuer() != next.tbs_certificate().subject()))?;
    Some(format!(
        "{}: {}: certificate {} is not signed by the one after it; order them from the leaf to the root",
        file.key,
        file.path.display(),
        wrong + 1
    ))
}
