//! An egress proxy that fails before or after it opened a tunnel.

use testkit::socket_end::SocketEnd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::recorded;
use crate::harness::{Gateway, Upstream, get, get_with};

#[derive(Clone)]
struct Fault {
    name: &'static str,
    /// The proxy reads the CONNECT request first.
    reads: bool,
    bytes: String,
    end: SocketEnd,
    /// A part of the detail for the caller.
    detail: &'static str,
}

const PARTIAL: &str = "HTTP/1.1 200 Connection established\r\nProxy-Ag";
pub const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn fault(name: &'static str, bytes: &str, end: SocketEnd, detail: &'static str) -> Fault {
    Fault {
        name,
        reads: true,
        bytes: bytes.to_owned(),
        end,
        detail,
    }
}

/// Returns faults without a valid response to CONNECT.
fn faults_without_a_response() -> Vec<Fault> {
    use SocketEnd::{Drip, Fin, HalfClose, Rst, Stall};
    const INVALID: &str = "invalid response to CONNECT";
    const NO_TUNNEL: &str = "no tunnel within";
    let at_once = |fault: Fault| Fault {
        reads: false,
        ..fault
    };
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    let large = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "b".repeat(70_000));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    vec![
        at_once(fault("close at once", "", Fin, INVALID)),
        at_once(fault("reset at once", "", Rst, INVALID)),
        fault("close", "", Fin, INVALID),
        fault("half-close", "", HalfClose, INVALID),
        fault("reset", "", Rst, INVALID),
        fault("close within the head", PARTIAL, Fin, INVALID),
        fault("half-close in the head", PARTIAL, HalfClose, INVALID),
        fault("reset within the head", PARTIAL, Rst, INVALID),
        fault("stall", "", Stall, NO_TUNNEL),
        fault("stall within the head", PARTIAL, Stall, NO_TUNNEL),
        fault("drip", PARTIAL, Drip, NO_TUNNEL),
        fault("garbage", "\0\0\0\0\0\0\0\0\r\n\r\n", Stall, INVALID),
        fault("TLS alert", "\x15\x03\x03\0\x02\x02\x28", Stall, INVALID),
        fault("interim responses", &interim, Stall, INVALID),
        fault("large head", &large, Stall, INVALID),
        fault("many fields", &fields, Stall, INVALID),
    ]
}

/// Returns faults with a response to CONNECT: it rejects the request, or the tunnel fails.
fn faults_with_a_response() -> Vec<Fault> {
    use SocketEnd::{Fin, HalfClose, Rst, Stall};
    const TLS: &str = "TLS handshake failed: the connection ended";
    let status = |line: &'static str, rest: &str, end, detail| {
        fault(line, &format!("HTTP/1.1 {line}\r\n{rest}"), end, detail)
    };
    vec![
        status(
            "101 Switching Protocols",
            "\r\n",
            Stall,
            "CONNECT rejected with 101",
        ),
        status(
            "302 Found",
            "Content-Length: 0\r\n\r\n",
            Stall,
            "CONNECT rejected with 302",
        ),
        status(
            "407 Required",
            "Content-Length: 5\r\n\r\nhello",
            Stall,
            "CONNECT rejected with 407",
        ),
        status(
            "503 Busy",
            "Content-Length: 500\r\n\r\nhello",
            Stall,
            "CONNECT rejected with 503",
        ),
        status("504 Timeout", "\r\n", Fin, "CONNECT rejected with 504"),
        fault(
            "data in the tunnel",
            &format!("{OPEN}early"),
            Stall,
            "unexpected data",
        ),
        fault("close of the tunnel", OPEN, Fin, TLS),
        fault("half-close of the tunnel", OPEN, HalfClose, TLS),
        fault("reset of the tunnel", OPEN, Rst, TLS),
        fault("stall of the tunnel", OPEN, Stall, "timed out after"),
    ]
}

/// Reads a CONNECT request if the fault begins after it, and plays the fault.
pub async fn serve(mut socket: TcpStream, reads: bool, bytes: &[u8], end: SocketEnd) {
    let mut request = Vec::new();
    while reads && !request.ends_with(b"\r\n\r\n") {
        if !matches!(socket.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    socket.write_all(bytes).await.ok();
    end.apply(socket).await;
}

/// Returns the deviation of requests through a proxy with this fault.
async fn deviation(fault: Fault) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let Fault {
        name,
        reads,
        bytes,
        end,
        detail,
    } = fault;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move { serve(socket, reads, bytes.as_bytes(), end).await });
        }
    });
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set(
            "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
            &format!("http://{address}"),
        )
        .with("[[route]]\nprefix = \"/far\"\nupstream = \"https://far.invalid\"")
        .with("[upstream]\nconnect_timeout = \"300ms\"")
        .start()
        .await;
    // The server is behind the tunnel.
    let expected = match detail.starts_with(['T', 't']) {
        true => format!("far.invalid: {detail}"),
        false => format!("egress proxy {address}: {detail}"),
    };
    for method in ["GET", "POST"] {
        let id = format!("far-{method}");
        let request = get_with(
            "/far",
            &format!("Content-Length: 0\r\nCitrix-TransactionId: {id}\r\n"),
        );
        let response = gateway.raw(request.replacen("GET", method, 1)).await;
        let recorded = recorded(&gateway, &id).await;
        let is_right = response.status() == 502
            && response.field("x-proxy-error").as_deref() == Some("upstream_connect")
            && response.text().contains(&expected)
            && recorded["attempts"] == 0
            && recorded["reason"] == "upstream_connect";
        if !is_right {
            return Some(format!(
                "{name} {method}: {}, recorded {recorded}",
                response.text()
            ));
        }
    }
    None
}

#[tokio::test]
async fn any_fault_of_the_egress_proxy_returns_502_and_sends_nothing() {
    let faults = [faults_without_a_response(), faults_with_a_response()].concat();
    assert_eq!(faults.len(), 26);
    let wrong = futures_util::future::join_all(faults.into_iter().map(deviation)).await;
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn proxy_whose_name_does_not_resolve_is_named() {
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set(
            "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
            "http://proxy.invalid:3128",
        )
        .with("[[route]]\nprefix = \"/far\"\nupstream = \"https://far.invalid\"")
        .start()
        .await;
    let problem = gateway
        .raw(get("/far"))
        .await
        .problem(502, "upstream_connect");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("egress proxy proxy.invalid:3128: DNS lookup failed"),
        "{detail}"
    );
}
