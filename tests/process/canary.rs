//! Canaries: secrets placed in every possible input must not appear in any output of the binary at
//! log level `trace`.

mod commands;
mod customers;
mod logins;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use citrix_wire::hex;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::cloud::{self, Cloud};
use crate::gateway::Gateway;
use crate::program::Program;
use testkit::token_endpoint::{TOKEN, TokenEndpoint};
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, wait_until, within_timeout};

/// Prefix of every secret in these tests.
const CANARY: &str = "c4nary";
const ADMIN_SECRET: &str = "c4nary-admin-secret";

/// Request fields with secrets, all of which must be redacted (contract §3).
const FIELDS: &str = "Authorization: CwsAuth Bearer=c4nary-caller\r\nX-Api-Key: c4nary-key\r\n\
    X-AdminCredential: Basic YzRuYXJ5OmM0bmFyeQ==\r\nX-AccessToken: Bearer c4nary-access\r\n\
    X-AZURE-ACCESS-TOKEN: c4nary-azure\r\nX-AZURE-GRAPH-ACCESS-TOKEN: c4nary-graph\r\n\
    X-AZURE-TENANT-ID: c4nary-tenant\r\nX-AZURE-APP-CLIENT-ID: c4nary-app\r\n\
    X-AZURE-APP-CLIENT-SECRET: c4nary-app-secret\r\nCookie: session=c4nary-cookie\r\n\
    Proxy-Authorization: Basic YzRuYXJ5OmM0bmFyeQ==\r\n";

/// Returns the canary in plain text, hex, decimal bytes and base64, and the hash of the admin
/// secret.
fn encodings() -> Vec<String> {
    let bytes = CANARY.as_bytes();
    let numbers = format!("{bytes:?}");
    let mut encodings = vec![
        CANARY.to_owned(),
        hex::encode(bytes),
        numbers.trim_matches(['[', ']']).to_owned(),
    ];
    // Base64 depends on the offset within a group of three bytes; digits shared with neighbouring
    // bytes are cut off.
    for offset in 0..3 {
        let encoded = STANDARD.encode([&vec![0; offset], bytes].concat());
        let (first, end) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
        encodings.push(encoded[first..end].to_owned());
    }
    encodings.push(hash_of_the_admin_secret());
    encodings
}

fn hash_of_the_admin_secret() -> String {
    hex::encode(digest(&SHA256, ADMIN_SECRET.as_bytes()).as_ref())
}

#[track_caller]
fn assert_no_secret(output: &str) {
    let output = output.to_ascii_lowercase();
    for encoding in encodings() {
        assert!(
            !output.contains(&encoding.to_ascii_lowercase()),
            "{encoding} in {output}"
        );
    }
    assert!(!output.contains("panicked"), "{output}");
}

/// A configuration with two client secrets in files.
struct Secrets {
    folder: TempDir,
    config: PathBuf,
}

impl Secrets {
    /// Writes the files, with `citrix` in the table of this name and `toml` at the end.
    fn with(citrix: &str, toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("secret"), "c4nary-first-secret==\n").unwrap();
        std::fs::write(path("next"), "c4nary-second-secret==\n").unwrap();
        let hash = hash_of_the_admin_secret();
        let mut text = String::new();
        write!(
            text,
            "[citrix]\ncustomer_id = \"acme\"\nclient_id = \"client\"\nclient_secret = {{ file = {:?} }}\n\
             client_secret_next = {{ file = {:?} }}\n{citrix}\n[listen]\naddress = \"127.0.0.1:0\"\n\
             workers = 1\n[admin]\naddress = \"127.0.0.1:0\"\nsecret_sha256 = \"{hash}\"\n\
             [log]\nlevel = \"trace\"\n{toml}",
            path("secret"),
            path("next"),
        )
        .unwrap();
        let config = path("gateway.toml");
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    /// Writes the files for a cloud at these URLs.
    fn at(api: &str, token: &str, toml: &str) -> Self {
        Self::with(&format!("api_url = {api:?}\ntoken_url = {token:?}"), toml)
    }

    fn run_arguments(&self) -> [&str; 3] {
        ["run", "--config", self.config()]
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

async fn send(address: SocketAddr, request: &str) -> Message {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(address)).await.unwrap());
    wire.write(request).await;
    wire.response().await
}

/// Returns head and body.
fn full_text(response: &Message) -> String {
    String::from_utf8_lossy(&response.head).into_owned() + &String::from_utf8_lossy(&response.body)
}

/// Returns a POST request with secrets and `Connection: close`.
fn post(path: &str, fields: &str) -> String {
    format!(
        "POST {path}?key=c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}{fields}\
         Content-Length: 11\r\n\r\nc4nary-body"
    )
}

/// Returns a batch request with a token in an item.
fn batch() -> String {
    let body = r#"{"Items":[{"RelativeUrl":"c4nary","Headers":[{"Name":"Authorization","Value":"c4nary"}]}]}"#;
    let request = post("/cvad/manage/$batch", "Citrix-InstanceId: s\r\n");
    request
        .replace(
            "Content-Length: 11",
            &format!("Content-Length: {}", body.len()),
        )
        .replace("c4nary-body", body)
}

/// Sends requests with and without the admin secret to each endpoint of the admin listener and
/// checks the responses.
async fn check_admin_listener(admin: SocketAddr) {
    let known = format!("X-Api-Key: {ADMIN_SECRET}\r\n");
    let basic = format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("x:{ADMIN_SECRET}"))
    );
    for fields in [
        "",
        &known,
        &basic,
        FIELDS,
        "Host: evil.example\r\n",
        "Origin: http://evil.example\r\n",
    ] {
        let host = if fields.starts_with("Host") {
            ""
        } else {
            "Host: localhost\r\n"
        };
        for line in [
            "GET /livez",
            "GET /readyz",
            "GET /metrics",
            "GET /status.json",
            "GET /",
            "GET /log-level",
            "PUT /log-level",
            "GET /transactions/c0ffee00-0000-4000-8000-000000000000",
            "GET /nothing?key=c4nary-query",
            "PUT /metrics",
            "POST /tokens/acme/refresh",
            "POST /tokens/other/refresh",
        ] {
            let response = send(
                admin,
                &format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n"),
            )
            .await;
            assert_no_secret(&full_text(&response));
        }
    }
}

/// Stops a gateway and returns its log. Neither the log nor the command line may contain a secret.
async fn stop(gateway: Program) -> Vec<serde_json::Value> {
    let command_line = std::fs::read(format!("/proc/{}/cmdline", gateway.id())).unwrap_or_default();
    assert_no_secret(&String::from_utf8_lossy(&command_line));
    gateway.signal("TERM");
    let exit = gateway.wait().await;
    assert_eq!(exit.code, Some(0));
    assert_no_secret(&exit.stderr);
    exit.log()
}

/// Starts upstreams that are closed, close, send nonsense, echo the token and reject it, by the
/// prefix of their routes.
async fn faulty_upstreams() -> [(&'static str, Upstream); 5] {
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let echo =
        format!("HTTP/1.1 200 OK\r\nX-Echo: CwsAuth Bearer={TOKEN}1\r\nContent-Length: 0\r\n\r\n");
    [
        ("/refused", Upstream::refusing()),
        ("/broken", Upstream::responding("").await),
        (
            "/nonsense",
            Upstream::responding("c4nary nonsense\r\n\r\n").await,
        ),
        ("/echo", Upstream::responding(echo).await),
        ("/denied", Upstream::responding(unauthorized).await),
    ]
}

/// Returns requests that are forwarded, fail or are rejected, and their statuses.
fn requests() -> Vec<(String, u16)> {
    let long = format!("X-Long: {}\r\n", "c4nary-long".repeat(1000));
    let too_large = post("/x", "").replace("Content-Length: 11", "Content-Length: 101");
    let foreign = post("/x", "").replace("Host: localhost", "Host: foreign.example");
    vec![
        (post("/x", ""), 200),
        (batch(), 200),
        (post("/cvad/manage/$batch", ""), 400),
        (batch().replace("Headers", "RelativeUrl"), 400),
        (post("/echo", ""), 200),
        (post("/denied", ""), 401),
        (post("/refused", ""), 502),
        (post("/broken", ""), 502),
        (post("/nonsense", ""), 502),
        (post("/x", "Citrix-CustomerId: other\r\n"), 403),
        (post("/x", "Origin: http://evil.example\r\n"), 403),
        (post("/x", "Host: localhost\r\n"), 400),
        (post("/x", &long), 431),
        (too_large, 413),
        (foreign, 421),
        (format!("GET * HTTP/1.1\r\n{FIELDS}\r\n"), 400),
        (format!("c4nary\r\n{FIELDS}\r\n"), 400),
    ]
}

/// Sends secrets over HTTP/2 and checks the responses.
async fn check_http2(gateway: SocketAddr) {
    let http2 = cloud::client(None).http2_prior_knowledge().build().unwrap();
    for path in ["x", "refused", "broken"] {
        let request = http2
            .post(format!("http://{gateway}/{path}?key=c4nary-query"))
            .header("x-accesstoken", "c4nary-access")
            .header("cookie", "c4nary=c4nary")
            .bearer_auth("c4nary-caller")
            .body("c4nary-body");
        let response = within_timeout(request.send()).await.unwrap();
        let head = format!("{:?}", response.headers());
        assert_no_secret(&(head + &response.text().await.unwrap()));
    }
}

#[tokio::test]
async fn responses_logs_and_metrics_disclose_no_secret() {
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let mut toml = String::from("[limits]\nmax_body_bytes = 100\nmax_header_bytes = \"8KiB\"\n");
    let faulty = faulty_upstreams().await;
    for (prefix, upstream) in &faulty {
        let url = upstream.url();
        writeln!(toml, "[[route]]\nprefix = {prefix:?}\nupstream = {url:?}").unwrap();
    }
    let secrets = Secrets::at(&upstream.url(), &token_endpoint.url(), &toml);
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    for (request, status) in requests() {
        let response = send(gateway.address, &request).await;
        assert_eq!(
            response.status(),
            status,
            "{request}: {}",
            full_text(&response)
        );
        assert_no_secret(&full_text(&response));
    }
    check_http2(gateway.address).await;
    check_admin_listener(gateway.admin).await;
    let log = stop(gateway.program).await;
    let exchanges = log.iter().filter(|line| line["target"] == "access").count();
    assert!(exchanges >= 13, "only {exchanges} exchanges in {log:#?}");
}

#[tokio::test]
async fn timeouts_disclose_no_secret() {
    let (silent, token_endpoint) = (Upstream::manual().await, TokenEndpoint::granting().await);
    let toml = "[upstream]\nresponse_timeout = \"50ms\"\n[limits]\nbody_idle_timeout = \"100ms\"\n";
    let secrets = Secrets::at(&silent.url(), &token_endpoint.url(), toml);
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    let half = post("/x", "").replace("Content-Length: 11", "Content-Length: 99");
    for (request, status, reason) in [
        (post("/x", ""), 504, "upstream_timeout"),
        (half, 408, "request_timeout"),
    ] {
        let response = send(gateway.address, &request).await;
        response.problem(status, reason);
        assert_no_secret(&full_text(&response));
    }
    stop(gateway.program).await;
}

#[tokio::test]
async fn http2_to_the_cloud_logs_no_token() {
    let cloud = Cloud::start(&[
        "--client-secret",
        "c4nary-first-secret==",
        "--token-lifetime",
        "3s",
    ])
    .await;
    let toml = format!(
        "[token]\nmin_forced_interval = \"1s\"\n[upstream]\nca_file = {:?}\n",
        cloud.setting("__CA_FILE")
    );
    let citrix = format!(
        "api_url = {:?}\ntoken_url = {:?}",
        cloud.setting("__API_URL"),
        cloud.setting("__TOKEN_URL")
    );
    let secrets = Secrets::with(&citrix, &toml);
    let config = std::fs::read_to_string(&secrets.config)
        .unwrap()
        .replace("\"client\"", "\"emulator-client\"");
    std::fs::write(&secrets.config, config).unwrap();
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    for path in ["/echo/x", "/status/401", "/status/503"] {
        send(gateway.address, &post(path, "")).await;
    }
    send(gateway.address, &batch()).await;
    cloud.revoke().await;
    send(gateway.address, &batch()).await;
    send(gateway.address, &post("/echo/x", "")).await;
    wait_until("a valid token is in use", || async {
        send(gateway.address, &post("/upload", "")).await.status() == 200
    })
    .await;
    assert!(cloud.count("revoked_token").await > 0);
    check_admin_listener(gateway.admin).await;
    let log = stop(gateway.program).await;
    let log = format!("{log:?}");
    // Prefix of the emulator's tokens: `{"` in base64.
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn overload_discloses_no_secret() {
    let (upstream, token_endpoint) = (Upstream::manual().await, TokenEndpoint::granting().await);
    let secrets = Secrets::at(
        &upstream.url(),
        &token_endpoint.url(),
        "[limits]\nmax_in_flight = 1\n",
    );
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    let (mut caller, mut wire) = gateway.request_in_progress(&upstream).await;
    let response = send(gateway.address, &post("/x", "")).await;
    response.problem(503, "overloaded");
    assert_no_secret(&full_text(&response));
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    stop(gateway.program).await;
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Returns `true` if a line of /metrics counts a completed login, with any outcome.
fn ended_login(line: &str) -> bool {
    line.starts_with("citrix_auth_proxy_token_refreshes_total{") && !line.ends_with(" 0")
}

/// Returns responses of a token endpoint without a valid token, each of which contains the secret
/// sent to it.
fn bad_responses() -> Vec<String> {
    let json = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let secret = "c4nary-first-secret==";
    vec![
        json(
            "400 c4nary",
            &format!(r#"{{"error":"invalid_client","error_description":"{secret}"}}"#),
        ),
        json("401 Unauthorized", &format!(r#"{{"error":"{secret}"}}"#)),
        json("500 Internal Server Error", secret),
        json(
            "429 Too Many Requests",
            &format!(r#"{{"retryDelay":"{secret}"}}"#),
        ),
        json("200 OK", &format!("<html>{secret}</html>")),
        json("200 OK", ""),
        json("200 OK", &format!(r#"{{"access_token":"{secret}"#)),
        json(
            "200 OK",
            &format!(r#"{{"access_token":5,"token":"{secret}","expires_in":"{secret}"}}"#),
        ),
        json(
            "200 OK",
            &format!(r#"{{"access_token":"{secret}\n","expires_in":"3600"}}"#),
        ),
        json(
            "200 OK",
            &format!(r#"{{"access_token":"{secret}","expires_in":"0"}}"#),
        ),
        json("200 OK", &format!(r#"{{"error":"{secret}"}}"#)),
        json("200 OK", &format!(r#"["{secret}"]"#)),
        json(
            &format!("302 Found\r\nLocation: http://127.0.0.1:9/{secret}"),
            "",
        ),
        format!("HTTP/1.1 200 OK\r\n{secret}\r\n\r\n"),
        secret.to_owned() + "\r\n\r\n",
        String::new(),
    ]
}

#[tokio::test]
async fn failed_login_discloses_no_secret_of_the_response() {
    let closed_port = Upstream::refusing();
    let fails = async |response: String| {
        let endpoint = Upstream::responding(response.clone()).await;
        let toml = "[token]\nstartup_wait = \"0s\"\n";
        let secrets = Secrets::at(
            &closed_port.url(),
            &format!("{}/login", endpoint.url()),
            toml,
        );
        let mut gateway = Program::start(&secrets.run_arguments(), &[]);
        let (address, admin) = crate::gateway::addresses(&mut gateway).await;
        // A missing or invalid lifetime has a default, so some of these logins succeed.
        wait_until("the login is complete", || async {
            send(admin, &get("/metrics"))
                .await
                .text()
                .lines()
                .any(ended_login)
        })
        .await;
        let response_to_caller = send(address, &post("/", "")).await;
        assert!(
            [502, 503].contains(&response_to_caller.status()),
            "{response}: {}",
            full_text(&response_to_caller)
        );
        assert_no_secret(&full_text(&response_to_caller));
        for path in ["/readyz", "/metrics", "/status.json"] {
            assert_no_secret(&full_text(&send(admin, &get(path)).await));
        }
        let health = Program::run(&["healthcheck", "--admin", &admin.to_string()], &[]).await;
        assert_no_secret(&format!("{health:?}"));
        stop(gateway).await;

        let check = Program::run(&["check", "--online", "--config", secrets.config()], &[]).await;
        assert_no_secret(&format!("{check:?}"));
    };
    join_all(bad_responses().into_iter().map(fails)).await;
}

#[tokio::test]
async fn failed_login_logs_outcome_and_transaction_id() {
    let (closed_port, token_endpoint) = (Upstream::refusing(), TokenEndpoint::rejecting().await);
    let secrets = Secrets::at(&closed_port.url(), &token_endpoint.url(), "");
    let mut gateway = Program::start(&secrets.run_arguments(), &[]);
    let line = gateway.logged("login failed").await;
    assert_eq!(
        (&line["level"], &line["outcome"]),
        (&"ERROR".into(), &"invalid_client".into())
    );
    assert_eq!(
        line["transaction_id"],
        testkit::token_endpoint::REJECTED_TRANSACTION_ID
    );
    stop(gateway).await;
}
