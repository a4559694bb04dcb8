//! Attacks on connections to the addresses of `[intercept]`.

use citrix_auth_proxy::state::lifecycle::Phase;

use super::*;

const STALLS: &str = "[limits]\nheader_read_timeout = \"1s\"\n";

#[tokio::test]
async fn stalled_handshakes_and_heads_end_and_are_counted() {
    let intercepting = Intercepting::start("", STALLS).await;
    let (nothing, half, no_handshake, half_handshake) = (
        intercepting.socket().await,
        intercepting.socket().await,
        intercepting.tunnel(API, "").await,
        intercepting.tunnel(API, "").await,
    );
    let closed = async |socket: TcpStream, bytes: &str| {
        let mut wire = Wire::new(socket);
        wire.write(bytes).await;
        wire.closed().await;
    };
    tokio::join!(
        closed(nothing, ""),
        closed(half, "\x16\x03\x01"),
        closed(no_handshake, ""),
        closed(half_handshake, "\x16\x03\x01"),
    );
    let mut head = Wire::new(intercepting.socket().await);
    head.write("CONNECT api.cl").await;
    head.response().await.problem(408, "request_timeout");
    wait_until("three handshakes are counted", || async {
        intercepting.count("handshake_failed").await == 3
    })
    .await;
}

#[tokio::test]
async fn connect_inside_a_tunnel_is_rejected() {
    let intercepting = Intercepting::start("tunnel = [\"*.tunnel.example\"]", "").await;
    for target in ["api.cloud.com:443", "a.tunnel.example:443", "127.0.0.1:443"] {
        let mut wire = intercepting.connect(API, "").await;
        wire.write(connect(target, "Connection: close\r\n")).await;
        let rejected = wire.response().await;
        assert!(
            matches!(rejected.status(), 400 | 421),
            "{target}: {}",
            rejected.status()
        );
    }
    assert_eq!(intercepting.count("intercepted").await, 3);
    assert_eq!(intercepting.count("tunnelled").await, 0);
    assert_eq!(intercepting.upstream.connections(), 0);
}

#[tokio::test]
async fn http2_requests_in_a_tunnel_are_for_its_host_alone() {
    let intercepting = Intercepting::start("", "").await;
    let tunnel = intercepting.tunnel(API, "").await;
    let stream = intercepting.tls(tunnel, API, &["h2"]).await.unwrap();
    let mut sender = http2_over(stream).await;
    for (method, uri, host, statuses) in [
        ("GET", "https://api-eu.cloud.com/x", "", [421, 421]),
        ("GET", "https://api.cloud.com:8443/x", "", [421, 421]),
        ("GET", "https://bank.example/x", "", [421, 421]),
        ("GET", "https://api.cloud.com/x", "bank.example", [400, 421]),
        ("CONNECT", "a.tunnel.example:443", "", [400, 421]),
        ("CONNECT", "api.cloud.com:443", "", [400, 421]),
    ] {
        let mut request = Request::builder().method(method).uri(uri);
        if !host.is_empty() {
            request = request.header("host", host);
        }
        let (response, _) = sender
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let status = within_timeout(response)
            .await
            .map(|it| it.status().as_u16());
        // A reset stream is a rejection as well.
        let rejected = status
            .as_ref()
            .map_or(true, |status| statuses.contains(status));
        assert!(rejected, "{method} {uri} {host}: {status:?}");
    }
    let request = Request::get("https://api.cloud.com/x").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    assert_eq!(intercepting.upstream.connections(), 1);
}

#[tokio::test]
async fn ambiguous_framing_in_a_tunnel_is_rejected() {
    let intercepting = Intercepting::start("", "").await;
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n",
        "Content-Length: 4\r\nContent-Length: 0\r\n\r\nGET ",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Host: bank.example\r\n\r\n",
    ] {
        let mut wire = intercepting.connect(API, "").await;
        wire.write(format!("POST /x HTTP/1.1\r\nHost: {API}\r\n{fields}"))
            .await;
        let rejected = wire.response().await;
        assert_eq!(rejected.status(), 400, "{fields:?}");
        wire.closed().await;
    }
    assert_eq!(intercepting.upstream.connections(), 0);
}

#[tokio::test]
async fn bytes_before_the_response_to_connect_close_the_connection() {
    let intercepting = Intercepting::start("", "").await;
    let mut wire = Wire::new(intercepting.socket().await);
    let smuggled = get_from(API, "/x", "");
    wire.write(connect("api.cloud.com:443", "") + &smuggled)
        .await;
    assert_eq!(wire.head().await.status(), 200);
    wire.closed().await;
    assert_eq!(intercepting.count("handshake_failed").await, 1);
    assert_eq!(intercepting.upstream.connections(), 0);
}

#[tokio::test]
async fn wrong_proxy_secrets_are_delayed_and_correct_ones_are_not() {
    let intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let request = |secret| connect("api.cloud.com:443", &proxy_credentials("splunk", secret));
    let late = "wrong_secrets_total{answered=\"late\"} 0";
    for _ in 0..12 {
        let rejected = intercepting.raw(&request("wrong")).await;
        rejected.problem(407, "caller_unknown");
        if !intercepting.gateway.metrics().await.contains(late) {
            break;
        }
    }
    let metrics = intercepting.gateway.metrics().await;
    assert!(!metrics.contains(late), "{metrics}");
    let mut wire = Wire::new(intercepting.socket().await);
    wire.write(request(SECRET)).await;
    assert_eq!(wire.head().await.status(), 200);
}

/// A gateway with blind tunnels to a server that sends back what it receives.
async fn echoing(limits: &str) -> (Intercepting, EgressProxy) {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let egress = EgressProxy::tunnelling_to(address).await;
    let authority = Authority::new();
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream)
        .set("HTTPS_PROXY", &egress.url(""))
        .set("NO_PROXY", "127.0.0.1")
        .with(&authority.toml("tunnel = [\"*.blob.core.windows.net\"]"))
        .with(limits)
        .start()
        .await;
    let intercepting = Intercepting {
        gateway,
        upstream,
        authority,
    };
    (intercepting, egress)
}

async fn echoes(tunnel: &mut TcpStream) {
    tunnel.write_all(b"x").await.unwrap();
    assert_eq!(within_timeout(tunnel.read_u8()).await.unwrap(), b'x');
}

async fn ends(tunnel: &mut TcpStream) {
    let read = within_timeout(tunnel.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn silent_blind_tunnel_ends_after_the_idle_timeout() {
    let (intercepting, _egress) = echoing("[limits]\nkeep_alive_timeout = \"1s\"\n").await;
    let mut tunnel = intercepting.tunnel("a.blob.core.windows.net", "").await;
    echoes(&mut tunnel).await;
    ends(&mut tunnel).await;
    wait_until("no connection is left", || async {
        intercepting.gateway.app().connections().total() == 0
    })
    .await;
}

#[tokio::test]
async fn silent_blind_tunnel_ends_when_the_gateway_drains() {
    let (intercepting, _egress) = echoing("").await;
    let mut tunnel = intercepting.tunnel("a.blob.core.windows.net", "").await;
    echoes(&mut tunnel).await;
    intercepting
        .gateway
        .app()
        .lifecycle()
        .advance(Phase::Draining);
    ends(&mut tunnel).await;
}

#[tokio::test]
async fn intercepted_connection_that_is_idle_ends_when_the_gateway_drains() {
    let intercepting = Intercepting::start("", "").await;
    let (mut idle, mut silent) = (
        intercepting.connect(API, "").await,
        Wire::new(intercepting.socket().await),
    );
    idle.write(format!("GET /x HTTP/1.1\r\nHost: {API}\r\n\r\n"))
        .await;
    assert_eq!(idle.response().await.status(), 200);
    intercepting
        .gateway
        .app()
        .lifecycle()
        .advance(Phase::Draining);
    idle.closed().await;
    silent.closed().await;
}
