//! A whole HTTP/1 connection, read by the gateway, by hyper's server and by a strict reference.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use citrix_auth_proxy::inbound::connection_count::ConnectionCount;
use citrix_auth_proxy::inbound::http1;
use citrix_auth_proxy::inbound::stream::CallerProtocol;
use http::{HeaderValue, Response, StatusCode, Uri, Version, header};
use http_body_util::Full;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use testkit::strict_http1::{self, StrictEnd, StrictRequest};

use super::{
    CONFIG, ReadRequest, assert_prefix, assert_same_fields, assert_same_trailers, converse, serve,
    with_stream,
};
use crate::content::End;

/// Checks a connection: what the gateway accepts, hyper's server and a strict reader read as well, one
/// request after the other; the rest is rejected. The number of bytes that arrive at once has no
/// effect.
///
/// The first byte is the number of bytes that arrive at once.
pub fn inbound_connection(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    if bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
        return;
    }
    let (ours, responses) = read_ours(bytes, usize::MAX);
    let (in_pieces, _) = read_ours(bytes, usize::from(*size) + 1);
    let accepted = |requests: &[ReadRequest]| {
        let accepted = requests.iter().filter(|request| request.is_accepted());
        accepted.cloned().collect::<Vec<_>>()
    };
    let (whole, in_pieces) = (accepted(&ours), accepted(&in_pieces));
    if ours.iter().all(|request| request.rejection.is_none()) {
        assert_eq!(whole, in_pieces, "pieces of {size}");
    }
    // A request with content is rejected before that arrives; then the connection may close.
    assert!(
        whole
            .iter()
            .zip(&in_pieces)
            .all(|(one, other)| one == other),
        "pieces of {size}"
    );
    assert_prefix(&ours, &read_hypers(bytes));
    let (strict, end) = strict_http1::read(bytes);
    compare(&ours, &strict, end, &responses);
}

fn compare(ours: &[ReadRequest], strict: &[StrictRequest], end: StrictEnd, responses: &[u8]) {
    for (at, request) in ours.iter().enumerate() {
        if let Some(status) = request.rejection {
            let is_last = at + 1 == ours.len();
            assert!(
                status != StatusCode::BAD_REQUEST || is_last,
                "read on after a 400"
            );
            continue;
        }
        let Some(expected) = strict.get(at) else {
            panic!("{request:?} is not rejected: {end:?}");
        };
        assert_eq!(request.method.as_str(), expected.method);
        let target: Uri = expected.target.parse().expect("hyper accepts it");
        assert_eq!(request.uri, target);
        let minor = u8::from(request.version == Version::HTTP_11);
        assert_eq!(minor, expected.minor);
        assert_same_fields(&request.fields, &expected.fields);
        match request.content.end {
            End::Complete => {
                assert!(expected.is_complete, "{request:?} has not ended: {end:?}");
                assert_eq!(request.content.data, expected.content);
                assert_same_trailers(request.content.trailers.as_ref(), &expected.trailers);
            }
            End::Pending | End::Error => {
                assert!(expected.content.starts_with(&request.content.data));
            }
        }
    }
    let is_rejection = |window: &[u8]| window.starts_with(b"HTTP/1.1 4");
    assert!(
        ours.len() >= strict.len() || responses.windows(10).any(is_rejection),
        "{strict:?} were not all read, nor rejected: {ours:?}"
    );
}

fn read_ours(bytes: &[u8], size: usize) -> (Vec<ReadRequest>, Vec<u8>) {
    converse(bytes, size, |socket, log| {
        with_stream(socket, |mut stream, connection| async move {
            let Ok(CallerProtocol::Http1) = stream.detect_protocol().await else {
                return;
            };
            let count = ConnectionCount::new(1);
            let handle = |request| serve(request, log.clone(), Rc::clone(&connection));
            let limits = &CONFIG.live.limits;
            http1::serve(stream, Rc::clone(&connection), &count, limits, handle).await;
        })
    })
}

fn read_hypers(bytes: &[u8]) -> Vec<ReadRequest> {
    let read = converse(bytes, usize::MAX, |socket, log| async move {
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
            let log = log.clone();
            async move {
                let _open = log.open(None);
                let (head, body) = request.into_parts();
                let at = log.begin(&head);
                let end = log.read(at, body).await;
                let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
                if end == End::Error {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let limits = &CONFIG.live.limits;
        // It ends with an error after bytes that are no request.
        let _ = Builder::new()
            .half_close(true)
            .max_header_size(limits.max_header_bytes)
            .serve_connection(TokioIo::new(socket), service)
            .await;
    });
    read.0
}
