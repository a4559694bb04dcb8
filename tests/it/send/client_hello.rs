//! Networks that do not accept the large ClientHello of post-quantum key exchange.

use citrix_emulator::Emulator;
use testkit::firewall::{Block, Firewall};

use crate::harness::{Cloud, Gateway, get};

/// Starts a gateway whose logins and requests pass the firewall.
async fn behind(firewall: &Firewall, cloud: &Cloud) -> Gateway {
    let url = |of: String| of.replacen(&cloud.emulator.base_url(), &firewall.url(), 1);
    let token_url = cloud.emulator.token_url(cloud.emulator.customer_id());
    Gateway::in_front_of_cloud(cloud)
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &firewall.url())
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &url(token_url))
        .set("CITRIX_AUTH_PROXY_TOKEN__REQUEST_TIMEOUT", "4s")
        .set("CITRIX_AUTH_PROXY_TOKEN__STARTUP_WAIT", "20s")
        .start()
        .await
}

async fn in_front_of(emulator: &Emulator, block: Block) -> Firewall {
    Firewall::start(block, emulator.address()).await
}

#[tokio::test]
async fn unanswered_client_hello_is_repeated_without_a_post_quantum_share() {
    for block in [Block::Reset, Block::Close, Block::Ignore] {
        let cloud = Cloud::start().await;
        let firewall = in_front_of(&cloud.emulator, block).await;
        let gateway = behind(&firewall, &cloud).await;
        assert_eq!(gateway.raw(get("/echo")).await.status(), 200, "{block:?}");
        // The login found it out; the connection for requests uses it.
        let hellos = firewall.large_hellos();
        assert_eq!(hellos, [true, false, false], "{block:?}");
    }
}

#[tokio::test]
async fn accepted_client_hello_keeps_its_post_quantum_share() {
    let cloud = Cloud::start().await;
    let firewall = in_front_of(&cloud.emulator, Block::Nothing).await;
    let gateway = behind(&firewall, &cloud).await;
    assert_eq!(gateway.raw(get("/echo")).await.status(), 200);
    assert_eq!(firewall.large_hellos(), [true, true]);
}

#[tokio::test]
async fn handshake_with_an_alert_or_a_rejected_certificate_is_not_repeated() {
    let cloud = Cloud::start().await;
    let untrusted = Cloud::start().await;
    for (server, block, detail) in [
        (&cloud, Block::Alert, "no TLS version or cipher suite"),
        (&untrusted, Block::Nothing, "upstream.ca_file"),
    ] {
        let firewall = in_front_of(&server.emulator, block).await;
        assert!(problem(&cloud, &firewall).await.contains(detail));
        assert_eq!(firewall.large_hellos(), [true], "{block:?}");
    }
}

#[tokio::test]
async fn server_that_closes_after_any_client_hello_is_tried_with_both_each_time() {
    let cloud = Cloud::start().await;
    let firewall = in_front_of(&cloud.emulator, Block::CloseAlways).await;
    let detail = problem(&cloud, &firewall).await;
    assert!(detail.contains("the connection ended during the handshake"));
    assert_eq!(firewall.large_hellos(), [true, false]);
}

/// Returns the error detail of a request to a route behind the firewall.
async fn problem(cloud: &Cloud, firewall: &Firewall) -> String {
    let route = format!("[[route]]\nprefix = '/x'\nupstream = '{}'", firewall.url());
    let plan = Gateway::in_front_of_cloud(cloud).with(&route);
    let response = plan.start().await.raw(get("/x")).await;
    let problem = response.problem(502, "upstream_connect");
    problem["detail"].as_str().unwrap().to_owned()
}
