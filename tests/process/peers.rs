//! Peers in the log, and accepting connections without free file descriptors.

use std::process::Command;

use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::gateway::{Gateway, get};
use testkit::pki::{TestCa, TlsFiles, tls_client_config};
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Wire, wait_until, within_timeout};

const FORWARDED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                         Forwarded: for=192.0.2.43;proto=https, for=\"[2001:db8::17]:4711\"\r\n\r\n";

#[tokio::test]
async fn proxy_protocol_address_is_logged_as_the_peer() {
    let upstream = Upstream::responding(OK).await;
    let settings = [("CITRIX_AUTH_PROXY_LISTEN__PROXY_PROTOCOL", "127.0.0.0/8")];
    let gateway = Gateway::in_front_of(&upstream, &settings).await;
    let mut caller = gateway.connect().await;
    caller
        .write(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\x01\x02\x03\x0a\0\0\x01\x30\x39\x1f\x90")
        .await;
    caller.write(FORWARDED).await;
    assert_eq!(caller.response().await.status(), 200);
    // An unsupported version is logged once.
    for _ in 0..3 {
        let mut caller = gateway.connect().await;
        caller
            .write("PROXY TCP4 127.0.0.1 10.0.0.1 12345 8080\r\n")
            .await;
        caller.closed().await;
    }
    gateway.program.signal("TERM");
    let log = gateway.wait().await.log();
    let access = log
        .iter()
        .find(|line| line["target"] == "access")
        .expect("an access log line");
    assert_eq!(
        (&access["peer"], &access["forwarded_for"]),
        (&"127.1.2.3:12345".into(), &Value::Null)
    );
    let is_error = |line: &&Value| {
        line["error"]
            .as_str()
            .is_some_and(|text| text.contains("version 1"))
    };
    assert_eq!(log.iter().filter(is_error).count(), 1, "{log:#?}");
}

#[tokio::test]
async fn only_a_trusted_forwarder_sets_forwarded_for_in_the_access_log() {
    for (trusted, named) in [
        ("127.0.0.0/8", "192.0.2.43, [2001:db8::17]:4711".into()),
        ("10.0.0.0/8", Value::Null),
    ] {
        let upstream = Upstream::responding(OK).await;
        let settings = [("CITRIX_AUTH_PROXY_LISTEN__TRUSTED_FORWARDERS", trusted)];
        let gateway = Gateway::in_front_of(&upstream, &settings).await;
        let mut caller = gateway.connect().await;
        caller.write(FORWARDED).await;
        assert_eq!(caller.response().await.status(), 200);
        assert!(!upstream.request().await.has("forwarded"));
        gateway.program.signal("TERM");
        let log = gateway.wait().await.log();
        let access = log
            .iter()
            .find(|line| line["target"] == "access")
            .expect("an access log line");
        assert_eq!(access["forwarded_for"], named, "{access:#}");
        assert!(access["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
}

#[tokio::test]
async fn client_certificate_is_logged_in_the_form_of_the_configuration() {
    let [server_ca, client_ca] = ["server", "client"].map(TestCa::new);
    let files = TlsFiles::new(&server_ca.issue("gateway", &["localhost"]));
    let toml = files.toml_with_client_ca(&client_ca, "required");
    let table = toml.lines().skip(1).collect::<Vec<_>>().join(", ");
    let upstream = Upstream::responding(OK).await;
    let settings = [
        ("CITRIX_AUTH_PROXY_LISTEN__TLS", &*format!("{{ {table} }}")),
        ("CITRIX_AUTH_PROXY_LOG__LEVEL", "debug"),
    ];
    let mut gateway = Gateway::in_front_of(&upstream, &settings).await;
    let tls = tls_client_config(
        &server_ca,
        Some(&client_ca.issue("splunk, the one", &["Splunk.example.net"])),
    );
    let socket = within_timeout(TcpStream::connect(gateway.address))
        .await
        .unwrap();
    let stream =
        TlsConnector::from(tls).connect(ServerName::try_from("localhost").unwrap(), socket);
    let mut wire = Wire::new(within_timeout(stream).await.unwrap());
    wire.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.status(), 200);
    let line = gateway.program.logged("client certificate received").await;
    assert_eq!(line["subject"], "CN=splunk\\, the one");
    assert_eq!(line["dns_names"], "[\"splunk.example.net\"]");
}

#[tokio::test]
async fn failed_handshakes_are_logged_once_for_each_address_and_reason() {
    let ca = TestCa::new("server");
    let files = TlsFiles::new(&ca.issue("gateway", &["localhost"]));
    let toml = files.toml("");
    let table = toml.lines().skip(1).collect::<Vec<_>>().join(", ");
    let upstream = Upstream::responding(OK).await;
    let settings = [
        ("CITRIX_AUTH_PROXY_LISTEN__TLS", &*format!("{{ {table} }}")),
        // One failure after the other.
        ("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "1"),
    ];
    let gateway = Gateway::in_front_of(&upstream, &settings).await;
    let not_tls = "\0\x01\x02\x03\x04\x05\x06\x07";
    for (address, bytes) in [
        ("127.0.0.1:0", not_tls),
        ("127.0.0.1:0", not_tls),
        ("127.0.0.2:0", not_tls),
        ("127.0.0.1:0", FORWARDED),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let connected = within_timeout(socket.connect(gateway.address)).await;
        let mut caller = Wire::new(connected.unwrap());
        caller.write(bytes).await;
        // An alert, or 400.
        assert_ne!(caller.rest().await, b"");
    }
    gateway.program.signal("TERM");
    let log = gateway.wait().await.log();
    let failures = log
        .iter()
        .filter(|line| line["message"] == "TLS handshake failed; connection closed");
    let failures: Vec<_> = failures
        .map(|line| {
            let (peer, hint) = (line["peer"].as_str(), line["hint"].as_str());
            let (ip, _) = peer.unwrap().split_once(':').unwrap();
            assert!(!hint.unwrap().is_empty(), "{line}");
            let reason = line["reason"].as_str().unwrap();
            (ip, reason, line["suppressed"].as_u64())
        })
        .collect();
    let expected = [
        ("127.0.0.1", "not_tls", Some(0)),
        ("127.0.0.2", "not_tls", Some(1)),
        ("127.0.0.1", "plain_http", Some(0)),
    ];
    assert_eq!(failures, expected, "{log:#?}");
}

#[tokio::test]
async fn exhausted_file_descriptors_pause_accepting_and_are_logged_once() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    let pid = gateway.program.id();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let limit = |files: usize| {
        let arguments = [format!("--pid={pid}"), format!("--nofile={files}:")];
        assert!(
            Command::new("prlimit")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    limit(open + 4);
    let mut callers = Vec::new();
    for _ in 0..20 {
        callers.push(
            within_timeout(TcpStream::connect(gateway.address))
                .await
                .unwrap(),
        );
    }
    gateway.program.logged("failed to accept connections").await;
    drop(callers);
    wait_until("callers are served again", || async {
        let mut wire = gateway.connect().await;
        wire.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
        wire.rest().await.starts_with(b"HTTP/1.1 200 ")
    })
    .await;
    limit(open + 100);
    let metrics = get(gateway.admin, "/metrics").await.text();
    assert!(!metrics.contains("accept_errors_total 0\n"), "{metrics}");
    gateway.program.signal("TERM");
    let log = gateway.wait().await.log();
    let is_error = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("failed to accept"))
    };
    assert_eq!(log.iter().filter(is_error).count(), 1, "{log:#?}");
}
