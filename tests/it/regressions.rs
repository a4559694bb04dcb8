//! Regression tests that span several modules.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::adversarial::Http2Upstream;
use crate::harness::{Gateway, OK, Upstream, Wire, get, get_with, wait_until, within_timeout};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn head_timeout_writes_no_408_into_a_response() {
    // Part of the response fits into the socket buffer, the rest into the gateway's: some of these
    // sizes end in between.
    const SIZES: usize = 14;
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::scripted(|number| {
        let length = 144 * 1024 + number * 24 * 1024;
        let mut response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        response.resize(response.len() + length, b'x');
        response
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream)
        .on_socket(&folder.path().join("gateway.sock"))
        .with("[limits]\nheader_read_timeout = \"200ms\"\nbody_idle_timeout = \"60s\"")
        .start()
        .await;
    let mut callers = Vec::new();
    for _ in 0..SIZES {
        let mut caller = gateway.connect().await;
        caller.write(GET).await;
        upstream.request().await;
        callers.push(caller);
    }
    wait_until(
        "the gateway has finished some responses that no caller has read",
        || async {
            let metrics = gateway.metrics().await;
            let waiting = |some: usize| {
                metrics.contains(&format!("citrix_auth_proxy_in_flight_requests {some}\n"))
            };
            (1..SIZES).any(waiting)
        },
    )
    .await;
    // No signal marks the moment: the gateway fills the buffers, and then the head timeout must
    // pass.
    sleep(Duration::from_millis(100)).await;
    for caller in &mut callers {
        caller.write("G").await;
    }
    sleep(Duration::from_millis(500)).await;
    for (at, mut caller) in callers.into_iter().enumerate() {
        let response = caller.response().await;
        assert!(
            response.complete,
            "{at}: only {} bytes",
            response.body.len()
        );
        let unexpected = response.body.iter().position(|byte| *byte != b'x');
        assert_eq!(
            unexpected,
            None,
            "{at}: {:?}",
            unexpected.map(|from| String::from_utf8_lossy(&response.body[from..]))
        );
    }
}

#[tokio::test]
async fn upload_with_an_early_response_is_forwarded_whole() {
    const PIECE: usize = 64 * 1024;
    // More than all unfinished heads may have.
    const PIECES: usize = 320;
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        PIECE * PIECES
    );
    caller.write(head).await;
    let mut wire = upstream.connection().await;
    wire.head().await;
    for number in 0..PIECES {
        let piece = vec![b'a' + u8::try_from(number % 26).unwrap(); PIECE];
        caller.write(&piece).await;
        assert!(wire.bytes(PIECE).await == piece, "piece {number}");
        if number == 2 {
            wire.write(OK).await;
            assert_eq!(caller.response().await.status(), 200);
        }
    }
    wait_until("the connection is back in the pool", || async {
        let metrics = gateway.metrics().await;
        metrics
            .lines()
            .any(|line| line.contains("upstream") && line.contains("idle") && line.ends_with(" 1"))
    })
    .await;
    caller.write(GET).await;
    assert_eq!(wire.request().await.line(), "GET / HTTP/1.1");
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn upload_that_goes_on_after_its_response_is_no_stalled_head() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nheader_read_timeout = \"50ms\"")
        .start()
        .await;
    let cases = [
        ("Content-Length: 10", "hello", "world", "helloworld"),
        (
            "Transfer-Encoding: chunked",
            "5\r\nhello\r\n",
            "5\r\nworld\r\n0\r\n\r\n",
            "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
        ),
    ];
    for (framing, first, second, forwarded) in cases {
        let mut caller = gateway.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
        caller.write(head + first).await;
        let mut wire = upstream.connection().await;
        wire.head().await;
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
        // In two parts, each after longer than a head may take.
        let (start, end) = second.split_at(2);
        for part in [start, end] {
            sleep(Duration::from_millis(150)).await;
            caller.write(part).await;
        }
        let received = wire.bytes(forwarded.len()).await;
        assert_eq!(String::from_utf8_lossy(&received), forwarded);
        sleep(Duration::from_millis(150)).await;
        caller.write(GET).await;
        wire.request().await;
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn path_with_another_customer_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for (path, field) in [
        ("/catalogservice/other/x", ""),
        ("/resourceprovider/other/site/activation", ""),
        ("/quickcreateservice/other/x", ""),
        ("/CatalogService/other", ""),
        ("/catalogservice/other/x", "Citrix-CustomerId: acme\r\n"),
        ("/catalogservice/acme/x", "Citrix-CustomerId: other\r\n"),
        ("/catalogservice/other/x", "Citrix-CustomerId: other\r\n"),
    ] {
        gateway
            .raw(get_with(path, field))
            .await
            .problem(403, "customer_forbidden");
    }
    upstream.assert_no_more_requests().await;
    for path in [
        "/catalogservice/acme/x",
        "/resourceprovider/ACME/site/activation",
        "/QuickCreateService/Acme/x",
    ] {
        assert_eq!(gateway.raw(get(path)).await.status(), 200, "{path}");
        let sent = upstream.request().await;
        assert_eq!(sent.line(), format!("GET {path} HTTP/1.1"));
        assert_eq!(sent.field("citrix-customerid").as_deref(), Some("acme"));
    }
}

/// Returns an HTTP/2 connection that is silent after its first frames.
async fn silent_http2(gateway: &Gateway) -> Wire {
    let mut wire = gateway.connect().await;
    wire.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    wire.write(b"\0\0\0\x04\0\0\0\0\0").await;
    // The gateway's first frame is its SETTINGS: the connection is open.
    let head = wire.bytes(9).await;
    assert_eq!(head[3], 4, "{head:?}");
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    wire.bytes(length).await;
    wire
}

#[tokio::test]
async fn silent_http2_connection_without_a_request_is_not_counted_as_truncated() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut silent = silent_http2(&gateway).await;
    let drained = within_timeout(gateway.into_app().drain(Duration::from_millis(300))).await;
    assert_eq!(drained.aborted, 0);
    silent.rest().await;
}

#[tokio::test]
async fn idle_http2_connection_without_ping_ack_is_closed() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nkeep_alive_timeout = \"200ms\"\nheader_read_timeout = \"200ms\"")
        .start()
        .await;
    let mut silent = silent_http2(&gateway).await;
    silent.rest().await;
    // The gateway still serves: it did not close the connection by shutting down.
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
}

#[tokio::test]
async fn request_does_not_wait_for_a_login_after_its_deadline() {
    let upstream = Upstream::responding(OK).await;
    let rate_limited =
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
    let logins = Upstream::responding(rate_limited).await;
    let token_url = format!("{}/cctrustoauth2/acme/tokens/clients", logins.url());
    let gateway = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &token_url)
        .with("[token]\nstartup_wait = \"30s\"")
        .start()
        .await;
    wait_until("the login has failed", || async {
        let metrics = gateway.metrics().await;
        metrics
            .lines()
            .any(|line| line.contains("token_consecutive_failures{") && line.ends_with(" 1"))
    })
    .await;
    for _ in 0..3 {
        let request = tokio::time::timeout(Duration::from_secs(10), gateway.raw(get("/")));
        let response = request.await.expect("a response long before startup_wait");
        response.problem(503, "token_unavailable");
        let retry_after: u64 = response.field("retry-after").unwrap().parse().unwrap();
        assert!((31..=66).contains(&retry_after), "{retry_after}");
    }
    logins.request().await;
    logins.assert_no_more_requests().await;
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn resent_get_uses_a_new_connection_even_if_another_is_idle() {
    for new_one_breaks in [false, true] {
        let upstream = Upstream::manual().await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
        first.write(GET).await;
        let mut other = upstream.connection().await;
        other.request().await;
        second.write(GET).await;
        let mut youngest = upstream.connection().await;
        youngest.request().await;
        // The pool uses the most recently returned connection first.
        other.write(OK).await;
        assert_eq!(first.response().await.status(), 200);
        youngest.write(OK).await;
        assert_eq!(second.response().await.status(), 200);

        first.write(GET).await;
        let sent = youngest.request().await;
        drop(youngest);
        let mut new = upstream.connection().await;
        assert_eq!(new.request().await.head, sent.head);
        if new_one_breaks {
            drop(new);
            first.response().await.problem(502, "upstream_broken");
        } else {
            new.write(OK).await;
            assert_eq!(first.response().await.status(), 200);
        }
        // Nothing was sent on the other connection.
        within_timeout(gateway.into_app().drain(Duration::from_secs(10))).await;
        other.closed().await;
        assert_eq!(upstream.connections(), 3);
    }
}

#[tokio::test]
async fn http2_response_that_ends_after_its_length_is_not_reset() {
    let (sender, mut streams) = mpsc::unbounded_channel();
    let upstream = Http2Upstream::start(sender).await;
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &upstream.url)
        .with(&format!("[upstream]\nca_file = {:?}", upstream.ca.path()))
        .start()
        .await;
    let mut caller = gateway.connect().await;
    let mut unended: Vec<SendStream<Bytes>> = Vec::new();
    for _ in 0..3 {
        caller.write(GET).await;
        let mut respond = within_timeout(streams.recv()).await.unwrap();
        // Frames about earlier streams precede this request.
        for earlier in &mut unended {
            let reset = poll_fn(|cx| Poll::Ready(earlier.poll_reset(cx))).await;
            assert!(reset.is_pending(), "{reset:?}");
        }
        let head = http::Response::builder()
            .header("content-length", 5)
            .body(())
            .unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream
            .send_data(Bytes::from_static(b"hello"), false)
            .unwrap();
        let response = caller.response().await;
        assert_eq!(
            (response.text().as_str(), response.complete),
            ("hello", true)
        );
        unended.push(stream);
    }
    let active = |count: usize| {
        let line = format!("citrix_auth_proxy_upstream_connections{{state=\"active\"}} {count}\n");
        let gateway = &gateway;
        async move { gateway.metrics().await.contains(&line) }
    };
    // The callers have their responses, and the streams are still open.
    wait_until("three streams are waiting", || active(3)).await;
    for mut stream in unended {
        // A stream that waits for long is reset.
        let _ = stream.send_data(Bytes::new(), true);
    }
    wait_until("all three streams have ended", || active(0)).await;
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn foreign_customer_behind_a_stripped_prefix_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let route = format!(
        "[[route]]\nprefix = \"/citrix\"\nstrip_prefix = true\nupstream = \"{}\"",
        upstream.url()
    );
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .with(&route)
        .start()
        .await;
    gateway
        .raw(get("/citrix/catalogservice/other/x"))
        .await
        .problem(403, "customer_forbidden");
    upstream.assert_no_more_requests().await;
}
