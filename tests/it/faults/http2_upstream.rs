//! An HTTP/2 upstream that fails, before its response head and after it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::http2::{
    DATA, END_STREAM, HEADERS, Http2Upstream, Http2Wire, MAX_CONCURRENT_STREAMS, NO_ERROR,
    REFUSED_STREAM, RST_STREAM, SETTINGS,
};

use super::{Ended, Script, Sent, deviations, recorded};
use crate::harness::{get, get_with};
use crate::send::http2::in_front_of;

/// Every code (RFC 9113 section 7), and one that is not assigned.
const CODES: std::ops::RangeInclusive<u32> = 0..=14;

const CONTINUATION: u8 = 9;
const WINDOW_UPDATE: u8 = 8;
const PUSH_PROMISE: u8 = 5;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// A field section of `:status` 200 and of a field whose value, of 126 bytes, is missing.
const PARTIAL_HEAD: &[u8] = b"\x88\x00\x03x-a\x7e";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// RST_STREAM.
    Reset(u32),
    /// GOAWAY that excludes the stream.
    GoAwayBefore(u32),
    /// GOAWAY that includes the stream, then a close.
    GoAwayAndClose(u32),
    Close,
    /// FIN while the upstream still reads.
    HalfClose,
    /// TCP reset.
    Rst,
    /// The bytes of the upstream are no HTTP/2.
    Http1,
    /// A frame that is larger than the limit.
    LargeFrame,
    /// DATA before the head.
    DataFirst,
    /// A field section that cannot be decoded.
    InvalidFields,
    /// SETTINGS that are invalid.
    InvalidSettings,
    /// A window above the maximum.
    LargeWindow,
    Push,
    /// Interim responses without end.
    Interim,
    /// The end of the stream after an interim response.
    InterimOnly,
    /// A head above the bound.
    LargeHead,
    /// Nothing.
    Stall,
    /// HEADERS without the frames that complete it.
    StallInHead,
    /// CONTINUATION frames of one byte each.
    Drip,
}

impl super::Fault for Fault {
    fn expected(self, is_reused: bool, sent: Sent) -> Ended {
        match self.kind() {
            Kind::Unprocessed => Ended::resent(),
            Kind::Broken if is_reused && sent.is_repeatable() => Ended::resent(),
            Kind::Broken | Kind::TooLarge => Ended::failed(502, "upstream_broken"),
            Kind::TimedOut => Ended::failed(504, "upstream_timeout"),
        }
    }
}

/// The gateway's conclusion from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unprocessed,
    Broken,
    TooLarge,
    TimedOut,
}

impl Fault {
    const ALL: [Self; 16] = [
        Self::Close,
        Self::HalfClose,
        Self::Rst,
        Self::Http1,
        Self::LargeFrame,
        Self::DataFirst,
        Self::InvalidFields,
        Self::InvalidSettings,
        Self::LargeWindow,
        Self::Push,
        Self::Interim,
        Self::InterimOnly,
        Self::LargeHead,
        Self::Stall,
        Self::StallInHead,
        Self::Drip,
    ];

    pub(super) fn of_codes() -> impl Iterator<Item = Self> {
        CODES.flat_map(|code| {
            [
                Self::Reset(code),
                Self::GoAwayBefore(code),
                Self::GoAwayAndClose(code),
            ]
        })
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Reset(REFUSED_STREAM) | Self::GoAwayBefore(_) => Kind::Unprocessed,
            Self::LargeHead => Kind::TooLarge,
            Self::Stall | Self::StallInHead | Self::Drip => Kind::TimedOut,
            _ => Kind::Broken,
        }
    }

    pub(super) async fn inject(self, wire: &mut Http2Wire, stream: u32) {
        match self {
            Self::Reset(code) => wire.reset(stream, code).await,
            Self::GoAwayBefore(code) => wire.go_away(stream - 1, code).await,
            Self::GoAwayAndClose(code) => wire.go_away(stream, code).await,
            Self::Close | Self::Stall => {}
            Self::HalfClose => wire.half_close().await,
            Self::Rst => wire.reset_on_drop(),
            Self::Http1 => {
                wire.write_bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
            // Its length is that of the frame head alone.
            Self::LargeFrame => {
                wire.write_bytes(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])
                    .await
            }
            Self::DataFirst => wire.write(DATA, END_STREAM, stream, b"{}").await,
            Self::InvalidFields => {
                wire.write(HEADERS, END_HEADERS, stream, b"\xff\xff\xff\xff\xff")
                    .await
            }
            // SETTINGS_ENABLE_PUSH of a server.
            Self::InvalidSettings => wire.write(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]).await,
            Self::LargeWindow => {
                wire.write(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())
                    .await
            }
            Self::Push => {
                let promise = b"\0\0\0\x02\x82\x87\x84\x41\x09localhost";
                wire.write(PUSH_PROMISE, END_HEADERS, stream, promise).await;
            }
            Self::Interim => {
                for _ in 0..100 {
                    wire.write_fields(stream, &[(":status", "103")], 0).await;
                }
            }
            Self::InterimOnly => {
                wire.write_fields(stream, &[(":status", "103")], END_STREAM)
                    .await
            }
            Self::LargeHead => {
                let large = "b".repeat(200 * 1024);
                let fields = [(":status", "200"), ("x-a", large.as_str())];
                wire.write_fields(stream, &fields, END_STREAM).await;
            }
            Self::StallInHead => wire.write(HEADERS, 0, stream, PARTIAL_HEAD).await,
            Self::Drip => {
                wire.write(HEADERS, 0, stream, PARTIAL_HEAD).await;
                for _ in 0..100 {
                    wire.write(CONTINUATION, 0, stream, b"b").await;
                    // The response timeout is longer. More frames in it would be a flood.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Returns `true` if the connection could carry other requests afterwards.
    pub(super) fn keeps_the_connection(self) -> bool {
        matches!(
            self,
            Self::Reset(_) | Self::Interim | Self::InterimOnly | Self::LargeHead
        )
    }

    /// Returns `true` if the upstream closes the connection.
    pub(super) fn closes(self) -> bool {
        matches!(self, Self::Close | Self::Rst | Self::GoAwayAndClose(_))
    }
}

async fn serve(mut wire: Http2Wire, script: Arc<Mutex<Script<Fault>>>) {
    while let Some(stream) = next_request(&mut wire).await {
        let turn = script.lock().unwrap().next();
        let is_last = match turn {
            Script::Respond => false,
            Script::Fail(fault) => fault.keeps_the_connection(),
            Script::RespondAndClose => true,
        };
        if is_last {
            // Before the response, so that the next request is certainly on another connection.
            wire.go_away(stream, NO_ERROR).await;
        }
        if let Script::Fail(fault) = turn {
            fault.inject(&mut wire, stream).await;
            if fault.closes() {
                return;
            }
        } else {
            wire.write_fields(stream, &[(":status", "200")], END_STREAM)
                .await;
        }
    }
}

/// Returns the stream of the next complete request, or `None` at the end of the connection.
async fn next_request(wire: &mut Http2Wire) -> Option<u32> {
    loop {
        let frame = wire.next_at_any_time().await?;
        if frame.ends_stream() {
            return Some(frame.stream);
        }
    }
}

/// Plays the faults for the requests. Returns the number of cells and the deviations.
async fn play(
    faults: impl Iterator<Item = Fault>,
    requests: &[Sent],
    more: &str,
) -> (usize, Vec<String>) {
    let script = Arc::new(Mutex::new(Script::RespondAndClose));
    let current = Arc::clone(&script);
    let upstream = Http2Upstream::serving(move |wire| serve(wire, Arc::clone(&current))).await;
    let gateway = in_front_of(&upstream).with(more).start().await;
    deviations(&gateway, &script, faults, requests).await
}

#[tokio::test]
async fn rfc9113_8_7_request_of_a_failed_http2_exchange_is_sent_again_only_if_it_is_safe() {
    let is_slow = |fault: &Fault| fault.kind() == Kind::TimedOut;
    let faults = Fault::ALL.into_iter();
    let (others, slow) = tokio::join!(
        play(
            faults.clone().filter(|fault| !is_slow(fault)),
            &Sent::ALL,
            ""
        ),
        play(
            faults.filter(is_slow),
            &Sent::FEW,
            "[upstream]\nresponse_timeout = \"200ms\""
        ),
    );
    let wrong = [others.1, slow.1].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(others.0 + slow.0, 304);
}

#[tokio::test]
async fn rfc9113_8_7_code_of_a_reset_or_goaway_determines_whether_a_request_is_sent_again() {
    let (cells, wrong) = play(Fault::of_codes(), &Sent::FEW, "").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells, 270);
}

#[tokio::test]
async fn rfc9113_8_1_response_that_is_reset_with_any_code_is_truncated() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    let mut wire: Option<Http2Wire> = None;
    for code in CODES {
        for length in ["10", ""] {
            let id = format!("code-{code}-{length}");
            let mut caller = gateway.connect().await;
            caller
                .write(get_with("/", &format!("Citrix-TransactionId: {id}\r\n")))
                .await;
            if wire.is_none() {
                wire = Some(upstream.connection().await);
            }
            let wire = wire.as_mut().unwrap();
            let (stream, _) = wire.request().await;
            let fields = [(":status", "200"), ("content-length", length)];
            let fields = if length.is_empty() {
                &fields[..1]
            } else {
                &fields
            };
            wire.write_fields(stream, fields, 0).await;
            wire.write(DATA, 0, stream, b"hello").await;
            wire.reset(stream, code).await;
            let response = caller.response().await;
            let recorded = recorded(&gateway, &id).await;
            if response.text() != "hello" || response.complete || recorded["end"] != "cut_off" {
                wrong.push(format!(
                    "{code} {length:?}: {response:?}, recorded {recorded}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A reset stream harms no other.
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9113_8_1_1_response_that_is_longer_than_its_length_is_truncated() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write(get_with("/", "Citrix-TransactionId: longer\r\n"))
        .await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let (stream, _) = wire.request().await;
        wire.write_fields(stream, &[(":status", "200"), ("content-length", "10")], 0)
            .await;
        wire.write(DATA, 0, stream, b"hello").await;
        wire.write(DATA, END_STREAM, stream, b"more than that")
            .await;
        let end = wire.next().await.expect("the end of the stream");
        assert_eq!((end.kind, end.stream), (RST_STREAM, stream));
        wire
    };
    let (response, _wire) = tokio::join!(caller.response(), serve);
    assert_eq!(response.status(), 200);
    assert!(
        !response.complete && "hello".starts_with(&response.text()),
        "{response:?}"
    );
    assert_eq!(recorded(&gateway, "longer").await["end"], "cut_off");
}

#[tokio::test]
async fn rfc9113_8_1_upload_that_is_reset_with_any_code_keeps_its_early_response() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    let mut wire: Option<Http2Wire> = None;
    for code in CODES {
        let mut caller = gateway.connect().await;
        caller
            .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
            .await;
        if wire.is_none() {
            wire = Some(upstream.connection().await);
        }
        let wire = wire.as_mut().unwrap();
        let stream = wire.head().await;
        wire.write_fields(stream, &[(":status", "413"), ("content-length", "2")], 0)
            .await;
        wire.write(DATA, END_STREAM, stream, b"{}").await;
        wire.reset(stream, code).await;
        let response = caller.response().await;
        if (
            response.status(),
            response.text().as_str(),
            response.complete,
        ) != (413, "{}", true)
        {
            wrong.push(format!("{code}: {response:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9113_5_2_upload_without_a_window_ends_with_the_response_timeout() {
    let upstream = Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    let plan = in_front_of(&upstream).with("[upstream]\nresponse_timeout = \"50ms\"");
    let gateway = plan.start().await;
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
    gateway.raw(request).await.problem(504, "upstream_timeout");
    let mut wire = upstream.connection().await;
    let stream = wire.head().await;
    let end = wire.next().await.expect("the end of the stream");
    assert_eq!((end.kind, end.stream), (RST_STREAM, stream));
}

#[tokio::test]
async fn rfc9113_5_1_2_request_that_the_upstream_permits_no_stream_ends_with_the_timeout() {
    let upstream = Http2Upstream::with_settings(&[(MAX_CONCURRENT_STREAMS, 0)]).await;
    let plan = in_front_of(&upstream).with("[upstream]\nresponse_timeout = \"50ms\"");
    let gateway = plan.start().await;
    gateway.raw(get("/")).await.problem(504, "upstream_timeout");
}
