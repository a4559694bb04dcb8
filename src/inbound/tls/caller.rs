//! Client certificates.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::system::clock::since_epoch;
use crate::tls::validity::validity_end;

/// The identity in a verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerCertificate {
    /// The subject in the form of RFC 4514, most specific part first (`CN=splunk,OU=Ops,C=DE`), or
    /// empty. Attribute names are in capitals, non-ASCII characters are unchanged, and control
    /// characters are escaped.
    pub subject: String,
    /// The DNS names of subjectAltName (RFC 5280 section 4.2.1.6) in lower case.
    pub dns_names: Vec<String>,
}

/// A verified certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Rejected by the parser.
    #[error("failed to parse the client certificate: {0}")]
    Malformed(#[from] der::Error),
    /// It expired after its TLS session had begun.
    #[error("client certificate has expired since its TLS session began")]
    Expired,
}

impl CallerCertificate {
    /// Parses a leaf that rustls has verified.
    ///
    /// # Errors
    /// When it cannot be parsed or has expired, which rustls does not verify again for a resumed
    /// session.
    pub fn read(leaf: &CertificateDer<'_>, now: SystemTime) -> Result<Self, CertificateError> {
        let certificate = Certificate::from_der(leaf)?;
        let leaf = certificate.tbs_certificate();
        if validity_end(&certificate) < since_epoch(now) {
            return Err(CertificateError::Expired);
        }
        let names = leaf
            .get_extension::<SubjectAltName>()?
            .map_or_else(Vec::new, |(_, names)| names.0);
        let dns_names = names.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            subject: leaf.subject().to_string(),
            dns_names: dns_names.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;
    use crate::tls::validity::not_after;

    fn certificate(set: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        set(&mut params);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .clone()
    }

    fn named(parts: &[(DnType, &str)]) -> CertificateDer<'static> {
        certificate(|params| {
            for (kind, value) in parts {
                params
                    .distinguished_name
                    .push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
            }
        })
    }

    fn subject(leaf: &CertificateDer<'_>) -> String {
        CallerCertificate::read(leaf, UNIX_EPOCH).unwrap().subject
    }

    #[test]
    fn rfc4514_2_subject_begins_with_its_last_part_and_is_escaped() {
        let cases: &[(&[(DnType, &str)], &str)] = &[
            (&[], ""),
            (&[(DnType::CommonName, "splunk")], "CN=splunk"),
            (
                &[
                    (DnType::CountryName, "DE"),
                    (DnType::OrganizationName, "Acme, Inc."),
                    (DnType::OrganizationalUnitName, "Ops"),
                    (DnType::CommonName, "splunk"),
                ],
                "CN=splunk,OU=Ops,O=Acme\\, Inc.,C=DE",
            ),
            (
                &[(DnType::CommonName, " a\"+;<>\\b ")],
                "CN=\\ a\\\"\\+\\;\\<\\>\\\\b\\ ",
            ),
            (&[(DnType::CommonName, "#a")], "CN=\\#a"),
            (&[(DnType::CommonName, "a\r\nb\0")], "CN=a\\0d\\0ab\\00"),
            (&[(DnType::CommonName, "Käse,O=admin")], "CN=Käse\\,O=admin"),
            (
                &[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")],
                "1.2.3.4=#0c0178",
            ),
            (
                &[
                    (
                        DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
                        "a@b.c",
                    ),
                    (DnType::CustomDnType(vec![2, 5, 4, 5]), "12"),
                    (
                        DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]),
                        "u",
                    ),
                    (DnType::CustomDnType(vec![2, 5, 4, 9]), "s"),
                ],
                "STREET=s,UID=u,SERIALNUMBER=12,EMAIL=a@b.c",
            ),
        ];
        for (parts, expected) in cases {
            assert_eq!(subject(&named(parts)), *expected);
        }
    }

    #[test]
    fn rfc5280_4_2_1_6_only_dns_names_are_returned() {
        let leaf = certificate(|params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "not-a-name.example.net");
            params.subject_alt_names = vec![
                SanType::DnsName("Splunk.Example.net".try_into().unwrap()),
                SanType::Rfc822Name("ops@example.net".try_into().unwrap()),
                SanType::IpAddress([10, 0, 0, 1].into()),
                SanType::URI("spiffe://example.net/splunk".try_into().unwrap()),
                SanType::DnsName("*.b.example.net".try_into().unwrap()),
            ];
        });
        let read = CallerCertificate::read(&leaf, UNIX_EPOCH).unwrap();
        assert_eq!(read.dns_names, ["splunk.example.net", "*.b.example.net"]);
    }

    #[test]
    fn expired_or_malformed_certificate_is_rejected() {
        let leaf = certificate(|params| params.not_after = rcgen::date_time_ymd(2030, 1, 1));
        let end = not_after(&leaf).unwrap();
        assert_eq!(end, Duration::from_secs(1_893_456_000));
        let read = |seconds| {
            CallerCertificate::read(&leaf, UNIX_EPOCH + end + Duration::from_secs(seconds))
        };
        assert!(read(0).is_ok());
        assert!(matches!(read(1), Err(CertificateError::Expired)));
        let cut = CertificateDer::from(leaf[..leaf.len() - 1].to_vec());
        assert!(matches!(
            CallerCertificate::read(&cut, UNIX_EPOCH),
            Err(CertificateError::Malformed(_))
        ));
        assert_eq!(not_after(&cut), None);
    }
}
