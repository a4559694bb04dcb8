//! Whether the certificate a caller showed is the one that is configured.

use crate::config::CertificateName;
use crate::inbound::tls::CallerCertificate;

/// Whether a certificate is of this name.
pub(super) fn is_of(certificate: &CallerCertificate, name: &CertificateName) -> bool {
    match name {
        CertificateName::Subject(parts) => {
            let shown = CertificateName::subject_parts(&certificate.subject);
            // Tools disagree on which end of a subject they write first.
            shown == *parts || shown.iter().rev().eq(parts)
        }
        CertificateName::Dns(name) => certificate
            .dns_names
            .iter()
            .any(|shown| shown.eq_ignore_ascii_case(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_whole_subject_or_by_one_dns_name() {
        let certificate = CallerCertificate {
            subject: "CN=splunk,O=Example\\, Inc".to_owned(),
            dns_names: vec!["splunk.example.net".to_owned(), "*.example.org".to_owned()],
        };
        for (name, is_it) in [
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
                is_of(&certificate, &CertificateName::new(name)),
                is_it,
                "{name}"
            );
        }
    }
}
