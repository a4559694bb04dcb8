//! The bound on requests in flight (design 3.1 `max_in_flight`).

use crate::harness::{Gateway, OK, Upstream, eventually, get};

#[tokio::test]
async fn one_request_too_many_is_told_when_to_come_back() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream).with("[limits]\nmax_in_flight = 1").start().await;
    let mut first = gateway.connect().await;
    first.write(get("/slow")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let refused = gateway.raw(get("/")).await;
    refused.problem(503, "overloaded");
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    assert!(gateway.metrics().await.contains("citrix_auth_proxy_in_flight_requests 1\n"));

    // A place is taken until the answer's last byte.
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{").await;
    assert_eq!(first.head().await.status(), 200);
    gateway.raw(get("/")).await.problem(503, "overloaded");
    wire.write("}").await;
    assert_eq!(first.rest().await, b"{}");
    assert!(gateway.metrics().await.contains("citrix_auth_proxy_in_flight_requests 0\n"));
    let mut third = gateway.connect().await;
    third.write(get("/")).await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(third.answer().await.status(), 200);
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_place_up_and_the_upstream_is_told() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream).with("[limits]\nmax_in_flight = 1").start().await;
    let mut caller = gateway.connect().await;
    caller.write(get("/slow")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    drop(caller);
    wire.closed().await;
    eventually("the place is free again", || async {
        gateway.metrics().await.contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"code="499",method="GET",route="/"} 1"#), "{metrics}");
}

#[tokio::test]
async fn an_unanswered_request_is_counted_in_flight() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut callers = Vec::new();
    let mut wires = Vec::new();
    for count in 1..=3 {
        let mut caller = gateway.connect().await;
        caller.write(get("/")).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        let metrics = gateway.metrics().await;
        assert!(metrics.contains(&format!("citrix_auth_proxy_in_flight_requests {count}\n")), "{metrics}");
        callers.push(caller);
        wires.push(wire);
    }
}
