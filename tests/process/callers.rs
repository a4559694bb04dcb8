//! Secrets for callers from the command line to the door, and what the log tells of both sides of it.

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use serde_json::Value;

use crate::gateway::{Gateway, environment};
use crate::program::{Ended, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire};

/// The secret and the block that `caller new` printed.
fn secret_and_block(ended: &Ended) -> (String, String) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let (before, block) = ended.stdout.split_once("[[caller]]").unwrap();
    // 256 bits in base64.
    let secret: Vec<&str> = before
        .lines()
        .filter(|line| line.len() == 43 && !line.contains(' '))
        .collect();
    assert_eq!(secret.len(), 1, "{before}");
    (secret[0].to_owned(), format!("[[caller]]{block}"))
}

async fn ask(gateway: &Gateway, line: &str, fields: &str) -> Message {
    let mut wire: Wire = gateway.connect().await;
    let id = "Citrix-TransactionId: 5c1e5d3b-0000-4000-8000-00000000000a\r\n";
    wire.write(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{id}{fields}\r\n"
    ))
    .await;
    wire.response().await
}

fn of<'l>(log: &'l [Value], target: &str) -> Vec<&'l Value> {
    log.iter().filter(|line| line["target"] == target).collect()
}

#[tokio::test]
async fn a_new_secret_lets_in_and_the_audit_tells_who_changed_what() {
    let ended = Program::run(&["caller", "new", "splunk"], &[]).await;
    let (secret, block) = secret_and_block(&ended);
    let hash = hex::encode(digest(&SHA256, secret.as_bytes()).as_ref());
    assert_eq!(
        block.trim_end(),
        format!("[[caller]]\nname = \"splunk\"\nsecret_sha256 = \"{hash}\"")
    );
    assert_ne!(
        Program::run(&["caller", "new", "splunk"], &[]).await.stdout,
        ended.stdout
    );

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let net = "[[caller]]\nname = \"net\"\nnetworks = [\"192.0.2.0/24\"]\n";
    std::fs::write(
        &config,
        format!("{block}\n{net}[listen]\naddress = \"0.0.0.0:0\"\n"),
    )
    .unwrap();
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), logins.url());
    let mut variables = environment(&api, &token);
    variables.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_LISTEN__ADDRESS");
    let gateway = Gateway::start(&["run", "--config", config.to_str().unwrap()], &variables).await;
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
        assert_eq!(
            ask(&gateway, line, fields).await.status(),
            status,
            "{line} {fields}"
        );
    }
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    for secret in [secret.as_str(), &hash, "c4nary", "YzRuYXJ5"] {
        assert!(
            !ended.stderr.contains(secret),
            "{secret} in {}",
            ended.stderr
        );
    }
    let log = ended.log();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let told: Vec<[String; 6]> = of(&log, "audit")
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
    let told: Vec<[&str; 6]> = told
        .iter()
        .map(|line| line.each_ref().map(String::as_str))
        .collect();
    assert_eq!(
        told,
        [
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
                "customer_forbidden"
            ],
        ]
    );
    let access: Vec<_> = of(&log, "access")
        .into_iter()
        .map(|line| text(line, "caller"))
        .collect();
    assert_eq!(
        access,
        [
            "splunk", "splunk", "splunk", "none", "none", "none", "splunk"
        ]
    );
}

#[tokio::test]
async fn a_name_that_no_caller_may_have_is_a_mistake_on_the_command_line() {
    for name in ["", "a b", "a:b", "anonymous", "none", "\"]"] {
        let ended = Program::run(&["caller", "new", name], &[]).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(64), ""),
            "{name}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.is_empty());
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
async fn on_an_address_of_other_machines_it_starts_only_if_it_is_said_who_may_come_in() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), logins.url());
    let mut variables = environment(&api, &token);
    variables.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_LISTEN__ADDRESS");
    variables.push(("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "0.0.0.0:0"));
    let ended = Program::run(&["run"], &variables).await;
    assert_eq!(ended.code, Some(64));
    let told = ended.log()[0]["problem"].as_str().unwrap().to_owned();
    assert!(
        told.contains("is not a loopback address") && told.contains("[[caller]]"),
        "{told}"
    );

    variables.push(("CITRIX_AUTH_PROXY_INSECURE__ALLOW_ANONYMOUS", "true"));
    let gateway = Gateway::start(&["run"], &variables).await;
    assert_eq!(ask(&gateway, "DELETE /x", "").await.status(), 200);
    gateway.program.signal("TERM");
    let log = gateway.end().await.log();
    let warned = |line: &&Value| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .unwrap()
                .contains("allow_anonymous")
    };
    assert_eq!(log.iter().filter(warned).count(), 1, "{log:#?}");
    assert_eq!(of(&log, "access")[0]["caller"], "anonymous");
    // Who it was cannot be told.
    assert!(of(&log, "audit").is_empty(), "{log:#?}");
}
