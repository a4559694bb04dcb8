//! Failures of a TLS handshake with an upstream, and what an operator can do about each.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The reason why a TLS handshake failed. The log, the doctor, `/readyz`, the status page and the
/// `detail` of a 502 distinguish the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate names other hosts.
    OtherHost,
    /// No trusted root has issued the certificate; one may have the issuer's name with another key.
    UnknownIssuer,
    /// The certificate is revoked, or cannot be verified for another reason.
    InvalidCertificate,
    /// The peer requires a client certificate.
    ClientCertificate,
    /// No TLS version or cipher suite that both support.
    Incompatible,
    /// The peer's bytes are not TLS.
    NotTls,
    /// The connection ended, or another failure.
    Broken,
}

impl TlsFault {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 9] = [
        Self::Expired,
        Self::NotYetValid,
        Self::OtherHost,
        Self::UnknownIssuer,
        Self::InvalidCertificate,
        Self::ClientCertificate,
        Self::Incompatible,
        Self::NotTls,
        Self::Broken,
    ];

    /// Classifies the error of a handshake.
    pub(crate) fn of(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<Error>());
        match tls {
            Some(Error::InvalidCertificate(error)) => Self::of_certificate(error),
            Some(Error::NoCertificatesPresented) => Self::InvalidCertificate,
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::AlertReceived(alert)) => Self::of_alert(*alert),
            _ => Self::Broken,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherHost
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            _ => Self::InvalidCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA => Self::ClientCertificate,
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol => Self::Incompatible,
            _ => Self::Broken,
        }
    }

    /// Returns `true` if the certificate was received and rejected.
    pub(crate) const fn is_about_certificate(self) -> bool {
        matches!(
            self,
            Self::Expired
                | Self::NotYetValid
                | Self::OtherHost
                | Self::UnknownIssuer
                | Self::InvalidCertificate
        )
    }

    /// Returns the reason, as a clause.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not yet valid",
            Self::OtherHost => "the certificate is for another host",
            Self::UnknownIssuer => "the certificate's issuer is not trusted",
            Self::InvalidCertificate => "the certificate is invalid",
            Self::ClientCertificate => "the peer requires a client certificate",
            Self::Incompatible => "no TLS version or cipher suite in common",
            Self::NotTls => "the peer does not speak TLS",
            Self::Broken => "the connection ended during the handshake",
        }
    }

    /// Returns the first thing that an operator should check.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Expired => {
                "check this machine's clock; if it is right, the server or an inspecting proxy must renew its certificate"
            }
            Self::NotYetValid => {
                "check this machine's clock, which may be behind; otherwise wait, or replace the certificate"
            }
            Self::OtherHost => {
                "another server responds; check the host name, the resolver, and proxies on the path"
            }
            Self::UnknownIssuer => {
                "if a corporate proxy inspects TLS, add its root certificate to upstream.ca_file; otherwise the connection is intercepted"
            }
            Self::InvalidCertificate => {
                "examine it with openssl s_client -connect HOST:443 -showcerts; it must be replaced on the server or proxy"
            }
            Self::ClientCertificate => {
                "an intermediary demands client certificates, which are not supported; exempt the gateway on it"
            }
            Self::Incompatible => {
                "TLS 1.2 or 1.3 is required; check for an old proxy or load balancer on the path"
            }
            Self::NotTls => "check the port and the scheme, and for a proxy that responds in clear",
            Self::Broken => "look for a proxy or firewall that blocks TLS 1.2 and 1.3",
        }
    }
}

/// Returns why the certificate was rejected, if the handshake failed for that reason.
pub(crate) fn certificate_problem(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    matches!(error, Error::InvalidCertificate(_)).then(|| describe(error))
}

/// Returns why a certificate cannot be used. rustls prints the names of Rust variants for these.
pub(crate) fn describe(error: &Error) -> String {
    let problem = match error {
        Error::InvalidCertificate(CertificateError::BadEncoding) => "its encoding is not valid DER",
        Error::InvalidCertificate(CertificateError::BadSignature) => "its signature is wrong",
        Error::InvalidCertificate(CertificateError::Revoked) => "it is revoked",
        Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension) => {
            "it has an unknown critical extension"
        }
        // The error of the verifier has no type here.
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.to_string() == "CaUsedAsEndEntity" =>
        {
            "it is the certificate of a CA (basicConstraints CA:TRUE), not of a server"
        }
        error => return error.to_string(),
    };
    problem.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_error_has_its_fault() {
        for (error, fault) in [
            (CertificateError::Expired, TlsFault::Expired),
            (CertificateError::NotValidYet, TlsFault::NotYetValid),
            (CertificateError::NotValidForName, TlsFault::OtherHost),
            (CertificateError::UnknownIssuer, TlsFault::UnknownIssuer),
            (CertificateError::Revoked, TlsFault::InvalidCertificate),
            (CertificateError::BadSignature, TlsFault::UnknownIssuer),
            (CertificateError::BadEncoding, TlsFault::InvalidCertificate),
        ] {
            let wrapped = io::Error::other(Error::InvalidCertificate(error));
            assert_eq!(TlsFault::of(&wrapped), fault);
            assert!(fault.is_about_certificate());
        }
    }

    #[test]
    fn other_failures_are_not_blamed_on_the_certificate() {
        let alert = |alert| io::Error::other(Error::AlertReceived(alert));
        for (error, fault) in [
            (io::ErrorKind::UnexpectedEof.into(), TlsFault::Broken),
            (
                alert(AlertDescription::ProtocolVersion),
                TlsFault::Incompatible,
            ),
            (
                alert(AlertDescription::CertificateRequired),
                TlsFault::ClientCertificate,
            ),
            (alert(AlertDescription::InternalError), TlsFault::Broken),
        ] {
            assert_eq!(TlsFault::of(&error), fault);
            assert!(!fault.is_about_certificate());
        }
    }

    #[test]
    fn only_an_unknown_issuer_is_a_matter_of_ca_file() {
        for fault in TlsFault::ALL {
            assert_eq!(
                fault.advice().contains("upstream.ca_file"),
                fault == TlsFault::UnknownIssuer,
                "{fault:?}"
            );
        }
    }

    #[test]
    fn certificate_problems_are_words() {
        let of = |error| {
            let error = Error::InvalidCertificate(error);
            certificate_problem(&io::Error::other(error)).unwrap()
        };
        assert_eq!(
            of(CertificateError::BadEncoding),
            "its encoding is not valid DER"
        );
        let ca = rustls::OtherError(std::sync::Arc::new(io::Error::other("CaUsedAsEndEntity")));
        assert_eq!(
            of(CertificateError::Other(ca)),
            "it is the certificate of a CA (basicConstraints CA:TRUE), not of a server"
        );
        assert_eq!(
            certificate_problem(&io::ErrorKind::UnexpectedEof.into()),
            None
        );
    }
}
