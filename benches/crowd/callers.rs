//! Callers of the `crowd` benchmark: idle, slow, and one that measures its latency.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::gateway::Gateway;

const GET: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: crowd\r\nAccept: application/json\r\n\r\n";
/// Connections opened concurrently.
const OPEN_BATCH: usize = 100;
/// Interval between the requests of a bystander.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);

/// Protocol and state of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleKind {
    /// No request yet.
    Fresh,
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Idle connections, closed when dropped. Each has completed one request unless it is
/// [`IdleKind::Fresh`].
pub(crate) struct IdleConnections {
    _connections: Vec<Box<dyn Any + Send>>,
    _drivers: JoinSet<()>,
}

/// Opens `count` connections.
pub(crate) async fn open_idle(
    gateway: &Gateway,
    kind: IdleKind,
    count: usize,
) -> Fallible<IdleConnections> {
    let tls = match kind {
        IdleKind::Http1Tls => Some(TlsConnector::from(gateway.tls_client("http/1.1")?)),
        IdleKind::Http2Tls => Some(TlsConnector::from(gateway.tls_client("h2")?)),
        _ => None,
    };
    let address = if tls.is_some() {
        gateway.tls_address
    } else {
        gateway.address
    };
    let (mut connections, mut drivers) = (Vec::new(), JoinSet::new());
    while connections.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..OPEN_BATCH.min(count - connections.len()) {
            let tls = tls.clone();
            opening.spawn(async move {
                let socket = TcpStream::connect(address).await?;
                match tls {
                    None => complete_request(socket, kind).await,
                    Some(tls) => {
                        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                        complete_request(tls.connect(name, socket).await?, kind).await
                    }
                }
            });
        }
        while let Some(opened) = opening.join_next().await {
            let (connection, driver) = opened??;
            connections.push(connection);
            if let Some(driver) = driver {
                drivers.spawn(driver);
            }
        }
    }
    Ok(IdleConnections {
        _connections: connections,
        _drivers: drivers,
    })
}

type Driver = futures_util::future::BoxFuture<'static, ()>;

/// Completes the request of `kind` and returns the values that keep the connection open.
async fn complete_request<T: Io>(
    mut io: T,
    kind: IdleKind,
) -> io::Result<(Box<dyn Any + Send>, Option<Driver>)> {
    match kind {
        IdleKind::Fresh => {}
        IdleKind::Http1 | IdleKind::Http1Tls => {
            io.write_all(GET).await?;
            read_response(&mut io).await?;
        }
        IdleKind::Http2 | IdleKind::Http2Tls => {
            let (client, connection) = h2::client::handshake(io).await.map_err(io::Error::other)?;
            let driver: Driver = Box::pin(async { drop(connection.await) });
            let mut client = client;
            let exchange = async {
                let request = http::Request::get("http://localhost/")
                    .body(())
                    .map_err(io::Error::other)?;
                let (response, _) = client
                    .send_request(request, true)
                    .map_err(io::Error::other)?;
                let mut body = response.await.map_err(io::Error::other)?.into_body();
                while let Some(chunk) = body.data().await {
                    let length = chunk.map_err(io::Error::other)?.len();
                    body.flow_control()
                        .release_capacity(length)
                        .map_err(io::Error::other)?;
                }
                io::Result::Ok(())
            };
            let (driver, result) = drive(driver, exchange).await;
            result?;
            return Ok((
                Box::new(client) as Box<h2::client::SendRequest<Bytes>>,
                Some(driver),
            ));
        }
    }
    Ok((Box::new(io), None))
}

/// Returns the output of `exchange`, polling the connection with it.
async fn drive<T>(mut driver: Driver, exchange: impl Future<Output = T>) -> (Driver, T) {
    let mut exchange = Box::pin(exchange);
    let output = std::future::poll_fn(|cx| {
        // `exchange` fails if the connection ends.
        let _ = driver.as_mut().poll(cx);
        exchange.as_mut().poll(cx)
    });
    let output = output.await;
    (driver, output)
}

/// Reads a whole response and returns its status.
pub(crate) async fn read_response<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<u16> {
    let mut read = Vec::new();
    loop {
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let length = text
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok());
        if read.len() >= head + 4 + length.unwrap_or(0) {
            return Ok(text
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .unwrap_or(0));
        }
    }
}

/// Latencies of a bystander's requests.
pub(crate) struct Latencies {
    times: Vec<Duration>,
    failed: usize,
}

/// Sends requests one after the other for `time`, half of them on a new connection.
pub(crate) async fn bystander(address: SocketAddr, time: Duration) -> Fallible<Latencies> {
    let (mut times, mut failed, mut kept) = (Vec::new(), 0, None);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        let exchange = async {
            let mut socket = match kept.take() {
                Some(socket) => socket,
                None => TcpStream::connect(address).await?,
            };
            socket.write_all(GET).await?;
            let status = read_response(&mut socket).await?;
            io::Result::Ok((socket, status))
        };
        match exchange.await {
            Ok((socket, 200)) => {
                times.push(start.elapsed());
                kept = (times.len() % 2 == 1).then_some(socket);
            }
            _ => failed += 1,
        }
        sleep(REQUEST_INTERVAL).await;
    }
    times.sort();
    Ok(Latencies { times, failed })
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |per_mille: usize| {
            let at = (self.times.len() * per_mille / 1000).min(self.times.len().saturating_sub(1));
            self.times
                .get(at)
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} succeeded, {} failed",
            milliseconds(500),
            milliseconds(990),
            milliseconds(1000),
            self.times.len(),
            self.failed
        )
    }
}

/// Slow callers, each of which reconnects when the gateway ends its connection.
pub(crate) struct SlowCallers {
    ended: [Arc<AtomicUsize>; 3],
    _callers: JoinSet<()>,
}

impl SlowCallers {
    /// Starts callers that send a head, send a body or read a response at one byte per second:
    /// `counts` in this order.
    pub(crate) fn start(address: SocketAddr, counts: [usize; 3]) -> Self {
        let ended = std::array::from_fn(|_| Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for (which, count) in counts.into_iter().enumerate() {
            for number in 0..count {
                let ended = Arc::clone(&ended[which]);
                callers.spawn(async move {
                    // Spreads the callers over the second.
                    sleep(Duration::from_millis((number % 1000) as u64)).await;
                    loop {
                        let _ = match which {
                            0 => send_slowly(address, b"", GET).await,
                            1 => send_slowly(address, POST, &[b'x'; 4096]).await,
                            _ => read_slowly(address).await,
                        };
                        ended.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_secs(1)).await;
                    }
                });
            }
        }
        Self {
            ended,
            _callers: callers,
        }
    }

    /// Summarizes the connections that the gateway has ended.
    pub(crate) fn summary(&self) -> String {
        let [heads, bodies, readers] = self
            .ended
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        format!(
            "connections ended: {heads} sending heads, {bodies} sending bodies, {readers} reading"
        )
    }
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4096\r\n\r\n";

/// Sends `prefix` at once and `rest` at one byte per second, until the gateway closes the
/// connection.
async fn send_slowly(address: SocketAddr, prefix: &[u8], rest: &[u8]) -> io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(prefix).await?;
    let mut response = [0; 1024];
    for byte in rest.chunks(1) {
        socket.write_all(byte).await?;
        tokio::select! {
            read = socket.read(&mut response) => return read.map(drop),
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
    Ok(())
}

/// Requests a large response and reads one byte per second, until the gateway closes the
/// connection.
async fn read_slowly(address: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut socket = socket.connect(address).await?;
    socket
        .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut byte = [0; 1];
    loop {
        sleep(Duration::from_secs(1)).await;
        // A reset is seen at once; an orderly close only after the bytes in the kernel's buffer.
        if socket.read(&mut byte).await? == 0 {
            return Ok(());
        }
    }
}
