//! Faults of the token service on the wire, and their outcomes. That each outcome is retried is
//! tested with the keeper.

use std::fs;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use testkit::http2::{DATA, END_STREAM, HEADERS, Http2Upstream, Http2Wire};
use testkit::socket_end::SocketEnd;

use super::*;
use crate::tls::ALPN_H2;

/// A timeout for the ends that take it.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);

const GRANT: &str = r#"{"access_token":"t","expires_in":"3600"}"#;

/// A fault by name: what the service sends, what follows, and the outcome.
type Fault = (&'static str, String, SocketEnd, Outcome);

const PARTIAL: &str = "HTTP/1.1 200 OK\r\nContent-Len";

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

/// Returns faults before the end of the head.
fn faults_in_the_head() -> Vec<Fault> {
    use Outcome::{Malformed, Timeout, TooLarge, Truncated};
    use SocketEnd::{Drip, Fin, HalfClose, Rst, Stall};
    let partial = || PARTIAL.to_owned();
    vec![
        ("close", String::new(), Fin, Truncated),
        ("half-close", String::new(), HalfClose, Truncated),
        ("reset", String::new(), Rst, Truncated),
        ("stall", String::new(), Stall, Timeout),
        ("close within the head", partial(), Fin, Truncated),
        (
            "half-close within the head",
            partial(),
            HalfClose,
            Truncated,
        ),
        ("reset within the head", partial(), Rst, Truncated),
        ("stall within the head", partial(), Stall, Timeout),
        (
            "drip within the head",
            partial() + "gth: 40\r\nX-A: ",
            Drip,
            Timeout,
        ),
        (
            "two lengths",
            head("Content-Length: 40\r\nContent-Length: 41\r\n") + GRANT,
            Stall,
            Malformed,
        ),
        (
            "another protocol",
            "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
            Stall,
            Malformed,
        ),
        ("HTTP/0.9", GRANT.to_owned(), Fin, Malformed),
        ("NUL bytes", "\0".repeat(100), Stall, Malformed),
        (
            "interim responses",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(40_000),
            Stall,
            TooLarge,
        ),
        (
            "too many fields",
            head(&"X-A: b\r\n".repeat(2000)),
            Stall,
            Malformed,
        ),
        (
            "endless head",
            format!("HTTP/1.1 200 OK\r\nX-A: {}", "b".repeat(1_000_000)),
            Stall,
            Malformed,
        ),
    ]
}

/// Returns faults after the head.
fn faults_in_the_body() -> Vec<Fault> {
    use Outcome::{Empty, Http5xx, Timeout, Truncated};
    use SocketEnd::{Drip, Fin, Rst, Stall};
    let half = || head("Content-Length: 40\r\n") + &GRANT[..20];
    let chunk = || {
        format!(
            "{}28\r\n{GRANT}\r\n",
            head("Transfer-Encoding: chunked\r\n")
        )
    };
    vec![
        ("close within the body", half(), Fin, Truncated),
        ("reset within the body", half(), Rst, Truncated),
        ("stall within the body", half(), Stall, Timeout),
        (
            "drip within the body",
            head("Content-Length: 90000\r\n"),
            Drip,
            Timeout,
        ),
        ("close without the last chunk", chunk(), Fin, Truncated),
        ("stall without the last chunk", chunk(), Stall, Timeout),
        ("invalid chunk", chunk() + "zz\r\n", Stall, Truncated),
        (
            "short length",
            head("Content-Length: 20\r\n") + GRANT,
            Stall,
            Truncated,
        ),
        ("no body", head("Content-Length: 0\r\n"), Stall, Empty),
        (
            "503 without its body",
            "HTTP/1.1 503 Busy\r\nContent-Length: 500\r\n\r\nhello".to_owned(),
            Fin,
            Http5xx,
        ),
    ]
}

#[tokio::test]
async fn each_fault_of_an_http1_service_has_its_outcome() {
    let mut wrong = Vec::new();
    for (name, bytes, end, expected) in faults_in_the_head().into_iter().chain(faults_in_the_body())
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/t", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(bytes.as_bytes()).await.ok();
            end.apply(stream).await;
        });
        let timeout = if expected == Outcome::Timeout {
            SHORT_TIMEOUT
        } else {
            LONG_TIMEOUT
        };
        let result = log_in(TokenDialect::Oauth2, &url, timeout).await;
        let outcome = result.map_or_else(|error| error.outcome, |_| Outcome::Ok);
        if outcome != expected {
            wrong.push(format!("{name}: {outcome} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[derive(Clone, Copy, Debug)]
enum Http2Fault {
    Reset(u32),
    /// After half of the response.
    ResetLater(u32),
    GoAway(u32),
    Close,
    Http1,
    InvalidFields,
    Interim,
    LargeHead,
    EndlessBody,
    Stall,
}

impl Http2Fault {
    fn all() -> impl Iterator<Item = (Self, Outcome)> {
        let of_codes = (0..=14).flat_map(|code| {
            [
                Self::Reset(code),
                Self::ResetLater(code),
                Self::GoAway(code),
            ]
            .map(|fault| (fault, Outcome::Truncated))
        });
        of_codes.chain([
            (Self::Close, Outcome::Truncated),
            (Self::Http1, Outcome::Truncated),
            (Self::InvalidFields, Outcome::Truncated),
            (Self::Interim, Outcome::Truncated),
            (Self::LargeHead, Outcome::Truncated),
            (Self::EndlessBody, Outcome::TooLarge),
            (Self::Stall, Outcome::Timeout),
        ])
    }

    async fn inject(self, wire: &mut Http2Wire, stream: u32) {
        const STATUS: (&str, &str) = (":status", "200");
        match self {
            Self::Reset(code) => wire.reset(stream, code).await,
            Self::ResetLater(code) => {
                wire.write_fields(stream, &[STATUS], 0).await;
                wire.write(DATA, 0, stream, &GRANT.as_bytes()[..20]).await;
                wire.reset(stream, code).await;
            }
            Self::GoAway(code) => wire.go_away(stream - 1, code).await,
            Self::Close | Self::Stall => {}
            Self::Http1 => wire.write_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
            Self::InvalidFields => wire.write(HEADERS, 4, stream, &[0xff; 6]).await,
            Self::Interim => {
                for _ in 0..50_000 {
                    wire.write_fields(stream, &[(":status", "103")], 0).await;
                }
            }
            Self::LargeHead => {
                let large = "b".repeat(200 * 1024);
                wire.write_fields(stream, &[STATUS, ("x-a", &large)], END_STREAM)
                    .await;
            }
            Self::EndlessBody => {
                wire.write_fields(stream, &[STATUS], 0).await;
                for _ in 0..100 {
                    wire.write(DATA, 0, stream, &[b' '; 16 * 1024]).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn each_fault_of_an_http2_service_has_its_outcome() {
    let fault = Arc::new(std::sync::Mutex::new(Http2Fault::Stall));
    let current = Arc::clone(&fault);
    let service = Http2Upstream::serving(move |mut wire| {
        let fault = *current.lock().unwrap();
        async move {
            while let Some(frame) = wire.next_at_any_time().await {
                if frame.ends_stream() {
                    fault.inject(&mut wire, frame.stream).await;
                    if matches!(fault, Http2Fault::Close) {
                        return;
                    }
                }
            }
        }
    })
    .await;
    let mut roots = RootCertStore::empty();
    let pem = fs::read(service.ca_file()).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let tls = ClientConfigs::new(roots)
        .unwrap()
        .with(|config| config.alpn_protocols = vec![ALPN_H2.to_vec()]);
    let dial_config = DialConfig::new(tls, Egress::direct());
    let mut wrong = Vec::new();
    for (injected, expected) in Http2Fault::all() {
        *fault.lock().unwrap() = injected;
        let timeout = if expected == Outcome::Timeout {
            SHORT_TIMEOUT
        } else {
            LONG_TIMEOUT
        };
        let issuer = HttpIssuer::new(
            ControlClient::new(dial_config.clone(), timeout),
            Clock::SYSTEM,
        );
        let result = issuer
            .log_in(LoginRequest {
                url: &format!("{}/t", service.url()).parse().unwrap(),
                dialect: TokenDialect::Oauth2,
                client_id: "id",
                client_secret: &SecretString::from("secret"),
            })
            .await;
        let outcome = result.map_or_else(|error| error.outcome, |_| Outcome::Ok);
        if outcome != expected {
            wrong.push(format!("{injected:?}: {outcome} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_alert_of_the_service_is_a_tls_failure() {
    for alert in 0..=u8::MAX {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}/t",
            listener.local_addr().unwrap().port()
        );
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
            while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
        });
        let result = log_in(TokenDialect::Oauth2, &url, LONG_TIMEOUT).await;
        assert_eq!(outcome(result), Outcome::Tls, "{alert}");
    }
}
