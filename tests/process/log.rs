//! The log of the real binary at its most talkative holds no secret, and neither does its command line.

use std::fmt::Write as _;

use crate::gateway::addresses;
use crate::logins::Logins;
use crate::program::Program;
use crate::upstream::{OK, Upstream};
use crate::wire::{Wire, soon};

const FIELDS: &str = "Authorization: Bearer c4nary-caller\r\nX-Api-Key: c4nary-key\r\n\
    X-AdminCredential: c4nary-admin\r\nCookie: session=c4nary-cookie\r\n";

/// A gateway that logs everything; its secret and that of the admin side come from files.
async fn talkative(folder: &std::path::Path, upstream: &Upstream, logins: &Logins) -> Program {
    let (secret, file) = (folder.join("secret"), folder.join("gateway.toml"));
    std::fs::write(&secret, "c4nary-client-secret==\n").unwrap();
    let mut text = String::from("[log]\nlevel = \"trace\"\n[token]\nstartup_wait = \"20ms\"\n");
    write!(
        text,
        "[citrix]\ncustomer_id = \"acme\"\nclient_id = \"client\"\nclient_secret = {{ file = {secret:?} }}\n\
         api_url = {:?}\ntoken_url = {:?}\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n",
        upstream.url(),
        logins.url()
    )
    .unwrap();
    std::fs::write(&file, text).unwrap();
    Program::start(&["run", "--config", file.to_str().unwrap()], &[])
}

async fn ask(address: std::net::SocketAddr, request: &str) {
    let mut wire = Wire::new(soon(tokio::net::TcpStream::connect(address)).await.unwrap());
    wire.write(request).await;
    wire.answer().await;
}

#[tokio::test]
async fn at_level_trace_the_log_holds_no_secret() {
    let upstream = Upstream::scripted(|number| match number {
        1 => OK.into(),
        2 => "HTTP/1.1 401 Unauthorized\r\nX-Echo: c4nary-echo\r\nContent-Length: 6\r\n\r\nc4nary".into(),
        3 => Vec::new(),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nc4nary".into(),
    })
    .await;
    let logins = Logins::given().await;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = talkative(folder.path(), &upstream, &logins).await;
    let (address, admin) = addresses(&mut gateway).await;
    gateway.logged("obtained a token").await;
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", gateway.id())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&cmdline).contains("c4nary"));
    for fields in ["", "", "", "Citrix-CustomerId: other\r\n", "Origin: http://evil.example\r\n"] {
        let head = format!(
            "POST /x?key=c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}{fields}"
        );
        ask(address, &format!("{head}Content-Length: 11\r\n\r\nc4nary-body")).await;
    }
    let basic = format!("Authorization: Basic YzRuYXJ5OmM0bmFyeQ==\r\n{FIELDS}");
    ask(
        admin,
        &format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n",
            basic.replace("Authorization: Bearer c4nary-caller\r\n", "")
        ),
    )
    .await;
    gateway.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    let log = ended.log();
    assert_eq!(log.iter().filter(|line| line["target"] == "access").count(), 5, "{}", ended.stderr);
    assert!(!ended.stderr.contains("c4nary"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_request_to_a_retired_address_is_noted() {
    let (upstream, logins) = (Upstream::answering(OK).await, Logins::given().await);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = talkative(folder.path(), &upstream, &logins).await;
    let (address, _) = addresses(&mut gateway).await;
    for path in ["/CvadApis/me", "/cvad/manage/me"] {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
    }
    gateway.signal("TERM");
    let log = gateway.end().await.log();
    let fields = |line: &serde_json::Value| {
        ["path", "route", "retired"].map(|name| line[name].as_str().unwrap_or_default().to_owned())
    };
    let access: Vec<_> = log.iter().filter(|line| line["target"] == "access").map(fields).collect();
    assert_eq!(
        access,
        [["/CvadApis/me", "/cvad/manage", "/cvadapis"], ["/cvad/manage/me", "/cvad/manage", ""]]
    );
}

#[tokio::test]
async fn failed_logins_are_logged_without_a_secret() {
    let upstream = Upstream::refusing();
    let logins = Logins::refused().await;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = talkative(folder.path(), &upstream, &logins).await;
    let (address, _) = addresses(&mut gateway).await;
    let line = gateway.logged("the login failed").await;
    assert_eq!((&line["level"], &line["outcome"]), (&"ERROR".into(), &"invalid_client".into()));
    assert_eq!(line["transaction_id"], crate::logins::REFUSED_ID);
    ask(address, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}\r\n")).await;
    gateway.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("c4nary"), "{}", ended.stderr);
}
