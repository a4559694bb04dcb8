//! The egress proxy: which connections use it, and how its errors are reported (interface §3.1).

use std::net::SocketAddr;

use citrix_emulator::Options;
use serde_json::Value;

use crate::harness::{Cloud, EgressProxy, Gateway, Upstream, client, get, wait_until};

const API: &str = "api.cloud.com:443";
const PROXY_URL: &str = "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL";

async fn echoed(gateway: &Gateway) -> Value {
    let response = client().get(gateway.url("/echo")).send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Returns a gateway whose route `/far` has a host that only `proxy` can resolve.
async fn gateway_to_far(proxy_url: &str, more: &str) -> Gateway {
    Gateway::in_front_of(&Upstream::refusing())
        .set(PROXY_URL, proxy_url)
        .with("[[route]]\nprefix = \"/far\"\nupstream = \"https://far.invalid\"")
        .with(more)
        .start()
        .await
}

/// Returns the error detail of a failed connection.
async fn detail(gateway: &Gateway) -> String {
    let problem = gateway
        .raw(get("/far"))
        .await
        .problem(502, "upstream_connect");
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn logins_requests_and_site_lookups_use_the_proxy_with_its_password() {
    for (http2, version) in [("auto", "HTTP/2.0"), ("never", "HTTP/1.1")] {
        let cloud = Cloud::start().await;
        let proxy = EgressProxy::tunnelling_to(cloud.emulator.address()).await;
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), proxy.url("user:p%40ss@") + "\n").unwrap();
        let gateway = Gateway::behind(&proxy, &cloud)
            .without("HTTPS_PROXY")
            .set(
                "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL__FILE",
                secret.path().to_str().unwrap(),
            )
            .set("CITRIX_AUTH_PROXY_UPSTREAM__HTTP2", http2)
            .start()
            .await;
        assert_eq!(echoed(&gateway).await["version"], version);
        // The login and the connection for requests.
        assert_eq!(proxy.tunnel_count(API), 2);
        let machines = gateway.raw(get("/cvad/manage/Machines")).await;
        assert_eq!(machines.status(), 200, "{}", machines.text());
        // The site lookup, too; requests of callers share one connection.
        assert_eq!(proxy.tunnel_count(API), 3);
        for request in proxy.requests() {
            assert_eq!(
                (
                    request.target.as_str(),
                    request.proxy_authorization.as_deref()
                ),
                (API, Some("Basic dXNlcjpwQHNz"))
            );
        }
    }
}

#[tokio::test]
async fn no_proxy_host_is_resolved_directly() {
    let proxy = EgressProxy::silent().await;
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set("HTTPS_PROXY", &proxy.url(""))
        .set("NO_PROXY", ".invalid")
        .with("[[route]]\nprefix = \"/far\"\nupstream = \"https://far.invalid\"")
        .start()
        .await;
    let detail = detail(&gateway).await;
    assert!(
        detail.contains("far.invalid: DNS lookup failed"),
        "{detail}"
    );
    assert!(!detail.contains("proxy"), "{detail}");
    assert_eq!(proxy.requests(), []);
}

#[tokio::test]
async fn loopback_is_dialled_directly() {
    let proxy = EgressProxy::silent().await;
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud)
        .set("HTTPS_PROXY", &proxy.url(""))
        .start()
        .await;
    echoed(&gateway).await;
    assert_eq!(proxy.requests(), []);
}

#[tokio::test]
async fn unreachable_proxy_is_named_in_the_detail() {
    let unreachable = Upstream::refusing();
    let gateway = gateway_to_far(&unreachable.url(), "").await;
    let detail = detail(&gateway).await;
    let expected = format!(
        "no connection to far.invalid: egress proxy {}: TCP connection failed",
        unreachable.host()
    );
    assert!(
        detail.starts_with(&expected) && detail.contains("upstream.proxy_url"),
        "{detail}"
    );

    // Logins fail, too.
    let cloud = Cloud::start().await;
    let proxy = EgressProxy::silent().await;
    let gateway = Gateway::behind(&proxy, &cloud)
        .set(PROXY_URL, &unreachable.url())
        .start()
        .await;
    wait_until("a login has failed", || async {
        gateway
            .metrics()
            .await
            .contains("outcome=\"egress_proxy\"} 1")
    })
    .await;
    let ready = gateway.admin(get("/readyz")).await;
    assert!(
        ready.status() == 503 && ready.text().contains("egress_proxy"),
        "{}",
        ready.text()
    );
}

#[tokio::test]
async fn proxy_error_is_reported_with_advice() {
    for (response, error, advice) in [
        (
            "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n",
            "CONNECT rejected with 407",
            "user and password",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            "CONNECT rejected with 403",
            "permit CONNECT",
        ),
        (
            "HTTP/1.0 502 Bad Gateway\r\n\r\n<html>",
            "CONNECT rejected with 502",
            "the proxy cannot reach the host",
        ),
        (
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
            "invalid response to CONNECT",
            "is an HTTP proxy",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "unexpected data after the response",
            "is an HTTP proxy",
        ),
    ] {
        let proxy = EgressProxy::responding(response).await;
        let gateway = gateway_to_far(&proxy.url("user:c4nary@"), "").await;
        let detail = detail(&gateway).await;
        assert!(
            detail.contains(&format!("egress proxy {}: {error}", proxy.address())),
            "{detail}"
        );
        assert!(
            detail.contains(advice) && !detail.contains("c4nary"),
            "{detail}"
        );
        assert_eq!(proxy.requests()[0].target, "far.invalid:443");
    }
}

#[tokio::test]
async fn silent_proxy_times_out_and_is_named() {
    let proxy = EgressProxy::silent().await;
    let gateway = gateway_to_far(&proxy.url(""), "[upstream]\nconnect_timeout = \"100ms\"").await;
    let detail = detail(&gateway).await;
    let expected = format!(
        "egress proxy {}: no tunnel within 100ms (upstream.connect_timeout)",
        proxy.address()
    );
    assert!(detail.contains(&expected), "{detail}");
}

#[tokio::test]
async fn old_connections_are_redialled_to_follow_address_changes() {
    // Here the proxy resolves names, once for each connection, as a resolver would.
    let redials = async |http2: &str| {
        let any_port = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let cloud = Cloud::with(Options {
            region_listen: any_port,
            ..Options::default()
        })
        .await;
        let proxy = EgressProxy::tunnelling_to(cloud.emulator.address()).await;
        let gateway = Gateway::behind(&proxy, &cloud)
            .set("CITRIX_AUTH_PROXY_UPSTREAM__HTTP2", http2)
            .set("CITRIX_AUTH_PROXY_UPSTREAM__MAX_CONNECTION_AGE", "1s")
            .start()
            .await;
        echoed(&gateway).await;
        let url = cloud.emulator.region_url().unwrap();
        proxy.tunnel_to(
            url.replace("https://localhost", "127.0.0.1")
                .parse()
                .unwrap(),
        );
        let before = proxy.tunnel_count(API);
        wait_until("requests reach the new address", || async {
            echoed(&gateway).await;
            proxy.tunnel_count(API) > before
        })
        .await;
    };
    tokio::join!(redials("auto"), redials("never"));
}
