//! The exchange with the upstream: failures, timeouts, HTTP versions
//! (interface §4.2).

mod client_hello;
mod close_notify;
mod cloud;
pub mod http2;
mod http2_fields;
mod http2_frames;
mod http2_resets;
mod loops;
mod regions;
mod retry;
mod reuse;
mod truncation;

use http::Request;

use crate::harness::{Gateway, OK, Upstream, get, wait_until, within_timeout};

/// Returns a request on a persistent connection.
fn staying(method: &str) -> String {
    format!("{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn refused_upstream_connection_returns_502_with_the_upstream() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let problem = gateway.raw(get("/")).await.problem(502, "upstream_connect");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains(&upstream.host()),
        "{problem}"
    );
}

#[tokio::test]
async fn unresolvable_upstream_returns_502_with_its_own_reason() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream)
        .with("[[route]]\nprefix = \"/gone\"\nupstream = \"https://host.invalid\"")
        .start()
        .await;
    let problem = gateway
        .raw(get("/gone"))
        .await
        .problem(502, "upstream_connect");
    assert!(
        problem["detail"].as_str().unwrap().contains("resolve"),
        "{problem}"
    );
}

#[tokio::test]
async fn upstream_close_before_the_head_returns_502() {
    let upstream = Upstream::scripted(|_| Vec::new()).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for method in ["GET", "POST", "DELETE"] {
        gateway
            .raw(staying(method))
            .await
            .problem(502, "upstream_broken");
        upstream.request().await;
    }
    // A request on a new connection is not resent.
    upstream.assert_no_more_requests().await;
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn malformed_upstream_response_returns_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Len",
    ] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        caller.write(get("/")).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        wire.write(garbage).await;
        drop(wire);
        let problem = caller.response().await.problem(502, "upstream_broken");
        assert!(!problem.to_string().contains("SSH"), "{problem}");
    }
}

#[tokio::test]
async fn unrequested_101_from_upstream_returns_502() {
    let response =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    gateway.raw(get("/")).await.problem(502, "upstream_broken");
}

#[tokio::test]
async fn rfc9110_15_2_upstream_interim_responses_are_ignored() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let upstream = Upstream::responding(format!("{interim}{OK}")).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
}

#[tokio::test]
async fn upstream_connections_are_reused() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..5 {
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn connection_that_the_upstream_is_about_to_close_is_not_reused() {
    // A POST on it would cross the close on its way, and could not be repeated.
    for (hint, connections) in [("timeout=1", 3), ("timeout=60, max=100", 1)] {
        let response =
            format!("HTTP/1.1 200 OK\r\nKeep-Alive: {hint}\r\nContent-Length: 2\r\n\r\n{{}}");
        let upstream = Upstream::responding(response).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        for _ in 0..3 {
            assert_eq!(gateway.raw(get("/")).await.status(), 200);
        }
        assert_eq!(upstream.connections(), connections, "{hint}");
    }
}

#[tokio::test]
async fn upstream_close_after_a_response_is_followed_by_a_new_connection() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let upstream = Upstream::responding(close).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn rfc9110_9_2_2_get_on_a_broken_reused_connection_is_resent_once() {
    // The connection closes after the second request is written.
    let upstream =
        Upstream::scripted(|number| if number == 2 { Vec::new() } else { OK.into() }).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    for method in ["GET", "GET"] {
        caller.write(staying(method)).await;
        assert_eq!(caller.response().await.status(), 200);
    }
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(upstream.request().await);
    }
    assert_eq!(sent[1].head, sent[2].head);
    upstream.assert_no_more_requests().await;
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn rfc9110_9_2_2_post_on_a_broken_reused_connection_is_not_resent() {
    for (method, body) in [("POST", ""), ("PATCH", ""), ("PUT", "x"), ("DELETE", "x")] {
        let upstream =
            Upstream::scripted(|number| if number == 2 { Vec::new() } else { OK.into() }).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
        let length = body.len();
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        gateway.raw(request).await.problem(502, "upstream_broken");
        upstream.request().await;
        upstream.request().await;
        upstream.assert_no_more_requests().await;
    }
}

/// The response of servers that close an idle connection; a request may cross it.
const IDLE_CLOSE: [&str; 2] = [
    "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "HTTP/1.0 408 Request Time-out\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\ntimed out",
];

#[tokio::test]
async fn rfc9110_15_5_9_request_that_crosses_the_408_of_an_idle_connection_is_resent() {
    for (method, body) in [("GET", ""), ("POST", ""), ("POST", "body"), ("PUT", "body")] {
        for idle_close in IDLE_CLOSE {
            let upstream =
                Upstream::scripted(move |number| if number == 2 { idle_close } else { OK }.into())
                    .await;
            let gateway = Gateway::in_front_of(&upstream).start().await;
            assert_eq!(gateway.raw(get("/")).await.status(), 200);
            let length = body.len();
            let request = format!(
                "{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let response = gateway.raw(request).await;
            assert_eq!(response.status(), 200, "{method} {body}");
            upstream.request().await;
            let (crossed, resent) = (upstream.request().await, upstream.request().await);
            assert_eq!((&crossed.head, crossed.text()), (&resent.head, body.into()));
            assert_eq!(resent.text(), body);
            upstream.assert_no_more_requests().await;
            assert_eq!(upstream.connections(), 2);
        }
    }
}

#[tokio::test]
async fn other_408_responses_are_returned_unchanged() {
    // On a new connection; on one that stays open; again on the connection of the resent request.
    let stays = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let timeouts: [(&str, &[usize], usize); 3] = [
        (IDLE_CLOSE[0], &[1], 1),
        (stays, &[2], 2),
        (IDLE_CLOSE[0], &[2, 3], 3),
    ];
    for method in ["GET", "POST"] {
        for (response, numbers, requests) in timeouts {
            let upstream = Upstream::scripted(move |number| {
                if numbers.contains(&number) {
                    response
                } else {
                    OK
                }
                .into()
            })
            .await;
            let gateway = Gateway::in_front_of(&upstream).start().await;
            if numbers != [1] {
                assert_eq!(gateway.raw(get("/")).await.status(), 200);
            }
            let response = gateway.raw(staying(method)).await;
            assert_eq!(
                (response.status(), response.has("x-proxy-error")),
                (408, false)
            );
            assert_eq!(upstream.take_requests().await.len(), requests, "{method}");
        }
    }
}

#[tokio::test]
async fn crossed_request_above_the_replay_buffer_gets_the_408() {
    let upstream =
        Upstream::scripted(|number| if number == 2 { IDLE_CLOSE[0] } else { OK }.into()).await;
    let small = "[limits]\nreplay_buffer_bytes = \"3B\"";
    let gateway = Gateway::in_front_of(&upstream).with(small).start().await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(gateway.raw(request).await.status(), 408);
    assert_eq!(upstream.take_requests().await.len(), 2);
}

#[tokio::test]
async fn upstream_close_while_idle_fails_no_request() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write(staying("POST")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    drop(wire);
    // Whether or not the gateway has noticed, the request is sent on an open connection.
    caller.write(staying("POST")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
}

#[tokio::test]
async fn unsolicited_bytes_retire_an_idle_connection() {
    let upstream = Upstream::scripted(|number| match number {
        1 => format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").into(),
        _ => OK.into(),
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..2 {
        assert_eq!(gateway.raw(get("/")).await.text(), "{}");
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn silent_upstream_returns_504() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nresponse_timeout = \"50ms\"")
        .start()
        .await;
    for method in ["GET", "POST"] {
        let mut caller = gateway.connect().await;
        caller.write(staying(method)).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        let problem = caller.response().await.problem(504, "upstream_timeout");
        assert!(
            problem["detail"].as_str().unwrap().contains("50ms"),
            "{problem}"
        );
        wire.closed().await;
    }
}

#[tokio::test]
async fn response_timeout_does_not_run_during_an_active_upload() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nresponse_timeout = \"1s\"")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n")
        .await;
    let mut wire = upstream.connection().await;
    wire.head().await;
    for _ in 0..8 {
        // Eight pieces take longer than the timeout, no single pause does.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        caller.write("x").await;
        assert_eq!(wire.bytes(1).await, b"x");
    }
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
}

#[tokio::test]
async fn response_timeout_runs_once_the_announced_length_has_arrived() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nresponse_timeout = \"50ms\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let request = Request::put(gateway.url("/x")).header("content-length", 4);
    let (response, mut upload) = http2
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    upload.send_data("body".into(), false).unwrap();
    let mut wire = upstream.connection().await;
    assert_eq!(wire.request().await.text(), "body");
    // `limits.body_idle_timeout` must not be added: it is longer than the wait here.
    let response = within_timeout(response).await.unwrap();
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn stalled_caller_is_not_reported_as_a_stalled_upstream() {
    let upstream = Upstream::manual().await;
    let limits = "[upstream]\nresponse_timeout = \"50ms\"\n[limits]\nbody_idle_timeout = \"100ms\"";
    let gateway = Gateway::in_front_of(&upstream).with(limits).start().await;
    let half = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf";
    gateway.raw(half).await.problem(408, "request_timeout");
}

#[tokio::test]
async fn stalled_handshake_times_out() {
    // The upstream accepts the connection and never starts the handshake.
    let silent = Upstream::manual().await;
    let route = format!(
        "[[route]]\nprefix = \"/tls\"\nupstream = \"https://{}\"",
        silent.host()
    );
    let gateway = Gateway::in_front_of(&silent)
        .with(&route)
        .with("[upstream]\nconnect_timeout = \"50ms\"")
        .start()
        .await;
    let problem = gateway
        .raw(get("/tls"))
        .await
        .problem(502, "upstream_connect");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("upstream.connect_timeout"),
        "{problem}"
    );
}

#[tokio::test]
async fn connection_above_its_maximum_age_is_replaced() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nmax_connection_age = \"50ms\"")
        .start()
        .await;
    wait_until("a second connection is dialled", || async {
        assert_eq!(gateway.raw(get("/")).await.status(), 200);
        upstream.connections() >= 2
    })
    .await;
}

#[tokio::test]
async fn caller_disconnect_closes_the_upstream_response() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbeginning")
        .await;
    caller.head().await;
    drop(caller);
    wire.closed().await;
}

#[tokio::test]
async fn bodies_are_streamed_in_both_directions() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut wire = upstream.connection().await;
    wire.head().await;
    caller.write("5\r\nfirst\r\n").await;
    assert_eq!(wire.bytes(10).await, b"5\r\nfirst\r\n");
    // The response begins before the upload ends, and each piece arrives before the next is sent.
    wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    assert_eq!(caller.head().await.status(), 200);
    assert_eq!(caller.bytes(8).await, b"3\r\none\r\n");
    caller.write("4\r\nlast\r\n0\r\n\r\n").await;
    assert_eq!(wire.bytes(14).await, b"4\r\nlast\r\n0\r\n\r\n");
    wire.write("3\r\ntwo\r\n0\r\n\r\n").await;
    assert_eq!(caller.bytes(13).await, b"3\r\ntwo\r\n0\r\n\r\n");
}

#[tokio::test]
async fn truncated_upload_never_completes_a_request_upstream() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for (framing, body) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        let mut caller = gateway.connect().await;
        caller
            .write(format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{body}"
            ))
            .await;
        let mut wire = upstream.connection().await;
        wire.head().await;
        assert_eq!(wire.bytes(body.len()).await, body.as_bytes());
        drop(caller);
        within_timeout(wire.closed()).await;
    }
    for reason in [h2::Reason::NO_ERROR, h2::Reason::CANCEL] {
        let mut http2 = gateway.http2().await;
        let request = Request::post(gateway.url("/")).body(()).unwrap();
        let (_response, mut body) = http2.send_request(request, false).unwrap();
        body.send_data("hello".into(), false).unwrap();
        let mut wire = upstream.connection().await;
        wire.head().await;
        assert_eq!(wire.bytes(10).await, b"5\r\nhello\r\n");
        body.send_reset(reason);
        within_timeout(wire.closed()).await;
    }
}
