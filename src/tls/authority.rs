//! The certificate authority of `[intercept]`: its creation, and the certificates that it issues.
//!
//! Two certificates are created, a root and an issuing authority below it, and the root's key is
//! dropped at once: nothing but this issuing authority can ever be below the root. Both have the
//! same name constraints. Java evaluates them in issuing authorities only, not in a trusted root.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    PublicKeyData as _, SanType,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use secrecy::zeroize::Zeroizing;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, GeneralSubtrees};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{self, SubjectKeyIdentifier};

use super::{PemFile, TlsError, provider, validity};
use crate::system::clock::since_epoch;
use crate::system::files::{FileKind, FileSnapshot};

/// Lifetime of an authority.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(24 * 3650);
/// Lifetime of a certificate for a host.
pub(crate) const LEAF_LIFETIME: Duration = Duration::from_hours(24 * 7);
/// Time by which the clock of a client may be behind.
const CLOCK_SKEW: Duration = Duration::from_hours(24);
/// Maximum length of a common name (RFC 5280 appendix A.1, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;
const CERTIFICATE_KEY: &str = "intercept.ca.certificate";
const PRIVATE_KEY_KEY: &str = "intercept.ca.key";
const ORGANIZATION: &str = "citrix-auth-proxy";

/// A new authority, in PEM.
pub struct NewAuthority {
    /// The root, for the clients' lists of trusted authorities.
    pub root: String,
    /// The issuing authority, then the root.
    pub chain: String,
    /// The private key of the issuing authority (PKCS #8).
    pub key: Zeroizing<String>,
    /// SHA-256 of the root in DER, in the form that browsers and `openssl x509` show.
    pub fingerprint: String,
    pub not_after: SystemTime,
}

/// Creates an authority for these domains and the names below them. IP addresses are excluded (RFC
/// 5280 section 4.2.1.10).
///
/// # Errors
/// Without randomness, or if a domain is not ASCII.
pub fn create(domains: &[String], now: SystemTime) -> Result<NewAuthority, rcgen::Error> {
    let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let not_after = now + AUTHORITY_LIFETIME;
    // Tells apart the authorities of several gateways in a list of trusted ones.
    let mut id = String::new();
    for byte in key.der_bytes().iter().rev().take(4) {
        // Writing to a string does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    let params = |name: &str, path_length: u8| {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("{ORGANIZATION} {name} {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints(domains));
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = not_after.into();
        params
    };
    let root_params = params("root", 1);
    let root = root_params.self_signed(&root_key)?;
    let mut issuing = params("CA", 0);
    issuing.use_authority_key_identifier_extension = true;
    let issuing = issuing.signed_by(&key, &Issuer::new(root_params, root_key))?;
    Ok(NewAuthority {
        chain: format!("{}{}", issuing.pem(), root.pem()),
        root: root.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        fingerprint: fingerprint(root.der()),
        not_after,
    })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANIZATION);
    name.push(DnType::CommonName, common_name);
    name
}

fn constraints(domains: &[String]) -> NameConstraints {
    let all_addresses = [
        CidrSubnet::from_addr_prefix(Ipv4Addr::UNSPECIFIED.into(), 0),
        CidrSubnet::from_addr_prefix(Ipv6Addr::UNSPECIFIED.into(), 0),
    ];
    let domains = domains.iter().cloned().map(rcgen::GeneralSubtree::DnsName);
    NameConstraints {
        permitted_subtrees: domains.collect(),
        excluded_subtrees: all_addresses.map(rcgen::GeneralSubtree::IpAddress).into(),
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
    bytes.collect::<Vec<_>>().join(":")
}

/// An authority that issues certificates for hosts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The certificates that follow that of a host: the issuing authority and those above it,
    /// without the root, which clients have.
    chain: Vec<CertificateDer<'static>>,
    /// The domains of the name constraints of each certificate that has such.
    permitted: Vec<Vec<String>>,
    /// Validity of the issuing authority in Unix time.
    not_before: Duration,
    not_after: Duration,
}

/// A certificate for a host could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The name is not a DNS name, or there is no randomness.
    #[error("failed to issue a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Not expected, because the key is new.
    #[error("failed to use the key of a new certificate: {0}")]
    Key(#[from] rustls::Error),
}

impl Authority {
    /// Reads the files of an authority. Also returns warnings. Blocks.
    ///
    /// # Errors
    /// If a file cannot be read or has another content, the key belongs to no certificate, or that
    /// is not one of an authority.
    pub fn load(
        certificate: &Path,
        key: &Path,
        now: SystemTime,
    ) -> Result<(Self, Vec<String>), TlsError> {
        let (certificate, key) = (
            PemFile::new(CERTIFICATE_KEY, certificate),
            PemFile::new(PRIVATE_KEY_KEY, key),
        );
        let paths = [certificate.path.to_owned(), key.path.to_owned()];
        let mut contents = FileSnapshot::read(&paths, FileKind::Certificate)
            .into_contents()
            .into_iter();
        let mut content = |file: PemFile<'_>| {
            let content = contents.next().unwrap_or_else(|| Ok(Zeroizing::default()));
            content.map_err(|error| file.problem(error.to_string()))
        };
        let (chain, private_key) = (content(certificate), content(key));
        Self::read((certificate, &chain?), (key, &private_key?), now)
    }

    /// Reads an authority from the contents of its files. The certificate of the key may be
    /// anywhere in the file; the others are those above it. Also returns warnings.
    ///
    /// # Errors
    /// If a file has another content, the key belongs to no certificate, or that is not one of an
    /// authority.
    fn read(
        (certificate, chain): (PemFile<'_>, &[u8]),
        (key, private_key): (PemFile<'_>, &[u8]),
        now: SystemTime,
    ) -> Result<(Self, Vec<String>), TlsError> {
        let chain = certificate.certificates(chain)?;
        let unusable = |problem: &str| {
            certificate.problem(certificate.hint(
                &format!("{problem}; create an authority with citrix-auth-proxy ca new, or see:"),
                "openssl x509 -in FILE -noout -text",
            ))
        };
        let private_key = key.private_key(private_key)?;
        let pair = KeyPair::try_from(&private_key)
            .map_err(|_| key.problem("the private key is not supported; use ECDSA with P-256"))?;
        let public = pair.subject_public_key_info();
        let parsed = chain
            .iter()
            .map(|one| Certificate::from_der(one))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unusable("a certificate cannot be parsed"))?;
        let owns = |one: &Certificate| {
            let info = one.tbs_certificate().subject_public_key_info().to_der();
            info.is_ok_and(|info| info == public)
        };
        let Some(index) = parsed.iter().position(owns) else {
            return Err(key.problem(format!(
                "the key belongs to no certificate in {} ({})",
                certificate.path.display(),
                certificate.key
            )));
        };
        let own = &parsed[index];
        if !may_issue(own) {
            return Err(unusable("the certificate is not that of an authority"));
        }
        let params = issuer_params(own)
            .ok_or_else(|| unusable("the subject of the certificate is not supported"))?;
        let validity = own.tbs_certificate().validity();
        let mut warnings: Vec<String> = validity::warning(certificate, &chain, now)
            .into_iter()
            .collect();
        if permitted_subtrees(own).is_none() {
            warnings.push(format!(
                "{}: {}: the authority has no name constraints; its key can impersonate any site to clients that trust it",
                certificate.key,
                certificate.path.display()
            ));
        }
        let is_root =
            |one: &Certificate| one.tbs_certificate().issuer() == one.tbs_certificate().subject();
        let above = chain.iter().zip(&parsed).enumerate();
        let sent = std::iter::once(index)
            .chain(
                above
                    .map(|(other, _)| other)
                    .filter(|other| *other != index),
            )
            .filter(|&one| !is_root(&parsed[one]))
            .map(|one| chain[one].clone());
        let authority = Self {
            chain: sent.collect(),
            permitted: parsed.iter().filter_map(permitted_domains).collect(),
            not_before: validity.not_before.to_unix_duration(),
            not_after: validity.not_after.to_unix_duration(),
            issuer: Issuer::new(params, pair),
        };
        // The parts of the name could have been written in another way.
        if !authority.names_itself_as(own, now) {
            return Err(unusable("the subject of the certificate is not supported"));
        }
        Ok((authority, warnings))
    }

    /// Returns `true` if issued certificates have the subject of `own` as their issuer.
    fn names_itself_as(&self, own: &Certificate, now: SystemTime) -> bool {
        let Ok(issued) = self.issue("localhost", now) else {
            return false;
        };
        let issued = issued.cert.first();
        let issued = issued.and_then(|leaf| Certificate::from_der(leaf).ok());
        let issuer = issued.and_then(|leaf| leaf.tbs_certificate().issuer().to_der().ok());
        issuer.is_some_and(|issuer| {
            own.tbs_certificate()
                .subject()
                .to_der()
                .is_ok_and(|subject| subject == issuer)
        })
    }

    /// Returns `true` if the name constraints permit certificates for a host, in lower case (RFC 5280
    /// section 4.2.1.10).
    pub fn permits(&self, host: &str) -> bool {
        let is_below = |domain: &String| {
            host.strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || domain.is_empty())
        };
        self.permitted
            .iter()
            .all(|domains| domains.iter().any(is_below))
    }

    /// Issues a certificate for a host with a new key, valid for [`LEAF_LIFETIME`] at most.
    ///
    /// # Errors
    /// If the name is not a DNS name, or without randomness.
    pub fn issue(&self, host: &str, now: SystemTime) -> Result<CertifiedKey, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // In the text that tools show; only the alternative name counts.
        params.distinguished_name = named(if host.len() <= MAX_COMMON_NAME {
            host
        } else {
            ORGANIZATION
        });
        params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let at =
            |time: Duration| SystemTime::UNIX_EPOCH + time.clamp(self.not_before, self.not_after);
        params.not_before = at(since_epoch(now).saturating_sub(CLOCK_SKEW)).into();
        params.not_after = at(since_epoch(now) + LEAF_LIFETIME).into();
        let leaf = params.signed_by(&key, &self.issuer)?;
        let private_key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let signer = provider()
            .key_provider
            .load_private_key(private_key.into())?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.chain.iter().cloned());
        Ok(CertifiedKey::new(chain.collect(), signer))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Returns `true` for the certificate of an authority (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
fn may_issue(certificate: &Certificate) -> bool {
    let tbs = certificate.tbs_certificate();
    let basic = tbs.get_extension::<pkix::BasicConstraints>();
    let usage = tbs.get_extension::<pkix::KeyUsage>();
    matches!(basic, Ok(Some((_, basic))) if basic.ca)
        && matches!(usage, Ok(usage) if usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

fn permitted_subtrees(certificate: &Certificate) -> Option<GeneralSubtrees> {
    let tbs = certificate.tbs_certificate();
    let (_, constraints) = tbs.get_extension::<pkix::NameConstraints>().ok()??;
    constraints.permitted_subtrees
}

/// Returns the permitted domains, in lower case; `None` if names are not restricted.
fn permitted_domains(certificate: &Certificate) -> Option<Vec<String>> {
    let domain = |subtree: GeneralSubtree| match subtree.base {
        GeneralName::DnsName(domain) => {
            let domain = domain.as_str().to_ascii_lowercase();
            Some(domain.trim_start_matches('.').to_owned())
        }
        _ => None,
    };
    let subtrees = permitted_subtrees(certificate)?;
    let domains: Vec<_> = subtrees.into_iter().filter_map(domain).collect();
    (!domains.is_empty()).then_some(domains)
}

/// Returns the name and key id of an authority in the form that `rcgen` issues from; `None` if the
/// name has parts that it does not write.
fn issuer_params(certificate: &Certificate) -> Option<CertificateParams> {
    let tbs = certificate.tbs_certificate();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for part in tbs.subject().iter() {
        let (kind, value) = name_part(part)?;
        params.distinguished_name.push(kind, value);
    }
    let id = tbs.get_extension::<SubjectKeyIdentifier>().ok()?;
    if let Some((_, SubjectKeyIdentifier(id))) = id {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.as_bytes().to_vec());
    }
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Some(params)
}

fn name_part(part: &AttributeTypeAndValue) -> Option<(DnType, DnValue)> {
    let arcs: Vec<u64> = part.oid.arcs().map(u64::from).collect();
    let value = match part.value.tag() {
        Tag::Utf8String => DnValue::Utf8String(
            part.value
                .decode_as::<Utf8StringRef<'_>>()
                .ok()?
                .as_str()
                .to_owned(),
        ),
        Tag::PrintableString => {
            let text = part.value.decode_as::<PrintableStringRef<'_>>().ok()?;
            DnValue::PrintableString(text.as_str().try_into().ok()?)
        }
        Tag::Ia5String => {
            let text = part.value.decode_as::<Ia5StringRef<'_>>().ok()?;
            DnValue::Ia5String(text.as_str().try_into().ok()?)
        }
        _ => return None,
    };
    Some((DnType::from_oid(&arcs), value))
}

#[cfg(test)]
pub(crate) mod tests;
