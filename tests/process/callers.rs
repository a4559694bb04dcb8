//! Caller secrets from `caller new` to the access and audit logs.

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use serde_json::Value;

use crate::gateway::{Gateway, environment};
use crate::program::{Exit, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire};

/// Returns the secret and the block that `caller new` printed.
fn secret_and_block(exit: &Exit) -> (String, String) {
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let (before, block) = exit.stdout.split_once("[[caller]]").unwrap();
    // 256 bits in base64.
    let secret: Vec<&str> = before
        .lines()
        .filter(|line| line.len() == 43 && !line.contains(' '))
        .collect();
    assert_eq!(secret.len(), 1, "{before}");
    (secret[0].to_owned(), format!("[[caller]]{block}"))
}

async fn send(gateway: &Gateway, line: &str, fields: &str) -> Message {
    let mut wire: Wire = gateway.connect().await;
    let id = "Citrix-TransactionId: 5c1e5d3b-0000-4000-8000-00000000000a\r\n";
    wire.write(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{id}{fields}\r\n"
    ))
    .await;
    wire.response().await
}

fn of_target<'l>(log: &'l [Value], target: &str) -> Vec<&'l Value> {
    log.iter().filter(|line| line["target"] == target).collect()
}

/// Starts a gateway on all addresses with `callers`. The second value owns its servers and files.
async fn start(callers: &str) -> (Gateway, (Upstream, TokenEndpoint, tempfile::TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let toml = format!("{callers}[listen]\naddress = \"0.0.0.0:0\"\n");
    std::fs::write(&config, toml).unwrap();
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), token_endpoint.url());
    let mut variables = environment(&api, &token);
    variables.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_LISTEN__ADDRESS");
    let gateway = Gateway::start(&["run", "--config", config.to_str().unwrap()], &variables).await;
    (gateway, (upstream, token_endpoint, folder))
}

/// Sends requests with and without the secret of splunk and checks their statuses.
async fn send_requests(gateway: &Gateway, secret: &str) {
    let key = format!("X-Api-Key: {secret}\r\n");
    for (line, fields, status) in [
        ("GET /read?q=c4nary", key.as_str(), 200),
        ("DELETE /gone?q=c4nary", &key, 200),
        ("POST /made", &key, 200),
        ("PATCH /changed", "X-Api-Key: c4nary\r\n", 401),
        (
            "GET /read",
            "Authorization: Basic YzRuYXJ5OmM0bmFyeQ==\r\n",
            401,
        ),
        ("GET /read", "", 401),
        (
            "PUT /other",
            &format!("{key}Citrix-CustomerId: other\r\n"),
            403,
        ),
    ] {
        let response = send(gateway, line, fields).await;
        assert_eq!(response.status(), status, "{line} {fields}");
    }
}

/// The audit lines of [`send_requests`]: verdict, caller, method, path, customer, reason.
const AUDIT: [[&str; 6]; 6] = [
    ["admitted", "splunk", "DELETE", "/gone", "acme", ""],
    ["admitted", "splunk", "POST", "/made", "acme", ""],
    ["refused", "none", "PATCH", "/changed", "", "caller_unknown"],
    ["refused", "none", "GET", "/read", "", "caller_unknown"],
    ["refused", "none", "GET", "/read", "", "caller_unknown"],
    [
        "refused",
        "splunk",
        "PUT",
        "/other",
        "",
        "customer_forbidden",
    ],
];

/// The callers in the access log lines of [`send_requests`].
const ACCESS: [&str; 7] = [
    "splunk", "splunk", "splunk", "none", "none", "none", "splunk",
];

fn text<'l>(line: &'l Value, key: &str) -> &'l str {
    line[key].as_str().unwrap_or_default()
}

#[tokio::test]
async fn new_secret_admits_its_caller_and_the_audit_log_names_it() {
    let exit = Program::run(&["caller", "new", "splunk"], &[]).await;
    let (secret, block) = secret_and_block(&exit);
    let hash = hex::encode(digest(&SHA256, secret.as_bytes()).as_ref());
    assert_eq!(
        block.trim_end(),
        format!("[[caller]]\nname = \"splunk\"\nsecret_sha256 = \"{hash}\"")
    );
    assert_ne!(
        Program::run(&["caller", "new", "splunk"], &[]).await.stdout,
        exit.stdout
    );

    let net = "[[caller]]\nname = \"net\"\nnetworks = [\"192.0.2.0/24\"]\n";
    let (gateway, _servers) = start(&format!("{block}\n{net}")).await;
    send_requests(&gateway, &secret).await;
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    for secret in [secret.as_str(), &hash, "c4nary", "YzRuYXJ5"] {
        assert!(!exit.stderr.contains(secret), "{secret} in {}", exit.stderr);
    }
    let log = exit.log();
    let audit: Vec<[&str; 6]> = of_target(&log, "audit")
        .into_iter()
        .map(|line| {
            assert!(
                text(line, "peer").starts_with("127.0.0.1:") && line["request_id"].is_string(),
                "{line}"
            );
            assert_eq!(
                line["transaction_id"],
                "5c1e5d3b-0000-4000-8000-00000000000a"
            );
            ["verdict", "caller", "method", "path", "customer", "reason"].map(|key| text(line, key))
        })
        .collect();
    assert_eq!(audit, AUDIT);
    let access: Vec<_> = of_target(&log, "access")
        .into_iter()
        .map(|line| text(line, "caller"))
        .collect();
    assert_eq!(access, ACCESS);
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_admitted_and_listed_with_their_last_use() {
    let hash = |secret: &str| hex::encode(digest(&SHA256, secret.as_bytes()).as_ref());
    let (old, new) = (hash("old-secret"), hash("new-secret"));
    let callers = format!(
        "[[caller]]\nname = \"splunk\"\nsecret_sha256 = [\"{old}\", \"{new}\"]\n\
         [[caller]]\nname = \"net\"\nnetworks = [\"192.0.2.0/24\"]\n"
    );
    let (gateway, _servers) = start(&callers).await;
    let admin = gateway.admin.to_string();
    let list = async || {
        let exit = Program::run(&["caller", "list", "--admin", &admin], &[]).await;
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
        for secret in [&old, &new] {
            assert!(!exit.stdout.contains(&secret[..16]), "{}", exit.stdout);
        }
        let rows = exit.stdout.lines().map(str::to_owned);
        rows.collect::<Vec<_>>()
    };
    let uses = |rows: &[String]| {
        let row = |hash: &str| rows.iter().find(|row| row.contains(&hash[..8])).unwrap();
        [&old, &new].map(|hash| !row(hash).ends_with("never"))
    };
    let rows = list().await;
    assert!(
        rows[0].starts_with("CALLER") && rows[1].starts_with("splunk"),
        "{rows:?}"
    );
    assert!(rows[3].starts_with("net"), "{rows:?}");
    assert_eq!(uses(&rows), [false, false]);
    for (secret, status, used) in [
        ("new-secret", 200, [false, true]),
        ("other-secret", 401, [false, true]),
        ("old-secret", 200, [true, true]),
    ] {
        let key = format!("X-Api-Key: {secret}\r\n");
        assert_eq!(send(&gateway, "GET /x", &key).await.status(), status);
        assert_eq!(uses(&list().await), used, "{secret}");
    }
}

#[tokio::test]
async fn invalid_caller_name_exits_with_64() {
    for name in ["", "a b", "a:b", "anonymous", "none", "\"]"] {
        let exit = Program::run(&["caller", "new", name], &[]).await;
        assert_eq!(
            (exit.code, exit.stdout.as_str()),
            (Some(64), ""),
            "{name}: {}",
            exit.stderr
        );
        assert!(!exit.stderr.is_empty());
    }
    for arguments in [&["caller"][..], &["caller", "new"], &["caller", "old", "a"]] {
        assert_eq!(
            Program::run(arguments, &[]).await.code,
            Some(64),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn non_loopback_address_requires_callers_or_allow_anonymous() {
    let (upstream, token_endpoint) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), token_endpoint.url());
    let mut variables = environment(&api, &token);
    variables.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_LISTEN__ADDRESS");
    variables.push(("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "0.0.0.0:0"));
    let exit = Program::run(&["run"], &variables).await;
    assert_eq!(exit.code, Some(64));
    let problem = exit.log()[0]["problem"].as_str().unwrap().to_owned();
    assert!(
        problem.contains("is not a loopback address") && problem.contains("[[caller]]"),
        "{problem}"
    );

    variables.push(("CITRIX_AUTH_PROXY_INSECURE__ALLOW_ANONYMOUS", "true"));
    let gateway = Gateway::start(&["run"], &variables).await;
    assert_eq!(send(&gateway, "DELETE /x", "").await.status(), 200);
    gateway.program.signal("TERM");
    let log = gateway.wait().await.log();
    let is_warning = |line: &&Value| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .unwrap()
                .contains("allow_anonymous")
    };
    assert_eq!(log.iter().filter(is_warning).count(), 1, "{log:#?}");
    assert_eq!(of_target(&log, "access")[0]["caller"], "anonymous");
    // Anonymous requests have no caller to audit.
    assert!(of_target(&log, "audit").is_empty(), "{log:#?}");
}
