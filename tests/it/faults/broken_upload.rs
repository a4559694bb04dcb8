//! An upstream that fails while the body of a request is being sent.

use testkit::http2::{DATA, Http2Upstream, Http2Wire};
use testkit::socket_end::SocketEnd;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::http1_upstream::read_request;
use super::http2_upstream::{Fault, Kind};
use super::unsent::{ENDS, accept, listen};
use super::{Ended, difference, read_to, recorded};
use crate::harness::{Gateway, Wire, get, wait_until, within_timeout};
use crate::send::http2::in_front_of;

/// A request whose caller keeps the rest of the body.
#[derive(Clone, Copy, Debug)]
struct Upload {
    method: &'static str,
    framing: &'static str,
    first: &'static str,
    rest: &'static str,
}

const UPLOADS: [Upload; 3] = [
    Upload {
        method: "POST",
        framing: "Content-Length: 10",
        first: "hello",
        rest: "-last",
    },
    Upload {
        method: "POST",
        framing: "Transfer-Encoding: chunked",
        first: "5\r\nhello\r\n",
        rest: "5\r\n-last\r\n0\r\n\r\n",
    },
    Upload {
        method: "PUT",
        framing: "Content-Length: 10",
        first: "hello",
        rest: "-last",
    },
];

impl Upload {
    /// Sends the head and the first part of the body.
    async fn begin(self, gateway: &Gateway, id: &str) -> Wire {
        let Self {
            method,
            framing,
            first,
            ..
        } = self;
        let mut caller = gateway.connect().await;
        caller
            .write(format!(
                "{method} / HTTP/1.1\r\nHost: localhost\r\nCitrix-TransactionId: {id}\r\n\
                 {framing}\r\n\r\n{first}"
            ))
            .await;
        caller
    }
}

/// Waits for the response, sends the rest of the body only then, and describes each way in which
/// the result is not that of a request that was sent once.
async fn deviation(
    gateway: &Gateway,
    mut caller: Wire,
    upload: Upload,
    id: &str,
) -> Option<String> {
    let response = caller.response().await;
    // The rest is not a request, and the gateway does not wait for it.
    let connection = response.field("connection");
    assert_eq!(connection.as_deref(), Some("close"), "{id}: {response:?}");
    caller.write(upload.rest).await;
    caller.closed().await;
    let result = (response.status(), response.field("x-proxy-error"));
    let expected = Ended::failed(502, "upstream_broken");
    difference(gateway, id, result, &expected).await
}

/// Serves a request on a new connection, which is kept.
async fn respond(listener: &TcpListener) -> TcpStream {
    let mut socket = accept(listener).await;
    assert!(within_timeout(read_request(&mut socket)).await);
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    socket.write_all(response).await.unwrap();
    socket
}

/// Plays an end of the upstream's connection after the first part of the body.
async fn play(
    gateway: &Gateway,
    listener: &TcpListener,
    (end, is_reused): (SocketEnd, bool),
    (upload, id): (Upload, &str),
) -> Option<String> {
    let mut used = None;
    if is_reused {
        let (response, socket) = tokio::join!(gateway.raw(get("/")), respond(listener));
        assert_eq!(response.status(), 200, "{id}");
        used = Some(socket);
    }
    let caller = upload.begin(gateway, id).await;
    let fail = async {
        let mut socket = match used {
            Some(socket) => socket,
            None => accept(listener).await,
        };
        read_to(&mut socket, upload.first.as_bytes()).await;
        within_timeout(end.apply(socket)).await;
    };
    let (found, ()) = tokio::join!(deviation(gateway, caller, upload, id), fail);
    found.map(|text| format!("{end:?}, reused {is_reused}, {upload:?}: {text}"))
}

#[tokio::test]
async fn upload_whose_http1_connection_ends_returns_502_before_the_rest_arrives() {
    let (listener, plan) = listen().await;
    let gateway = plan.start().await;
    let (mut cells, mut wrong) = (0, Vec::new());
    for end in ENDS {
        for is_reused in [false, true] {
            for upload in UPLOADS {
                cells += 1;
                let id = format!("cell-{cells}");
                wrong.extend(play(&gateway, &listener, (end, is_reused), (upload, &id)).await);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells, 18);
    // None was sent on another connection.
    let other = listener.into_std().unwrap().accept();
    assert!(other.is_err(), "{other:?}");
}

/// Reads the head and the first part of the body. Returns the stream.
async fn read_first(wire: &mut Http2Wire) -> u32 {
    let stream = wire.head().await;
    let part = wire.next().await.expect("a part of the body");
    let ends = part.ends_stream();
    assert_eq!(
        (part.kind, &*part.payload, ends),
        (DATA, &b"hello"[..], false)
    );
    stream
}

#[tokio::test]
async fn upload_whose_http2_stream_or_connection_ends_returns_502_before_the_rest_arrives() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let faults = Fault::of_codes().chain([Fault::Close, Fault::HalfClose, Fault::Rst]);
    let (mut cells, mut connections, mut wrong) = (0, 0, Vec::new());
    let mut used: Option<Http2Wire> = None;
    for fault in faults.filter(|fault| fault.kind() == Kind::Broken) {
        for upload in UPLOADS {
            cells += 1;
            let id = format!("cell-{cells}");
            let caller = upload.begin(&gateway, &id).await;
            let mut wire = match used.take() {
                Some(wire) => wire,
                None => {
                    connections += 1;
                    upstream.connection().await
                }
            };
            let stream = read_first(&mut wire).await;
            fault.inject(&mut wire, stream).await;
            let open = (!fault.closes()).then_some(wire);
            let found = deviation(&gateway, caller, upload, &id).await;
            wrong.extend(found.map(|text| format!("{fault:?}, {upload:?}: {text}")));
            used = open.filter(|_| fault.keeps_the_connection());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells, 96);
    // None was sent on another connection.
    assert_eq!(upstream.connections(), connections);
}

#[tokio::test]
async fn rfc9113_8_7_unprocessed_upload_is_sent_again_once_its_rest_has_arrived() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let (mut cells, mut wrong) = (0, Vec::new());
    let mut used: Option<Http2Wire> = None;
    for fault in Fault::of_codes().filter(|fault| fault.kind() == Kind::Unprocessed) {
        for upload in UPLOADS {
            cells += 1;
            let id = format!("cell-{cells}");
            let mut caller = upload.begin(&gateway, &id).await;
            let mut refusing = match used.take() {
                Some(wire) => wire,
                None => upstream.connection().await,
            };
            let stream = read_first(&mut refusing).await;
            fault.inject(&mut refusing, stream).await;
            caller.write(upload.rest).await;
            let mut wire = upstream.connection().await;
            let (stream, body) = wire.request().await;
            assert_eq!(body, b"hello-last", "{fault:?}, {upload:?}");
            wire.respond(stream, "{}").await;
            used = Some(wire);
            let response = caller.response().await;
            wait_until(&id, || async { !recorded(&gateway, &id).await.is_null() }).await;
            let result = (response.status(), response.field("x-proxy-error"));
            let found = difference(&gateway, &id, result, &Ended::resent()).await;
            wrong.extend(found.map(|text| format!("{fault:?}, {upload:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cells, 48);
}
