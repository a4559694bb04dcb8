//! The TLS handshake and the signer of the certificate.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::check::{Check, CheckKind};
use super::endpoint::{Endpoint, innermost};
use crate::config::UpstreamSettings;
use crate::tls::fault::{TlsFault, certificate_problem};
use crate::upstream::dial::{DialConfig, DialTarget, tls};
use crate::upstream::tls::Verifiers;

/// Limit on a signer's name, in characters: the server may be anything.
const MAX_SIGNER_CHARS: usize = 200;

/// Performs the handshake as the gateway does.
pub(super) async fn examine(
    endpoint: &Endpoint,
    socket: TcpStream,
    name: &ServerName<'static>,
    dial_config: &DialConfig,
    verifiers: &Verifiers,
    upstream: &UpstreamSettings,
) -> Check {
    let observer = Arc::new(Observer::new(verifiers.clone()));
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&observer) as _;
    let dial_config = dial_config.clone().with_verifier(&verifier);
    let target = DialTarget {
        host: &endpoint.host,
        port: endpoint.port,
        server_name: Some(name),
    };
    let began = Instant::now();
    let limit = upstream.connect_timeout;
    let deadline = began + limit;
    let handshake = tls::secure(socket, target, name, &dial_config, deadline);
    let shaken = timeout_at(deadline, handshake).await;
    let seen = observer.take();
    let check = match shaken {
        Ok(Ok(stream)) => {
            let session = stream.session();
            let version = version(session.protocol_version());
            let alpn = session
                .alpn_protocol()
                .map_or("http/1.1".into(), String::from_utf8_lossy)
                .into_owned();
            let small_hello = dial_config.uses_small_hello();
            accepted(endpoint, &version, &alpn, seen, small_hello)
        }
        Ok(Err(error)) => rejected(endpoint, &error, seen, upstream),
        Err(_) => {
            let detail = format!("no handshake within {}", humantime::format_duration(limit));
            Check::failed(
                CheckKind::Tls,
                endpoint,
                detail,
                "look for a firewall that blocks TLS",
            )
        }
    };
    check.took(began.elapsed())
}

fn accepted(
    endpoint: &Endpoint,
    version: &str,
    alpn: &str,
    seen: Option<PresentedChain>,
    small_hello: bool,
) -> Check {
    let PresentedChain { signer, by_system } = seen.unwrap_or_default();
    let (remark, trusted_by) = if by_system {
        ("", "system")
    } else {
        (
            ", trusted through upstream.ca_file only: a TLS-inspecting proxy, or a test",
            "ca_file",
        )
    };
    let detail = format!("{version}, {alpn}, signed by {signer}{remark}");
    let check = if small_hello {
        let detail =
            format!("{detail}; the network rejects a ClientHello with a post-quantum key share");
        let advice = "update the firewall or proxy that inspects TLS; until then connections use no post-quantum key exchange";
        Check::warning(CheckKind::Tls, endpoint, detail, advice)
    } else {
        Check::ok(CheckKind::Tls, endpoint, detail)
    };
    let check = check.fact("version", version).fact("alpn", alpn);
    check.fact("signer", signer).fact("trusted_by", trusted_by)
}

fn rejected(
    endpoint: &Endpoint,
    error: &io::Error,
    seen: Option<PresentedChain>,
    upstream: &UpstreamSettings,
) -> Check {
    let fault = TlsFault::of(error);
    let signer = seen.map(|seen| seen.signer).unwrap_or_default();
    let detail = match fault {
        TlsFault::UnknownIssuer => {
            format!("the certificate is signed by {signer}, which is not trusted")
        }
        TlsFault::InvalidCertificate => format!(
            "the certificate, signed by {signer}, is invalid: {}",
            certificate_problem(error).unwrap_or_else(|| innermost(error))
        ),
        fault if fault.is_about_certificate() => {
            let state = fault.reason().trim_start_matches("the certificate ");
            format!("the certificate, signed by {signer}, {state}")
        }
        fault => format!("no handshake: {} ({})", fault.reason(), innermost(error)),
    };
    let advice = match fault {
        TlsFault::UnknownIssuer => {
            let file = upstream.ca_file.as_ref().map_or_else(
                || "a file and set upstream.ca_file to it".to_owned(),
                |file| format!("{} (upstream.ca_file)", file.display()),
            );
            format!(
                "if that is the root of your TLS-inspecting proxy, add it (PEM) to {file}; otherwise the connection is \
                 intercepted"
            )
        }
        fault => fault.advice().to_owned(),
    };
    Check::failed(CheckKind::Tls, endpoint, detail, advice).fact("signer", signer)
}

pub(super) fn version(version: Option<ProtocolVersion>) -> String {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The certificate chain a server presented.
#[derive(Debug, Default)]
struct PresentedChain {
    /// Issuer of the last certificate sent.
    signer: String,
    /// Whether the system's roots alone verify it.
    by_system: bool,
}

/// Records the chain and decides as the gateway's verifier does.
#[derive(Debug)]
pub(super) struct Observer {
    verifiers: Verifiers,
    seen: Mutex<Option<PresentedChain>>,
}

impl Observer {
    pub(super) fn new(verifiers: Verifiers) -> Self {
        Self {
            verifiers,
            seen: Mutex::default(),
        }
    }

    fn take(&self) -> Option<PresentedChain> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Returns the signer of the certificate, if one was presented.
    pub(super) fn signer(&self) -> Option<String> {
        self.take().map(|seen| seen.signer)
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        let seen = PresentedChain {
            signer: signer(intermediates.last().unwrap_or(end_entity)),
            by_system: self
                .verifiers
                .system
                .as_deref()
                .is_some_and(|system| by(system).is_ok()),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        by(&*self.verifiers.all)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifiers
            .all
            .verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifiers
            .all
            .verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifiers.all.supported_verify_schemes()
    }
}

fn signer(certificate: &CertificateDer<'_>) -> String {
    let issuer =
        Certificate::from_der(certificate).map(|read| read.tbs_certificate().issuer().to_string());
    let name: String = issuer
        .unwrap_or_default()
        .chars()
        .take(MAX_SIGNER_CHARS)
        .collect();
    if name.is_empty() {
        "an unnamed issuer".to_owned()
    } else {
        name
    }
}
