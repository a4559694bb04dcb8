//! `healthcheck`: is the gateway ready? For container health checks, which have no shell and no curl.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::run::on_a_runtime;
use super::{DONE, FAILED, HealthcheckArgs, complain};

/// Container runtimes wait longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The answer is a few lines; a stranger on the port may send more.
const LONGEST_ANSWER: u64 = 16 * 1024;

/// Asks `/readyz`.
pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let address = reachable(args.admin);
    ExitCode::from(on_a_runtime(async move {
        match timeout(PATIENCE, ask(address)).await {
            Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => DONE,
            Ok(Ok(answer)) => {
                let missing = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
                complain(&format!("not ready: {}", missing.trim_end()));
                FAILED
            }
            Ok(Err(error)) => {
                complain(&format!("no answer from the admin listener at {address}: {error}"));
                FAILED
            }
            Err(_) => {
                complain(&format!("no answer from the admin listener at {address} within {PATIENCE:?}"));
                FAILED
            }
        }
    }))
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

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
