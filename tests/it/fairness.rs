//! Greedy owners against a modest one, for each resource (interface §3.1 `[limits]`).

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::SendStream;
use tokio::task::JoinSet;

use crate::callers::block;
use crate::harness::{Gateway, OK, Upstream, Wire, get, get_with, wait_until};
use crate::queue::connect_from;

const GREEDY: &str = "X-Api-Key: c4nary-secret-of-greedy\r\n";
const MODEST: &str = "X-Api-Key: c4nary-secret-of-modest\r\n";
/// The address of greedy anonymous clients.
const ELSEWHERE: &str = "127.0.0.2";

async fn gateway(upstream: &Upstream, limits: &str) -> Gateway {
    let callers = block("greedy", "c4nary-secret-of-greedy", "")
        + &block("modest", "c4nary-secret-of-modest", "");
    let gateway = Gateway::in_front_of(upstream)
        .with(&(callers + limits))
        .start()
        .await;
    // Requests that wait for the first token lose their order.
    wait_until("a token is available", async || {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
    gateway
}

/// Sends requests of the modest caller one after the other; returns those that failed.
async fn modest_failures(gateway: &Gateway) -> usize {
    let mut failures = 0;
    for _ in 0..20 {
        failures += usize::from(gateway.raw(get_with("/", MODEST)).await.status() != 200);
    }
    failures
}

fn incomplete_post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: 1000000\r\n\r\nx")
}

async fn in_flight(gateway: &Gateway) -> String {
    let metrics = gateway.metrics().await;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("citrix_auth_proxy_in_flight_requests "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn incomplete_bodies_of_one_caller_leave_permits_for_another() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "[limits]\nmax_in_flight = 20").await;
    let greedy = join_all((0..30).map(async |_| {
        let mut wire = gateway.connect().await;
        wire.write(incomplete_post(GREEDY)).await;
        wire
    }));
    let _greedy = greedy.await;
    wait_until("the share is in use", async || {
        in_flight(&gateway).await == "18"
    })
    .await;
    assert_eq!(modest_failures(&gateway).await, 0);
    let rejected = gateway.raw(incomplete_post(GREEDY)).await;
    let detail = rejected.problem(503, "overloaded")["detail"].to_string();
    assert!(
        detail.contains("largest share") && detail.contains("limits.max_in_flight"),
        "{detail}"
    );
}

#[tokio::test]
async fn http2_incomplete_bodies_of_one_caller_leave_permits_for_another() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "[limits]\nmax_in_flight = 20").await;
    let mut client = gateway.http2().await;
    let mut streams: Vec<SendStream<Bytes>> = Vec::new();
    let mut responses = Vec::new();
    for _ in 0..30 {
        let request = http::Request::post(gateway.url("/"))
            .header("x-api-key", "c4nary-secret-of-greedy")
            .body(())
            .unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data("x".into(), false).unwrap();
        streams.push(stream);
        responses.push(response);
    }
    wait_until("the share is in use", async || {
        in_flight(&gateway).await == "18"
    })
    .await;
    assert_eq!(modest_failures(&gateway).await, 0);
    assert_eq!(responses.pop().unwrap().await.unwrap().status(), 503);
}

#[tokio::test]
async fn lone_caller_uses_nearly_all_permits() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 110")
        .start()
        .await;
    let mut callers = JoinSet::new();
    for _ in 0..110 {
        let mut wire = gateway.connect().await;
        callers.spawn(async move {
            wire.write(get("/")).await;
            wire.head().await.status()
        });
    }
    wait_until("all others are rejected", async || {
        in_flight(&gateway).await == "100"
    })
    .await;
    for _ in 0..10 {
        assert_eq!(callers.join_next().await.unwrap().unwrap(), 503);
    }
}

#[tokio::test]
async fn rejected_connections_are_evicted_for_others_and_admitted_ones_stay() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "[limits]\nmax_connections = 100").await;
    let keep_alive = |fields: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let mut admitted = gateway.connect().await;
    admitted.write(keep_alive(MODEST)).await;
    assert_eq!(admitted.response().await.status(), 200);
    let mut rejected: Vec<Wire> = Vec::new();
    for _ in 0..150 {
        let mut wire = connect_from(&gateway, ELSEWHERE).await;
        wire.write(keep_alive("")).await;
        assert_eq!(wire.response().await.status(), 401);
        rejected.push(wire);
        assert!(gateway.app().connections().total() <= 101);
    }
    assert_eq!(modest_failures(&gateway).await, 0);
    let metrics = gateway.metrics().await;
    let evictions = "citrix_auth_proxy_evictions_total{limit=\"max_connections\"} ";
    assert!(metrics.contains(evictions) && !metrics.contains(&format!("{evictions}0\n")));
    // The longest idle ones are closed.
    for wire in &mut rejected[..50] {
        wire.closed().await;
    }
    admitted.write(keep_alive(MODEST)).await;
    assert_eq!(admitted.response().await.status(), 200);
    let last = rejected.last_mut().unwrap();
    last.write(keep_alive("")).await;
    assert_eq!(last.response().await.status(), 401);
}

#[tokio::test]
async fn silent_connections_are_evicted_for_others() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "[limits]\nmax_connections = 50").await;
    let mut silent = Vec::new();
    for number in 0..80 {
        let mut wire = connect_from(&gateway, ELSEWHERE).await;
        if number % 2 == 0 {
            wire.write("GET / HT").await;
        }
        silent.push(wire);
    }
    assert_eq!(modest_failures(&gateway).await, 0);
}

#[tokio::test]
async fn connections_that_wait_for_a_rejection_are_evicted_before_admitted_ones() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "[limits]\nmax_connections = 50").await;
    let mut admitted = gateway.connect().await;
    let keep_alive = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{MODEST}\r\n");
    admitted.write(&keep_alive).await;
    assert_eq!(admitted.response().await.status(), 200);
    let mut greedy = Vec::new();
    for number in 0..80 {
        let mut wire = connect_from(&gateway, ELSEWHERE).await;
        // A login without its body, or a wrong secret, whose response is delayed.
        wire.write(match number % 2 {
            0 => "POST /cctrustoauth2/root/tokens/clients HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
            _ => "GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: wrong\r\n\r\n",
        })
        .await;
        greedy.push(wire);
    }
    assert_eq!(modest_failures(&gateway).await, 0);
    admitted.write(&keep_alive).await;
    assert_eq!(admitted.response().await.status(), 200);
}

#[tokio::test]
async fn incomplete_logins_of_one_address_delay_no_other_login() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway(&upstream, "").await;
    let body =
        "grant_type=client_credentials&client_id=modest&client_secret=c4nary-secret-of-modest";
    let head = format!(
        "POST /cctrustoauth2/root/tokens/clients HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut greedy: Vec<Wire> = Vec::new();
    for _ in 0..1050 {
        let mut wire = connect_from(&gateway, ELSEWHERE).await;
        wire.write(&head).await;
        greedy.push(wire);
    }
    let complete = head.clone() + body;
    let mut same_address = connect_from(&gateway, ELSEWHERE).await;
    same_address.write(&complete).await;
    assert_eq!(same_address.response().await.status(), 200);
    assert_eq!(gateway.raw(&complete).await.status(), 200);
    let mut in_two_parts = gateway.connect().await;
    in_two_parts.write(&head).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    in_two_parts.write(body).await;
    assert_eq!(in_two_parts.response().await.status(), 200);
    // Those above the limit are rejected; while most wait, the others end early.
    for mut wire in greedy {
        let response = wire.response().await;
        let reason = match response.status() {
            503 => "overloaded",
            _ => "request_timeout",
        };
        response.problem(response.status(), reason);
    }
}

#[tokio::test]
async fn queue_of_one_caller_leaves_slots_for_another() {
    let upstream = Upstream::manual().await;
    let route = format!(
        "[limits]\nmax_queued = 11\n[[route]]\nprefix = '/slow'\nupstream = '{}'\nmax_concurrent = 1\n",
        upstream.url()
    );
    let gateway = gateway(&upstream, &route).await;
    let mut greedy = Vec::new();
    for _ in 0..11 {
        let mut wire = gateway.connect().await;
        wire.write(get_with("/slow", GREEDY)).await;
        greedy.push(wire);
    }
    let mut first = upstream.connection().await;
    first.request().await;
    let depth = "citrix_auth_proxy_queue_depth{route=\"/slow\"} 10\n";
    wait_until("all but one are queued", async || {
        gateway.metrics().await.contains(depth)
    })
    .await;
    let rejected = gateway.raw(get_with("/slow", GREEDY)).await;
    let detail = rejected.problem(503, "overloaded")["detail"].to_string();
    assert!(
        detail.contains("10 of at most 11 requests") && detail.contains("limits.max_queued"),
        "{detail}"
    );
    let mut modest = gateway.connect().await;
    modest.write(get_with("/slow", MODEST)).await;
    let serve = async |mut wire: Wire| {
        while wire.next_request().await.is_some() {
            wire.write(OK).await;
        }
    };
    first.write(OK).await;
    let others = async {
        loop {
            serve(upstream.connection().await).await;
        }
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(serve(first), others) } => {}
        response = modest.response() => assert_eq!(response.status(), 200),
    }
}
