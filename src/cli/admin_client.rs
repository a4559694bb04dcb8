//! Asks the admin listener of a running gateway, for commands that need to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Container runtimes wait longer for a health check.
const PATIENCE: Duration = Duration::from_secs(3);
/// No answer is that long; a stranger on the port may send more.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// What the admin listener said.
pub struct Answer {
    /// The status; `None` when it does not speak HTTP.
    pub status: Option<u16>,
    /// The body; of something else all of it.
    pub body: String,
}

/// Why there is none.
pub struct NoAnswer {
    address: SocketAddr,
    why: Option<io::Error>,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.why {
            Some(why) => write!(f, "no answer from the admin listener at {address}: {why}"),
            None => write!(f, "no answer from the admin listener at {address} within {PATIENCE:?}"),
        }
    }
}

/// Asks for `path`, showing the admin secret if there is one.
///
/// # Errors
/// When no answer comes in time.
pub async fn get(admin: SocketAddr, path: &str, secret: Option<&HeaderValue>) -> Result<Answer, NoAnswer> {
    let address = reachable(admin);
    match timeout(PATIENCE, ask(address, path, secret)).await {
        Ok(Ok(answer)) => Ok(Answer::read(&answer)),
        Ok(Err(why)) => Err(NoAnswer { address, why: Some(why) }),
        Err(_) => Err(NoAnswer { address, why: None }),
    }
}

/// A listener on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr, path: &str, secret: Option<&HeaderValue>) -> io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n").as_bytes()).await?;
    if let Some(secret) = secret {
        socket.write_all(b"x-api-key: ").await?;
        socket.write_all(secret.as_bytes()).await?;
        socket.write_all(b"\r\n").await?;
    }
    socket.write_all(b"connection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    socket.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl Answer {
    fn read(answer: &str) -> Self {
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or(answer, |(_, body)| body);
        Self { status, body: body.to_owned() }
    }
}
