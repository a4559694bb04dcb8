//! Failed TLS handshakes: the reasons, their metric and a log line for each client.

use std::io;
use std::net::{IpAddr, SocketAddr};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use rustls::{AlertDescription, PeerIncompatible};

use super::caller::CertificateError;
use crate::system::log_limit::LogLimit;

/// The reason why a TLS handshake failed: the label `reason` of `tls_handshake_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// An HTTP request without TLS.
    PlainHttp,
    /// A TLS handshake on a listener without TLS.
    PlainListener,
    /// Neither TLS nor HTTP.
    NotTls,
    /// Only TLS 1.1 or older.
    ProtocolVersion,
    /// No common cipher suite, group or signature algorithm.
    Parameters,
    /// Only application protocols other than HTTP.
    Alpn,
    /// The client rejected the gateway's certificate.
    CertificateRejected,
    /// The client's certificate is missing or invalid.
    ClientCertificate,
    /// Not complete within `limits.header_read_timeout`.
    Timeout,
    /// The client disconnected.
    Closed,
    /// A violation of the protocol, or an unknown alert.
    Other,
}

impl HandshakeFailure {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::PlainHttp,
        Self::PlainListener,
        Self::NotTls,
        Self::ProtocolVersion,
        Self::Parameters,
        Self::Alpn,
        Self::CertificateRejected,
        Self::ClientCertificate,
        Self::Timeout,
        Self::Closed,
        Self::Other,
    ];

    /// Returns the label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::PlainListener => "plain_listener",
            Self::NotTls => "not_tls",
            Self::ProtocolVersion => "protocol_version",
            Self::Parameters => "parameters",
            Self::Alpn => "alpn",
            Self::CertificateRejected => "certificate_rejected",
            Self::ClientCertificate => "client_certificate",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    /// Returns the remedy, or the cause if there is none.
    const fn hint(self) -> &'static str {
        match self {
            Self::PlainHttp => "this address uses TLS; the client must use https",
            Self::PlainListener => "this address does not use TLS; the client must use http",
            Self::NotTls => "the client sends neither TLS nor HTTP",
            Self::ProtocolVersion => "the client must offer TLS 1.2 or 1.3",
            Self::Parameters => "no common cipher suite, group or signature algorithm",
            Self::Alpn => "the client offers neither h2 nor http/1.1 by ALPN",
            Self::CertificateRejected => {
                "the client must trust the CA of listen.tls.certificate, or that of intercept.ca, and use a name of the gateway"
            }
            Self::ClientCertificate => {
                "the client must present a certificate of listen.tls.client_ca"
            }
            Self::Timeout => "not complete within limits.header_read_timeout",
            Self::Closed => {
                "the client disconnected; it may not trust the CA of listen.tls.certificate or intercept.ca"
            }
            Self::Other => "violation of the protocol",
        }
    }

    /// Returns the reason of a handshake that ended with `error`.
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let source = error.get_ref();
        if source.is_some_and(|source| source.is::<CertificateError>()) {
            return Self::ClientCertificate;
        }
        match source.and_then(|source| source.downcast_ref()) {
            Some(source) => Self::of_rustls(source),
            None => match error.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Self::Closed,
                _ => Self::Other,
            },
        }
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::NoApplicationProtocol => Self::Alpn,
            rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
                Self::ClientCertificate
            }
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                // TLS 1.2 introduced it.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::ProtocolVersion,
            rustls::Error::PeerIncompatible(_) => Self::Parameters,
            _ => Self::Other,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate => Self::CertificateRejected,
            AlertDescription::ProtocolVersion => Self::ProtocolVersion,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                Self::Parameters
            }
            AlertDescription::NoApplicationProtocol => Self::Alpn,
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// Counts and logs failed handshakes.
#[derive(Debug)]
pub struct HandshakeFailures {
    /// In the order of [`HandshakeFailure::ALL`].
    counters: Vec<IntCounter>,
    lines: LogLimit<(Option<IpAddr>, HandshakeFailure)>,
}

impl HandshakeFailures {
    /// Registers the counters, all at 0.
    ///
    /// # Errors
    /// If the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "citrix_auth_proxy_tls_handshake_failures_total",
            "Failed TLS handshakes with callers, by reason.",
        );
        let counters = IntCounterVec::new(opts, &["reason"])?;
        registry.register(Box::new(counters.clone()))?;
        Ok(Self {
            counters: HandshakeFailure::ALL
                .map(|reason| counters.with_label_values(&[reason.label()]))
                .to_vec(),
            lines: LogLimit::default(),
        })
    }

    /// Counts a failure, and logs it once a minute for each address and reason.
    pub fn record(
        &self,
        failure: HandshakeFailure,
        peer: Option<SocketAddr>,
        error: Option<&io::Error>,
    ) {
        if let Some(counter) = self.counters.get(failure as usize) {
            counter.inc();
        }
        if let Some(suppressed) = self.lines.permit((peer.map(|peer| peer.ip()), failure)) {
            tracing::info!(
                peer = peer.map(tracing::field::display),
                reason = failure.label(),
                hint = failure.hint(),
                error = error.map(tracing::field::display),
                suppressed,
                "TLS handshake failed; connection closed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_derived_from_errors_of_rustls_and_of_the_system() {
        use rustls::Error;
        let rustls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, reason) in [
            (
                rustls(Error::AlertReceived(AlertDescription::UnknownCA)),
                "certificate_rejected",
            ),
            (
                rustls(Error::AlertReceived(AlertDescription::DecodeError)),
                "other",
            ),
            (rustls(Error::NoApplicationProtocol), "alpn"),
            (rustls(Error::NoCertificatesPresented), "client_certificate"),
            (
                rustls(PeerIncompatible::Tls12NotOffered.into()),
                "protocol_version",
            ),
            (
                rustls(PeerIncompatible::NoCipherSuitesInCommon.into()),
                "parameters",
            ),
            (
                io::Error::other(CertificateError::Expired),
                "client_certificate",
            ),
            (io::ErrorKind::UnexpectedEof.into(), "closed"),
            (io::Error::other("another"), "other"),
        ] {
            assert_eq!(HandshakeFailure::of(&error).label(), reason, "{error}");
        }
    }

    #[test]
    fn order_of_counters_is_that_of_the_reasons() {
        for (index, reason) in HandshakeFailure::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
