//! Faults injected at each hop: what the caller gets, whether the request is sent again, and what is
//! recorded (docs/reliability.md, "Fault matrix"). How responses end after their head is tested in
//! `tests/it/endings.rs`.

mod broken_upload;
mod caller;
pub mod egress;
mod http1_upstream;
mod http2_upstream;
mod store;
mod tls;
mod unread_upload;
mod unsent;

use std::fmt::Debug;
use std::sync::Mutex;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::harness::{Gateway, Message, get, wait_until, within_timeout};

/// Versions of HTTP of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
    Http2,
}

/// A request of a caller.
#[derive(Clone, Copy, Debug)]
struct Sent {
    version: Version,
    method: &'static str,
    body: &'static str,
}

impl Sent {
    /// Requests of an HTTP/1.1 caller with each property that decides about another attempt, and
    /// some in the other versions.
    const ALL: [Self; 11] = {
        use Version::{Http2, Http10, Http11};
        const fn sent(version: Version, method: &'static str, body: &'static str) -> Sent {
            Sent {
                version,
                method,
                body,
            }
        }
        [
            sent(Http11, "GET", ""),
            sent(Http11, "HEAD", ""),
            sent(Http11, "DELETE", ""),
            sent(Http11, "PUT", ""),
            sent(Http11, "PUT", "body"),
            sent(Http11, "POST", ""),
            sent(Http11, "POST", "body"),
            sent(Http10, "GET", ""),
            sent(Http10, "POST", "body"),
            sent(Http2, "GET", ""),
            sent(Http2, "POST", "body"),
        ]
    };

    /// Those for faults that take time.
    const FEW: [Self; 3] = [Self::ALL[0], Self::ALL[6], Self::ALL[9]];

    /// Returns `true` if it may be sent again although the upstream may have processed it.
    fn is_repeatable(self) -> bool {
        self.method != "POST" && self.body.is_empty()
    }

    /// Sends it with this transaction id. Returns the status and the reason of the response.
    async fn send(self, gateway: &Gateway, id: &str) -> (u16, Option<String>) {
        if self.version == Version::Http2 {
            return self.send_http2(gateway, id).await;
        }
        let version = if self.version == Version::Http10 {
            0
        } else {
            1
        };
        let Self { method, body, .. } = self;
        let request = format!(
            "{method} / HTTP/1.{version}\r\nHost: localhost\r\nConnection: close\r\n\
             Citrix-TransactionId: {id}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut caller = gateway.connect().await;
        caller.write(request).await;
        let head: Message = caller.head().await;
        // To the end, so that the exchange is recorded.
        caller.rest().await;
        (head.status(), head.field("x-proxy-error"))
    }

    async fn send_http2(self, gateway: &Gateway, id: &str) -> (u16, Option<String>) {
        let mut http2 = gateway.http2().await;
        let request = http::Request::builder()
            .method(self.method)
            .uri(gateway.url("/"))
            .header("citrix-transactionid", id);
        let ends = self.body.is_empty();
        let (response, mut stream) = http2.send_request(request.body(()).unwrap(), ends).unwrap();
        if !ends {
            stream.send_data(self.body.into(), true).unwrap();
        }
        let response = within_timeout(response).await.unwrap();
        let reason = response.headers().get("x-proxy-error");
        let reason = reason.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(data) = within_timeout(body.data()).await {
            let length = data.unwrap().len();
            body.flow_control().release_capacity(length).unwrap();
        }
        (status, reason)
    }
}

/// The result of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    status: u16,
    /// Of a response of the gateway.
    reason: Option<&'static str>,
    /// Number of times the request was sent.
    attempts: usize,
}

impl Ended {
    /// Returns the result of a request that was sent again, and got a response.
    const fn resent() -> Self {
        Self {
            status: 200,
            reason: None,
            attempts: 2,
        }
    }

    /// Returns the result of a request that got a response at once.
    const fn served() -> Self {
        Self {
            status: 200,
            reason: None,
            attempts: 1,
        }
    }

    /// Returns the result of a request that was not sent again.
    const fn failed(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason: Some(reason),
            attempts: 1,
        }
    }
}

/// Returns the exchange with this id, as the access log and `/transactions/{id}` state it.
async fn recorded(gateway: &Gateway, id: &str) -> Value {
    let found = gateway.admin(get(&format!("/transactions/{id}"))).await;
    let found: Value = serde_json::from_slice(&found.body).unwrap();
    found["exchanges"][0].clone()
}

/// Sends a request and describes each way in which its result, or the record of it, is not the
/// expected one.
async fn deviation(gateway: &Gateway, sent: Sent, id: &str, expected: &Ended) -> Option<String> {
    let response = sent.send(gateway, id).await;
    let difference = difference(gateway, id, response, expected).await;
    difference.map(|text| format!("{sent:?}: {text}"))
}

/// Describes each way in which a response with this status and reason, or the record of it, is not
/// the expected one.
async fn difference(
    gateway: &Gateway,
    id: &str,
    (status, reason): (u16, Option<String>),
    expected: &Ended,
) -> Option<String> {
    let recorded = recorded(gateway, id).await;
    let is_right = status == expected.status
        && reason.as_deref() == expected.reason
        && recorded["status"] == expected.status
        && recorded["reason"].as_str() == expected.reason
        && recorded["attempts"] == expected.attempts
        && recorded["end"] == "complete";
    let recorded = ["status", "reason", "attempts", "end"].map(|field| &recorded[field]);
    (!is_right).then(|| format!("{status} {reason:?}, recorded {recorded:?}"))
}

/// Reads up to and including these bytes.
async fn read_to(socket: &mut TcpStream, end: &[u8]) {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        received.push(within_timeout(socket.read_u8()).await.unwrap());
    }
}

/// Returns the number of responses with this reason.
async fn errors(gateway: &Gateway, reason: &str) -> usize {
    let series = format!("citrix_auth_proxy_errors_total{{reason=\"{reason}\"}} ");
    let metrics = gateway.metrics().await;
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    count.unwrap().parse().unwrap()
}

/// A fault of an upstream before the end of its response head.
trait Fault: Copy + Debug {
    /// Returns the result that docs/reliability.md promises.
    fn expected(self, is_reused: bool, sent: Sent) -> Ended;
}

/// The treatment by an upstream of the requests that follow.
enum Script<F> {
    /// Respond, and keep the connections.
    Respond,
    /// Fail once; then respond, and end the connections.
    Fail(F),
    RespondAndClose,
}

impl<F> Script<F> {
    /// Returns what the upstream does with the next request.
    fn next(&mut self) -> Self {
        match self {
            Self::Respond => Self::Respond,
            _ => std::mem::replace(self, Self::RespondAndClose),
        }
    }
}

/// Plays the faults for each request, on new and on used connections. Returns the number of cells
/// and the deviations.
async fn deviations<F: Fault>(
    gateway: &Gateway,
    script: &Mutex<Script<F>>,
    faults: impl Iterator<Item = F>,
    requests: &[Sent],
) -> (usize, Vec<String>) {
    let requests =
        [false, true].map(|is_reused| requests.iter().map(move |&sent| (is_reused, sent)));
    let requests: Vec<_> = requests.into_iter().flatten().collect();
    let (mut cells, mut failures, mut wrong) = (0, 0, Vec::new());
    for fault in faults {
        for &(is_reused, sent) in &requests {
            if is_reused {
                *script.lock().unwrap() = Script::Respond;
                // The dial may take longer than a short response timeout.
                wait_until("a connection is at hand", || async {
                    gateway.raw(get("/")).await.status() == 200
                })
                .await;
            }
            *script.lock().unwrap() = Script::Fail(fault);
            cells += 1;
            let expected = fault.expected(is_reused, sent);
            failures += usize::from(expected.reason.is_some());
            let deviation = deviation(gateway, sent, &format!("cell-{cells}"), &expected).await;
            wrong.extend(deviation.map(|text| format!("{fault:?}, reused {is_reused}: {text}")));
        }
    }
    let counted =
        errors(gateway, "upstream_broken").await + errors(gateway, "upstream_timeout").await;
    if counted != failures {
        wrong.push(format!("{counted} failures counted instead of {failures}"));
    }
    (cells, wrong)
}
