//! A firewall on the path to a TLS server that does not accept a large ClientHello.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Size above which a first TLS record does not pass.
const MAX_HELLO: usize = 1200;

/// The reaction to a ClientHello.
#[derive(Clone, Copy, Debug)]
pub enum Block {
    /// Passes it.
    Nothing,
    /// Resets the connection after a large one.
    Reset,
    /// Closes the connection after a large one.
    Close,
    /// Never responds to a large one.
    Ignore,
    /// Closes the connection after any.
    CloseAlways,
    /// Sends an alert, handshake_failure, after any.
    Alert,
}

pub struct Firewall {
    address: SocketAddr,
    hellos: Arc<Mutex<Vec<usize>>>,
}

impl Firewall {
    /// Starts a firewall in front of the server at `server`.
    pub async fn start(block: Block, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hellos = Arc::<Mutex<Vec<usize>>>::default();
        let seen = Arc::clone(&hellos);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(pass(socket, block, server, Arc::clone(&seen)));
            }
        });
        Self { address, hellos }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the server behind it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Returns for each ClientHello so far whether it was large.
    pub fn large_hellos(&self) -> Vec<bool> {
        let hellos = self.hellos.lock().unwrap();
        hellos.iter().map(|size| *size > MAX_HELLO).collect()
    }
}

async fn pass(
    mut socket: TcpStream,
    block: Block,
    server: SocketAddr,
    hellos: Arc<Mutex<Vec<usize>>>,
) {
    let mut hello = vec![0; 5];
    if socket.read_exact(&mut hello).await.is_err() {
        return;
    }
    let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
    hello.resize(5 + length, 0);
    socket.read_exact(&mut hello[5..]).await.unwrap();
    hellos.lock().unwrap().push(hello.len());
    let large = hello.len() > MAX_HELLO;
    match block {
        Block::Reset if large => socket.set_zero_linger().unwrap(),
        Block::Close if large => {}
        Block::Ignore if large => std::future::pending().await,
        Block::CloseAlways => {}
        Block::Alert => socket.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.unwrap(),
        _ => {
            let mut upstream = TcpStream::connect(server).await.unwrap();
            upstream.write_all(&hello).await.unwrap();
            // Ends when either side closes.
            tokio::io::copy_bidirectional(&mut socket, &mut upstream)
                .await
                .ok();
        }
    }
}
