use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::task::Waker;

use http::Request;

use super::*;

/// The next step of an upstream when it is read.
enum Next {
    Bytes(Vec<u8>),
    Close,
    Fail(ErrorKind),
}

/// A scripted upstream. It is silent after its script.
struct Peer {
    script: VecDeque<Next>,
    /// One element for each write.
    written: Vec<String>,
    /// Maximum size of a write; at 0, writes are pending.
    accepts: usize,
    write_error: Option<ErrorKind>,
    /// Written bytes remain in the transport, as they do in TLS above a full socket.
    holds_back: bool,
}

impl Peer {
    fn new(script: impl IntoIterator<Item = Next>) -> Self {
        Self {
            script: script.into_iter().collect(),
            written: Vec::new(),
            accepts: usize::MAX,
            write_error: None,
            holds_back: false,
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.script.front_mut() {
            None => Poll::Pending,
            Some(Next::Close) => Poll::Ready(Ok(())),
            Some(Next::Fail(kind)) => Poll::Ready(Err((*kind).into())),
            Some(Next::Bytes(bytes)) => {
                let length = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..length]);
                bytes.drain(..length);
                if bytes.is_empty() {
                    self.script.pop_front();
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.write_error {
            return Poll::Ready(Err(kind.into()));
        }
        let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        all.truncate(self.accepts);
        if all.is_empty() {
            return Poll::Pending;
        }
        let length = all.len();
        self.written.push(String::from_utf8(all).unwrap());
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds_back {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn bytes(text: &str) -> Next {
    Next::Bytes(text.as_bytes().to_vec())
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn request(method: &str) -> Request<CallerBody> {
    let request = Request::builder().method(method).uri("/x?y");
    request
        .header("host", "h")
        .body(CallerBody::empty())
        .unwrap()
}

/// Returns a POST whose body is at hand.
fn upload(field: (&str, &str), chunks: &[&'static str]) -> Request<CallerBody> {
    let chunks = chunks
        .iter()
        .map(|chunk| Bytes::from_static(chunk.as_bytes()));
    let body = CallerBody::replayed(chunks.collect());
    let request = Request::builder().method("POST").uri("/");
    request.header(field.0, field.1).body(body).unwrap()
}

/// A response as it was received.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    status: u16,
    content: String,
    trailers: usize,
    /// The error with which it ended.
    error: Option<String>,
    reusable: bool,
}

/// Returns the response to a request, as far as it arrives.
fn exchange(connection: &mut Connection<Peer>, request: Request<CallerBody>) -> Received {
    begin(connection, request, false);
    response(connection)
}

fn begin(connection: &mut Connection<Peer>, request: Request<CallerBody>, closes: bool) {
    let (head, body) = request.into_parts();
    connection.begin(&mut head.into(), body, closes);
}

fn response(connection: &mut Connection<Peer>) -> Received {
    let mut received = Received::default();
    match connection.poll_response(&mut cx()) {
        Poll::Ready(Ok(response)) => received.status = response.status().as_u16(),
        Poll::Ready(Err(error)) => received.error = Some(error.to_string()),
        Poll::Pending => return received,
    }
    while received.error.is_none() {
        let frame = match connection.poll_frame(&mut cx()) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                received.error = Some(error.to_string());
                break;
            }
            Poll::Ready(None) | Poll::Pending => break,
        };
        match frame.into_data() {
            Ok(data) => received.content += str::from_utf8(&data).unwrap(),
            Err(frame) => received.trailers = frame.into_trailers().unwrap().len(),
        }
    }
    received.reusable = received.error.is_none() && connection.is_reusable();
    received
}

fn received(method: &str, script: impl IntoIterator<Item = Next>) -> Received {
    exchange(&mut Connection::new(Peer::new(script)), request(method))
}

fn complete(status: u16, content: &str, reusable: bool) -> Received {
    Received {
        status,
        content: content.to_owned(),
        reusable,
        ..Received::default()
    }
}

/// Method, response, and what is read of it: status, content, whether the connection is reusable.
type Row = (&'static str, &'static str, u16, &'static str, bool);

const RESPONSES: [Row; 15] = [
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "{}",
        true,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        200,
        "",
        true,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        200,
        "{}",
        true,
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "{}",
        false,
    ),
    (
        "GET",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "{}",
        true,
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "{}",
        false,
    ),
    // Without content, whatever the fields say.
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        200,
        "",
        true,
    ),
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        200,
        "",
        true,
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, "", true),
    (
        "GET",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        204,
        "",
        true,
    ),
    ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, "", true),
    // What follows is not the response to another request.
    (
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\r\n",
        200,
        "{}",
        false,
    ),
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "",
        false,
    ),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\nx", 204, "", false),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
        200,
        "",
        false,
    ),
];

#[test]
fn rfc9112_6_3_each_delimiter_ends_its_response() {
    for (method, text, status, content, reusable) in RESPONSES {
        let expected = complete(status, content, reusable);
        assert_eq!(received(method, [bytes(text)]), expected, "{method} {text}");
        // The same byte by byte; what follows the response has not been read.
        let in_pieces = received(method, text.bytes().map(|byte| Next::Bytes(vec![byte])));
        assert_eq!(in_pieces.content, content, "{method} {text}");
        assert_eq!((in_pieces.status, in_pieces.error), (status, None));
    }
    let until_close = [
        bytes("HTTP/1.1 200 OK\r\n\r\none"),
        bytes("two"),
        Next::Close,
    ];
    assert_eq!(received("GET", until_close), complete(200, "onetwo", false));
}

#[test]
fn rfc9112_8_truncated_response_is_an_error() {
    for head in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: 1\r\n",
    ] {
        let closed = received("GET", [bytes(head), Next::Close]);
        assert_eq!(
            closed.error.as_deref(),
            Some("connection closed before the end of the response"),
            "{head}"
        );
    }
    // TLS without close_notify.
    let cut_off = [
        bytes("HTTP/1.1 200 OK\r\n\r\none"),
        Next::Fail(ErrorKind::UnexpectedEof),
    ];
    let cut_off = received("GET", cut_off);
    assert_eq!(
        (cut_off.content.as_str(), cut_off.error.as_deref()),
        ("one", Some("response could not be read"))
    );
}

#[test]
fn responses_with_more_than_one_reading_are_errors() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        "{}",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let received = received("GET", [bytes(text)]);
        assert!(received.error.is_some() && received.status == 0, "{text}");
    }
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}";
    for rest in ["{}", "\n0\r\n\r\n", "\r\nx\r\n"] {
        let received = received("GET", [bytes(chunks), bytes(rest)]);
        assert!(
            received.error.is_some() && received.content == "{}",
            "{rest}"
        );
    }
}

#[test]
fn rfc9110_15_2_interim_responses_are_skipped_up_to_a_bound() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    for count in [1, 16] {
        let all = interim.repeat(count) + last;
        assert_eq!(received("GET", [bytes(&all)]), complete(200, "{}", true));
        let apart = std::iter::repeat_with(|| bytes(interim)).take(count);
        assert_eq!(
            received("GET", apart.chain([bytes(last)])),
            complete(200, "{}", true)
        );
    }
    let error = received("GET", [bytes(&interim.repeat(17))]).error;
    assert_eq!(error.as_deref(), Some("more than 16 interim responses"));
    let error = received("GET", [bytes("HTTP/1.1 101 Switching Protocols\r\n\r\n")]).error;
    assert_eq!(
        error.as_deref(),
        Some("unrequested 101 Switching Protocols")
    );
}

#[test]
fn trailers_are_the_last_frame() {
    let text =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n";
    let expected = Received {
        trailers: 1,
        ..complete(200, "{}", true)
    };
    assert_eq!(received("GET", [bytes(text)]), expected);
}

#[test]
fn head_and_body_at_hand_are_one_write() {
    for (field, chunks, rest) in [
        (
            ("content-length", "5"),
            &["he", "llo"][..],
            "content-length: 5\r\n\r\nhello",
        ),
        (
            ("transfer-encoding", "chunked"),
            &["he", "llo"],
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            ("transfer-encoding", "chunked"),
            &[""],
            "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (("content-length", "0"), &[], "content-length: 0\r\n\r\n"),
    ] {
        let expected = format!("POST / HTTP/1.1\r\n{rest}");
        let mut connection = Connection::new(Peer::new([]));
        exchange(&mut connection, upload(field, chunks));
        assert_eq!(connection.io.written, [expected.as_str()]);
        assert!(!connection.is_sending());
        // The same in small writes.
        let mut connection = Connection::new(Peer::new([]));
        connection.io.accepts = 3;
        exchange(&mut connection, upload(field, chunks));
        assert_eq!(connection.io.written.concat(), expected);
    }
    let mut connection = Connection::new(Peer::new([]));
    begin(&mut connection, request("GET"), true);
    assert!(connection.poll_response(&mut cx()).is_pending());
    let expected = "GET /x?y HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    assert_eq!(connection.io.written, [expected]);
}

#[test]
fn many_frames_are_written_in_order() {
    let chunks: [&'static str; 40] = std::array::from_fn(|at| if at % 2 == 0 { "ab" } else { "c" });
    let mut connection = Connection::new(Peer::new([]));
    exchange(&mut connection, upload(("content-length", "60"), &chunks));
    assert!(!connection.is_sending());
    let written = connection.io.written.concat();
    assert_eq!(written.rsplit_once("\r\n\r\n").unwrap().1, "abc".repeat(20));
}

#[test]
fn body_that_differs_from_its_length_is_not_completed() {
    for length in ["4", "6"] {
        let mut connection = Connection::new(Peer::new([]));
        let received = exchange(
            &mut connection,
            upload(("content-length", length), &["he", "llo"]),
        );
        assert_eq!(
            received.error.as_deref(),
            Some("request body differs from its Content-Length")
        );
    }
}

#[test]
fn consecutive_exchanges_share_the_connection() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let mut connection = Connection::new(Peer::new([]));
    for _ in 0..20 {
        assert!(connection.is_silent(&mut cx()));
        connection.io.script.push_back(bytes(ok));
        assert_eq!(
            exchange(&mut connection, request("GET")),
            complete(200, "{}", true)
        );
        connection.shrink();
    }
    let large = "x".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len());
    connection.io.script.push_back(bytes(&(head + &large)));
    assert_eq!(
        exchange(&mut connection, request("GET")),
        complete(200, &large, true)
    );
    connection.shrink();
    assert!(connection.received.capacity() <= READ_SPACE);
    assert_eq!(connection.read_space, READ_SPACE);
}

#[test]
fn idle_connection_that_closes_or_sends_is_not_silent() {
    for next in [
        Next::Close,
        bytes("HTTP/1.1 408 Request Timeout\r\n\r\n"),
        Next::Fail(ErrorKind::ConnectionReset),
    ] {
        assert!(!Connection::new(Peer::new([next])).is_silent(&mut cx()));
    }
    assert!(Connection::new(Peer::new([])).is_silent(&mut cx()));
}

#[test]
fn response_may_precede_the_end_of_the_request() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let mut connection = Connection::new(Peer::new([bytes(ok)]));
    connection.io.accepts = 0;
    let early = exchange(&mut connection, upload(("content-length", "5"), &["hello"]));
    assert_eq!(early, complete(200, "{}", false));
    assert!(connection.is_sending() && connection.is_blocked());
    assert!(connection.poll_finish(&mut cx()).is_pending());
    connection.io.accepts = usize::MAX;
    assert_eq!(connection.poll_finish(&mut cx()), Poll::Ready(true));
    assert!(connection.io.written.concat().ends_with("hello"));
    // Unless the upstream closes meanwhile.
    let mut connection = Connection::new(Peer::new([bytes(ok), Next::Close]));
    connection.io.accepts = 0;
    exchange(&mut connection, upload(("content-length", "5"), &["hello"]));
    assert_eq!(connection.poll_finish(&mut cx()), Poll::Ready(false));
}

#[test]
fn request_that_remains_in_the_transport_is_not_sent() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let mut connection = Connection::new(Peer::new([bytes(ok)]));
    connection.io.holds_back = true;
    let request = upload(("content-length", "5"), &["hello"]);
    assert_eq!(
        exchange(&mut connection, request),
        complete(200, "{}", false)
    );
    assert!(connection.poll_finish(&mut cx()).is_pending());
    assert!(connection.is_sending() && connection.is_blocked());
    connection.io.holds_back = false;
    assert_eq!(connection.poll_finish(&mut cx()), Poll::Ready(true));
    assert!(!connection.is_blocked());
}

#[test]
fn rfc9112_9_5_response_of_an_upstream_that_reads_no_more_is_received() {
    let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}";
    let mut peer = Peer::new([bytes(early), Next::Close]);
    peer.write_error = Some(ErrorKind::BrokenPipe);
    let received = exchange(
        &mut Connection::new(peer),
        upload(("content-length", "5"), &["hello"]),
    );
    assert_eq!(received, complete(413, "{}", false));
    let mut peer = Peer::new([Next::Close]);
    peer.write_error = Some(ErrorKind::BrokenPipe);
    let received = exchange(&mut Connection::new(peer), request("GET"));
    assert_eq!(received.error.as_deref(), Some("request could not be sent"));
}
