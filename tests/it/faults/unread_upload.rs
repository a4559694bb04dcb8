//! An upstream that stops reading a request while its body is being sent.

use socket2::SockRef;
use testkit::http2::{DATA, END_STREAM, Http2Upstream, RST_STREAM};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{read_to, recorded};
use crate::harness::{Gateway, Wire, wait_until, within_timeout};
use crate::send::http2::in_front_of;

/// More than the buffers of all sockets hold.
const LENGTH: usize = 64 << 20;
/// The window of an HTTP/2 stream unless a peer sets another.
const INITIAL_WINDOW: usize = 65_535;

/// Returns the head of an upload of [`LENGTH`] bytes.
fn head(id: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nCitrix-TransactionId: {id}\r\n\
         Content-Length: {LENGTH}\r\n\r\n"
    )
}

/// Starts an upload that goes on until the gateway closes the connection. Returns the caller's side
/// of the response.
async fn upload(gateway: &Gateway, id: &str) -> Wire {
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    let (read, mut write) = socket.into_split();
    let head = head(id);
    tokio::spawn(async move {
        let piece = vec![b'a'; 64 * 1024];
        let mut written = write.write_all(head.as_bytes()).await;
        for _ in 0..LENGTH / piece.len() {
            if written.is_err() {
                return;
            }
            written = write.write_all(&piece).await;
        }
        // Until the gateway closes.
        std::future::pending::<()>().await;
    });
    Wire::new(tokio::io::join(read, tokio::io::sink()))
}

/// An HTTP/1.1 upstream with small windows.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Accepted connections inherit it.
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Accepts a connection and reads the head of its request.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = within_timeout(listener.accept()).await.unwrap();
    read_to(&mut socket, b"\r\n\r\n").await;
    socket
}

/// Asserts that the exchange is recorded as one with a complete response.
async fn assert_recorded(gateway: &Gateway) {
    wait_until("the exchange is recorded", || async {
        let recorded = recorded(gateway, "unread").await;
        recorded["status"] == 413 && recorded["end"] == "complete"
    })
    .await;
}

#[tokio::test]
async fn upload_that_the_upstream_does_not_read_ends_with_the_response_timeout() {
    let (listener, url) = listen().await;
    let gateway = Gateway::with_api_url(&url)
        .with("[upstream]\nresponse_timeout = \"100ms\"")
        .start()
        .await;
    let mut caller = upload(&gateway, "unread").await;
    let (response, mut socket) = tokio::join!(caller.response(), accept(&listener));
    response.problem(504, "upstream_timeout");
    let mut received = Vec::new();
    // A close or a reset.
    let _ = within_timeout(socket.read_to_end(&mut received)).await;
    assert!(received.len() < LENGTH, "{}", received.len());
}

#[tokio::test]
async fn upload_that_an_http1_upstream_stops_reading_ends_after_its_response() {
    let (listener, url) = listen().await;
    let gateway = Gateway::with_api_url(&url)
        .with("[upstream]\nidle_timeout = \"100ms\"")
        .start()
        .await;
    let mut caller = upload(&gateway, "unread").await;
    let serve = async {
        let mut socket = accept(&listener).await;
        socket
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        socket
    };
    let (response, mut socket) = tokio::join!(caller.response(), serve);
    assert_eq!(
        (response.status(), response.text(), response.complete),
        (413, "{}".to_owned(), true)
    );
    // The upstream reads nothing until the gateway has ended the upload, and with it the
    // connection of the caller.
    caller.closed().await;
    let mut received = Vec::new();
    let _ = within_timeout(socket.read_to_end(&mut received)).await;
    assert!(received.len() < LENGTH, "{}", received.len());
    assert_recorded(&gateway).await;
}

#[tokio::test]
async fn upload_that_an_http2_upstream_stops_reading_ends_after_its_response() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream)
        .with("[upstream]\nidle_timeout = \"100ms\"")
        .start()
        .await;
    let mut caller = upload(&gateway, "unread").await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let stream = wire.head().await;
        wire.write_fields(stream, &[(":status", "413"), ("content-length", "2")], 0)
            .await;
        wire.write(DATA, END_STREAM, stream, b"{}").await;
        let mut received = 0;
        loop {
            let frame = wire.next().await.expect("the end of the stream");
            match frame.kind {
                DATA => received += frame.payload.len(),
                kind => return (kind, received),
            }
        }
    };
    let (response, end) = tokio::join!(caller.response(), serve);
    assert_eq!(
        (response.status(), response.text(), response.complete),
        (413, "{}".to_owned(), true)
    );
    assert_eq!(end, (RST_STREAM, INITIAL_WINDOW));
    assert_recorded(&gateway).await;
}
