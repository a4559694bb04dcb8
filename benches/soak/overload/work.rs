//! The upstream of an overloaded gateway: each response after a chosen time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::Fallible;
use crate::http1::Reader;

/// Bytes of each response.
const CONTENT: usize = 1000;

/// Starts the upstream. Targets state the time in milliseconds: `/work?ms=50`.
pub(super) async fn start() -> Fallible<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).ok();
                // A connection that breaks fails its request at the gateway.
                tokio::spawn(async move { serve(socket).await.ok() });
            }
        }
    });
    Ok(address)
}

async fn serve(socket: TcpStream) -> std::io::Result<()> {
    let mut wire = Reader::new(socket);
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {CONTENT}\r\n\r\n{}",
        "x".repeat(CONTENT)
    );
    while let Some(head) = wire.head().await? {
        let time = head.start.split_once("ms=").map(|(_, rest)| rest);
        let time = time.and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(time @ 1..) = time {
            sleep(Duration::from_millis(time)).await;
        }
        wire.io.write_all(response.as_bytes()).await?;
    }
    Ok(())
}
