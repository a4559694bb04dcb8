//! Callers and upstreams that misbehave or act unusually.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use http::Request;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::harness::{Gateway, OK, Upstream, client, get, wait_until, within_timeout};

#[tokio::test]
async fn rfc9113_8_1_empty_final_data_frame_ends_the_response() {
    for pieces in [
        &["hello", ""][..],
        &["", "hello", "", ""],
        &["hello"],
        &[""],
    ] {
        let upstream = http2_upstream(pieces).await;
        let toml = format!("[upstream]\nca_file = {:?}", upstream.ca.path());
        let gateway = Gateway::in_front_of(&Upstream::refusing())
            .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &upstream.url)
            .with(&toml)
            .start()
            .await;
        assert_eq!(
            gateway.raw(get("/")).await.text(),
            pieces.concat(),
            "{pieces:?} to HTTP/1.1"
        );
        let mut http2 = gateway.http2().await;
        let request = Request::get(gateway.url("/")).body(()).unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let mut body = within_timeout(response).await.unwrap().into_body();
        let mut text = Vec::new();
        while let Some(piece) = within_timeout(body.data()).await {
            text.extend(piece.unwrap_or_else(|error| panic!("{pieces:?}: {error}")));
        }
        assert_eq!(text, pieces.concat().as_bytes(), "{pieces:?} to HTTP/2");
    }
}

/// An upstream with TLS and HTTP/2.
pub struct Http2Upstream {
    pub url: String,
    pub ca: NamedTempFile,
    pub connections: Arc<AtomicUsize>,
}

impl Http2Upstream {
    /// Sends the response handle of each request to `responders`.
    pub async fn start(responders: mpsc::UnboundedSender<SendResponse<Bytes>>) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), issued.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (stream, responders) =
                    (acceptor.accept(socket).await.unwrap(), responders.clone());
                let mut connection = h2::server::handshake(stream).await.unwrap();
                tokio::spawn(async move {
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        responders.send(respond).ok();
                    }
                });
            }
        });
        Self {
            url,
            ca,
            connections,
        }
    }
}

/// Returns an upstream that responds with these data frames; the last one ends the stream.
async fn http2_upstream(pieces: &'static [&'static str]) -> Http2Upstream {
    let (sender, mut receiver) = mpsc::unbounded_channel::<SendResponse<Bytes>>();
    tokio::spawn(async move {
        while let Some(mut respond) = receiver.recv().await {
            let mut stream = respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            for (at, piece) in pieces.iter().enumerate() {
                stream
                    .send_data(Bytes::from_static(piece.as_bytes()), at + 1 == pieces.len())
                    .unwrap();
            }
        }
    });
    Http2Upstream::start(sender).await
}

#[tokio::test]
async fn upstream_response_before_the_end_of_the_upload_blocks_no_request() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let mut wire = upstream.connection().await;
    wire.head().await;
    wire.bytes(5).await;
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    // The rest of the upload and another request get a response, or the connection is closed.
    caller.write(format!("world{}", get("/second"))).await;
    let serve = |mut wire: crate::harness::Wire| async move {
        // The rest of the upload may precede it.
        if wire
            .next_request()
            .await
            .is_some_and(|request| request.line().contains("/second"))
        {
            wire.write(OK).await;
        }
    };
    tokio::spawn(serve(wire));
    let rest = tokio::select! {
        rest = caller.rest() => rest,
        () = async { loop { serve(upstream.connection().await).await } } => unreachable!(),
    };
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 200 "),
        "{rest:?}"
    );
}

#[tokio::test]
async fn rfc9112_6_1_unsupported_transfer_coding_returns_400() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for codings in [
        "gzip, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "x-thing\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {codings}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        gateway.raw(request).await.problem(400, "bad_request");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9112_6_3_response_with_both_framings_returns_502() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let upstream = Upstream::responding(both).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let problem = gateway.raw(get("/")).await.problem(502, "upstream_broken");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("both Transfer-Encoding and Content-Length"),
        "{detail}"
    );
}

#[tokio::test]
async fn rfc9110_5_5_obs_text_in_values_passes_unchanged() {
    let response = b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let request =
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Latin: caf\xe9\r\n\r\n";
    let response = gateway.raw(request).await;
    let has = |head: &[u8]| head.windows(4).any(|window| window == b"caf\xe9");
    assert!(has(&response.head));
    assert!(has(&upstream.request().await.head));
}

#[tokio::test]
async fn http2_drain_finishes_open_requests_and_starts_no_other() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = |path: &str| Request::get(gateway.url(path)).body(()).unwrap();
    let (response, _) = http2.send_request(request("/first"), true).unwrap();
    let mut wire = upstream.connection().await;
    wire.request().await;
    gateway
        .app()
        .lifecycle()
        .advance(citrix_auth_proxy::state::lifecycle::Phase::Draining);
    wait_until("the caller gets GOAWAY", || {
        let http2 = http2.clone();
        async move { http2.ready().await.is_err() }
    })
    .await;
    wire.write(OK).await;
    let response = within_timeout(response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        within_timeout(response.into_body().data())
            .await
            .unwrap()
            .unwrap(),
        "{}"
    );
}

#[tokio::test]
async fn rfc6585_5_oversized_http2_head_returns_431() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_header_bytes = \"8KiB\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let large = "x".repeat(12_000);
    let request = Request::get(gateway.url("/"))
        .header("x-large", large)
        .body(())
        .unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 431);
    let request = Request::get(gateway.url("/")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn http2_body_above_the_limit_returns_413() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_body_bytes = 1000")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let request = Request::post(gateway.url("/")).body(()).unwrap();
    let (response, mut body) = http2.send_request(request, false).unwrap();
    body.send_data(Bytes::from(vec![7; 600]), false).unwrap();
    let mut wire = upstream.connection().await;
    wire.head().await;
    body.send_data(Bytes::from(vec![7; 600]), false).unwrap();
    let response = within_timeout(response).await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["x-proxy-error"]
        ),
        (413, &"body_too_large".parse().unwrap())
    );
}

#[tokio::test]
async fn http2_stream_reset_releases_its_permit() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = Request::get(gateway.url("/")).body(()).unwrap();
    let (response, mut stream) = http2.send_request(request, true).unwrap();
    let mut wire = upstream.connection().await;
    wire.request().await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    wire.closed().await;
    wait_until("a permit is free", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn slow_reader_receives_a_large_response_whole() {
    const LENGTH: usize = 5_000_000;
    let body = vec![b'x'; LENGTH];
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
    response.extend(&body);
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut slow = gateway.connect().await;
    slow.write(get("/")).await;
    // Long after the intermediate buffers are full; others are served meanwhile.
    assert_eq!(slow.head().await.status(), 200);
    for _ in 0..3 {
        assert_eq!(gateway.raw(get("/")).await.body.len(), LENGTH);
    }
    assert_eq!(slow.rest().await.len(), LENGTH);
}

#[tokio::test]
async fn caller_that_does_not_read_is_closed() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nbody_idle_timeout = \"200ms\"")
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    for over_http2 in [false, true] {
        let _response = if over_http2 {
            let request = Request::get(gateway.url("/")).body(()).unwrap();
            Some(http2.send_request(request, true).unwrap())
        } else {
            None
        };
        let mut caller = gateway.connect().await;
        if !over_http2 {
            caller.write(get("/")).await;
        }
        let mut wire = upstream.connection().await;
        wire.request().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
            .await;
        // More than all buffers hold; writing fails once the gateway closes.
        wire.write(vec![b'x'; 30_000_000]).await;
        wire.closed().await;
    }
    wait_until("all permits are free", || async {
        gateway
            .metrics()
            .await
            .contains("citrix_auth_proxy_in_flight_requests 0\n")
    })
    .await;
}

#[tokio::test]
async fn excessive_heads_are_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_header_bytes = \"200KiB\"")
        .start()
        .await;
    let many = "X-Many: 1\r\n".repeat(200);
    let path = "x".repeat(70_000);
    for (request, status) in [
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            431,
        ),
        (
            format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            414,
        ),
    ] {
        assert_eq!(gateway.raw(request).await.status(), status);
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9112_7_1_invalid_chunks_never_complete_a_request() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for broken in [
        "5\r\nhelloX",
        "zz\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "-1\r\n",
        "5 5\r\nhello\r\n",
    ] {
        let mut caller = gateway.connect().await;
        caller
            .write("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let mut wire = upstream.connection().await;
        wire.head().await;
        caller
            .write(format!("1\r\nx\r\n{broken}\r\n0\r\n\r\n"))
            .await;
        assert!(!wire.rest().await.ends_with(b"0\r\n\r\n"), "{broken:?}");
        let rest = caller.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{broken:?}");
    }
}

#[tokio::test]
async fn detail_names_the_ambiguity_of_a_chunked_body() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for (body, detail) in [
        (
            "0\r\nX: 1\n\r\n",
            "a line of the trailers ends with a bare LF",
        ),
        ("1;\0\r\n", "malformed or too large chunk extension"),
        ("1\nx", "malformed chunk size"),
    ] {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let response = gateway.raw(format!("{head}{body}")).await;
        assert_eq!(response.status(), 400);
        let expected = format!("request body is ambiguous: {detail}");
        assert!(
            response.text().contains(&expected),
            "{body:?}: {}",
            response.text()
        );
    }
}

#[tokio::test]
async fn rfc9112_9_6_rejection_announces_the_close_behind_a_body_that_is_not_read() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for (framing_and_body, closes) in [
        ("Content-Length: 5\r\n\r\nhello", false),
        ("Content-Length: 500000\r\n\r\nhello", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            true,
        ),
    ] {
        let mut caller = gateway.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: elsewhere.example\r\n";
        caller.write(format!("{head}{framing_and_body}")).await;
        let response = caller.response().await;
        assert_eq!(response.status(), 421);
        let announced = response.field("connection").as_deref() == Some("close");
        assert_eq!(announced, closes, "{framing_and_body:?}");
        if !closes {
            caller.write(get("/")).await;
            assert_eq!(caller.response().await.status(), 200);
        }
    }
}

#[tokio::test]
async fn early_response_to_a_long_upload_reaches_an_ordinary_client() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_body_bytes = 1000")
        .start()
        .await;
    for _ in 0..10 {
        let response = client()
            .post(gateway.url("/"))
            .body(vec![7_u8; 8_000_000])
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 413);
    }
}
