//! Memory of responses that requests share (interface §4.7).

use futures_util::future::join_all;

use crate::gateway::{Gateway, get};
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Wire, wait_until};

const MIB: usize = 1024 * 1024;
const LARGE: usize = 40 * MIB;
const REQUEST: &str = "GET /monitorodata/Machines?$top=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BUSY: &str = "GET /monitorodata/Users HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Reads a large response.
async fn read(caller: &mut Wire) -> usize {
    assert_eq!(caller.head().await.status(), 200);
    let mut length = 0;
    while length < LARGE {
        length += caller.bytes(64 * 1024).await.len();
    }
    length
}

#[tokio::test]
async fn large_shared_response_with_a_stalled_reader_takes_little_memory() {
    let upstream = Upstream::manual().await;
    // Workers have connections of their own to the upstream.
    let one_worker = [("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "1")];
    let gateway = Gateway::in_front_of(&upstream, &one_worker).await;
    let mut holder = gateway.connect().await;
    holder.write(BUSY).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let mut callers = Vec::new();
    for _ in 0..6 {
        let mut caller = gateway.connect().await;
        caller.write(REQUEST).await;
        callers.push(caller);
    }
    wait_until("all requests wait", || async {
        let metrics = get(gateway.admin, "/metrics").await.text();
        metrics.contains("queue_depth{route=\"/monitorodata\"} 6\n")
    })
    .await;
    wire.write(OK).await;
    assert_eq!(holder.response().await.status(), 200);
    wire.request().await;
    let _stalled = callers.remove(3);
    let before = gateway.program.resident_kib();
    let write = async {
        wire.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
        ))
        .await;
        let piece = vec![b'x'; MIB];
        let mut most = 0;
        for _ in 0..LARGE / MIB {
            wire.write(&piece).await;
            most = most.max(gateway.program.resident_kib());
        }
        most
    };
    let (most, lengths) = tokio::join!(write, join_all(callers.iter_mut().map(read)));
    assert_eq!(lengths, [LARGE; 5]);
    let grown = most.saturating_sub(before);
    // The window, and the buffers of seven connections.
    assert!(grown < 20 * 1024, "{grown} KiB");
}
