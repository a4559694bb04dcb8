//! The ways in which a server leaves a connection.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time between two bytes of [`SocketEnd::Drip`].
const DRIP: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// FIN, or a reset if not all was read.
    Fin,
    /// FIN while the server still reads.
    HalfClose,
    /// TCP reset.
    Rst,
    /// Nothing is sent any more.
    Stall,
    /// One byte after the other, without an end.
    Drip,
}

impl SocketEnd {
    /// Ends the server's side in this way; returns once the connection has ended.
    pub async fn apply(self, mut socket: TcpStream) {
        match self {
            Self::Fin => return,
            Self::Rst => {
                SockRef::from(&socket)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                return;
            }
            Self::HalfClose => {
                socket.shutdown().await.ok();
            }
            Self::Stall => {}
            Self::Drip => {
                while socket.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(DRIP).await;
                }
                return;
            }
        }
        while matches!(socket.read(&mut [0; 4096]).await, Ok(1..)) {}
    }
}
