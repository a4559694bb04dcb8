//! The gateway in a separate process, and tests of its start.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::program::{Exit, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, wait_until, within_timeout};

/// Client secret of [`environment`].
pub const SECRET: &str = "c4nary-client-secret==";

/// Settings for ephemeral ports and two workers.
pub const EPHEMERAL_PORTS: [(&str, &str); 3] = [
    ("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "127.0.0.1:0"),
    ("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2"),
    ("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", "127.0.0.1:0"),
];

/// A running gateway.
pub struct Gateway {
    pub program: Program,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    _token_endpoint: Option<TokenEndpoint>,
}

impl Gateway {
    /// Starts a gateway with its own token endpoint, configured by the environment alone.
    pub async fn in_front_of(upstream: &Upstream, more: &[(&str, &str)]) -> Self {
        let token_endpoint = TokenEndpoint::granting().await;
        let (api, token) = (upstream.url(), token_endpoint.url());
        let mut variables = environment(&api, &token);
        variables.extend(more);
        Self {
            _token_endpoint: Some(token_endpoint),
            ..Self::start(&[], &variables).await
        }
    }

    /// Starts a gateway and waits until it is ready.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut program = Program::start(arguments, variables);
        let (address, admin) = addresses(&mut program).await;
        let gateway = Self {
            program,
            address,
            admin,
            _token_endpoint: None,
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

    /// Returns the connections of a caller and of the upstream with a request in progress.
    pub async fn request_in_progress(&self, upstream: &Upstream) -> (Wire, Wire) {
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
            get(self.admin, "/readyz").await.status() == 200
        })
        .await;
    }

    /// Waits until the process exits.
    pub async fn wait(self) -> Exit {
        self.program.wait().await
    }
}

/// Returns the environment variables that a gateway requires.
pub fn environment<'a>(api_url: &'a str, token_url: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut variables = vec![
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "client"),
        ("CITRIX_CLIENT_SECRET", SECRET),
        ("CITRIX_AUTH_PROXY_CITRIX__API_URL", api_url),
        ("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", token_url),
    ];
    variables.extend(EPHEMERAL_PORTS);
    variables
}

/// Returns the addresses for callers and operators that a starting gateway logs.
pub async fn addresses(program: &mut Program) -> (SocketAddr, SocketAddr) {
    let address = |line: Value| line["address"].as_str().unwrap().parse().unwrap();
    let callers = address(program.logged("listening for callers").await);
    (
        callers,
        address(program.logged("listening for operators").await),
    )
}

/// Returns the response to a GET request.
pub async fn get(address: SocketAddr, path: &str) -> Message {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(address)).await.unwrap());
    wire.write(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ))
    .await;
    wire.response().await
}

#[tokio::test]
async fn environment_alone_starts_the_gateway_and_stderr_has_only_log_lines() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(get(gateway.address, "/x").await.text(), "{}");
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert_eq!(exit.code, Some(0));
    let log = exit.log();
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
async fn invalid_configuration_logs_each_problem_and_exits_with_64() {
    let exit = Program::run(
        &["--config", "tests/fixtures/config/five-mistakes.toml"],
        &[],
    )
    .await;
    assert_eq!(exit.code, Some(64));
    let log = exit.log();
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
        let exit = Program::run(arguments, &[]).await;
        assert_eq!(exit.code, Some(64));
        assert!(!exit.log().is_empty());
    }
}

#[tokio::test]
async fn address_in_use_exits_with_1() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in [
        "CITRIX_AUTH_PROXY_LISTEN__ADDRESS",
        "CITRIX_AUTH_PROXY_ADMIN__ADDRESS",
    ] {
        let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
        variables.push((name, &address));
        let exit = Program::run(&["run"], &variables).await;
        assert_eq!(exit.code, Some(1), "{name}");
        assert!(exit.stderr.contains(&address), "{}", exit.stderr);
        exit.log();
    }
}

#[tokio::test]
async fn unreadable_certificate_exits_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let tls = "[listen]\ntls = { certificate = \"/no/such.crt\", key = \"/no/such.key\" }\n";
    std::fs::write(&file, tls).unwrap();
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let exit = Program::run(&["--config", file.to_str().unwrap()], &variables).await;
    assert_eq!(exit.code, Some(64));
    assert!(
        exit.stderr.contains("/no/such.crt") && exit.stderr.contains("/no/such.key"),
        "{}",
        exit.stderr
    );
    exit.log();
}
