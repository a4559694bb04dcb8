//! Matches a client certificate against `client_certificate`.

use crate::config::CertificateName;
use crate::inbound::tls::CallerCertificate;

/// Returns `true` if the whole subject or a DNS name of the certificate equals `name`.
pub(super) fn has_name(certificate: &CallerCertificate, name: &CertificateName) -> bool {
    match name {
        CertificateName::Subject(parts) => {
            let presented = CertificateName::subject_parts(&certificate.subject);
            // Tools print the parts of a subject in either order.
            presented == *parts || presented.iter().rev().eq(parts)
        }
        CertificateName::Dns(name) => certificate
            .dns_names
            .iter()
            .any(|presented| presented.eq_ignore_ascii_case(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_matches_by_whole_subject_or_one_dns_name() {
        let certificate = CallerCertificate {
            subject: "CN=splunk,O=Example\\, Inc".to_owned(),
            dns_names: vec!["splunk.example.net".to_owned(), "*.example.org".to_owned()],
        };
        for (name, expected) in [
            ("CN=splunk,O=Example\\, Inc", true),
            ("O=Example\\, Inc, cn=splunk", true),
            ("CN=splunk", false),
            ("CN=Splunk,O=Example\\, Inc", false),
            ("CN=splunk,O=Example,Inc", false),
            ("CN=splunk,O=Example\\, Inc,C=DE", false),
            ("Splunk.example.net", true),
            ("example.net", false),
            ("a.example.org", false),
            ("splunk", false),
        ] {
            assert_eq!(
                has_name(&certificate, &CertificateName::new(name)),
                expected,
                "{name}"
            );
        }
    }
}
