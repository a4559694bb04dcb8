//! Log lines that stderr does not accept.

use std::net::{SocketAddr, TcpListener};

use crate::gateway::{Gateway, environment, get};
use crate::program::Program;
use testkit::upstream::{OK, Upstream};
use testkit::wire::wait_until;

/// Returns the count of lost lines in `/metrics`.
async fn lost(admin: SocketAddr) -> u64 {
    let metrics = get(admin, "/metrics").await.text();
    let mut lines = metrics.lines();
    lines
        .find_map(|line| line.strip_prefix("citrix_auth_proxy_log_lines_lost_total "))
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn lines_for_a_full_device_or_a_closed_stderr_are_counted() {
    for (redirection, expected) in [
        ("2>/dev/full", true),
        ("2>&-", true),
        ("2>/dev/null", false),
    ] {
        let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
        variables.extend([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "admin")]);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = socket.local_addr().unwrap();
        let program = Program::start_with_stderr(redirection, &socket, &variables);
        if expected {
            wait_until("lines are counted", || async { lost(admin).await > 0 }).await;
        }
        assert_eq!(lost(admin).await > 0, expected, "{redirection}");
        let status = get(admin, "/status.json").await.text();
        assert_eq!(
            status.contains("\"kind\":\"log_lines_lost\""),
            expected,
            "{status}"
        );
        program.signal("TERM");
        assert_eq!(program.wait().await.code, Some(0), "{redirection}");
    }
}

#[tokio::test]
async fn lines_for_a_broken_pipe_are_counted_and_requests_are_served() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    assert_eq!(lost(gateway.admin).await, 0);
    gateway.program.break_stderr();
    wait_until("lines are counted", || async {
        assert_eq!(get(gateway.address, "/").await.status(), 200);
        lost(gateway.admin).await > 0
    })
    .await;
    gateway.program.signal("TERM");
    assert_eq!(gateway.wait().await.code, Some(0));
}
