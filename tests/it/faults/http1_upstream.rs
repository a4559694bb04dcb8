//! An HTTP/1.1 upstream that fails before the end of its response head.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex};

use testkit::socket_end::SocketEnd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Ended, Script, Sent, deviations};
use crate::harness::Gateway;

/// The gateway's conclusion from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The connection failed, or what arrived may be left from an earlier exchange.
    Broken,
    /// The head is too large.
    TooLarge,
    TimedOut,
}

#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    /// The bytes that the upstream sends.
    bytes: fn() -> Vec<u8>,
    end: SocketEnd,
    kind: Kind,
}

impl super::Fault for Fault {
    fn expected(self, is_reused: bool, sent: Sent) -> Ended {
        match self.kind {
            Kind::Broken if is_reused && sent.is_repeatable() => Ended::resent(),
            Kind::Broken | Kind::TooLarge => Ended::failed(502, "upstream_broken"),
            Kind::TimedOut => Ended::failed(504, "upstream_timeout"),
        }
    }
}

impl Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn fault(name: &'static str, bytes: fn() -> Vec<u8>, end: SocketEnd, kind: Kind) -> Fault {
    Fault {
        name,
        bytes,
        end,
        kind,
    }
}

const PARTIAL: &str = "HTTP/1.1 200 OK\r\nContent-Len";
/// The same of HTTP/1.0. Before its head, an upstream of that version differs in nothing.
const PARTIAL_1_0: &str = "HTTP/1.0 200 OK\r\nContent-Len";

const FAULTS: [Fault; 26] = {
    use Kind::{Broken, TimedOut, TooLarge};
    use SocketEnd::{Drip, Fin, HalfClose, Rst, Stall};
    [
        fault("close", Vec::new, Fin, Broken),
        fault("half-close", Vec::new, HalfClose, Broken),
        fault("reset", Vec::new, Rst, Broken),
        fault("close within the head", || PARTIAL.into(), Fin, Broken),
        fault("reset within the head", || PARTIAL.into(), Rst, Broken),
        fault(
            "half-close within the head",
            || PARTIAL.into(),
            HalfClose,
            Broken,
        ),
        fault("close in 1.0", || PARTIAL_1_0.into(), Fin, Broken),
        fault(
            "half-close in 1.0",
            || PARTIAL_1_0.into(),
            HalfClose,
            Broken,
        ),
        fault("reset in 1.0", || PARTIAL_1_0.into(), Rst, Broken),
        fault("stall in 1.0", || PARTIAL_1_0.into(), Stall, TimedOut),
        fault("stall", Vec::new, Stall, TimedOut),
        fault("stall within the head", || PARTIAL.into(), Stall, TimedOut),
        fault(
            "drip within the head",
            || format!("{PARTIAL}gth: 2\r\nX-A: ").into(),
            Drip,
            TimedOut,
        ),
        fault(
            "another protocol",
            || "SSH-2.0-OpenSSH_9.6\r\n".into(),
            Stall,
            Broken,
        ),
        fault(
            "TLS alert",
            || b"\x15\x03\x03\x00\x02\x02\x28".into(),
            Stall,
            Broken,
        ),
        fault(
            "frames of HTTP/2",
            || b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64".into(),
            Stall,
            Broken,
        ),
        fault("HTTP/0.9", || "<html></html>\n".into(), Fin, Broken),
        fault("NUL bytes", || vec![0; 100], Stall, Broken),
        fault(
            "status without digits",
            || "HTTP/1.1 2OO OK\r\n\r\n".into(),
            Stall,
            Broken,
        ),
        fault(
            "101",
            || "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n".into(),
            Stall,
            Broken,
        ),
        fault(
            "two lengths",
            || "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx".into(),
            Stall,
            Broken,
        ),
        fault(
            "negative length",
            || "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}".into(),
            Stall,
            Broken,
        ),
        fault(
            "interim responses without end",
            || "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000).into(),
            Stall,
            Broken,
        ),
        fault(
            "interim responses, then close",
            || "HTTP/1.1 100 Continue\r\n\r\n".repeat(3).into(),
            Fin,
            Broken,
        ),
        fault(
            "too many fields",
            || format!("HTTP/1.1 200 OK\r\n{}", "X-A: b\r\n".repeat(2000) + "\r\n").into(),
            Stall,
            TooLarge,
        ),
        fault(
            "too large head",
            || format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n", "b".repeat(200 * 1024)).into(),
            Stall,
            TooLarge,
        ),
    ]
};

/// An upstream that plays a fault once, and responds to other requests.
struct FaultyUpstream {
    url: String,
    script: Arc<Mutex<Script<Fault>>>,
}

impl FaultyUpstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::RespondAndClose));
        let current = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                tokio::spawn(serve(socket, Arc::clone(&current)));
            }
        });
        Self { url, script }
    }
}

/// Reads the next request; returns `false` at the end of the connection.
pub(super) async fn read_request(socket: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    loop {
        let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if request.len() >= end + 4 + length {
                return true;
            }
        }
        if !matches!(socket.read_buf(&mut request).await, Ok(1..)) {
            return false;
        }
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Mutex<Script<Fault>>>) {
    while read_request(&mut socket).await {
        let turn = script.lock().unwrap().next();
        let close = match turn {
            Script::Fail(fault) => {
                socket.write_all(&(fault.bytes)()).await.ok();
                return fault.end.apply(socket).await;
            }
            Script::Respond => "",
            Script::RespondAndClose => "Connection: close\r\n",
        };
        let response = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: 0\r\n\r\n");
        socket.write_all(response.as_bytes()).await.ok();
    }
}

#[tokio::test]
async fn rfc9110_9_2_2_request_of_a_failed_http1_exchange_is_sent_again_only_if_it_is_safe() {
    let play = async |are_slow: bool, requests: &[Sent], more: &str| {
        let upstream = FaultyUpstream::start().await;
        let plan = Gateway::with_api_url(&upstream.url).with(more);
        let gateway = plan.start().await;
        let faults = FAULTS.into_iter();
        let faults = faults.filter(|fault| (fault.kind == Kind::TimedOut) == are_slow);
        deviations(&gateway, &upstream.script, faults, requests).await
    };
    let (others, slow) = tokio::join!(
        play(false, &Sent::ALL, ""),
        play(true, &Sent::FEW, "[upstream]\nresponse_timeout = \"200ms\""),
    );
    let wrong = [others.1, slow.1].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(others.0 + slow.0, 508);
}
