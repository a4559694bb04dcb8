//! Who a client certificate says it is.

/// What a caller's certificate says of him, once it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerCertificate {
    /// The subject as RFC 4514 writes it, most specific part first (`CN=splunk,OU=Ops,C=DE`).
    pub subject: String,
    /// The DNS names of its subjectAltName (RFC 5280 section 4.2.1.6), in small letters.
    pub dns_names: Vec<String>,
}
