//! Waiting requests: queue permits of services with limited concurrency, and in-flight permits
//! (interface §3.1 `max_concurrent`, `queue_timeout`, `max_queued`, `max_in_flight`).

mod collapse;
mod greedy;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{
    Cloud, Gateway, Message, OK, Upstream, Wire, client, get, get_with, wait_until,
};

/// Returns the value of a metric series.
async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let series = format!("citrix_auth_proxy_{series} ");
    let text = gateway.metrics().await;
    text.lines()
        .find_map(|line| line.strip_prefix(&series))
        .map_or(0.0, |value| value.parse().unwrap())
}

async fn waiting(gateway: &Gateway, route: &str, count: f64) {
    let series = format!("queue_depth{{route=\"{route}\"}}");
    wait_until("the requests wait", || async {
        metric(gateway, &series).await == count
    })
    .await;
}

/// Opens a caller connection from another loopback address.
pub async fn connect_from(gateway: &Gateway, address: &str) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    Wire::new(
        socket
            .connect(gateway.address().parse().unwrap())
            .await
            .unwrap(),
    )
}

/// Serves one request of each customer at a time and returns 429 to concurrent ones.
async fn one_at_a_time(upstream: Arc<Upstream>, busy: Arc<Mutex<HashMap<String, bool>>>) {
    let mut connections = JoinSet::new();
    loop {
        let mut wire = upstream.connection().await;
        let busy = Arc::clone(&busy);
        connections.spawn(async move {
            while let Some(request) = wire.next_request().await {
                let customer = request.field("citrix-customerid").unwrap();
                if busy.lock().unwrap().insert(customer.clone(), true) == Some(true) {
                    wire.write("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
                        .await;
                    continue;
                }
                wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
                    .await;
                // Head and body take a moment.
                tokio::time::sleep(Duration::from_millis(3)).await;
                busy.lock().unwrap().insert(customer, false);
                wire.write("}").await;
            }
        });
    }
}

#[tokio::test]
async fn twenty_pollers_of_each_of_two_customers_get_forty_responses() {
    let upstream = Arc::new(Upstream::manual().await);
    let logins = crate::harness::TokenEndpoint::granting().await;
    let block = |id: &str| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n",
            upstream.url(),
            logins.url(),
        )
    };
    let gateway = Gateway::for_customers(&(block("acme") + &block("contoso")))
        .with("[upstream]\nretry_budget = \"0s\"")
        .set("SECRET", "s3cret")
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .start()
        .await;
    let server = tokio::spawn(one_at_a_time(Arc::clone(&upstream), Arc::default()));
    let poll = |number: usize| {
        let customer = if number.is_multiple_of(2) {
            "acme"
        } else {
            "contoso"
        };
        gateway.raw(get_with(
            &format!("/monitorodata/Machines?poller={number}"),
            &format!("Citrix-CustomerId: {customer}\r\n"),
        ))
    };
    let responses = join_all((0..40).map(poll)).await;
    server.abort();
    let statuses: Vec<u16> = responses.iter().map(Message::status).collect();
    assert_eq!(statuses, [200; 40]);
    let rejected = "replays_total{outcome=\"waited\",route=\"/monitorodata\"}";
    assert_eq!(metric(&gateway, rejected).await, 0.0);
    let waited = metric(
        &gateway,
        "queue_wait_seconds_count{route=\"/monitorodata\"}",
    )
    .await;
    assert!((30.0..=38.0).contains(&waited), "{waited}");
    assert!(metric(&gateway, "queue_wait_seconds_sum{route=\"/monitorodata\"}").await > 0.05);
    waiting(&gateway, "/monitorodata", 0.0).await;
}

#[tokio::test]
async fn queue_permit_is_held_until_the_response_is_read() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    first.write(get("/monitorodata/Machines")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        .await;
    assert_eq!(first.head().await.status(), 200);
    second.write(get("/MonitorOData/Sessions")).await;
    waiting(&gateway, "/monitorodata", 1.0).await;
    assert_eq!(upstream.connections(), 1);
    // Other paths are not queued.
    let mut other = gateway.connect().await;
    other.write(get("/cvad/manage/me")).await;
    let mut to_other = upstream.connection().await;
    to_other.request().await;
    wire.write("}").await;
    assert_eq!(first.rest().await, b"{}");
    assert_eq!(
        wire.request().await.line(),
        "GET /MonitorOData/Sessions HTTP/1.1"
    );
    wire.write(OK).await;
    assert_eq!(second.response().await.status(), 200);
}

#[tokio::test]
async fn two_callers_take_turns_whatever_their_request_counts() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut callers = Vec::new();
    let send = async |address: &str, path: &str| {
        let mut caller = connect_from(&gateway, address).await;
        caller.write(get(path)).await;
        caller
    };
    callers.push(send("127.0.0.1", "/monitorodata/first").await);
    let mut wire = upstream.connection().await;
    assert_eq!(
        wire.request().await.line(),
        "GET /monitorodata/first HTTP/1.1"
    );
    let first_caller = ["a1", "a2", "a3"].map(|name| ("127.0.0.1", name));
    for (count, (address, name)) in (1_u8..).zip(
        first_caller
            .into_iter()
            .chain([("127.0.0.2", "b1"), ("127.0.0.2", "b2")]),
    ) {
        callers.push(send(address, &format!("/monitorodata/{name}")).await);
        waiting(&gateway, "/monitorodata", f64::from(count)).await;
    }
    for name in ["a1", "b1", "a2", "b2", "a3"] {
        wire.write(OK).await;
        assert_eq!(
            wire.request().await.line(),
            format!("GET /monitorodata/{name} HTTP/1.1")
        );
    }
    wire.write(OK).await;
    for mut caller in callers {
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn caller_that_leaves_queue_or_response_delays_no_other() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let send = async |path: &str| {
        let mut caller = gateway.connect().await;
        caller.write(get(path)).await;
        caller
    };
    let first = send("/monitorodata/1").await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let second = send("/monitorodata/2").await;
    waiting(&gateway, "/monitorodata", 1.0).await;
    let mut third = send("/monitorodata/3").await;
    waiting(&gateway, "/monitorodata", 2.0).await;
    drop(second);
    waiting(&gateway, "/monitorodata", 1.0).await;
    drop(first);
    wire.closed().await;
    let mut wire = upstream.connection().await;
    assert_eq!(wire.request().await.line(), "GET /monitorodata/3 HTTP/1.1");
    wire.write(OK).await;
    assert_eq!(third.response().await.status(), 200);
    assert_eq!(
        metric(
            &gateway,
            "queue_wait_seconds_count{route=\"/monitorodata\"}"
        )
        .await,
        2.0
    );
}

#[tokio::test]
async fn callers_that_disconnect_at_any_moment_leak_no_queue_permit() {
    let upstream = Arc::new(Upstream::manual().await);
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nretry_budget = \"0s\"")
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .start()
        .await;
    let server = tokio::spawn(one_at_a_time(Arc::clone(&upstream), Arc::default()));
    let poll = |number: u64| {
        let timeout = if number.is_multiple_of(3) {
            60_000
        } else {
            fastrand::u64(0..60)
        };
        let response = gateway.raw(get(&format!("/monitorodata/Machines?poller={number}")));
        tokio::time::timeout(Duration::from_millis(timeout), response)
    };
    let responses = join_all((0..90).map(poll)).await;
    let last = gateway.raw(get("/monitorodata/Machines")).await;
    server.abort();
    // Citrix continues abandoned requests and may reject the next one, which waits.
    let completed = responses.iter().step_by(3);
    let completed = completed.map(|response| response.as_ref().unwrap());
    assert!(
        completed
            .chain([&last])
            .all(|response| response.status() == 200)
    );
    waiting(&gateway, "/monitorodata", 0.0).await;
    wait_until("all permits are free", || async {
        metric(&gateway, "in_flight_requests").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn queue_is_bounded_in_length_and_time_and_holds_no_in_flight_permit() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_queued = 1\nmax_in_flight = 2")
        .with(&format!(
            "[[route]]\nprefix = '/slow'\nupstream = '{}'\nmax_concurrent = 1\nqueue_timeout = '300ms'",
            upstream.url()
        ))
        .start()
        .await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    first.write(get("/slow")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    second.write(get("/slow")).await;
    waiting(&gateway, "/slow", 1.0).await;
    assert_eq!(metric(&gateway, "in_flight_requests").await, 1.0);
    let above_limit = gateway.raw(get("/slow")).await;
    assert!(
        above_limit.problem(503, "overloaded")["detail"]
            .as_str()
            .unwrap()
            .contains("limits.max_queued")
    );
    assert_eq!(above_limit.field("retry-after").as_deref(), Some("1"));
    let timed_out = second.response().await;
    assert!(
        timed_out.problem(503, "queue_timeout")["detail"]
            .as_str()
            .unwrap()
            .contains("300ms")
    );
    assert_eq!(timed_out.field("retry-after").as_deref(), Some("1"));
    wire.write(OK).await;
    assert_eq!(first.response().await.status(), 200);
}

#[tokio::test]
async fn rate_limited_service_gets_one_burst_then_its_rate() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let start = Instant::now();
    let responses = join_all((0..20).map(|_| gateway.raw(get("/accessSecurity/x")))).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    // Five above the burst at 15 a second; longer on a slow machine.
    assert!(
        start.elapsed() >= Duration::from_millis(333),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn http2_queue_permit_passes_to_the_next_request() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let client = client();
    let poll = |number| {
        client
            .get(gateway.url(&format!("/monitorodata/Machines?$top=1&$skip={number}")))
            .send()
    };
    let responses = join_all((0..10).map(poll)).await;
    assert!(
        responses
            .into_iter()
            .all(|response| response.unwrap().status() == 200)
    );
    assert_eq!(cloud.emulator.stats().monitor_rate_limited, 0);
}

#[tokio::test]
async fn request_above_max_in_flight_returns_503_with_retry_after() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 1")
        .start()
        .await;
    let mut first = gateway.connect().await;
    first.write(get("/slow")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let rejected = gateway.raw(get("/")).await;
    rejected.problem(503, "overloaded");
    assert_eq!(rejected.field("retry-after").as_deref(), Some("1"));
    assert!(
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 1\n")
    );

    // The permit is held until the last byte of the response.
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        .await;
    assert_eq!(first.head().await.status(), 200);
    gateway.raw(get("/")).await.problem(503, "overloaded");
    wire.write("}").await;
    assert_eq!(first.rest().await, b"{}");
    assert!(
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    );
    let mut third = gateway.connect().await;
    third.write(get("/")).await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(third.response().await.status(), 200);
}

#[tokio::test]
async fn caller_disconnect_releases_the_permit_and_cancels_the_upstream_request() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 1")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(get("/slow")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    drop(caller);
    wire.closed().await;
    wait_until("a permit is free", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(r#"code="499",method="GET",route="/"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn pending_request_is_counted_in_flight() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut callers = Vec::new();
    let mut wires = Vec::new();
    for count in 1..=3 {
        let mut caller = gateway.connect().await;
        caller.write(get("/")).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        let metrics = gateway.metrics().await;
        assert!(
            metrics.contains(&format!("citrix_auth_proxy_in_flight_requests {count}\n")),
            "{metrics}"
        );
        callers.push(caller);
        wires.push(wire);
    }
}
