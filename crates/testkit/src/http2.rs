//! A scripted HTTP/2 upstream: the test writes every frame.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::pki::TestCa;
use crate::wire::within_timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The frame size that every peer accepts.
const MAX_FRAME: usize = 16 * 1024;

// Frame types (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// Error codes (RFC 9113 section 7).
pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

/// The parameter SETTINGS_MAX_CONCURRENT_STREAMS.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// An HTTP/2 server over TLS on loopback.
pub struct Http2Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    wires: Mutex<mpsc::UnboundedReceiver<Http2Wire>>,
    ca: NamedTempFile,
}

impl Http2Upstream {
    pub async fn start() -> Self {
        Self::with_settings(&[]).await
    }

    /// Sends these settings first on each connection.
    pub async fn with_settings(settings: &'static [(u16, u32)]) -> Self {
        Self::manual(settings, false).await
    }

    /// Resets each connection that the test drops, instead of closing it.
    pub async fn resetting() -> Self {
        Self::manual(&[], true).await
    }

    async fn manual(settings: &'static [(u16, u32)], resets: bool) -> Self {
        let (sender, wires) = mpsc::unbounded_channel();
        let mut upstream = Self::listening(settings, resets, move |wire| {
            sender.send(wire).ok();
        })
        .await;
        upstream.wires = Mutex::new(wires);
        upstream
    }

    /// Serves each connection with `serve`, instead of leaving it to the test.
    pub async fn serving<F>(serve: impl Fn(Http2Wire) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listening(&[], false, move |wire| drop(tokio::spawn(serve(wire)))).await
    }

    async fn listening(
        settings: &'static [(u16, u32)],
        resets: bool,
        serve: impl Fn(Http2Wire) + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new("upstream CA");
        let issued = ca.issue("upstream", &["localhost"]);
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ca.pem()).unwrap();
        let mut tls = issued.server_config();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serve = Arc::new(serve);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let linger = resets.then_some(Duration::ZERO);
                SockRef::from(&socket).set_linger(linger).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let handle = SockRef::from(&socket).try_clone().unwrap();
                let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        let mut wire = Http2Wire::accept(stream, settings).await;
                        wire.socket = Some(handle);
                        serve(wire);
                    }
                });
            }
        });
        Self {
            address,
            connections,
            wires: Mutex::new(mpsc::unbounded_channel().1),
            ca: file,
        }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Returns the path of the CA file.
    pub fn ca_file(&self) -> String {
        self.ca.path().display().to_string()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the next connection.
    pub async fn connection(&self) -> Http2Wire {
        within_timeout(self.wires.lock().await.recv())
            .await
            .expect("a running upstream")
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The server's side of an HTTP/2 connection.
pub struct Http2Wire {
    io: Box<dyn Io>,
    /// Another handle to the socket of an [`Http2Upstream`].
    socket: Option<Socket>,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

impl Http2Wire {
    /// Reads the client's preface and sends `settings`.
    pub async fn accept(
        mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        settings: &[(u16, u32)],
    ) -> Self {
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut wire = Self {
            io: Box::new(io),
            socket: None,
        };
        let mut payload = Vec::new();
        for (parameter, value) in settings {
            payload.extend_from_slice(&parameter.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        wire.write(SETTINGS, 0, 0, &payload).await;
        wire
    }

    /// Returns the next frame, or `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, s1, s2, s3, s4] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s1, s2, s3, s4]),
            payload,
        })
    }

    /// Returns the next frame that belongs to a stream, or `None` at the end of the connection.
    /// Acknowledges SETTINGS.
    pub async fn next(&mut self) -> Option<Frame> {
        within_timeout(self.next_at_any_time()).await
    }

    /// Like [`Http2Wire::next`] without a timeout, for a server that outlives its clients.
    pub async fn next_at_any_time(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                DATA | HEADERS | RST_STREAM => return Some(frame),
                _ => {}
            }
        }
    }

    /// Reads the head of the next request and returns its stream.
    pub async fn head(&mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("a request");
            if frame.kind == HEADERS {
                return frame.stream;
            }
        }
    }

    /// Reads the next request and returns its stream and body.
    pub async fn request(&mut self) -> (u32, Vec<u8>) {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.expect("a request");
            if frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            }
            if frame.ends_stream() {
                return (frame.stream, body);
            }
        }
    }

    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.write_bytes(&frame).await;
    }

    /// Writes bytes that need not be frames.
    pub async fn write_bytes(&mut self, bytes: &[u8]) {
        // The peer may have closed the connection.
        self.io.write_all(bytes).await.ok();
        self.io.flush().await.ok();
    }

    /// Writes a header section in as many frames as it needs.
    pub async fn write_fields(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) {
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal without indexing (RFC 7541 section 6.2.2).
            block.push(0);
            write_string(&mut block, name);
            write_string(&mut block, value);
        }
        let fragments: Vec<_> = block.chunks(MAX_FRAME).collect();
        for (index, fragment) in fragments.iter().enumerate() {
            let (kind, flags) = if index == 0 {
                (HEADERS, flags)
            } else {
                (CONTINUATION, 0)
            };
            let last = index + 1 == fragments.len();
            let flags = if last { flags | END_HEADERS } else { flags };
            self.write(kind, flags, stream, fragment).await;
        }
    }

    /// Writes a whole 200 response.
    pub async fn respond(&mut self, stream: u32, body: &str) {
        self.write_fields(stream, &[(":status", "200")], 0).await;
        self.write(DATA, END_STREAM, stream, body.as_bytes()).await;
    }

    pub async fn reset(&mut self, stream: u32, code: u32) {
        self.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub async fn go_away(&mut self, last_stream: u32, code: u32) {
        let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Acknowledges a PING.
    pub async fn pong(&mut self, ping: &Frame) {
        self.write(PING, ACK, 0, &ping.payload).await;
    }

    /// Ends this side of the connection, with close_notify and FIN.
    pub async fn half_close(&mut self) {
        // The peer may have closed the connection.
        self.io.shutdown().await.ok();
    }

    /// Resets the connection once it is dropped, instead of closing it.
    pub fn reset_on_drop(&self) {
        let socket = self.socket.as_ref().expect("a connection over TCP");
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the peer closes the connection.
    pub async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Writes a string without Huffman coding (RFC 7541 section 5.2).
fn write_string(block: &mut Vec<u8>, text: &str) {
    let length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend_from_slice(text.as_bytes());
}
