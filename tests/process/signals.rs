//! Signals and their exit codes (interface §2).

use tokio::net::TcpStream;

use crate::gateway::{Gateway, get};
use testkit::upstream::{OK, Upstream};
use testkit::wire::wait_until;

#[tokio::test]
async fn signal_without_requests_in_progress_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream, &[]).await;
        // Neither a new connection nor one between two requests delays the drain.
        let mut silent = gateway.connect().await;
        let mut kept = gateway.connect().await;
        kept.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(kept.response().await.status(), 200);
        gateway.program.signal(signal);
        silent.closed().await;
        kept.closed().await;
        let exit = gateway.wait().await;
        assert_eq!(exit.code, Some(0), "{signal}");
        exit.log();
    }
}

#[tokio::test]
async fn request_in_progress_completes_during_the_drain() {
    let upstream = Upstream::manual().await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    let (mut caller, mut wire) = gateway.request_in_progress(&upstream).await;
    gateway.program.signal("TERM");
    gateway.program.logged("draining").await;
    wait_until("the listener is closed", || async {
        TcpStream::connect(gateway.address).await.is_err()
    })
    .await;
    assert_eq!(get(gateway.admin, "/readyz").await.status(), 503);
    assert_eq!(get(gateway.admin, "/livez").await.status(), 200);
    wire.write(OK).await;
    let response = caller.response().await;
    assert_eq!((response.status(), response.text().as_str()), (200, "{}"));
    caller.closed().await;
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn drain_timeout_closes_connections_and_exits_with_2() {
    let upstream = Upstream::manual().await;
    let settings = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_TIMEOUT", "50ms")];
    let gateway = Gateway::in_front_of(&upstream, &settings).await;
    let (mut caller, mut wire) = gateway.request_in_progress(&upstream).await;
    gateway.program.signal("TERM");
    caller.closed().await;
    wire.closed().await;
    assert_eq!(gateway.wait().await.code, Some(2));
}

#[tokio::test]
async fn second_signal_closes_connections_and_exits_with_128_plus_signal() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let upstream = Upstream::manual().await;
        let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
        let (mut caller, _wire) = gateway.request_in_progress(&upstream).await;
        gateway.program.signal("TERM");
        gateway.program.logged("draining").await;
        gateway.program.signal(second);
        caller.closed().await;
        assert_eq!(gateway.wait().await.code, Some(code), "{second}");
    }
}

#[tokio::test]
async fn sighup_without_a_configuration_file_changes_nothing() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    gateway.program.signal("HUP");
    gateway
        .program
        .logged("configuration reloaded; nothing changed")
        .await;
    assert_eq!(get(gateway.address, "/").await.status(), 200);
    gateway.program.signal("TERM");
    assert_eq!(gateway.wait().await.code, Some(0));
}

#[tokio::test]
async fn sigterm_during_a_pending_login_exits_with_0() {
    let upstream = Upstream::manual().await;
    // Accepts connections but never responds.
    let token_endpoint = Upstream::manual().await;
    let (api, token) = (upstream.url(), format!("{}/token", token_endpoint.url()));
    let variables = crate::gateway::environment(&api, &token);
    let mut program = crate::program::Program::start(&["run"], &variables);
    crate::gateway::addresses(&mut program).await;
    let _login = token_endpoint.connection().await;
    program.signal("TERM");
    assert_eq!(program.wait().await.code, Some(0));
}
