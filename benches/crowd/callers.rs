//! Callers of every kind: idle, slow, and one that only wants to be served.

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
/// Connections that are opened at a time.
const AT_ONCE: usize = 100;
/// Between a bystander's requests.
const PAUSE: Duration = Duration::from_millis(5);

/// A kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing was asked on it yet.
    Fresh,
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Connections that idle as long as this is held; on each one request was answered, unless they are fresh.
pub(crate) struct Idle {
    _connections: Vec<Box<dyn Any + Send>>,
    _driven: JoinSet<()>,
}

/// Opens so many connections.
pub(crate) async fn idle(gateway: &Gateway, kind: Kind, count: usize) -> Fallible<Idle> {
    let tls = match kind {
        Kind::Http1Tls => Some(TlsConnector::from(gateway.tls("http/1.1")?)),
        Kind::Http2Tls => Some(TlsConnector::from(gateway.tls("h2")?)),
        _ => None,
    };
    let address = if tls.is_some() {
        gateway.tls_address
    } else {
        gateway.address
    };
    let (mut connections, mut driven) = (Vec::new(), JoinSet::new());
    while connections.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - connections.len()) {
            let tls = tls.clone();
            opening.spawn(async move {
                let socket = TcpStream::connect(address).await?;
                match tls {
                    None => used(socket, kind).await,
                    Some(tls) => {
                        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                        used(tls.connect(name, socket).await?, kind).await
                    }
                }
            });
        }
        while let Some(opened) = opening.join_next().await {
            let (connection, driver) = opened??;
            connections.push(connection);
            if let Some(driver) = driver {
                driven.spawn(driver);
            }
        }
    }
    Ok(Idle {
        _connections: connections,
        _driven: driven,
    })
}

type Driver = futures_util::future::BoxFuture<'static, ()>;

/// What holds the connection open, after its request.
async fn used<T: Io>(mut io: T, kind: Kind) -> io::Result<(Box<dyn Any + Send>, Option<Driver>)> {
    match kind {
        Kind::Fresh => {}
        Kind::Http1 | Kind::Http1Tls => {
            io.write_all(GET).await?;
            whole_answer(&mut io).await?;
        }
        Kind::Http2 | Kind::Http2Tls => {
            let (client, connection) = h2::client::handshake(io).await.map_err(io::Error::other)?;
            let driver: Driver = Box::pin(async { drop(connection.await) });
            let mut client = client;
            let asked = async {
                let request = http::Request::get("http://localhost/")
                    .body(())
                    .map_err(io::Error::other)?;
                let (response, _) = client
                    .send_request(request, true)
                    .map_err(io::Error::other)?;
                let mut body = response.await.map_err(io::Error::other)?.into_body();
                while let Some(piece) = body.data().await {
                    let length = piece.map_err(io::Error::other)?.len();
                    body.flow_control()
                        .release_capacity(length)
                        .map_err(io::Error::other)?;
                }
                io::Result::Ok(())
            };
            let (driver, asked) = drive(driver, asked).await;
            asked?;
            return Ok((
                Box::new(client) as Box<h2::client::SendRequest<Bytes>>,
                Some(driver),
            ));
        }
    }
    Ok((Box::new(io), None))
}

/// The output of `asked`, with the connection polled beside it.
async fn drive<T>(mut driver: Driver, asked: impl Future<Output = T>) -> (Driver, T) {
    let mut asked = Box::pin(asked);
    let output = std::future::poll_fn(|cx| {
        // Its end shows in what was asked.
        let _ = driver.as_mut().poll(cx);
        asked.as_mut().poll(cx)
    });
    let output = output.await;
    (driver, output)
}

/// Reads a response with its head; its status.
pub(crate) async fn whole_answer<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<u16> {
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

/// What a bystander met.
pub(crate) struct Served {
    times: Vec<Duration>,
    failed: usize,
}

/// Asks again and again, half of the time on a new connection.
pub(crate) async fn bystander(address: SocketAddr, time: Duration) -> Fallible<Served> {
    let (mut times, mut failed, mut kept) = (Vec::new(), 0, None);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let began = Instant::now();
        let asked = async {
            let mut socket = match kept.take() {
                Some(socket) => socket,
                None => TcpStream::connect(address).await?,
            };
            socket.write_all(GET).await?;
            let status = whole_answer(&mut socket).await?;
            io::Result::Ok((socket, status))
        };
        match asked.await {
            Ok((socket, 200)) => {
                times.push(began.elapsed());
                kept = (times.len() % 2 == 1).then_some(socket);
            }
            _ => failed += 1,
        }
        sleep(PAUSE).await;
    }
    times.sort();
    Ok(Served { times, failed })
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |part: usize| {
            let at = (self.times.len() * part / 1000).min(self.times.len().saturating_sub(1));
            self.times
                .get(at)
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms; {} served, {} failed",
            milliseconds(500),
            milliseconds(990),
            milliseconds(1000),
            self.times.len(),
            self.failed
        )
    }
}

/// Slow callers: each comes back when it is sent away.
pub(crate) struct Slow {
    ended: [Arc<AtomicUsize>; 3],
    _callers: JoinSet<()>,
}

impl Slow {
    /// So many that send their heads a byte a second, that send their bodies so, and that read so.
    pub(crate) fn start(address: SocketAddr, counts: [usize; 3]) -> Self {
        let ended = std::array::from_fn(|_| Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for (which, count) in counts.into_iter().enumerate() {
            for number in 0..count {
                let ended = Arc::clone(&ended[which]);
                callers.spawn(async move {
                    // Spread, so that they do not all act at once.
                    sleep(Duration::from_millis((number % 1000) as u64)).await;
                    loop {
                        let _ = match which {
                            0 => trickle(address, b"", GET).await,
                            1 => trickle(address, POST, &[b'x'; 4096]).await,
                            _ => sip(address).await,
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

    /// How many were sent away so far.
    pub(crate) fn ended(&self) -> String {
        let [heads, bodies, readers] = self
            .ended
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        format!("{heads} heads, {bodies} bodies and {readers} readers were ended")
    }
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4096\r\n\r\n";

/// Sends a beginning at once and the rest a byte a second, until the gateway closes.
async fn trickle(address: SocketAddr, beginning: &[u8], rest: &[u8]) -> io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(beginning).await?;
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

/// Asks for much and reads a byte a second, until the gateway closes.
async fn sip(address: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut socket = socket.connect(address).await?;
    socket
        .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut byte = [0; 1];
    loop {
        sleep(Duration::from_secs(1)).await;
        // A reset shows at once, an end behind what the kernel holds.
        if socket.read(&mut byte).await? == 0 {
            return Ok(());
        }
    }
}
