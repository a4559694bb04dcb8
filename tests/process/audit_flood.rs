//! The audit log while callers and others flood the gateway and the reader of the log is slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::gateway::{Gateway, environment, get};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, wait_until, within_timeout};

/// Bytes that the reader of the log takes a second.
const SLOW: u32 = 200_000;
/// Requests of the modest caller.
const CHANGES: usize = 20;

/// Returns `[[caller]]` blocks whose secrets are the names.
fn callers(names: &[&str]) -> String {
    let block = |name: &&str| {
        let hash = hex::encode(digest(&SHA256, name.as_bytes()).as_ref());
        format!("[[caller]]\nname = \"{name}\"\nsecret_sha256 = \"{hash}\"\n")
    };
    names.iter().map(block).collect()
}

/// Starts a gateway with a slow reader of its log. The second value owns its servers and files.
async fn start(callers: &str) -> (Gateway, (Upstream, TokenEndpoint, tempfile::TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    std::fs::write(&config, callers).unwrap();
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), token_endpoint.url());
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let gateway = Gateway::start(&arguments, &environment(&api, &token)).await;
    gateway.program.limit_log_reader(SLOW);
    (gateway, (upstream, token_endpoint, folder))
}

/// Returns a request without a body, with the name of a caller as its secret.
fn request(line: &str, caller: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {caller}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Sends one request after the other until `stop`. Returns the number of responses with `status`.
fn flood(
    address: SocketAddr,
    request: String,
    status: u16,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let connect =
            async || Wire::new(within_timeout(TcpStream::connect(address)).await.unwrap());
        let (mut wire, mut count) = (connect().await, 0);
        while !stop.load(Ordering::Relaxed) {
            wire.write(&request).await;
            let response = wire.response().await;
            count += usize::from(response.status() == status);
            if response.has("connection") {
                wire = connect().await;
            }
        }
        count
    })
}

/// Sends the changes of the modest caller, each of which must be forwarded.
async fn send_changes(gateway: &Gateway) {
    let mut wire = gateway.connect().await;
    for number in 0..CHANGES {
        wire.write(request(&format!("POST /change/{number}"), "modest"))
            .await;
        assert_eq!(wire.response().await.status(), 200, "change {number}");
    }
}

/// Returns a metric without labels.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = get(gateway.admin, "/metrics").await.text();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

/// Stops the gateway and returns its log. The end of the process may truncate the last line.
async fn stopped(gateway: Gateway) -> Vec<Value> {
    gateway.program.signal("TERM");
    let log = gateway.wait().await.stderr;
    let parsed = log.lines().map(serde_json::from_str);
    parsed.filter_map(Result::ok).collect()
}

/// Returns the audit lines of a caller with a verdict.
fn audit<'l>(log: &'l [Value], caller: &str, verdict: &str) -> Vec<&'l Value> {
    let is_of = |line: &&Value| {
        line["target"] == "audit" && line["caller"] == caller && line["verdict"] == verdict
    };
    log.iter().filter(is_of).collect()
}

/// Returns the number of rejections in audit lines: each counts as one, or has a count.
fn rejections(lines: &[&Value]) -> u64 {
    lines
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum()
}

#[tokio::test]
async fn flood_of_unauthenticated_requests_is_counted_and_each_change_has_its_line() {
    let hash = hex::encode(digest(&SHA256, b"operator").as_ref());
    let admin = format!("[admin]\nsecret_sha256 = \"{hash}\"\n");
    let (gateway, _servers) = start(&(callers(&["modest"]) + &admin)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let anonymous =
        |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let (callers, admin) = (gateway.address, gateway.admin);
    let login = anonymous("POST /cctrustoauth2/acme/tokens/clients");
    let long = anonymous(&format!("GET /{}", "x".repeat(500)));
    let floods = [
        flood(callers, long.clone(), 401, &stop),
        flood(callers, long, 401, &stop),
        flood(callers, login, 400, &stop),
        flood(admin, anonymous("GET /status.json"), 401, &stop),
    ];
    wait_until("rejections are counted", || async {
        metric(&gateway, "citrix_auth_proxy_rejections_summarized_total").await > 200
    })
    .await;
    send_changes(&gateway).await;
    stop.store(true, Ordering::Relaxed);
    let mut rejected = 0;
    for flood in floods {
        rejected += flood.await.unwrap() as u64;
    }
    let log = stopped(gateway).await;
    assert_eq!(audit(&log, "modest", "admitted").len(), CHANGES);
    let lines = audit(&log, "none", "refused");
    assert_eq!(rejections(&lines), rejected);
    assert!(lines.len() < 200, "{} lines of {rejected}", lines.len());
    // Neither does the access log have a line for each.
    let is_401 = |line: &&Value| line["target"] == "access" && line["status"] == 401;
    assert!(log.iter().filter(is_401).count() < 200);
}

#[tokio::test]
async fn caller_that_floods_the_audit_log_does_not_delay_the_lines_of_another() {
    let greedy = "methods = [\"GET\", \"DELETE\"]\n";
    let callers = callers(&["modest", "greedy"]) + greedy;
    let (gateway, _servers) = start(&callers).await;
    let stop = Arc::new(AtomicBool::new(false));
    let path = "x".repeat(8000);
    let floods = [
        flood(
            gateway.address,
            request(&format!("DELETE /{path}"), "greedy"),
            200,
            &stop,
        ),
        flood(
            gateway.address,
            request(&format!("DELETE /{path}"), "greedy"),
            200,
            &stop,
        ),
        flood(
            gateway.address,
            request(&format!("PUT /{path}"), "greedy"),
            403,
            &stop,
        ),
    ];
    wait_until("the queue has the greedy caller's share", || async {
        metric(&gateway, "citrix_auth_proxy_audit_queue_bytes").await > 800_000
    })
    .await;
    send_changes(&gateway).await;
    stop.store(true, Ordering::Relaxed);
    let [first, second, rejected] = floods;
    let admitted = first.await.unwrap() + second.await.unwrap();
    let rejected = rejected.await.unwrap() as u64;
    wait_until("the queue is short", || async {
        metric(&gateway, "citrix_auth_proxy_audit_queue_bytes").await < 300_000
    })
    .await;
    let log = stopped(gateway).await;
    assert_eq!(audit(&log, "modest", "admitted").len(), CHANGES);
    assert_eq!(audit(&log, "greedy", "admitted").len(), admitted);
    assert_eq!(rejections(&audit(&log, "greedy", "refused")), rejected);
}

#[tokio::test]
async fn change_without_an_audit_line_is_not_sent_and_reads_are() {
    let (gateway, (upstream, ..)) = start(&callers(&["greedy"])).await;
    gateway.program.limit_log_reader(0);
    let stop = Arc::new(AtomicBool::new(false));
    let change = request(&format!("DELETE /{}", "x".repeat(8000)), "greedy");
    let sent = flood(gateway.address, change.clone(), 200, &stop);
    let mut reader = gateway.connect().await;
    wait_until("a change is rejected", || async {
        metric(
            &gateway,
            "citrix_auth_proxy_errors_total{reason=\"overloaded\"}",
        )
        .await
            > 0
    })
    .await;
    reader.write(request("GET /read", "greedy")).await;
    assert_eq!(reader.response().await.status(), 200);
    stop.store(true, Ordering::Relaxed);
    gateway.program.limit_log_reader(u32::MAX);
    let sent = sent.await.unwrap();
    let requests = upstream.take_requests().await;
    let is_change = |request: &&Message| request.line().starts_with("DELETE");
    assert_eq!(requests.iter().filter(is_change).count(), sent);
    let log = stopped(gateway).await;
    assert_eq!(audit(&log, "greedy", "admitted").len(), sent);
    assert!(rejections(&audit(&log, "greedy", "refused")) > 0);
}
