//! Start and stop under load, behind a load balancer and under a service manager (interface §3.1
//! `[lifecycle]`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::gateway::{Gateway, environment, get};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Message, Wire, wait_until, within_timeout};

const KEEP_ALIVE_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends requests, three per connection, until the gateway refuses connections. Returns the number
/// of responses.
///
/// Panics at a truncated response.
async fn send_until_refused(gateway: std::net::SocketAddr) -> usize {
    let mut responses = 0;
    while let Ok(mut socket) = TcpStream::connect(gateway).await {
        for _ in 0..3 {
            if socket.write_all(KEEP_ALIVE_GET).await.is_err() {
                break;
            }
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\n{}") {
                match socket.read_buf(&mut response).await {
                    Ok(1..) => {}
                    read => {
                        assert!(
                            response.is_empty(),
                            "truncated ({read:?}): {}",
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
            responses += 1;
        }
    }
    responses
}

/// Stops gateways under load. Each must exit with 0, and each request that reached the upstream
/// must get its response.
async fn stops_under_load(rounds: usize) {
    for _ in 0..rounds {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let upstream = Upstream::scripted(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            OK.into()
        })
        .await;
        let gateway =
            Gateway::in_front_of(&upstream, &[("CITRIX_AUTH_PROXY_LOG__ACCESS", "false")]).await;
        let mut callers = JoinSet::new();
        for _ in 0..20 {
            callers.spawn(send_until_refused(gateway.address));
        }
        wait_until("all callers send requests", || async {
            requests.load(Ordering::SeqCst) >= 200
        })
        .await;
        gateway.program.signal("TERM");
        let responses: usize = within_timeout(callers.join_all()).await.into_iter().sum();
        assert_eq!(gateway.wait().await.code, Some(0));
        assert_eq!(requests.load(Ordering::SeqCst), responses);
    }
}

#[tokio::test]
async fn stop_under_load_completes_every_forwarded_request() {
    stops_under_load(3).await;
}

/// `cargo test --test process -- --ignored twenty_stops`
#[tokio::test]
#[ignore = "takes half a minute"]
async fn twenty_stops_under_load_complete_every_forwarded_request() {
    stops_under_load(20).await;
}

#[tokio::test]
async fn drain_delay_is_unready_and_still_accepts() {
    let upstream = Upstream::responding(OK).await;
    let delay = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_DELAY", "1s")];
    let mut gateway = Gateway::in_front_of(&upstream, &delay).await;
    gateway.program.signal("TERM");
    gateway.program.logged("not ready; still accepting").await;
    assert_eq!(get(gateway.admin, "/readyz").await.status(), 503);
    assert_eq!(get(gateway.address, "/").await.status(), 200);
    gateway.program.logged("draining").await;
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn second_signal_ends_the_drain_delay() {
    for (in_flight, code) in [(false, 0), (true, 143)] {
        let upstream = Upstream::manual().await;
        let delay = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_DELAY", "1h")];
        let mut gateway = Gateway::in_front_of(&upstream, &delay).await;
        let connections = if in_flight {
            Some(gateway.request_in_progress(&upstream).await)
        } else {
            None
        };
        gateway.program.signal("TERM");
        gateway.program.logged("not ready; still accepting").await;
        gateway.program.signal("TERM");
        assert_eq!(gateway.wait().await.code, Some(code));
        drop(connections);
    }
}

#[tokio::test]
async fn requests_ended_by_a_stop_are_logged_as_stopped() {
    let upstream = Upstream::manual().await;
    let settings = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_TIMEOUT", "50ms")];
    let gateway = Gateway::in_front_of(&upstream, &settings).await;
    let (mut waiting, _wire) = gateway.request_in_progress(&upstream).await;
    let mut receiving = gateway.connect().await;
    receiving.write(KEEP_ALIVE_GET).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
        .await;
    receiving.head().await;
    gateway.program.signal("TERM");
    waiting.closed().await;
    receiving.rest().await;
    let exit = gateway.wait().await;
    assert_eq!(exit.code, Some(2));
    let log = exit.log();
    let access: Vec<_> = log
        .iter()
        .filter(|line| line["target"] == "access")
        .collect();
    assert_eq!(access.len(), 2, "{log:#?}");
    assert!(
        access.iter().all(|line| line["end"] == "stopped"),
        "{access:#?}"
    );
    let upstream = |line: &&serde_json::Value| line["upstream_ms"].as_f64().unwrap();
    assert!(
        access.iter().all(|line| upstream(line) > 0.0),
        "upstream_ms covers the wait for Citrix: {access:#?}"
    );
    let mut statuses: Vec<_> = access
        .iter()
        .map(|line| line["status"].as_u64().unwrap())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
}

/// Returns the next message to the service manager.
async fn notification(manager: &tokio::net::UnixDatagram) -> String {
    let mut message = vec![0; 1024];
    let length = within_timeout(manager.recv(&mut message)).await.unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn service_manager_receives_state_changes_and_watchdog_pings() {
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
    assert_eq!(notification(&manager).await, "READY=1\n");
    for _ in 0..3 {
        assert_eq!(notification(&manager).await, "WATCHDOG=1\n");
    }
    let next = || async {
        loop {
            let message = notification(&manager).await;
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
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn service_manager_at_an_abstract_name_receives_state_changes() {
    let name = format!("citrix-auth-proxy-test-{}", uuid::Uuid::new_v4());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
    let upstream = Upstream::responding(OK).await;
    let socket = format!("@{name}");
    let variables = [
        ("NOTIFY_SOCKET", socket.as_str()),
        ("WATCHDOG_USEC", "60000000"),
    ];
    let gateway = Gateway::in_front_of(&upstream, &variables).await;
    assert_eq!(notification(&manager).await, "READY=1\n");
    assert_eq!(notification(&manager).await, "WATCHDOG=1\n");
    let admin = gateway.admin.to_string();
    let check = Program::run(&["healthcheck", "--admin", &admin], &variables).await;
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    gateway.program.signal("HUP");
    let reloading = notification(&manager).await;
    assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
    assert_eq!(notification(&manager).await, "READY=1\n");
    gateway.program.signal("TERM");
    assert_eq!(notification(&manager).await, "STOPPING=1\n");
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn quitquitquit_drains_and_exits_with_0() {
    let upstream = Upstream::manual().await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(get(gateway.admin, "/quitquitquit").await.status(), 405);
    let (mut caller, mut wire) = gateway.request_in_progress(&upstream).await;
    assert_eq!(quit(gateway.admin, "").await.status(), 200);
    gateway.program.logged("draining").await;
    assert_eq!(quit(gateway.admin, "").await.status(), 200);
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn quitquitquit_requires_the_admin_secret_and_no_web_page() {
    let upstream = Upstream::responding(OK).await;
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let settings = [("CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256", hash)];
    let gateway = Gateway::in_front_of(&upstream, &settings).await;
    for (fields, status) in [
        ("", 401),
        ("X-Api-Key: wrong\r\n", 401),
        ("X-Api-Key: secret\r\nOrigin: https://evil.example\r\n", 403),
    ] {
        assert_eq!(
            quit(gateway.admin, fields).await.status(),
            status,
            "{fields}"
        );
        assert_eq!(get(gateway.admin, "/readyz").await.status(), 200);
    }
    assert_eq!(
        quit(gateway.admin, "X-Api-Key: secret\r\n").await.status(),
        200
    );
    assert_eq!(gateway.wait().await.code, Some(0));
}

/// Returns the response to `POST /quitquitquit`.
async fn quit(admin: std::net::SocketAddr, fields: &str) -> Message {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(admin)).await.unwrap());
    wire.write(format!(
        "POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n{fields}\r\n"
    ))
    .await;
    wire.response().await
}

#[tokio::test]
async fn socket_of_a_service_manager_accepts_callers() {
    let upstream = Upstream::responding(OK).await;
    let token_endpoint = TokenEndpoint::granting().await;
    let (api, token) = (upstream.url(), token_endpoint.url());
    let mut variables = environment(&api, &token);
    variables.extend([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "proxy")]);
    // The socket is matched by its name, not by its address.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut program = Program::start_with_socket(&socket, &["run"], &variables);
    let line = program.logged("listening for callers").await;
    assert_eq!(line["address"], address.to_string());
    wait_until("the gateway has a token", || async {
        get(address, "/").await.status() == 200
    })
    .await;
    program.signal("TERM");
    assert_eq!(program.wait().await.code, Some(0));
    // The service manager keeps the socket, so callers wait for the next instance instead of being
    // refused.
    assert!(within_timeout(TcpStream::connect(address)).await.is_ok());
}

#[tokio::test]
async fn socket_of_an_unknown_name_exits_with_1() {
    let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    variables.extend([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "other")]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let exit = Program::start_with_socket(&socket, &["run"], &variables)
        .wait()
        .await;
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr
            .contains("socket other, passed by the service manager"),
        "{}",
        exit.stderr
    );
}
