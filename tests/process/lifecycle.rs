//! How the program begins and ends with others around it: load, a balancer, a service manager (interface §3.1
//! `[lifecycle]`).

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::gateway::{Gateway, asked, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{wait_until, within_timeout};

const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends one request after the other, each connection for three of them, until nobody lets it in; how many were
/// answered. Panics at a response that is not whole.
async fn insist(gateway: SocketAddr) -> usize {
    let mut answered = 0;
    while let Ok(mut socket) = TcpStream::connect(gateway).await {
        for _ in 0..3 {
            if socket.write_all(KEPT).await.is_err() {
                break;
            }
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\n{}") {
                match socket.read_buf(&mut response).await {
                    Ok(1..) => {}
                    ended => {
                        assert!(
                            response.is_empty(),
                            "cut off ({ended:?}): {}",
                            String::from_utf8_lossy(&response)
                        );
                        break;
                    }
                }
            }
            if response.is_empty() {
                break;
            }
            assert!(response.starts_with(b"HTTP/1.1 200 "));
            answered += 1;
        }
    }
    answered
}

/// Stops gateways under load: each ends well, and what reached the upstream reached the caller.
async fn stops_under_load(rounds: usize) {
    for _ in 0..rounds {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let upstream = Upstream::scripted(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            OK.into()
        })
        .await;
        let gateway =
            Gateway::in_front_of(&upstream, &[("CITRIX_AUTH_PROXY_LOG__ACCESS", "false")]).await;
        let mut callers = JoinSet::new();
        for _ in 0..20 {
            callers.spawn(insist(gateway.address));
        }
        wait_until("all are at work", || async {
            asked.load(Ordering::SeqCst) >= 200
        })
        .await;
        gateway.program.signal("TERM");
        let answered: usize = within_timeout(callers.join_all()).await.into_iter().sum();
        assert_eq!(gateway.end().await.code, Some(0));
        assert_eq!(asked.load(Ordering::SeqCst), answered);
    }
}

#[tokio::test]
async fn a_stop_under_load_loses_no_request_that_was_let_in() {
    stops_under_load(3).await;
}

/// `cargo test --test process -- --ignored twenty_stops`
#[tokio::test]
#[ignore = "takes half a minute"]
async fn twenty_stops_under_load_lose_no_request_that_was_let_in() {
    stops_under_load(20).await;
}

#[tokio::test]
async fn before_a_drain_it_is_not_ready_and_still_accepts() {
    let upstream = Upstream::responding(OK).await;
    let delay = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_DELAY", "1s")];
    let mut gateway = Gateway::in_front_of(&upstream, &delay).await;
    gateway.program.signal("TERM");
    gateway.program.logged("not ready; still accepting").await;
    assert_eq!(asked(gateway.admin, "/readyz").await.status(), 503);
    assert_eq!(asked(gateway.address, "/").await.status(), 200);
    gateway.program.logged("draining").await;
    assert_eq!(gateway.end().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_delay_too() {
    for (in_flight, code) in [(false, 0), (true, 143)] {
        let upstream = Upstream::manual().await;
        let delay = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_DELAY", "1h")];
        let mut gateway = Gateway::in_front_of(&upstream, &delay).await;
        let under_way = if in_flight {
            Some(gateway.request_under_way(&upstream).await)
        } else {
            None
        };
        gateway.program.signal("TERM");
        gateway.program.logged("not ready; still accepting").await;
        gateway.program.signal("TERM");
        assert_eq!(gateway.end().await.code, Some(code));
        drop(under_way);
    }
}

#[tokio::test]
async fn what_a_stop_cuts_off_is_logged_as_that() {
    let upstream = Upstream::manual().await;
    let patience = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_TIMEOUT", "50ms")];
    let gateway = Gateway::in_front_of(&upstream, &patience).await;
    let (mut unanswered, _wire) = gateway.request_under_way(&upstream).await;
    let mut half = gateway.connect().await;
    half.write(KEPT).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
        .await;
    half.head().await;
    gateway.program.signal("TERM");
    unanswered.closed().await;
    half.rest().await;
    let ended = gateway.end().await;
    assert_eq!(ended.code, Some(2));
    let log = ended.log();
    let cut: Vec<_> = log
        .iter()
        .filter(|line| line["target"] == "access")
        .collect();
    assert_eq!(cut.len(), 2, "{log:#?}");
    assert!(cut.iter().all(|line| line["end"] == "stopped"), "{cut:#?}");
    let upstream = |line: &&serde_json::Value| line["upstream_ms"].as_f64().unwrap();
    assert!(
        cut.iter().all(|line| upstream(line) > 0.0),
        "Citrix was waited for: {cut:#?}"
    );
    let mut statuses: Vec<_> = cut
        .iter()
        .map(|line| line["status"].as_u64().unwrap())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
}

/// The next message to the service manager.
async fn told(manager: &tokio::net::UnixDatagram) -> String {
    let mut message = vec![0; 1024];
    let length = within_timeout(manager.recv(&mut message)).await.unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn a_service_manager_is_told_and_its_watchdog_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
    let upstream = Upstream::responding(OK).await;
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "300000"),
    ];
    let gateway = Gateway::in_front_of(&upstream, &variables).await;
    assert_eq!(told(&manager).await, "READY=1\n");
    for _ in 0..3 {
        assert_eq!(told(&manager).await, "WATCHDOG=1\n");
    }
    let next = || async {
        loop {
            let message = told(&manager).await;
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    };
    gateway.program.signal("HUP");
    let reloading = next().await;
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(next().await, "READY=1\n");
    gateway.program.signal("TERM");
    assert_eq!(next().await, "STOPPING=1\n");
    assert_eq!(gateway.end().await.code, Some(0));
}

#[tokio::test]
async fn sockets_that_a_service_manager_passed_are_served() {
    let upstream = Upstream::responding(OK).await;
    let logins = TokenEndpoint::granting().await;
    let (api, token) = (upstream.url(), logins.url());
    let mut variables = environment(&api, &token);
    variables.extend([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "proxy")]);
    // Bound, but not to the address of the configuration: it goes by its name.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut program = Program::start_with_socket(&socket, &["run"], &variables);
    let line = program.logged("listening for callers").await;
    assert_eq!(line["address"], address.to_string());
    wait_until("it has a token", || async {
        asked(address, "/").await.status() == 200
    })
    .await;
    program.signal("TERM");
    assert_eq!(program.end().await.code, Some(0));
    // The service manager has it still: callers wait for the next instance instead of being refused.
    assert!(within_timeout(TcpStream::connect(address)).await.is_ok());
}

#[tokio::test]
async fn a_passed_socket_that_is_for_nothing_is_a_failure() {
    let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    variables.extend([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "other")]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = Program::start_with_socket(&socket, &["run"], &variables)
        .end()
        .await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("socket other, passed by the service manager"),
        "{}",
        ended.stderr
    );
}
