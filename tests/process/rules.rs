//! Rules of callers as operators meet them: what the audit tells, and the block that `caller suggest` prints.

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use serde_json::Value;

use crate::gateway::{Gateway, environment};
use crate::program::{Ended, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::Message;

fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// A caller whose secret is its name, among canaries.
fn block(name: &str, rules: &str) -> String {
    format!(
        "[[caller]]\nname = {name:?}\nsecret_sha256 = \"{}\"\n{rules}\n",
        hash(&format!("c4nary-{name}"))
    )
}

/// A gateway of this configuration; its files and servers go when it does.
async fn gateway(config: &str) -> (Gateway, (Upstream, TokenEndpoint, tempfile::TempDir)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, config).unwrap();
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (api, token) = (upstream.url(), logins.url());
    let mut variables = environment(&api, &token);
    variables.push(("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", ""));
    let gateway = Gateway::start(&["run", "--config", file.to_str().unwrap()], &variables).await;
    (gateway, (upstream, logins, folder))
}

async fn ask(gateway: &Gateway, name: &str, line: &str, body: &str) -> Message {
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

async fn suggest(
    gateway: &Gateway,
    name: &str,
    more: &[&str],
    variables: &[(&str, &str)],
) -> Ended {
    let admin = gateway.admin.to_string();
    let arguments = [&["caller", "suggest", name, "--admin", &admin], more].concat();
    Program::run(&arguments, variables).await
}

#[tokio::test]
async fn the_audit_tells_what_rules_refused_and_what_they_would_have() {
    let rules =
        "methods = ['GET', 'POST', 'DELETE']\npaths = ['/cvad/manage/**']\ncustomers = ['acme']\n";
    let callers = block("e", rules)
        + &block("o", &format!("{rules}mode = 'observe'"))
        + &block("slow", "max_per_second = 1");
    // Without the access log, too.
    let (gateway, _servers) = gateway(&format!("{callers}[log]\naccess = false\n")).await;
    let item = |method: &str| {
        format!("{{\"Items\":[{{\"Method\":\"{method}\",\"RelativeUrl\":\"c4nary\"}}]}}")
    };
    for (name, line, body, status) in [
        ("e", "GET /cvad/manage/x?c4nary", "", 200),
        ("e", "DELETE /cvad/manage/x", "", 200),
        ("e", "GET /monitorodata", "", 403),
        ("e", "PUT /cvad/manage/x", "", 403),
        ("e", "GET /cvad/manage/../x", "", 403),
        ("e", "POST /cvad/manage/$batch", &item("DELETE"), 200),
        ("e", "POST /cvad/manage/$batch", &item("PATCH"), 403),
        ("e", "POST /cvad/manage/$batch", "c4nary", 400),
        ("o", "PUT /monitorodata", "", 200),
        ("o", "POST /cvad/manage/$batch", &item("PATCH"), 200),
    ] {
        assert_eq!(
            ask(&gateway, name, line, body).await.status(),
            status,
            "{name} {line}"
        );
    }
    gateway.program.signal("TERM");
    let ended = gateway.end().await;
    assert!(!ended.stderr.contains("c4nary"), "{}", ended.stderr);
    let log = ended.log();
    let warned = |line: &&Value| {
        line["message"]
            .as_str()
            .unwrap_or_default()
            .contains("caller[1].mode: observe")
    };
    assert_eq!(log.iter().filter(warned).count(), 1, "{log:#?}");
    let told = log
        .iter()
        .filter(|line| line["target"] == "audit")
        .map(|line| {
            [
                "verdict", "caller", "method", "path", "customer", "reason", "cause",
            ]
            .map(|key| line[key].as_str().unwrap_or_default().to_owned())
        });
    let told: Vec<_> = told.collect();
    let told: Vec<_> = told
        .iter()
        .map(|line| line.each_ref().map(String::as_str))
        .collect();
    let (method, path) = (
        "the caller may not use this method (methods)",
        "the caller may not use this path (paths)",
    );
    let patch = format!("item 0 of the batch, counted from 0: {method}");
    // What the caller is told, as there is no more to it.
    let no_json = "the $batch body is not UTF-8 JSON at line 1, column 1";
    let dots = "the path has a segment of only dots, spaces or plus signs";
    assert_eq!(
        told,
        [
            ["admitted", "e", "DELETE", "/cvad/manage/x", "acme", "", ""],
            [
                "refused",
                "e",
                "GET",
                "/monitorodata",
                "",
                "caller_forbidden",
                path
            ],
            [
                "refused",
                "e",
                "PUT",
                "/cvad/manage/x",
                "",
                "caller_forbidden",
                method
            ],
            [
                "refused",
                "e",
                "GET",
                "/cvad/manage/../x",
                "",
                "caller_forbidden",
                dots
            ],
            [
                "admitted",
                "e",
                "POST",
                "/cvad/manage/$batch",
                "acme",
                "",
                ""
            ],
            [
                "refused",
                "e",
                "POST",
                "/cvad/manage/$batch",
                "",
                "caller_forbidden",
                &patch
            ],
            [
                "refused",
                "e",
                "POST",
                "/cvad/manage/$batch",
                "",
                "bad_request",
                no_json
            ],
            [
                "would_deny",
                "o",
                "PUT",
                "/monitorodata",
                "acme",
                "caller_forbidden",
                method
            ],
            ["admitted", "o", "PUT", "/monitorodata", "acme", "", ""],
            [
                "would_deny",
                "o",
                "POST",
                "/cvad/manage/$batch",
                "acme",
                "caller_forbidden",
                &patch
            ],
            [
                "admitted",
                "o",
                "POST",
                "/cvad/manage/$batch",
                "acme",
                "",
                ""
            ],
        ]
    );
}

#[tokio::test]
async fn what_an_observed_caller_does_becomes_a_block_to_paste() {
    let callers =
        block("o", "mode = 'observe'") + &block("e", "") + &block("idle", "mode = 'observe'");
    let admin = format!("[admin]\nsecret_sha256 = \"{}\"\n", hash("c4nary-admin"));
    let (gateway, (_, _, folder)) = gateway(&(callers + &admin)).await;
    for line in [
        "GET /cvad/manage/Machines/123456",
        "DELETE /cvad/manage/Machines/234567",
        "GET /monitorodata/Users?x",
    ] {
        assert_eq!(ask(&gateway, "o", line, "").await.status(), 200);
    }
    let file = folder.path().join("admin-secret");
    std::fs::write(&file, "c4nary-admin\n").unwrap();
    let by_file = ["--secret-file", file.to_str().unwrap()];
    let by_variable = [("CITRIX_ADMIN_SECRET", "c4nary-admin")];
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
        suggest(&gateway, "o", &[], &by_variable).await.stdout,
        printed.stdout
    );
    for (name, more, variables, code, told) in [
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
        ("nobody", &by_file, &[], 1, "no caller of this name"),
        ("e", &by_file, &[], 1, "is not observed"),
        ("idle", &by_file, &[], 1, "no requests observed"),
        ("a b", &by_file, &[], 64, "is not a valid caller name"),
    ] {
        let ended = suggest(&gateway, name, more, variables).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(code), ""),
            "{name}: {ended:?}"
        );
        assert!(
            ended.stderr.contains(told) && !ended.stderr.contains("c4nary"),
            "{name}: {ended:?}"
        );
    }
    // More kinds than are kept.
    for letter in 'a'..='z' {
        for other in 'a'..='k' {
            let mut wire = gateway.connect().await;
            let head = "HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: c4nary-o";
            wire.write(format!("GET /{letter}{other} {head}\r\n\r\n"))
                .await;
            assert_eq!(wire.response().await.status(), 200);
        }
    }
    let ended = suggest(&gateway, "o", &by_file, &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("[[caller]]")
            && ended.stderr.contains("does not permit everything o does"),
        "{ended:?}"
    );
    // Nobody is there.
    let admin = gateway.admin.to_string();
    gateway.program.signal("TERM");
    gateway.end().await;
    let ended = Program::run(&["caller", "suggest", "o", "--admin", &admin], &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .starts_with("no response from the admin listener at"),
        "{ended:?}"
    );
}
