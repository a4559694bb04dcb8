//! The admin listener (interface §5).

mod connections;
mod page;
mod refresh;
mod status;
mod token_events;
mod transactions;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use citrix_auth_proxy::state::lifecycle::Phase;

use crate::harness::{Gateway, Message, OK, TokenEndpoint, Upstream, get, get_with, wait_until};

/// The SHA-256 of `CANARY-admin`.
const SECRET_SHA256: &str = "107b4a7857be75269640d3541c2ec7eb2f44d648e7b741017e0752e9387756c2";
const SECRET: &str = "CANARY-admin";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    (Gateway::in_front_of(&upstream).start().await, upstream)
}

async fn wait_until_ready(gateway: &Gateway) {
    wait_until("the gateway is ready", || async {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn livez_returns_200_whatever_the_upstream_state() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::rejecting().await)
        .start()
        .await;
    gateway.logins.wait_for_logins(1).await;
    assert_eq!(gateway.admin(get("/livez")).await.status(), 200);
}

#[tokio::test]
async fn readyz_returns_503_until_the_first_token() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .logging_in_at(TokenEndpoint::stalling().await)
        .start()
        .await;
    let response = gateway.admin(get("/readyz")).await;
    assert_eq!(response.status(), 503);
    assert!(
        response.text().contains("customer acme"),
        "{}",
        response.text()
    );
    gateway.logins.reject();
    wait_until("the failed login is reported", || async {
        gateway
            .admin(get("/readyz"))
            .await
            .text()
            .contains("invalid_client")
    })
    .await;
    gateway.logins.grant();
    wait_until_ready(&gateway).await;
}

#[tokio::test]
async fn readyz_lists_each_customer_with_the_worst_state_first() {
    let block = |id: &str, logins: &TokenEndpoint| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'S' }}\n\
             token_url = '{}'\n",
            logins.url()
        )
    };
    let (healthy, stale, failed) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::granting().await,
        TokenEndpoint::rejecting().await,
    );
    let blocks = block("healthy", &healthy) + &block("stale", &stale) + &block("failed", &failed);
    let gateway = Gateway::for_customers(&blocks)
        .set("S", "s3cret")
        .start()
        .await;
    let readyz = || async {
        let response = gateway.admin(get("/readyz")).await;
        let lines: Vec<String> = response.text().lines().map(str::to_owned).collect();
        (response.status(), lines)
    };
    wait_until("two customers have a token", || async {
        readyz()
            .await
            .1
            .iter()
            .filter(|line| line.contains("fresh"))
            .count()
            == 2
    })
    .await;
    stale.reject();
    let refresh =
        "POST /tokens/stale/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(gateway.admin(refresh).await.status(), 503);

    let (status, lines) = readyz().await;
    assert_eq!((status, lines.len()), (503, 3), "{lines:?}");
    assert!(
        lines[0].starts_with("customer failed: unusable: the last login failed (invalid_client: "),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("customer stale: stale but valid: the last login failed (invalid_c"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("the current token is usable for "),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("customer healthy: fresh; next login in "),
        "{lines:?}"
    );

    // A stale token is still valid for requests.
    failed.grant();
    wait_until("every customer has a token", || async {
        readyz().await.0 == 200
    })
    .await;
    let (_, lines) = readyz().await;
    assert_eq!((lines[0].as_str(), lines.len()), ("ready", 4), "{lines:?}");
}

#[tokio::test]
async fn drain_fails_readyz_before_requests_end() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    gateway.app().lifecycle().advance(Phase::Draining);
    let response = gateway.admin(get("/readyz")).await;
    assert_eq!(response.status(), 503);
    assert!(response.text().contains("draining"), "{}", response.text());
    assert_eq!(gateway.admin(get("/livez")).await.status(), 200);
    // Requests in flight are finished.
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
}

#[tokio::test]
async fn probes_accept_get_and_head_only_and_forward_nothing() {
    let (gateway, upstream) = gateway().await;
    wait_until_ready(&gateway).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut wire = crate::harness::Wire::new(
            tokio::net::TcpStream::connect(gateway.admin_address())
                .await
                .unwrap(),
        );
        wire.write(head).await;
        assert_eq!(wire.head().await.status(), 200, "{path}");
        wire.closed().await;
        let post = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(gateway.admin(post).await.status(), 405, "{path}");
    }
    for path in ["/cvad/manage/me", "/page", "/livez/x"] {
        assert_eq!(gateway.admin(get(path)).await.status(), 404, "{path}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn admin_request_with_foreign_host_or_origin_is_rejected() {
    let (gateway, _upstream) = gateway().await;
    for path in ["/metrics", "/readyz", "/livez", "/"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n");
        let response = gateway.admin(request).await;
        assert_eq!(
            (
                response.status(),
                response.field("x-proxy-error").as_deref()
            ),
            (421, Some("foreign_host"))
        );
        let response = gateway
            .admin(get_with(path, "Sec-Fetch-Site: cross-site\r\n"))
            .await;
        assert_eq!(
            (
                response.status(),
                response.field("x-proxy-error").as_deref()
            ),
            (403, Some("caller_forbidden"))
        );
    }
    assert_eq!(
        gateway.admin("GET /livez HTTP/1.1\r\n\r\n").await.status(),
        400
    );
    // Old load balancers probe without `Host`, which no web page can do.
    assert_eq!(
        gateway.admin("GET /livez HTTP/1.0\r\n\r\n").await.status(),
        200
    );
}

#[tokio::test]
async fn admin_secret_is_required_except_for_probes_and_metrics() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("[admin]\nsecret_sha256 = \"{SECRET_SHA256}\""))
        .start()
        .await;
    wait_until_ready(&gateway).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(get(path)).await.status(), 200, "{path}");
    }
    let response = gateway.admin(get("/status.json")).await;
    assert_eq!(response.status(), 401);
    assert!(
        response
            .field("www-authenticate")
            .unwrap()
            .starts_with("Basic ")
    );
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
    for fields in [
        "X-Api-Key: wrong\r\n".to_owned(),
        basic("admin:wrong"),
        basic(SECRET),
        format!("Authorization: Bearer {SECRET}\r\n"),
        format!("X-Api-Key: wrong\r\n{}", basic(&format!("admin:{SECRET}"))),
    ] {
        assert_eq!(
            gateway
                .admin(get_with("/no/such/page", &fields))
                .await
                .status(),
            401,
            "{fields}"
        );
    }
    for fields in [
        format!("X-Api-Key: {SECRET}\r\n"),
        basic(&format!("admin:{SECRET}")),
        basic(&format!(":{SECRET}")),
    ] {
        assert_eq!(
            gateway
                .admin(get_with("/no/such/page", &fields))
                .await
                .status(),
            404,
            "{fields}"
        );
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_documented_names() {
    let (gateway, _upstream) = gateway().await;
    gateway.raw(get("/")).await;
    let response = gateway.admin(get("/metrics")).await;
    assert!(
        response
            .field("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let metrics = response.text();
    for name in [
        "requests_total",
        "request_duration_seconds",
        "upstream_duration_seconds",
        "overhead_seconds",
        "in_flight_requests",
        "errors_total",
        "upstream_connections",
        "connections",
        "token_expiry_timestamp_seconds",
        "token_next_refresh_timestamp_seconds",
        "token_refreshes_total",
        "token_refresh_duration_seconds",
        "token_consecutive_failures",
        "build_info",
    ] {
        assert!(
            metrics.contains(&format!("\n# TYPE citrix_auth_proxy_{name} "))
                || metrics.starts_with(&format!("# HELP citrix_auth_proxy_{name} ")),
            "{name}"
        );
    }
    assert!(
        metrics.contains("process_resident_memory_bytes"),
        "metrics of the process collector"
    );
}

#[tokio::test]
async fn request_is_counted_when_its_last_byte_arrives() {
    let (gateway, _upstream) = gateway().await;
    for count in 1..=20 {
        gateway.raw(get("/")).await;
        let line = format!(
            "citrix_auth_proxy_requests_total{{caller=\"anonymous\",code=\"200\",method=\"GET\",route=\"/\"}} {count}\n"
        );
        assert!(gateway.metrics().await.contains(&line), "{count}");
    }
}

#[tokio::test]
async fn unknown_input_adds_no_label_values() {
    let (gateway, _upstream) = gateway().await;
    wait_until_ready(&gateway).await;
    let series = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket{"))
            .filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name.to_owned()))
            .collect()
    };
    let request = |method: &str, number: usize| {
        format!(
            "{method} /c4nary-path-{number}?c4nary-query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             User-Agent: c4nary-agent-{number}\r\nReferer: http://c4nary.example/\r\n\
             Citrix-TransactionId: c4nary-id-{number}\r\n\r\n"
        )
    };
    gateway.raw(request("BREW", 0)).await;
    gateway.raw(request("GET", 0)).await;
    let before = series(&gateway.metrics().await);
    for number in 1..20 {
        gateway
            .raw(request(&format!("BREW-{number}"), number))
            .await;
        gateway.raw(request("GET", number)).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(series(&metrics), before);
    assert!(!metrics.contains("c4nary"), "{metrics}");
    assert!(!metrics.contains("BREW"), "{metrics}");
    let line = "citrix_auth_proxy_requests_total{caller=\"anonymous\",code=\"200\",method=\"OTHER\",route=\"/\"} 20\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn gateway_errors_are_counted_by_reason() {
    let (gateway, _upstream) = gateway().await;
    gateway
        .raw(get_with("/", "Citrix-CustomerId: other\r\n"))
        .await
        .problem(403, "customer_forbidden");
    gateway
        .raw(get("http://rebound.example/"))
        .await
        .problem(421, "foreign_host");
    let metrics = gateway.metrics().await;
    for (reason, count) in [
        ("customer_forbidden", 1),
        ("foreign_host", 1),
        ("upstream_broken", 0),
    ] {
        let line = format!("citrix_auth_proxy_errors_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let line = "citrix_auth_proxy_requests_total{caller=\"none\",code=\"421\",method=\"GET\",route=\"none\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn repeated_credentials_of_an_operator_return_400() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!("[admin]\nsecret_sha256 = \"{SECRET_SHA256}\""))
        .start()
        .await;
    let key = format!("X-Api-Key: {SECRET}\r\n");
    let basic = format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!(":{SECRET}"))
    );
    for fields in [
        format!("{key}{key}"),
        format!("{key}X-Api-Key: wrong\r\n"),
        format!("{basic}{basic}"),
        format!("{key}{basic}{basic}"),
    ] {
        let assert_rejected = |response: Message| {
            let reason = response.field("x-proxy-error");
            assert_eq!(
                (response.status(), reason.as_deref()),
                (400, Some("bad_request"))
            );
        };
        for path in ["/status.json", "/callers", "/quitquitquit", "/no/such/page"] {
            assert_rejected(gateway.admin(get_with(path, &fields)).await);
        }
        let post = format!(
            "POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n"
        );
        assert_rejected(gateway.admin(post).await);
        for path in ["/livez", "/metrics"] {
            let response = gateway.admin(get_with(path, &fields)).await;
            assert_eq!(response.status(), 200, "{path}");
        }
    }
    assert_eq!(gateway.app().lifecycle().phase(), Phase::Running);
}
