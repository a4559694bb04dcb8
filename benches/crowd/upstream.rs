//! Upstream of the `crowd` benchmark: responds with a token at `/token`, 8 MiB at `/large` and 1
//! KiB elsewhere.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const LARGE: usize = 8 * 1024 * 1024;
const SMALL: usize = 1024;

pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    Ok(address)
}

async fn serve(socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    loop {
        let (mut line, mut target, mut length) = (String::new(), String::new(), 0);
        while socket.read_line(&mut line).await? > 2 {
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            line.clear();
        }
        if target.is_empty() {
            return Ok(());
        }
        tokio::io::copy(&mut (&mut socket).take(length), &mut tokio::io::sink()).await?;
        let body = match target.as_str() {
            "/token" => {
                br#"{"token_type":"bearer","access_token":"bench","expires_in":"3600"}"#.to_vec()
            }
            "/large" => vec![b'x'; LARGE],
            _ => vec![b'x'; SMALL],
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        socket
            .get_mut()
            .write_all(&[head.into_bytes(), body].concat())
            .await?;
    }
}
