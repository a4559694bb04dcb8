//! Access to a store step by step, for its diagnosis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::command::Command;
use fleet_protocol::reply::Value;
use fleet_protocol::{Keys, Reply, Timing};
use redis::PushInfo;
use rustls::ClientConfig;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::connection::{Session, run};
use super::dial::{self, Stream};
use super::error::{Step, StoreError, within};
use super::sentinels;
use super::target::Target;
use crate::config::HostPort;

/// Messages that await processing, which none does.
const MAX_PUSHES: usize = 16;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The kind of server at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A store without TLS.
    Redis,
    /// A web server without TLS.
    Http,
    /// A server that requires TLS.
    Tls,
    /// A server that closes the connection.
    Closed,
    /// A server that does not respond in time.
    Silent,
    /// Another server.
    Other,
}

/// Returns what responds at an address to a command without TLS.
pub async fn identify(address: SocketAddr, limit: Duration) -> Peer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(PING).await?;
        let mut start = [0; 5];
        let length = stream.read(&mut start).await?;
        std::io::Result::Ok(peer_of(&start[..length]))
    };
    match timeout(limit, exchange).await {
        Ok(Ok(peer)) => peer,
        Ok(Err(_)) => Peer::Closed,
        Err(_) => Peer::Silent,
    }
}

fn peer_of(start: &[u8]) -> Peer {
    match start {
        [] => Peer::Closed,
        [b'+' | b'-', ..] => Peer::Redis,
        [0x15, ..] => Peer::Tls,
        _ if start.starts_with(b"HTTP") => Peer::Http,
        _ => Peer::Other,
    }
}

/// Returns the addresses of a host.
///
/// # Errors
/// If there are none within the timeout.
pub async fn resolve(host: &HostPort, limit: Duration) -> Result<Vec<SocketAddr>, StoreError> {
    dial::resolve(host, Instant::now() + limit).await
}

/// Connects to the first address that accepts it.
///
/// # Errors
/// If none does within the timeout.
pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<TcpStream, StoreError> {
    dial::connect(addresses, Instant::now() + limit).await
}

/// Performs a TLS handshake.
///
/// # Errors
/// If it fails, or takes longer than the timeout.
pub async fn secure(
    socket: TcpStream,
    host: &HostPort,
    tls: &Arc<ClientConfig>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, StoreError> {
    dial::secure(socket, host, tls, Instant::now() + limit).await
}

/// A connection to a store or sentinel after the login.
#[derive(Debug)]
pub struct Probe {
    session: Session,
    limit: Duration,
    _pushes: mpsc::Receiver<PushInfo>,
}

impl Probe {
    /// Logs in, with messages to a store and without to a sentinel.
    ///
    /// # Errors
    /// If the server rejects it, or does not respond within the timeout.
    pub async fn log_in(
        stream: Box<dyn Stream>,
        target: &Target,
        password: Option<&SecretString>,
        is_store: bool,
    ) -> Result<Self, StoreError> {
        let (sender, _pushes) = mpsc::channel(MAX_PUSHES);
        let sender = Some(sender).filter(|_| is_store);
        let login = Session::log_in(stream, target, password, sender);
        let session = within(Instant::now() + target.timeout, Step::Login, login).await?;
        Ok(Self {
            session,
            limit: target.timeout,
            _pushes,
        })
    }

    /// Sends a command and returns its reply.
    ///
    /// # Errors
    /// If the server rejects it, or does not respond within the timeout.
    pub async fn call(&self, words: &[&str]) -> Result<Value, StoreError> {
        let call = self.session.call(words);
        within(Instant::now() + self.limit, Step::Command, call).await
    }

    /// Runs a command of the protocol.
    ///
    /// # Errors
    /// As [`Probe::call`].
    pub async fn run(
        &self,
        command: &Command,
        keys: &Keys,
        timing: &Timing,
    ) -> Result<Reply, StoreError> {
        let call = run(self.session.commands.clone(), command.call(keys, timing));
        within(Instant::now() + self.limit, Step::Command, call).await
    }

    /// Subscribes to a channel until the connection ends.
    ///
    /// # Errors
    /// As [`Probe::call`].
    pub async fn subscribe(&self, channel: &str) -> Result<(), StoreError> {
        let subscribing = async {
            let mut commands = self.session.commands.clone();
            commands.subscribe(channel).await?;
            Ok(())
        };
        within(Instant::now() + self.limit, Step::Command, subscribing).await
    }

    /// Returns the primary as a sentinel names it; `None` if it does not know it.
    ///
    /// # Errors
    /// As [`Probe::call`].
    pub async fn primary(&self, master: &str) -> Result<Option<HostPort>, StoreError> {
        let query = sentinels::query(&self.session, master);
        within(Instant::now() + self.limit, Step::Command, query).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_name_the_peer() {
        for (start, peer) in [
            (&b""[..], Peer::Closed),
            (b"+PONG", Peer::Redis),
            (b"-NOAU", Peer::Redis),
            (b"HTTP/", Peer::Http),
            (b"\x15\x03\x01\0\x02", Peer::Tls),
            (b"SSH-2", Peer::Other),
        ] {
            assert_eq!(peer_of(start), peer);
        }
    }
}
