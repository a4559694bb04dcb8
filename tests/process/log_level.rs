//! Changes of the log level at run time.

use tokio::net::TcpStream;

use crate::gateway::Gateway;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, within_timeout};

async fn log_level(gateway: &Gateway, method: &str, fields: &str, body: &str) -> Message {
    let mut wire = Wire::new(
        within_timeout(TcpStream::connect(gateway.admin))
            .await
            .unwrap(),
    );
    let length = body.len();
    wire.write(format!(
        "{method} /log-level HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    wire.response().await
}

async fn forward(gateway: &Gateway, path: &str) {
    let mut wire = gateway.connect().await;
    wire.write(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.response().await.status(), 200);
}

#[tokio::test]
async fn operator_changes_the_log_level_except_that_of_audit_lines() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(
        log_level(&gateway, "GET", "", "").await.text(),
        "{\"level\":\"info\"}\n"
    );
    forward(&gateway, "/seen-before").await;
    assert_eq!(
        log_level(&gateway, "PUT", "", "off\n").await.text(),
        "{\"level\":\"off\"}\n"
    );
    forward(&gateway, "/unseen").await;
    for (fields, body, status) in [
        ("", "loud", 400),
        ("", "", 400),
        ("", &*"x".repeat(1000), 400),
        ("Sec-Fetch-Site: cross-site\r\n", "info", 403),
        ("Origin: http://evil.example\r\n", "info", 403),
    ] {
        assert_eq!(
            log_level(&gateway, "PUT", fields, body).await.status(),
            status,
            "{fields}{body}"
        );
    }
    assert_eq!(log_level(&gateway, "POST", "", "info").await.status(), 405);
    assert_eq!(
        log_level(&gateway, "GET", "", "").await.text(),
        "{\"level\":\"off\"}\n"
    );
    assert_eq!(
        log_level(&gateway, "PUT", "", "\"info\"").await.status(),
        200
    );
    forward(&gateway, "/seen-again").await;
    gateway.program.signal("TERM");
    let exit = gateway.program.wait().await;
    let audit: Vec<[String; 4]> = exit
        .log()
        .iter()
        .filter(|line| line["listener"] == "admin")
        .map(|line| {
            assert!(
                line["target"] == "audit"
                    && line["peer"].as_str().unwrap().starts_with("127.0.0.1:")
            );
            assert!(
                line["transaction_id"].is_string() && line["path"] == "/log-level",
                "{line}"
            );
            ["verdict", "caller", "method", "reason"]
                .map(|key| line[key].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    // No level suppresses audit lines.
    let admitted = |method| ["admitted", "operator", method, ""];
    let rejected = ["refused", "none", "PUT", "caller_forbidden"];
    let mut expected = vec![admitted("PUT"); 4];
    expected.extend([rejected, rejected, admitted("POST"), admitted("PUT")]);
    assert_eq!(audit, expected);
    let log = exit.stderr;
    for (text, times) in [
        ("/seen-before", 1),
        ("/unseen", 0),
        ("/seen-again", 1),
        ("log level changed by an operator", 2),
    ] {
        assert_eq!(log.matches(text).count(), times, "{text} in {log}");
    }
}
