//! Probes are served whatever other clients of the admin listener do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::harness::{Gateway, OK, Upstream, Wire, get, wait_until};

/// The limit of the admin listener.
const MAX_CONNECTIONS: usize = 64;
const KEEP_ALIVE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn gateway(toml: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).with(toml).start().await;
    (gateway, upstream)
}

async fn connect(gateway: &Gateway) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    // A few responses fill it.
    socket.set_recv_buffer_size(4096).unwrap();
    let address = gateway.admin_address().parse().unwrap();
    Wire::new(socket.connect(address).await.unwrap())
}

/// Opens as many connections as the listener permits, and sends `bytes` on each.
async fn fill(gateway: &Gateway, bytes: &str) -> Vec<Wire> {
    let all = (0..MAX_CONNECTIONS).map(async |_| {
        let mut wire = connect(gateway).await;
        wire.write(bytes).await;
        wire
    });
    join_all(all).await
}

async fn assert_probes_are_served(gateway: &Gateway) {
    for version in ["1.0", "1.1"] {
        for (path, text) in [
            ("/livez", "alive"),
            ("/readyz", "customer"),
            ("/metrics", "# HELP"),
        ] {
            let probe = format!("GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n");
            let response = gateway.admin(probe).await;
            assert!(response.text().contains(text), "{}", response.text());
        }
    }
}

#[tokio::test]
async fn silent_connections_at_the_limit_give_way_to_probes() {
    let (gateway, _upstream) = gateway("").await;
    let mut silent = fill(&gateway, "").await;
    assert_probes_are_served(&gateway).await;
    silent[0].closed().await;
}

#[tokio::test]
async fn incomplete_heads_at_the_limit_give_way_to_probes() {
    let (gateway, _upstream) = gateway("").await;
    for part in [
        "G",
        "GET /livez HTTP/1.1\r\nHost: localh",
        "PRI * HTTP/2.0\r\n",
    ] {
        let _connections = fill(&gateway, part).await;
        assert_probes_are_served(&gateway).await;
    }
}

#[tokio::test]
async fn idle_connections_at_the_limit_give_way_to_probes_the_longest_idle_first() {
    let (gateway, _upstream) = gateway("").await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut wire = connect(&gateway).await;
        wire.write(KEEP_ALIVE).await;
        assert_eq!(wire.response().await.status(), 200);
        idle.push(wire);
    }
    assert_eq!(gateway.admin(get("/livez")).await.status(), 200);
    idle[0].closed().await;
    let last = idle.last_mut().unwrap();
    last.write(KEEP_ALIVE).await;
    assert_eq!(last.response().await.status(), 200);
}

#[tokio::test]
async fn clients_that_never_read_at_the_limit_give_way_to_probes() {
    let (gateway, _upstream) = gateway("").await;
    // More than the buffers of a socket hold.
    let _unread = fill(&gateway, &KEEP_ALIVE.repeat(20)).await;
    assert_probes_are_served(&gateway).await;
}

#[tokio::test]
async fn flood_of_connections_does_not_evict_probes_before_they_are_served() {
    let (gateway, _upstream) = gateway("").await;
    let (address, stop) = (gateway.admin_address(), Arc::new(AtomicBool::new(false)));
    let flood = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut silent = VecDeque::new();
            while !stop.load(Ordering::Relaxed) {
                silent.extend(std::net::TcpStream::connect(&address));
                if silent.len() > 500 {
                    silent.pop_front();
                }
            }
        }
    });
    for _ in 0..50 {
        assert_eq!(gateway.admin(get("/livez")).await.status(), 200);
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

#[tokio::test]
async fn probe_closes_its_connection_and_a_scrape_does_not() {
    let (gateway, _upstream) = gateway("").await;
    for path in ["/livez", "/readyz"] {
        let mut wire = connect(&gateway).await;
        wire.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let response = wire.response().await;
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        wire.closed().await;
    }
    let mut wire = connect(&gateway).await;
    for _ in 0..2 {
        wire.write(KEEP_ALIVE).await;
        assert_eq!(wire.response().await.status(), 200);
    }
}

#[tokio::test]
async fn admin_client_without_a_request_is_closed_after_header_read_timeout() {
    let (gateway, _upstream) = gateway("[limits]\nheader_read_timeout = \"200ms\"").await;
    for part in ["", "GET /livez HT"] {
        let mut wire = connect(&gateway).await;
        wire.write(part).await;
        wire.closed().await;
    }
    wait_until("the gateway responds", || async {
        gateway.admin(get("/livez")).await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn wrong_secrets_are_delayed_and_give_way_to_probes_and_operators() {
    let hash = super::SECRET_SHA256;
    let (gateway, _upstream) = gateway(&format!("[admin]\nsecret_sha256 = \"{hash}\"")).await;
    let request = |method: &str, path: &str, secret: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {secret}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    let late = r#"citrix_auth_proxy_wrong_secrets_total{answered="late"}"#;
    let mut guesses = Vec::new();
    // At every endpoint that requires the secret.
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/status.json"),
        ("GET", "/callers"),
        ("GET", "/regions"),
        ("GET", "/transactions/x"),
        ("PUT", "/log-level"),
        ("POST", "/tokens/acme/refresh"),
        ("POST", "/quitquitquit"),
    ]
    .into_iter()
    .cycle()
    .take(MAX_CONNECTIONS - 2)
    {
        let mut wire = connect(&gateway).await;
        wire.write(request(method, path, "wrong")).await;
        guesses.push(wire);
    }
    wait_until("all are counted", || async {
        gateway
            .metrics()
            .await
            .contains(&format!("{late} {}\n", guesses.len()))
    })
    .await;
    for guess in &mut guesses[..8] {
        assert_eq!(guess.response().await.status(), 401);
    }
    // The later ones wait up to 5 s each.
    let _more = fill(&gateway, &request("GET", "/", "wrong")).await;
    assert_probes_are_served(&gateway).await;
    let status = request("GET", "/status.json", super::SECRET);
    assert_eq!(gateway.admin(status).await.status(), 200);
}

#[tokio::test]
async fn scrapes_in_a_flood_delay_probes_by_a_few_scrapes_only() {
    let (gateway, _upstream) = gateway("").await;
    let scrapes = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    for _ in 0..50 {
        let (mut wire, scrapes) = (connect(&gateway).await, Arc::clone(&scrapes));
        flood.spawn(async move {
            loop {
                wire.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .await;
                assert_eq!(wire.response().await.status(), 200);
                scrapes.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    wait_until("all scrape", async || scrapes.load(Ordering::Relaxed) > 100).await;
    let mut delays = Vec::new();
    for _ in 0..10 {
        let before = scrapes.load(Ordering::Relaxed);
        assert_eq!(gateway.admin(get("/livez")).await.status(), 200);
        delays.push(scrapes.load(Ordering::Relaxed) - before);
    }
    delays.sort_unstable();
    assert!(delays[5] < 20, "{delays:?}");
}
