//! Every way in which an upstream's response can end, on every kind of route, for every kind of
//! caller: a truncated response never ends cleanly, and a complete one always does
//! (interface §4.2).

mod caller;
mod upstream;

use std::io::ErrorKind;
use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::caller::{Caller, Received};
use self::upstream::{EndingUpstream, Protocol, Script, Transport};
use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, Upstream, get, wait_until, within_timeout};

/// A JSON document without links, so that a link-rewriting route does not change it.
const BODY: &str = r#"{"value":[{"Id":1,"Name":"one"},{"Id":2,"Name":"two"}]}"#;

/// The delimiter of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// `Content-Length`.
    Length,
    /// Chunks (HTTP/1.1).
    Chunked,
    /// The close of the connection (HTTP/1).
    Close,
    /// END_STREAM alone (HTTP/2).
    Stream,
}

/// The part of the response that the upstream sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing of the body.
    Head,
    Whole,
    /// With trailers after it.
    Trailers,
    /// The first half; if chunked, in a complete chunk.
    Half,
    /// The first half of a chunk.
    HalfChunk,
    /// The first half in a complete chunk, then a chunk size that is no number.
    InvalidChunk,
    /// Everything but the empty line after the last chunk.
    NoLastLine,
    /// END_STREAM on an empty DATA frame.
    EmptyLastFrame,
    /// Everything but END_STREAM.
    NoEndStream,
    /// The first half, with END_STREAM.
    HalfWithEndStream,
}

/// The event that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The connection remains open.
    Open,
    /// As `Open`, until `upstream.idle_timeout`.
    Stall,
    /// Orderly close, over TLS with close_notify.
    Fin,
    /// TLS only: FIN without close_notify.
    FinWithoutNotify,
    /// TCP reset.
    Rst,
    /// RST_STREAM.
    Reset(Reason),
    /// GOAWAY that excludes the stream.
    GoAwayBefore,
    /// GOAWAY that includes the stream, then FIN.
    GoAwayFin,
    /// GOAWAY that includes the stream, then the rest of the response.
    GoAwayRest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Complete,
    Truncated,
}

type Row = (Framing, Sent, End, Outcome);

mod rows {
    //! Limits the imports of variants.
    use super::End::{
        Fin, FinWithoutNotify, GoAwayBefore, GoAwayFin, GoAwayRest, Open, Reset, Rst, Stall,
    };
    use super::Framing::{Chunked, Close, Length, Stream};
    use super::Outcome::{Complete, Truncated};
    use super::Sent::{
        EmptyLastFrame, Half, HalfChunk, HalfWithEndStream, Head, InvalidChunk, NoEndStream,
        NoLastLine, Trailers, Whole,
    };
    use super::{Reason, Row};

    pub(super) const HTTP1: [Row; 28] = [
        (Length, Whole, Open, Complete),
        (Length, Whole, Fin, Complete),
        (Length, Whole, FinWithoutNotify, Complete),
        (Length, Whole, Rst, Complete),
        (Length, Head, Fin, Truncated),
        (Length, Half, Fin, Truncated),
        (Length, Half, FinWithoutNotify, Truncated),
        (Length, Half, Rst, Truncated),
        (Length, Half, Stall, Truncated),
        (Chunked, Whole, Open, Complete),
        (Chunked, Whole, Fin, Complete),
        (Chunked, Whole, FinWithoutNotify, Complete),
        (Chunked, Whole, Rst, Complete),
        (Chunked, Trailers, Open, Complete),
        (Chunked, Head, Fin, Truncated),
        (Chunked, Half, Fin, Truncated),
        (Chunked, Half, FinWithoutNotify, Truncated),
        (Chunked, Half, Rst, Truncated),
        (Chunked, Half, Stall, Truncated),
        (Chunked, HalfChunk, Fin, Truncated),
        (Chunked, InvalidChunk, Open, Truncated),
        (Chunked, NoLastLine, Fin, Truncated),
        (Chunked, NoLastLine, Rst, Truncated),
        // Nothing but an orderly close shows that this is the whole response.
        (Close, Whole, Fin, Complete),
        (Close, Whole, FinWithoutNotify, Truncated),
        (Close, Whole, Rst, Truncated),
        (Close, Half, Rst, Truncated),
        (Close, Half, Stall, Truncated),
    ];

    pub(super) const HTTP2: [Row; 34] = [
        (Length, Whole, Open, Complete),
        (Length, EmptyLastFrame, Open, Complete),
        (Length, Trailers, Open, Complete),
        (Length, Whole, Reset(Reason::NO_ERROR), Complete),
        (Length, Half, GoAwayRest, Complete),
        // The length is met.
        (Length, NoEndStream, Reset(Reason::NO_ERROR), Complete),
        (Length, HalfWithEndStream, Open, Truncated),
        (Length, Head, Reset(Reason::NO_ERROR), Truncated),
        (Length, Half, Reset(Reason::NO_ERROR), Truncated),
        (Length, Half, Reset(Reason::CANCEL), Truncated),
        (Length, Half, Reset(Reason::INTERNAL_ERROR), Truncated),
        (Length, Half, Reset(Reason::REFUSED_STREAM), Truncated),
        (Length, Half, GoAwayBefore, Truncated),
        (Length, Half, GoAwayFin, Truncated),
        (Length, Half, Fin, Truncated),
        (Length, Half, FinWithoutNotify, Truncated),
        (Length, Half, Rst, Truncated),
        (Length, Half, Stall, Truncated),
        (Stream, Whole, Open, Complete),
        (Stream, EmptyLastFrame, Open, Complete),
        (Stream, Trailers, Open, Complete),
        (Stream, Whole, Reset(Reason::NO_ERROR), Complete),
        (Stream, Half, GoAwayRest, Complete),
        (Stream, NoEndStream, Reset(Reason::NO_ERROR), Truncated),
        (Stream, Head, Reset(Reason::NO_ERROR), Truncated),
        (Stream, Half, Reset(Reason::NO_ERROR), Truncated),
        (Stream, Half, Reset(Reason::CANCEL), Truncated),
        (Stream, Half, Reset(Reason::INTERNAL_ERROR), Truncated),
        (Stream, Half, GoAwayBefore, Truncated),
        (Stream, Half, GoAwayFin, Truncated),
        (Stream, NoEndStream, Fin, Truncated),
        (Stream, Half, FinWithoutNotify, Truncated),
        (Stream, Half, Rst, Truncated),
        (Stream, Half, Stall, Truncated),
    ];
}

/// Returns the rows that apply to an upstream.
fn rows(protocol: Protocol, transport: Transport) -> impl Iterator<Item = Row> {
    let rows: &[Row] = if protocol == Protocol::Http2 {
        &rows::HTTP2
    } else {
        &rows::HTTP1
    };
    rows.iter().copied().filter(move |(framing, _, end, _)| {
        (*framing != Framing::Chunked || protocol == Protocol::Http11)
            && (*end != End::FinWithoutNotify || transport == Transport::Tls)
    })
}

/// An upstream with two gateways in front of it.
struct Setup {
    upstream: EndingUpstream,
    gateway: Gateway,
    /// With a short `upstream.idle_timeout`.
    impatient: Gateway,
    ca: TestCa,
}

impl Setup {
    async fn new(protocol: Protocol, transport: Transport) -> Self {
        let ca = TestCa::new("authority");
        let issued = ca.issue("localhost", &["localhost"]);
        let upstream = EndingUpstream::start(protocol, transport, &issued).await;
        let files = TlsFiles::new(&issued);
        files.write("ca.pem", &ca.pem());
        let start = |more: &'static str| {
            Gateway::with_api_url(&upstream.url)
                .with(&files.toml("address = \"127.0.0.1:0\""))
                .with(more)
                .set(
                    "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
                    &files.path("ca.pem").display().to_string(),
                )
                .start()
        };
        Self {
            gateway: start("").await,
            impatient: start("[upstream]\nidle_timeout = \"50ms\"").await,
            upstream,
            ca,
        }
    }

    /// Returns the deviation of one cell from its expected outcome.
    async fn deviation(&self, row: Row, path: &str, caller: Caller, id: &str) -> Option<String> {
        let (framing, sent, end, expected) = row;
        self.upstream.play(Script { framing, sent, end });
        let gateway = if end == End::Stall {
            &self.impatient
        } else {
            &self.gateway
        };
        let Received { outcome, body } = caller.get(gateway, &self.ca, path, id).await;
        let body_is_right = match expected {
            Outcome::Complete => body == BODY.as_bytes(),
            Outcome::Truncated => BODY.as_bytes().starts_with(&body),
        };
        let logged = logged_end(gateway, id).await;
        let expected_log = match expected {
            Outcome::Complete => "complete",
            Outcome::Truncated => "cut_off",
        };
        let is_right = outcome == Ok(expected) && body_is_right && logged == expected_log;
        (!is_right).then(|| {
            let body = String::from_utf8_lossy(&body).into_owned();
            format!("{row:?} {path} {caller:?}: {outcome:?}, logged {logged}, body {body}")
        })
    }
}

/// Returns `end` of the exchange with this id, as in the access log.
async fn logged_end(gateway: &Gateway, id: &str) -> String {
    let found = gateway.admin(get(&format!("/transactions/{id}"))).await;
    let found: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    let end = found["exchanges"][0]["end"].as_str();
    end.unwrap_or("nothing").to_owned()
}

async fn deviations(protocol: Protocol, transport: Transport) -> (usize, Vec<String>) {
    let setup = Setup::new(protocol, transport).await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for row in rows(protocol, transport) {
        for path in ["/plain", "/monitorodata/Machines"] {
            for caller in Caller::ALL {
                cells += 1;
                let id = format!("cell-{cells}");
                let deviation = setup.deviation(row, path, caller, &id).await;
                wrong.extend(deviation.map(|text| format!("{protocol:?} {transport:?} {text}")));
            }
        }
    }
    (cells, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_6_1_response_is_complete_for_the_caller_only_if_it_was_for_the_gateway() {
    let upstreams = [
        (Protocol::Http10, Transport::Tcp),
        (Protocol::Http10, Transport::Tls),
        (Protocol::Http11, Transport::Tcp),
        (Protocol::Http11, Transport::Tls),
        (Protocol::Http2, Transport::Tls),
    ];
    let upstreams = upstreams.map(|(protocol, transport)| deviations(protocol, transport));
    let (mut cells, mut wrong) = (0, Vec::new());
    for (count, deviations) in futures_util::future::join_all(upstreams).await {
        cells += count;
        wrong.extend(deviations);
    }
    assert!(
        wrong.is_empty(),
        "{} of {cells} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(cells, 1100);
}

#[tokio::test]
async fn rfc9113_8_1_token_response_reset_with_no_error_is_truncated() {
    let ca = TestCa::new("authority");
    let issued = ca.issue("localhost", &["localhost"]);
    let files = TlsFiles::new(&issued);
    files.write("ca.pem", &ca.pem());
    let tokens = EndingUpstream::start(Protocol::Http2, Transport::Tls, &issued).await;
    tokens.play(Script {
        framing: Framing::Stream,
        sent: Sent::NoEndStream,
        end: End::Reset(Reason::NO_ERROR),
    });
    let gateway = Gateway::with_api_url(&tokens.url)
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &tokens.url)
        .set(
            "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
            &files.path("ca.pem").display().to_string(),
        )
        .start()
        .await;
    wait_until("the login has failed", || async {
        let metrics = gateway.metrics().await;
        metrics.contains(r#"token_refreshes_total{customer="acme",outcome="truncated"} 1"#)
    })
    .await;
}

#[tokio::test]
async fn response_that_the_gateway_aborts_is_reset_for_an_http_1_0_caller() {
    for framing in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
        let request = get("/").replace("HTTP/1.1", "HTTP/1.0");
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut wire = upstream.connection().await;
        wire.request().await;
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        wire.write(head + "5\r\nhello").await;
        // The head has arrived, so the response has begun.
        caller.readable().await.unwrap();
        within_timeout(gateway.into_app().drain(Duration::from_millis(50))).await;
        let end = within_timeout(caller.read_to_end(&mut Vec::new())).await;
        assert_eq!(
            end.unwrap_err().kind(),
            ErrorKind::ConnectionReset,
            "{framing}"
        );
    }
}
