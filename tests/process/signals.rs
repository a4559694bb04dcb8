//! Signals and the exit codes they lead to (interface §2).

use tokio::net::TcpStream;

use crate::gateway::{Gateway, asked};
use testkit::upstream::{OK, Upstream};
use testkit::wire::wait_until;

#[tokio::test]
async fn an_idle_gateway_stops_at_once_and_well() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::responding(OK).await;
        let gateway = Gateway::in_front_of(&upstream, &[]).await;
        // Connections without a request under way hold nothing up: a new one, and one between two requests.
        let mut silent = gateway.connect().await;
        let mut kept = gateway.connect().await;
        kept.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(kept.response().await.status(), 200);
        gateway.program.signal(signal);
        silent.closed().await;
        kept.closed().await;
        let ended = gateway.end().await;
        assert_eq!(ended.code, Some(0), "{signal}");
        ended.log();
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_gateway_stops() {
    let upstream = Upstream::manual().await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    let (mut caller, mut wire) = gateway.request_under_way(&upstream).await;
    gateway.program.signal("TERM");
    gateway.program.logged("draining").await;
    wait_until("nobody is let in any more", || async {
        TcpStream::connect(gateway.address).await.is_err()
    })
    .await;
    assert_eq!(asked(gateway.admin, "/readyz").await.status(), 503);
    assert_eq!(asked(gateway.admin, "/livez").await.status(), 200);
    wire.write(OK).await;
    let response = caller.response().await;
    assert_eq!((response.status(), response.text().as_str()), (200, "{}"));
    caller.closed().await;
    assert_eq!(gateway.end().await.code, Some(0));
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_off_with_exit_code_2() {
    let upstream = Upstream::manual().await;
    let patience = [("CITRIX_AUTH_PROXY_LIFECYCLE__DRAIN_TIMEOUT", "50ms")];
    let gateway = Gateway::in_front_of(&upstream, &patience).await;
    let (mut caller, mut wire) = gateway.request_under_way(&upstream).await;
    gateway.program.signal("TERM");
    caller.closed().await;
    wire.closed().await;
    assert_eq!(gateway.end().await.code, Some(2));
}

#[tokio::test]
async fn a_second_signal_cuts_off_what_is_in_flight_and_the_exit_code_names_it() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let upstream = Upstream::manual().await;
        let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
        let (mut caller, _wire) = gateway.request_under_way(&upstream).await;
        gateway.program.signal("TERM");
        gateway.program.logged("draining").await;
        gateway.program.signal(second);
        caller.closed().await;
        assert_eq!(gateway.end().await.code, Some(code), "{second}");
    }
}

#[tokio::test]
async fn a_hangup_does_not_end_a_gateway_without_a_file() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream, &[]).await;
    gateway.program.signal("HUP");
    gateway
        .program
        .logged("configuration reloaded; nothing changed")
        .await;
    assert_eq!(asked(gateway.address, "/").await.status(), 200);
    gateway.program.signal("TERM");
    assert_eq!(gateway.end().await.code, Some(0));
}

#[tokio::test]
async fn a_signal_while_the_login_hangs_stops_the_gateway_too() {
    let upstream = Upstream::manual().await;
    // A token endpoint that takes connections and says nothing.
    let silent = Upstream::manual().await;
    let (api, token) = (upstream.url(), format!("{}/token", silent.url()));
    let variables = crate::gateway::environment(&api, &token);
    let mut program = crate::program::Program::start(&["run"], &variables);
    crate::gateway::addresses(&mut program).await;
    let _login = silent.connection().await;
    program.signal("TERM");
    assert_eq!(program.end().await.code, Some(0));
}
