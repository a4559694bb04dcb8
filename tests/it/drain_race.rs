//! A drain that begins while a request is in transit: each accepted connection is served.

use std::net::SocketAddr;
use std::time::Duration;

use citrix_auth_proxy::app::Drained;
use citrix_auth_proxy::inbound::connection::FIRST_REQUEST_TIMEOUT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::harness::{Gateway, OK, Upstream, Wire, wait_until, within_timeout};

/// Attempts before a machine counts as too slow for the test.
const MAX_ATTEMPTS: usize = 20;
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Drains twenty gateways with a new request in transit and returns how many of those got no
/// response. A worker that has `served` requests is awake when the drain begins; any other is about
/// to start.
async fn unserved(workers: &str, served: usize) -> usize {
    let upstream = Upstream::responding(OK).await;
    let mut unserved = 0;
    for _ in 0..20 {
        let gateway = Gateway::in_front_of(&upstream)
            .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", workers)
            .start()
            .await;
        for _ in 0..served {
            let mut earlier = gateway.connect().await;
            earlier.write(GET).await;
            assert_eq!(earlier.response().await.status(), 200);
        }
        let mut caller = gateway.connect().await;
        caller.write(GET).await;
        let drain = gateway.into_app().drain(Duration::from_secs(10));
        let (received, drained) =
            within_timeout(async { tokio::join!(caller.rest(), drain) }).await;
        assert_eq!(drained.aborted, 0);
        unserved += usize::from(!received.starts_with(b"HTTP/1.1 200 "));
    }
    unserved
}

#[tokio::test]
async fn request_before_drain_to_a_new_worker_is_served() {
    assert_eq!(unserved("1", 0).await, 0);
}

#[tokio::test]
async fn request_before_drain_to_new_workers_is_served() {
    assert_eq!(unserved("3", 0).await, 0);
}

#[tokio::test]
async fn request_before_drain_to_an_active_worker_is_served() {
    assert_eq!(unserved("1", 6).await, 0);
}

#[tokio::test]
async fn request_before_drain_to_active_workers_is_served() {
    assert_eq!(unserved("3", 6).await, 0);
}

/// Starts the drain of a gateway and waits until it accepts no more connections.
async fn draining(gateway: Gateway) -> JoinHandle<Drained> {
    let address = gateway.address();
    let drain = tokio::spawn(gateway.into_app().drain(Duration::from_secs(10)));
    let refused = || async { TcpStream::connect(&address).await.is_err() };
    wait_until("connections are refused", refused).await;
    // Connections are ordered to finish every 10 ms.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drain
}

/// Sends the first request of a connection during a drain. Returns whether it was served; `None` if
/// it was not, but came so late that the gateway may have closed the connection.
async fn first_request_during_drain(upstream: &Upstream) -> Option<bool> {
    let gateway = Gateway::in_front_of(upstream).start().await;
    let start = Instant::now();
    let mut caller = gateway.connect().await;
    let drain = draining(gateway).await;
    caller.write(GET).await;
    let received = within_timeout(caller.rest()).await;
    let in_time = start.elapsed() < FIRST_REQUEST_TIMEOUT;
    assert_eq!(within_timeout(drain).await.unwrap().aborted, 0);
    let served = received.starts_with(b"HTTP/1.1 200 ");
    let responses = received.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ");
    assert_eq!(responses.count(), usize::from(served));
    (served || in_time).then_some(served)
}

#[tokio::test]
async fn connection_accepted_before_drain_may_send_one_request() {
    let upstream = Upstream::responding(OK).await;
    // On a busy machine the attempts that come too late prove nothing and are repeated.
    for _ in 0..MAX_ATTEMPTS {
        if let Some(served) = first_request_during_drain(&upstream).await {
            assert!(served);
            return;
        }
    }
    panic!("each of {MAX_ATTEMPTS} attempts came too late");
}

#[tokio::test]
async fn silent_connection_does_not_delay_drain() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut silent = gateway.connect().await;
    let drain = draining(gateway).await;
    silent.closed().await;
    assert_eq!(within_timeout(drain).await.unwrap().aborted, 0);
}

/// Waits until the gateway has read what was written to a connection: no byte is unacknowledged,
/// and then none is in the receive queue of the gateway's socket.
async fn read_by_gateway([client, gateway]: [SocketAddr; 2]) {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    // Columns of proc_pid_net(5): slot, local address, remote address, state, transmit
    // queue:receive queue.
    let queues = |local: SocketAddr, remote: SocketAddr| {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row[1].ends_with(&port(local)) && row[2].ends_with(&port(remote)))
            .unwrap();
        let (transmit, receive) = row[4].split_once(':').unwrap();
        [transmit, receive].map(|bytes| u32::from_str_radix(bytes, 16).unwrap())
    };
    let acknowledged = async || queues(client, gateway)[0] == 0;
    wait_until("all bytes are acknowledged", acknowledged).await;
    let read = async || queues(gateway, client)[1] == 0;
    wait_until("all bytes are read", read).await;
}

#[tokio::test]
async fn partial_head_at_drain_is_read_to_its_end_and_served() {
    let upstream = Upstream::responding(OK).await;
    for earlier in [0, 1] {
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let addresses = [socket.local_addr().unwrap(), socket.peer_addr().unwrap()];
        let mut caller = Wire::new(socket);
        for _ in 0..earlier {
            caller.write(GET).await;
            assert_eq!(caller.response().await.status(), 200);
        }
        let (one, other) = GET.split_at(20);
        caller.write(one).await;
        read_by_gateway(addresses).await;
        let drain = draining(gateway).await;
        caller.write(other).await;
        assert_eq!(caller.response().await.status(), 200, "after {earlier}");
        caller.closed().await;
        assert_eq!(within_timeout(drain).await.unwrap().aborted, 0);
    }
}

#[tokio::test]
async fn http2_drain_refuses_new_streams_and_serves_open_ones() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut sender = gateway.http2().await.ready().await.unwrap();
    let request = || http::Request::get("http://localhost/").body(()).unwrap();
    let (response, _) = sender.send_request(request(), true).unwrap();
    let mut wire = upstream.connection().await;
    wire.request().await;
    let drain = tokio::spawn(gateway.into_app().drain(Duration::from_secs(10)));
    let mut sender = sender;
    wait_until("no more streams are opened", || {
        let next = sender.clone();
        async move { next.ready().await.is_err() }
    })
    .await;
    assert!(sender.send_request(request(), true).is_err());
    wire.write(OK).await;
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    assert_eq!(within_timeout(drain).await.unwrap().aborted, 0);
}

#[tokio::test]
async fn rfc9113_6_8_idle_http2_client_that_ignores_goaway_does_not_delay_the_drain() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut caller = TcpStream::connect(gateway.address()).await.unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &empty_settings[..]].concat();
    caller.write_all(&preface).await.unwrap();
    let mut head_of_settings = [0; 9];
    within_timeout(caller.read_exact(&mut head_of_settings))
        .await
        .unwrap();
    let drain = gateway.into_app().drain(Duration::from_secs(60));
    assert_eq!(within_timeout(drain).await.aborted, 0);
}
