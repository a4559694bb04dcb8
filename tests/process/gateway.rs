//! The gateway as a process of its own.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::program::{Ended, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, wait_until, within_timeout};

/// The API client's secret.
pub const SECRET: &str = "c4nary-client-secret==";

/// Where each gateway here listens, and on how many threads.
pub const FREE_PORTS: [(&str, &str); 3] = [
    ("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "127.0.0.1:0"),
    ("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2"),
    ("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", "127.0.0.1:0"),
];

/// A running gateway that is configured by its environment alone.
pub struct Gateway {
    pub program: Program,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    _logins: Option<TokenEndpoint>,
}

impl Gateway {
    pub async fn in_front_of(upstream: &Upstream, more: &[(&str, &str)]) -> Self {
        let logins = TokenEndpoint::granting().await;
        let (api, token) = (upstream.url(), logins.url());
        let mut variables = environment(&api, &token);
        variables.extend(more);
        Self {
            _logins: Some(logins),
            ..Self::start(&[], &variables).await
        }
    }

    /// One that has its first token.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut program = Program::start(arguments, variables);
        let (address, admin) = addresses(&mut program).await;
        let gateway = Self {
            program,
            address,
            admin,
            _logins: None,
        };
        gateway.ready().await;
        gateway
    }

    pub async fn connect(&self) -> Wire {
        Wire::new(
            within_timeout(TcpStream::connect(self.address))
                .await
                .unwrap(),
        )
    }

    /// A caller whose request is under way, and the upstream's end of it.
    pub async fn request_under_way(&self, upstream: &Upstream) -> (Wire, Wire) {
        let mut caller = self.connect().await;
        caller
            .write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        (caller, wire)
    }

    pub async fn ready(&self) {
        wait_until("the gateway is ready", || async {
            asked(self.admin, "/readyz").await.status() == 200
        })
        .await;
    }

    pub async fn end(self) -> Ended {
        self.program.end().await
    }
}

/// What a gateway needs, all of it from the environment.
pub fn environment<'a>(api_url: &'a str, token_url: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut variables = vec![
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "client"),
        ("CITRIX_CLIENT_SECRET", SECRET),
        ("CITRIX_AUTH_PROXY_CITRIX__API_URL", api_url),
        ("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", token_url),
    ];
    variables.extend(FREE_PORTS);
    variables
}

/// Where a gateway that was just started says that it listens.
pub async fn addresses(program: &mut Program) -> (SocketAddr, SocketAddr) {
    let address = |line: Value| line["address"].as_str().unwrap().parse().unwrap();
    let callers = address(program.logged("listening for callers").await);
    (
        callers,
        address(program.logged("listening for operators").await),
    )
}

/// The response to a GET.
pub async fn asked(address: SocketAddr, path: &str) -> Message {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(address)).await.unwrap());
    wire.write(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ))
    .await;
    wire.response().await
}

#[tokio::test]
async fn a_gateway_starts_from_the_environment_alone_and_says_nothing_but_log_lines() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(asked(gateway.address, "/x").await.text(), "{}");
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    let log = ended.log();
    let access = log
        .iter()
        .find(|line| line["target"] == "access")
        .expect("an access log line");
    assert_eq!(
        (&access["path"], &access["status"]),
        (&"/x".into(), &200.into())
    );
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_logged_line_by_line() {
    let ended = Program::run(
        &["--config", "tests/fixtures/config/five-mistakes.toml"],
        &[],
    )
    .await;
    assert_eq!(ended.code, Some(64));
    let log = ended.log();
    for expected in [
        "custmer_id",
        "client_secret",
        "0.0.0.0:8080",
        "max_in_flight",
        "connect_timeout",
    ] {
        assert!(
            log.iter().any(|line| line["problem"]
                .as_str()
                .unwrap_or_default()
                .contains(expected)),
            "{expected} in {log:#?}"
        );
    }
    for arguments in [&["run", "--config", "/no/such/file.toml"][..], &[]] {
        let ended = Program::run(arguments, &[]).await;
        assert_eq!(ended.code, Some(64));
        assert!(!ended.log().is_empty());
    }
}

#[tokio::test]
async fn an_address_in_use_is_a_failure() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in [
        "CITRIX_AUTH_PROXY_LISTEN__ADDRESS",
        "CITRIX_AUTH_PROXY_ADMIN__ADDRESS",
    ] {
        let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
        variables.push((name, &address));
        let ended = Program::run(&["run"], &variables).await;
        assert_eq!(ended.code, Some(1), "{name}");
        assert!(ended.stderr.contains(&address), "{}", ended.stderr);
        ended.log();
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_a_problem_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let tls = "[listen]\ntls = { certificate = \"/no/such.crt\", key = \"/no/such.key\" }\n";
    std::fs::write(&file, tls).unwrap();
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let ended = Program::run(&["--config", file.to_str().unwrap()], &variables).await;
    assert_eq!(ended.code, Some(64));
    assert!(
        ended.stderr.contains("/no/such.crt") && ended.stderr.contains("/no/such.key"),
        "{}",
        ended.stderr
    );
    ended.log();
}
