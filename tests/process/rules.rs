//! Rules of callers in the audit log, and the block that `caller suggest` prints.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use serde_json::Value;

use crate::gateway::{Gateway, environment};
use crate::program::{Exit, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::Message;

fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// Returns the block of a caller whose secret is `c4nary-` and its name.
fn block(name: &str, rules: &str) -> String {
    format!(
        "[[caller]]\nname = {name:?}\nsecret_sha256 = \"{}\"\n{rules}\n",
        hash(&format!("c4nary-{name}"))
    )
}

type Servers = (Upstream, TokenEndpoint, tempfile::TempDir);

/// Starts a gateway with `config`. The second value owns its servers and files.
async fn gateway(config: &str) -> (Gateway, Servers) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), token_endpoint.url());
    let mut variables = environment(&api, &token);
    variables.push(("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", ""));
    let gateway = Gateway::start(&["run", "--config", file.to_str().unwrap()], &variables).await;
    (gateway, (upstream, token_endpoint, folder))
}

async fn send(gateway: &Gateway, name: &str, line: &str, body: &str) -> Message {
    let mut wire = gateway.connect().await;
    let fields = format!(
        "X-Api-Key: c4nary-{name}\r\nContent-Length: {}\r\n",
        body.len()
    );
    wire.write(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}"
    ))
    .await;
    wire.response().await
}

async fn suggest(gateway: &Gateway, name: &str, more: &[&str], variables: &[(&str, &str)]) -> Exit {
    let admin = gateway.admin.to_string();
    let arguments = [&["caller", "suggest", name, "--admin", &admin], more].concat();
    Program::run(&arguments, variables).await
}

const RULES: &str =
    "methods = ['GET', 'POST', 'DELETE']\npaths = ['/cvad/manage/**']\ncustomers = ['acme']\n";

const DELETE_ITEM: &str = r#"{"Items":[{"Method":"DELETE","RelativeUrl":"c4nary"}]}"#;
const PATCH_ITEM: &str = r#"{"Items":[{"Method":"PATCH","RelativeUrl":"c4nary"}]}"#;

/// Caller, request line, body and status. The callers `e` (enforce) and `o` (observe) have
/// [`RULES`].
const REQUESTS: [(&str, &str, &str, u16); 10] = [
    ("e", "GET /cvad/manage/x?c4nary", "", 200),
    ("e", "DELETE /cvad/manage/x", "", 200),
    ("e", "GET /monitorodata", "", 403),
    ("e", "PUT /cvad/manage/x", "", 403),
    ("e", "GET /cvad/manage/../x", "", 403),
    ("e", "POST /cvad/manage/$batch", DELETE_ITEM, 200),
    ("e", "POST /cvad/manage/$batch", PATCH_ITEM, 403),
    ("e", "POST /cvad/manage/$batch", "c4nary", 400),
    ("o", "PUT /monitorodata", "", 200),
    ("o", "POST /cvad/manage/$batch", PATCH_ITEM, 200),
];

const METHOD: &str = "the caller may not use this method (methods)";
const PATH: &str = "the caller may not use this path (paths)";
const DOTS: &str = "the path has a segment of only dots, spaces or plus signs";
const PATCH: &str =
    "item 0 of the batch, counted from 0: the caller may not use this method (methods)";
/// Equal to the `detail` of the response.
const NO_JSON: &str = "the $batch body is not UTF-8 JSON at line 1, column 1";
const BATCH: &str = "/cvad/manage/$batch";
const FORBIDDEN: &str = "caller_forbidden";

/// The audit lines of [`REQUESTS`]: verdict, caller, method, path, customer, reason, cause.
#[rustfmt::skip]
const AUDIT: [[&str; 7]; 11] = [
    ["admitted", "e", "DELETE", "/cvad/manage/x", "acme", "", ""],
    ["refused", "e", "GET", "/monitorodata", "", FORBIDDEN, PATH],
    ["refused", "e", "PUT", "/cvad/manage/x", "", FORBIDDEN, METHOD],
    ["refused", "e", "GET", "/cvad/manage/../x", "", FORBIDDEN, DOTS],
    ["admitted", "e", "POST", BATCH, "acme", "", ""],
    ["refused", "e", "POST", BATCH, "", FORBIDDEN, PATCH],
    ["refused", "e", "POST", BATCH, "", "bad_request", NO_JSON],
    ["would_deny", "o", "PUT", "/monitorodata", "acme", FORBIDDEN, METHOD],
    ["admitted", "o", "PUT", "/monitorodata", "acme", "", ""],
    ["would_deny", "o", "POST", BATCH, "acme", FORBIDDEN, PATCH],
    ["admitted", "o", "POST", BATCH, "acme", "", ""],
];

#[tokio::test]
async fn rule_violations_are_audited_as_refused_or_would_deny() {
    let callers = block("e", RULES)
        + &block("o", &format!("{RULES}mode = 'observe'"))
        + &block("slow", "max_per_second = 1");
    // The audit log does not depend on the access log.
    let (gateway, _servers) = gateway(&format!("{callers}[log]\naccess = false\n")).await;
    for (name, line, body, status) in REQUESTS {
        let response = send(&gateway, name, line, body).await;
        assert_eq!(response.status(), status, "{name} {line}");
    }
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert!(!exit.stderr.contains("c4nary"), "{}", exit.stderr);
    let log = exit.log();
    let is_warning = |line: &&Value| {
        line["message"]
            .as_str()
            .unwrap_or_default()
            .contains("caller[1].mode: observe")
    };
    assert_eq!(log.iter().filter(is_warning).count(), 1, "{log:#?}");
    let audit: Vec<[&str; 7]> = log
        .iter()
        .filter(|line| line["target"] == "audit")
        .map(|line| {
            [
                "verdict", "caller", "method", "path", "customer", "reason", "cause",
            ]
            .map(|key| line[key].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(audit, AUDIT);
}

/// Starts a gateway with an admin secret and the callers `o` and `idle` (observe) and `e`
/// (enforce), and sends requests of `o`.
async fn observing_gateway() -> (Gateway, Servers) {
    let callers =
        block("o", "mode = 'observe'") + &block("e", "") + &block("idle", "mode = 'observe'");
    let admin = format!("[admin]\nsecret_sha256 = \"{}\"\n", hash("c4nary-admin"));
    let (gateway, servers) = gateway(&(callers + &admin)).await;
    std::fs::write(admin_secret(&servers), "c4nary-admin\n").unwrap();
    for line in [
        "GET /cvad/manage/Machines/123456",
        "DELETE /cvad/manage/Machines/234567",
        "GET /monitorodata/Users?x",
    ] {
        assert_eq!(send(&gateway, "o", line, "").await.status(), 200);
    }
    (gateway, servers)
}

fn admin_secret(servers: &Servers) -> PathBuf {
    servers.2.path().join("admin-secret")
}

const BY_VARIABLE: [(&str, &str); 1] = [("CITRIX_ADMIN_SECRET", "c4nary-admin")];

#[tokio::test]
async fn requests_of_an_observed_caller_become_a_suggested_block() {
    let (gateway, servers) = observing_gateway().await;
    let file = admin_secret(&servers);
    let by_file = ["--secret-file", file.to_str().unwrap()];
    let printed = suggest(&gateway, "o", &by_file, &[]).await;
    assert_eq!(
        (printed.code, printed.stderr.as_str()),
        (Some(0), ""),
        "{printed:?}"
    );
    assert_eq!(
        printed.stdout,
        "# From 3 requests of this caller.\n\
         # Copy secret_sha256, networks, client_certificate and limits from the current block.\n\
         [[caller]]\nname = \"o\"\nmethods = [\n    \"DELETE\",\n    \"GET\",\n]\n\
         paths = [\n    \"/cvad/manage/Machines/*\",\n    \"/monitorodata/Users\",\n]\n\
         customers = [\n    \"acme\",\n]\n\
         mode = \"observe\"  # \"enforce\" once policy_would_deny_total stays constant\n"
    );
    assert_eq!(
        suggest(&gateway, "o", &[], &BY_VARIABLE).await.stdout,
        printed.stdout
    );
}

#[tokio::test]
async fn suggest_without_secret_or_observations_prints_the_reason() {
    let (gateway, servers) = observing_gateway().await;
    let file = admin_secret(&servers);
    let by_file = ["--secret-file", file.to_str().unwrap()];
    for (name, more, variables, code, expected) in [
        (
            "o",
            &[][..],
            &[][..],
            1,
            "the admin listener requires its secret",
        ),
        (
            "o",
            &[],
            &[("CITRIX_ADMIN_SECRET", "c4nary-wrong")],
            1,
            "the admin listener requires its secret",
        ),
        (
            "o",
            &["--secret-file", "/no/such"],
            &[],
            64,
            "failed to read /no/such",
        ),
        ("absent", &by_file, &[], 1, "no caller of this name"),
        ("e", &by_file, &[], 1, "is not observed"),
        ("idle", &by_file, &[], 1, "no requests observed"),
        ("a b", &by_file, &[], 64, ": not a valid caller name"),
    ] {
        let exit = suggest(&gateway, name, more, variables).await;
        assert_eq!(
            (exit.code, exit.stdout.as_str()),
            (Some(code), ""),
            "{name}: {exit:?}"
        );
        assert!(
            exit.stderr.contains(expected) && !exit.stderr.contains("c4nary"),
            "{name}: {exit:?}"
        );
    }
}

#[tokio::test]
async fn incomplete_observations_print_a_block_and_exit_with_1() {
    let (gateway, servers) = observing_gateway().await;
    let file = admin_secret(&servers);
    let by_file = ["--secret-file", file.to_str().unwrap()];
    // More distinct paths than the gateway records.
    for letter in 'a'..='z' {
        for other in 'a'..='k' {
            let mut wire = gateway.connect().await;
            let head = "HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: c4nary-o";
            wire.write(format!("GET /{letter}{other} {head}\r\n\r\n"))
                .await;
            assert_eq!(wire.response().await.status(), 200);
        }
    }
    let exit = suggest(&gateway, "o", &by_file, &[]).await;
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stdout.contains("[[caller]]")
            && exit.stderr.contains("does not permit everything o does"),
        "{exit:?}"
    );
}

#[tokio::test]
async fn suggest_without_a_listener_exits_with_1() {
    let admin = Upstream::refusing().host();
    let exit = Program::run(&["caller", "suggest", "o", "--admin", &admin], &[]).await;
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr
            .starts_with("no response from the admin listener at"),
        "{exit:?}"
    );
}
