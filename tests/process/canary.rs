//! Canaries: what must not be told is planted wherever it may stand, and then everything an outsider can read of
//! the real binary at its most talkative is searched for it.

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

/// What every secret here begins with.
const CANARY: &str = "c4nary";
const ADMIN_SECRET: &str = "c4nary-admin-secret";

/// What a caller may send along, all of it to be redacted (contract §3).
const FIELDS: &str = "Authorization: CwsAuth Bearer=c4nary-caller\r\nX-Api-Key: c4nary-key\r\n\
    X-AdminCredential: Basic YzRuYXJ5OmM0bmFyeQ==\r\nX-AccessToken: Bearer c4nary-access\r\n\
    X-AZURE-ACCESS-TOKEN: c4nary-azure\r\nX-AZURE-GRAPH-ACCESS-TOKEN: c4nary-graph\r\n\
    X-AZURE-TENANT-ID: c4nary-tenant\r\nX-AZURE-APP-CLIENT-ID: c4nary-app\r\n\
    X-AZURE-APP-CLIENT-SECRET: c4nary-app-secret\r\nCookie: session=c4nary-cookie\r\n\
    Proxy-Authorization: Basic YzRuYXJ5OmM0bmFyeQ==\r\n";

/// The canary in every spelling that it could be found in.
fn spellings() -> Vec<String> {
    let bytes = CANARY.as_bytes();
    let numbers = format!("{bytes:?}");
    let mut spellings = vec![
        CANARY.to_owned(),
        hex::encode(bytes),
        numbers.trim_matches(['[', ']']).to_owned(),
    ];
    // In base64 it depends on what stands before; only digits without a bit of a neighbour are the canary's own.
    for before in 0..3 {
        let encoded = STANDARD.encode([&vec![0; before], bytes].concat());
        let (first, end) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
        spellings.push(encoded[first..end].to_owned());
    }
    spellings.push(hash_of_the_admin_secret());
    spellings
}

fn hash_of_the_admin_secret() -> String {
    hex::encode(digest(&SHA256, ADMIN_SECRET.as_bytes()).as_ref())
}

#[track_caller]
fn holds_none(said: &str) {
    let said = said.to_ascii_lowercase();
    for spelling in spellings() {
        assert!(
            !said.contains(&spelling.to_ascii_lowercase()),
            "{spelling} in {said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Two client secrets in files, and a configuration that names them.
struct Secrets {
    folder: TempDir,
    config: PathBuf,
}

impl Secrets {
    /// `citrix` is what else stands in that table, `toml` what comes after it.
    fn planted(citrix: &str, toml: &str) -> Self {
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

    /// The same for a cloud that is told by URLs.
    fn at(api: &str, token: &str, toml: &str) -> Self {
        Self::planted(&format!("api_url = {api:?}\ntoken_url = {token:?}"), toml)
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

async fn ask(address: SocketAddr, request: &str) -> Message {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(address)).await.unwrap());
    wire.write(request).await;
    wire.response().await
}

/// Head and body.
fn said(response: &Message) -> String {
    String::from_utf8_lossy(&response.head).into_owned() + &String::from_utf8_lossy(&response.body)
}

/// A POST of secrets that ends its connection.
fn post(path: &str, fields: &str) -> String {
    format!(
        "POST {path}?key=c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}{fields}\
         Content-Length: 11\r\n\r\nc4nary-body"
    )
}

/// A batch with a token of old inside.
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

/// Everything that the admin listener answers to anybody, to those who know the secret and to those who do not.
async fn look_at_the_admin_side(admin: SocketAddr) {
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
            let response = ask(
                admin,
                &format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n"),
            )
            .await;
            holds_none(&said(&response));
        }
    }
}

/// Ends a gateway; its log and its command line must hold nothing.
async fn end(gateway: Program) -> Vec<serde_json::Value> {
    let command_line = std::fs::read(format!("/proc/{}/cmdline", gateway.id())).unwrap_or_default();
    holds_none(&String::from_utf8_lossy(&command_line));
    gateway.signal("TERM");
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(0));
    holds_none(&ended.stderr);
    ended.log()
}

#[tokio::test]
async fn answers_logs_and_metrics_of_a_busy_gateway_hold_no_secret() {
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let echo =
        format!("HTTP/1.1 200 OK\r\nX-Echo: CwsAuth Bearer={TOKEN}1\r\nContent-Length: 0\r\n\r\n");
    let (good, refusing) = (Upstream::responding(OK).await, Upstream::refusing());
    let (broken, nonsense) = (
        Upstream::responding("").await,
        Upstream::responding("c4nary nonsense\r\n\r\n").await,
    );
    let (echoing, denying) = (
        Upstream::responding(echo).await,
        Upstream::responding(unauthorized).await,
    );
    let logins = TokenEndpoint::granting().await;
    let mut toml = String::from("[limits]\nmax_body_bytes = 100\nmax_header_bytes = \"8KiB\"\n");
    for (prefix, upstream) in [
        ("/refused", &refusing),
        ("/broken", &broken),
        ("/nonsense", &nonsense),
        ("/echo", &echoing),
        ("/denied", &denying),
    ] {
        writeln!(
            toml,
            "[[route]]\nprefix = {prefix:?}\nupstream = {:?}",
            upstream.url()
        )
        .unwrap();
    }
    let secrets = Secrets::at(&good.url(), &logins.url(), &toml);
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;

    let long = format!("X-Long: {}\r\n", "c4nary-long".repeat(1000));
    let too_large = post("/x", "").replace("Content-Length: 11", "Content-Length: 101");
    let foreign = post("/x", "").replace("Host: localhost", "Host: foreign.example");
    for (request, status) in [
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
    ] {
        let response = ask(gateway.address, &request).await;
        assert_eq!(response.status(), status, "{request}: {}", said(&response));
        holds_none(&said(&response));
    }
    let http2 = cloud::client(None).http2_prior_knowledge().build().unwrap();
    for path in ["x", "refused", "broken"] {
        let request = http2.post(format!(
            "http://{}/{path}?key=c4nary-query",
            gateway.address
        ));
        let request = request
            .header("x-accesstoken", "c4nary-access")
            .header("cookie", "c4nary=c4nary");
        let response = within_timeout(
            request
                .bearer_auth("c4nary-caller")
                .body("c4nary-body")
                .send(),
        )
        .await
        .unwrap();
        let head = format!("{:?}", response.headers());
        holds_none(&(head + &response.text().await.unwrap()));
    }
    look_at_the_admin_side(gateway.admin).await;
    let log = end(gateway.program).await;
    let told = log.iter().filter(|line| line["target"] == "access").count();
    assert!(told >= 13, "only {told} exchanges are in {log:#?}");
}

#[tokio::test]
async fn who_keeps_a_gateway_waiting_is_told_no_secret() {
    let (silent, logins) = (Upstream::manual().await, TokenEndpoint::granting().await);
    let toml = "[upstream]\nresponse_timeout = \"50ms\"\n[limits]\nbody_idle_timeout = \"100ms\"\n";
    let secrets = Secrets::at(&silent.url(), &logins.url(), toml);
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    let half = post("/x", "").replace("Content-Length: 11", "Content-Length: 99");
    for (request, status, reason) in [
        (post("/x", ""), 504, "upstream_timeout"),
        (half, 408, "request_timeout"),
    ] {
        let response = ask(gateway.address, &request).await;
        response.problem(status, reason);
        holds_none(&said(&response));
    }
    end(gateway.program).await;
}

#[tokio::test]
async fn the_log_of_a_gateway_that_speaks_http2_to_the_cloud_holds_no_token() {
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
    let secrets = Secrets::planted(&citrix, &toml);
    let config = std::fs::read_to_string(&secrets.config)
        .unwrap()
        .replace("\"client\"", "\"emulator-client\"");
    std::fs::write(&secrets.config, config).unwrap();
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    for path in ["/echo/x", "/status/401", "/status/503"] {
        ask(gateway.address, &post(path, "")).await;
    }
    ask(gateway.address, &batch()).await;
    cloud.revoke().await;
    ask(gateway.address, &batch()).await;
    ask(gateway.address, &post("/echo/x", "")).await;
    wait_until("a good token is there", || async {
        ask(gateway.address, &post("/upload", "")).await.status() == 200
    })
    .await;
    assert!(cloud.count("revoked_token").await > 0);
    look_at_the_admin_side(gateway.admin).await;
    let log = end(gateway.program).await;
    let log = format!("{log:?}");
    // What each of the emulator's tokens begins with: `{"` in base64.
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test]
async fn the_refusal_of_a_request_too_many_holds_no_secret() {
    let (upstream, logins) = (Upstream::manual().await, TokenEndpoint::granting().await);
    let secrets = Secrets::at(
        &upstream.url(),
        &logins.url(),
        "[limits]\nmax_in_flight = 1\n",
    );
    let gateway = Gateway::start(&secrets.run_arguments(), &[]).await;
    let (mut caller, mut wire) = gateway.request_under_way(&upstream).await;
    let response = ask(gateway.address, &post("/x", "")).await;
    response.problem(503, "overloaded");
    holds_none(&said(&response));
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    end(gateway.program).await;
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Whether a metric's line counts a login, however it ended.
fn ended_login(line: &str) -> bool {
    line.starts_with("citrix_auth_proxy_token_refreshes_total{") && !line.ends_with(" 0")
}

/// What a token endpoint may return instead of a token, each with what it was sent in it.
fn bad_answers() -> Vec<String> {
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
async fn a_login_that_fails_tells_no_secret_whatever_the_token_endpoint_answers() {
    let nobody = Upstream::refusing();
    let fails = async |response: String| {
        let endpoint = Upstream::responding(response.clone()).await;
        let toml = "[token]\nstartup_wait = \"0s\"\n";
        let secrets = Secrets::at(&nobody.url(), &format!("{}/login", endpoint.url()), toml);
        let mut gateway = Program::start(&secrets.run_arguments(), &[]);
        let (address, admin) = crate::gateway::addresses(&mut gateway).await;
        // A lifetime that is missing or nonsense is made up for, so not each of them fails.
        wait_until("the login is over", || async {
            ask(admin, &get("/metrics"))
                .await
                .text()
                .lines()
                .any(ended_login)
        })
        .await;
        let refused = ask(address, &post("/", "")).await;
        assert!(
            [502, 503].contains(&refused.status()),
            "{response}: {}",
            said(&refused)
        );
        holds_none(&said(&refused));
        for path in ["/readyz", "/metrics", "/status.json"] {
            holds_none(&said(&ask(admin, &get(path)).await));
        }
        let health = Program::run(&["healthcheck", "--admin", &admin.to_string()], &[]).await;
        holds_none(&format!("{health:?}"));
        end(gateway).await;

        let check = Program::run(&["check", "--online", "--config", secrets.config()], &[]).await;
        holds_none(&format!("{check:?}"));
    };
    join_all(bad_answers().into_iter().map(fails)).await;
}

#[tokio::test]
async fn a_login_that_fails_is_logged_with_all_that_may_be_told() {
    let (nobody, logins) = (Upstream::refusing(), TokenEndpoint::rejecting().await);
    let secrets = Secrets::at(&nobody.url(), &logins.url(), "");
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
    end(gateway).await;
}
