//! Upstream connections that end before anything of a request was written to them.

use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tempfile::NamedTempFile;
use testkit::http2::{
    END_STREAM, Http2Upstream, Http2Wire, MAX_CONCURRENT_STREAMS, NO_ERROR, SETTINGS,
};
use testkit::socket_end::SocketEnd;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::http1_upstream::read_request;
use super::{Ended, Sent, deviation, recorded};
use crate::harness::pki::TestCa;
use crate::harness::{Gateway, Plan, Upstream, within_timeout};
use crate::send::http2::in_front_of;

pub(super) const ENDS: [SocketEnd; 3] = [SocketEnd::Fin, SocketEnd::HalfClose, SocketEnd::Rst];

/// Ends the upstream's side. Returns the socket if it is still open in the other direction.
async fn end(mut socket: TcpStream, end: SocketEnd) -> Option<TcpStream> {
    match end {
        SocketEnd::HalfClose => {
            socket.shutdown().await.unwrap();
            return Some(socket);
        }
        SocketEnd::Rst => SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap(),
        _ => {}
    }
    None
}

pub(super) async fn listen() -> (TcpListener, Plan) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, Gateway::with_api_url(&url))
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    within_timeout(listener.accept()).await.unwrap().0
}

#[tokio::test]
async fn http1_connection_that_ends_while_idle_fails_no_request() {
    let (listener, plan) = listen().await;
    let gateway = plan.start().await;
    let (mut wrong, mut half_closed) = (Vec::new(), Vec::new());
    for each in ENDS {
        for (number, sent) in Sent::ALL.into_iter().enumerate() {
            // Each request arrives once, on a connection of its own.
            let serve = async {
                let mut socket = accept(&listener).await;
                assert!(within_timeout(read_request(&mut socket)).await);
                let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                socket.write_all(response).await.unwrap();
                socket
            };
            let id = format!("{each:?}-{number}");
            let served = Ended::served();
            let (found, socket) = tokio::join!(deviation(&gateway, sent, &id, &served), serve);
            wrong.extend(found.map(|text| format!("{each:?}: {text}")));
            half_closed.extend(end(socket, each).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn http1_connection_that_ends_at_once_returns_502() {
    let (listener, plan) = listen().await;
    let gateway = plan.start().await;
    // The first connection, which shows the version of HTTP, may be replaced by another one.
    let serve = async {
        let mut socket = accept(&listener).await;
        assert!(within_timeout(read_request(&mut socket)).await);
        let response = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(response).await.unwrap();
    };
    let ((status, _), ()) = tokio::join!(Sent::ALL[0].send(&gateway, "first"), serve);
    assert_eq!(status, 200);
    let mut wrong = Vec::new();
    for each in ENDS {
        for (number, sent) in Sent::ALL.into_iter().enumerate() {
            let id = format!("{each:?}-{number}");
            let fail = async { end(accept(&listener).await, each).await };
            let ((status, reason), _half_closed) = tokio::join!(sent.send(&gateway, &id), fail);
            let recorded = recorded(&gateway, &id).await;
            let result = (reason.as_deref(), recorded["attempts"].as_u64());
            let is_right = match result {
                (Some("upstream_broken"), Some(1)) => true,
                // A reset may come before the gateway has noticed that it is connected.
                (Some("upstream_connect"), Some(0)) => each == SocketEnd::Rst,
                _ => false,
            };
            if status != 502 || !is_right || recorded["reason"].as_str() != reason.as_deref() {
                wrong.push(format!("{each:?}: {sent:?}: {status}, recorded {recorded}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // None was sent on another connection.
    let other = listener.into_std().unwrap().accept();
    assert!(other.is_err(), "{other:?}");
}

#[tokio::test]
async fn http2_connection_that_ends_while_idle_fails_no_request() {
    let mut wrong = Vec::new();
    for upstream in [
        Http2Upstream::start().await,
        Http2Upstream::resetting().await,
    ] {
        let gateway = in_front_of(&upstream).start().await;
        for (number, sent) in Sent::ALL.into_iter().enumerate() {
            let serve = async {
                let mut wire = upstream.connection().await;
                let (stream, _) = wire.request().await;
                wire.write_fields(stream, &[(":status", "200")], END_STREAM)
                    .await;
                wire
            };
            let id = format!("request-{number}");
            let served = Ended::served();
            let (found, wire) = tokio::join!(deviation(&gateway, sent, &id, &served), serve);
            wrong.extend(found);
            drop(wire);
        }
        assert_eq!(upstream.connections(), Sent::ALL.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn http2_connection_that_ends_after_the_handshake_returns_502() {
    let ca = TestCa::new("upstream CA");
    let mut tls = ca.issue("upstream", &["localhost"]).server_config();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &url)
        .set(
            "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
            &file.path().display().to_string(),
        )
        .start()
        .await;
    let mut wrong = Vec::new();
    let expected = Ended {
        attempts: 0,
        ..Ended::failed(502, "upstream_connect")
    };
    for linger in [None, Some(Duration::ZERO)] {
        for (number, sent) in Sent::ALL.into_iter().enumerate() {
            let id = format!("{linger:?}-{number}");
            let fail = async {
                let socket = accept(&listener).await;
                SockRef::from(&socket).set_linger(linger).unwrap();
                drop(within_timeout(acceptor.accept(socket)).await.unwrap());
            };
            let (found, ()) = tokio::join!(deviation(&gateway, sent, &id, &expected), fail);
            wrong.extend(found.map(|text| format!("{linger:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Reads frames until the client acknowledges the settings, so that all that it sends before a
/// request is written.
async fn acknowledged(wire: &mut Http2Wire) {
    loop {
        let frame = within_timeout(wire.frame()).await.expect("a frame");
        if (frame.kind, frame.flags) == (SETTINGS, 1) {
            return;
        }
    }
}

#[tokio::test]
async fn rfc9113_8_7_request_that_waits_for_a_stream_of_a_closed_connection_is_sent_again() {
    let upstream = Http2Upstream::with_settings(&[(MAX_CONCURRENT_STREAMS, 0)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    for (number, sent) in Sent::ALL.into_iter().enumerate() {
        let serve = async {
            let mut wire = upstream.connection().await;
            acknowledged(&mut wire).await;
            drop(wire);
            let mut wire = upstream.connection().await;
            wire.write(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).await;
            let (stream, body) = wire.request().await;
            // The next request is on another connection.
            wire.go_away(stream, NO_ERROR).await;
            wire.write_fields(stream, &[(":status", "200")], END_STREAM)
                .await;
            (wire, body)
        };
        let id = format!("request-{number}");
        let resent = Ended::resent();
        let (found, (_wire, body)) = tokio::join!(deviation(&gateway, sent, &id, &resent), serve);
        wrong.extend(found);
        assert_eq!(body, sent.body.as_bytes(), "{sent:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
