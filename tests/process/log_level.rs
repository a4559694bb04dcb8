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
async fn operator_changes_the_log_level_and_cross_site_pages_cannot() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(
        log_level(&gateway, "GET", "", "").await.text(),
        "{\"level\":\"info\"}\n"
    );
    forward(&gateway, "/seen-before").await;
    assert_eq!(
        log_level(&gateway, "PUT", "", "warn\n").await.text(),
        "{\"level\":\"warn\"}\n"
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
        "{\"level\":\"warn\"}\n"
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
    // The level `warn` suppresses audit lines, including those of the rejected cross-site requests.
    let expected = ["admitted", "operator", "PUT", ""].map(str::to_owned);
    assert_eq!(audit, [expected]);
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
