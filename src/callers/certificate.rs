//! The certificate a caller showed when its connection was opened, and whether it is the one configured.

use crate::config::CertificateName;

/// What is known of a client certificate that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerCertificate {
    /// The subject in the form of RFC 4514, such as `CN=splunk,O=Example`.
    pub subject: String,
    /// The DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
}

impl CallerCertificate {
    /// Whether it is of this name.
    pub fn is_of(&self, name: &CertificateName) -> bool {
        match name {
            CertificateName::Subject(parts) => {
                let shown = CertificateName::subject_parts(&self.subject);
                // Tools disagree on which end of a subject they write first.
                shown == *parts || shown.iter().rev().eq(parts)
            }
            CertificateName::Dns(name) => self.dns_names.iter().any(|shown| shown.eq_ignore_ascii_case(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_whole_subject_or_by_one_dns_name() {
        let certificate = CallerCertificate {
            subject: "CN=splunk,O=Example\\, Inc".to_owned(),
            dns_names: vec!["Splunk.example.net".to_owned(), "*.example.org".to_owned()],
        };
        for (name, is_it) in [
            ("CN=splunk,O=Example\\, Inc", true),
            ("O=Example\\, Inc, cn=splunk", true),
            ("CN=splunk", false),
            ("CN=Splunk,O=Example\\, Inc", false),
            ("CN=splunk,O=Example,Inc", false),
            ("CN=splunk,O=Example\\, Inc,C=DE", false),
            ("splunk.example.net", true),
            ("example.net", false),
            ("a.example.org", false),
            ("splunk", false),
        ] {
            assert_eq!(certificate.is_of(&CertificateName::new(name)), is_it, "{name}");
        }
    }
}
