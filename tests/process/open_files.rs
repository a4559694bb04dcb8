//! The limit of open files.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::gateway::{addresses, environment, get};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::wire::within_timeout;

/// Opens connections that send nothing.
async fn silent_clients(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(within_timeout(TcpStream::connect(address)).await.unwrap());
    }
    clients
}

#[tokio::test]
async fn soft_limit_is_raised_to_the_hard_limit() {
    let logins = TokenEndpoint::granting().await;
    let url = logins.url();
    let variables = environment("http://127.0.0.1:9", &url);
    let mut program = Program::start_with_limit("-Sn 64", &variables);
    let (callers, admin) = addresses(&mut program).await;
    let _clients = silent_clients(callers, 200).await;
    assert_eq!(get(admin, "/livez").await.status(), 200);
    let metrics = metrics_with_connections(admin, 200..=200).await;
    assert!(!metrics.contains("process_max_fds 64\n"));
}

#[tokio::test]
async fn hard_limit_below_the_limits_is_logged_and_leaves_descriptors_for_probes_and_files() {
    let logins = TokenEndpoint::granting().await;
    let url = logins.url();
    let variables = environment("http://127.0.0.1:9", &url);
    let mut program = Program::start_with_limit("-n 400", &variables);
    let warning = program.logged("limit of open files is too low").await;
    assert_eq!(warning["limit"], 400);
    assert_eq!(warning["needed"], 10_000 + 1024 + 192 + 2 * 16);
    let (callers, admin) = addresses(&mut program).await;
    let _clients = silent_clients(callers, 500).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let response = get(admin, path).await;
        assert_ne!(response.status(), 500, "{path}");
    }
    let permitted = warning["permitted"].as_u64().unwrap();
    // Idle connections are closed for new ones.
    let metrics = metrics_with_connections(admin, 1..=permitted).await;
    assert!(metrics.contains("citrix_auth_proxy_accept_errors_total 0\n"));
}

/// Returns the metrics once the number of connections, which are accepted one by one, is within
/// `expected`.
async fn metrics_with_connections(admin: SocketAddr, expected: RangeInclusive<u64>) -> String {
    let mut last = None;
    for _ in 0..200 {
        let metrics = get(admin, "/metrics").await.text();
        last = metrics
            .lines()
            .find_map(|line| line.strip_prefix("citrix_auth_proxy_connections "))
            .and_then(|value| value.parse().ok());
        if last.is_some_and(|connections| expected.contains(&connections)) {
            return metrics;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last:?} connections, expected {expected:?}");
}
