//! A drain that begins the moment a request was sent: whoever the kernel let in is answered.

use std::time::Duration;

use citrix_auth_proxy::app::Drained;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{Gateway, OK, Upstream, eventually, soon};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Twenty gateways are drained while a fresh request is on its way; how many of those got no answer. A worker
/// that has `served` before is awake when the drain begins, one that has not is only just starting.
async fn unanswered(workers: &str, served: usize) -> usize {
    let upstream = Upstream::answering(OK).await;
    let mut unanswered = 0;
    for _ in 0..20 {
        let gateway = Gateway::in_front_of(&upstream)
            .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", workers)
            .start()
            .await;
        for _ in 0..served {
            let mut earlier = gateway.connect().await;
            earlier.write(GET).await;
            assert_eq!(earlier.answer().await.status(), 200);
        }
        let mut caller = gateway.connect().await;
        caller.write(GET).await;
        let drain = gateway.into_app().drain(Duration::from_secs(10));
        let (said, drained) = soon(async { tokio::join!(caller.rest(), drain) }).await;
        assert_eq!(drained.cut, 0);
        unanswered += usize::from(!said.starts_with(b"HTTP/1.1 200 "));
    }
    unanswered
}

#[tokio::test]
async fn a_worker_that_has_just_started_answers_who_was_let_in() {
    assert_eq!(unanswered("1", 0).await, 0);
}

#[tokio::test]
async fn workers_that_have_just_started_answer_who_was_let_in() {
    assert_eq!(unanswered("3", 0).await, 0);
}

#[tokio::test]
async fn a_worker_that_has_served_before_answers_who_was_let_in() {
    assert_eq!(unanswered("1", 6).await, 0);
}

#[tokio::test]
async fn workers_that_have_served_before_answer_who_was_let_in() {
    assert_eq!(unanswered("3", 6).await, 0);
}

/// Begins the drain of a gateway, and waits until it lets nobody in any more.
async fn draining(gateway: Gateway) -> JoinHandle<Drained> {
    let address = gateway.address();
    let drain = tokio::spawn(gateway.into_app().drain(Duration::from_secs(10)));
    let refused = || async { TcpStream::connect(&address).await.is_err() };
    eventually("nobody is let in", refused).await;
    // Orders are given every 10 ms.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drain
}

#[tokio::test]
async fn who_was_let_in_just_before_may_still_ask_once() {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    let drain = draining(gateway).await;
    caller.write(GET).await;
    assert_eq!(caller.answer().await.status(), 200);
    caller.closed().await;
    assert_eq!(soon(drain).await.unwrap().cut, 0);
}

#[tokio::test]
async fn who_was_let_in_and_says_nothing_does_not_hold_the_drain_up() {
    let upstream = Upstream::answering(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut silent = gateway.connect().await;
    let drain = draining(gateway).await;
    silent.closed().await;
    assert_eq!(soon(drain).await.unwrap().cut, 0);
}

#[tokio::test]
async fn a_head_of_which_a_part_has_come_is_read_to_its_end_and_answered() {
    let upstream = Upstream::answering(OK).await;
    for earlier in [0, 1] {
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        for _ in 0..earlier {
            caller.write(GET).await;
            assert_eq!(caller.answer().await.status(), 200);
        }
        let (one, other) = GET.split_at(20);
        caller.write(one).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let drain = draining(gateway).await;
        caller.write(other).await;
        assert_eq!(caller.answer().await.status(), 200, "after {earlier}");
        caller.closed().await;
        assert_eq!(soon(drain).await.unwrap().cut, 0);
    }
}

#[tokio::test]
async fn a_caller_with_http2_is_told_to_go_and_what_is_under_way_is_answered() {
    let upstream = Upstream::by_hand().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut sender = gateway.http2().await.ready().await.unwrap();
    let request = || http::Request::get("http://localhost/").body(()).unwrap();
    let (answer, _) = sender.send_request(request(), true).unwrap();
    let mut wire = upstream.connection().await;
    wire.request().await;
    let drain = tokio::spawn(gateway.into_app().drain(Duration::from_secs(10)));
    let mut sender = sender;
    eventually("no more requests are taken", || {
        let next = sender.clone();
        async move { next.ready().await.is_err() }
    })
    .await;
    assert!(sender.send_request(request(), true).is_err());
    wire.write(OK).await;
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    assert_eq!(soon(drain).await.unwrap().cut, 0);
}
