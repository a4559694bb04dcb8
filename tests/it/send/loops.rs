//! RFC 9110 section 7.6: no request is forwarded to the gateway itself.

use std::net::Ipv4Addr;

use testkit::ports;
use tokio::net::TcpListener;

use crate::harness::{Gateway, OK, Wire, get, within_timeout};

async fn listening_at(address: &str, port: u16, upstream: &str) -> Gateway {
    Gateway::with_api_url(&format!("http://{upstream}:{port}"))
        .set(
            "CITRIX_AUTH_PROXY_LISTEN__ADDRESS",
            &format!("{address}:{port}"),
        )
        .with("[insecure]\nallow_anonymous = true")
        .start()
        .await
}

#[tokio::test]
async fn rfc9110_7_6_upstream_that_is_the_gateway_itself_is_not_connected_to() {
    for (address, upstream) in [("127.0.0.1", "localhost"), ("0.0.0.0", "127.0.0.1")] {
        let [port] = ports::reserve();
        let gateway = listening_at(address, port, upstream).await;
        let problem = gateway.raw(get("/")).await.problem(502, "upstream_connect");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("that of this gateway"), "{detail}");
    }
    // Another server with the same port.
    let [port] = ports::reserve();
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let listener = TcpListener::bind((other, port)).await.unwrap();
    let gateway = listening_at("127.0.0.1", port, "127.0.0.2").await;
    let serve = async {
        let (socket, _) = within_timeout(listener.accept()).await.unwrap();
        let mut wire = Wire::new(socket);
        wire.request().await;
        wire.write(OK).await;
        wire
    };
    let (response, _wire) = tokio::join!(gateway.raw(get("/")), serve);
    assert_eq!(response.status(), 200);
}
