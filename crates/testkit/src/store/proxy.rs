//! A network with faults between a gateway and a store.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::resp::{frame_len, is_message};
use crate::ports::reserve;

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everything passes.
    Up,
    /// Everything arrives late, in both directions.
    Slow(Duration),
    /// Nothing arrives before the state changes.
    Held,
    /// Nothing arrives. Connections do not recover, also new ones.
    BlackHole,
    /// Connections are reset, new ones at once.
    Reset,
    /// Each second new connection is reset; existing ones are reset once.
    Unreliable,
    /// Connections are closed, and the port refuses new ones.
    Refused,
    /// Messages to subscribers are dropped.
    WithoutMessages,
}

/// A loopback port that forwards to a store's socket, stopped on drop.
#[derive(Debug)]
pub struct StoreProxy {
    port: u16,
    network: watch::Sender<Network>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl StoreProxy {
    /// Starts a proxy to a socket.
    pub async fn start(target: PathBuf) -> Self {
        let [port] = reserve();
        let listener = listen(port).await;
        let network = watch::Sender::new(Network::Up);
        let accepted = Arc::new(AtomicUsize::new(0));
        let connections = Connections {
            target,
            network: network.subscribe(),
            accepted: Arc::clone(&accepted),
        };
        let task = tokio::spawn(connections.serve(listener, port));
        Self {
            port,
            network,
            accepted,
            task,
        }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the `url` of `[fleet]`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Changes the state of the network, also for existing connections.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Connections {
    target: PathBuf,
    network: watch::Receiver<Network>,
    accepted: Arc<AtomicUsize>,
}

impl Connections {
    async fn serve(mut self, listener: TcpListener, port: u16) {
        let mut tasks = JoinSet::new();
        let mut listener = Some(listener);
        loop {
            let refuses = *self.network.borrow_and_update() == Network::Refused;
            if refuses {
                listener = None;
            } else if listener.is_none() {
                listener = Some(listen(port).await);
            }
            tokio::select! {
                Ok((socket, _)) = accept(listener.as_ref()) => {
                    let number = self.accepted.fetch_add(1, Ordering::Relaxed);
                    tasks.spawn(forward(socket, self.target.clone(), self.network.clone(), number));
                }
                Some(_) = tasks.join_next() => {}
                changed = self.network.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

async fn listen(port: u16) -> TcpListener {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).await.unwrap()
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn forward(
    socket: TcpStream,
    target: PathBuf,
    mut network: watch::Receiver<Network>,
    number: usize,
) {
    // A close without unread data sends a reset.
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    let _ = socket.set_nodelay(true);
    let state = *network.borrow_and_update();
    if state == Network::Reset || (state == Network::Unreliable && number.is_multiple_of(2)) {
        return;
    }
    let Ok(store) = UnixStream::connect(target).await else {
        return;
    };
    let (from_caller, to_caller) = socket.into_split();
    let (from_store, to_store) = store.into_split();
    let [requests, replies] = [(); 2].map(|()| network.clone());
    let is_reset = |now: &Network| {
        matches!(now, Network::Reset | Network::Refused)
            || (*now == Network::Unreliable && state != Network::Unreliable)
    };
    tokio::select! {
        () = pump(from_caller, to_store, requests, false) => {}
        () = pump(from_store, to_caller, replies, true) => {}
        _ = network.wait_for(is_reset) => {}
    }
}

/// Forwards one direction until it ends.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
    are_replies: bool,
) {
    let (sender, mut arrivals) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let states = network.clone();
    let read = async move {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        let mut is_lost = false;
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let state = *states.borrow();
            is_lost |= state == Network::BlackHole;
            let mut bytes = buffer[..count].to_vec();
            if are_replies {
                frames.extend_from_slice(&bytes);
                bytes = complete_frames(&mut frames, state == Network::WithoutMessages);
            }
            let delay = match state {
                Network::Slow(delay) => delay,
                _ => Duration::ZERO,
            };
            if !is_lost && sender.send((Instant::now() + delay, bytes)).is_err() {
                return;
            }
        }
        // The end is as lost as the data.
        if is_lost {
            std::future::pending::<()>().await;
        }
    };
    let write = async {
        while let Some((at, bytes)) = arrivals.recv().await {
            sleep_until(at).await;
            let _ = network.wait_for(|state| *state != Network::Held).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

/// Removes all complete frames; returns those that pass.
fn complete_frames(frames: &mut Vec<u8>, without_messages: bool) -> Vec<u8> {
    let mut passed = Vec::new();
    while let Some(length) = frame_len(frames) {
        let frame: Vec<u8> = frames.drain(..length).collect();
        if !(without_messages && is_message(&frame)) {
            passed.extend(frame);
        }
    }
    passed
}
