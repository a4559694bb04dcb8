//! An upstream that ends its responses as a test demands.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{BODY, End, Framing, Sent};
use crate::harness::pki::TestCertificate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http10,
    Http11,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Tls,
}

/// One response and its end.
#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) framing: Framing,
    pub(super) sent: Sent,
    pub(super) end: End,
}

/// A server that plays the current script for each request.
pub(super) struct EndingUpstream {
    pub(super) url: String,
    script: Arc<Mutex<Script>>,
}

impl EndingUpstream {
    pub(super) async fn start(
        protocol: Protocol,
        transport: Transport,
        issued: &TestCertificate,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = (transport == Transport::Tls).then(|| acceptor(protocol, issued));
        let script = Arc::new(Mutex::new(Script {
            framing: Framing::Length,
            sent: Sent::Whole,
            end: End::Open,
        }));
        let current = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, script) = (tls.clone(), Arc::clone(&current));
                tokio::spawn(async move {
                    socket.set_nodelay(true).unwrap();
                    // An error means that the gateway has closed the connection.
                    let _ = serve(socket, tls, protocol, &script).await;
                });
            }
        });
        let scheme = if transport == Transport::Tls {
            "https"
        } else {
            "http"
        };
        Self {
            url: format!("{scheme}://localhost:{port}"),
            script,
        }
    }

    /// Sets the script of the following requests.
    pub(super) fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}

fn acceptor(protocol: Protocol, issued: &TestCertificate) -> TlsAcceptor {
    let mut config = issued.server_config();
    if protocol == Protocol::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    protocol: Protocol,
    script: &Mutex<Script>,
) -> io::Result<()> {
    let mut stream = match tls {
        None => Stream::Tcp(socket),
        Some(tls) => Stream::Tls(Box::new(tls.accept(socket).await?)),
    };
    let end = match (&mut stream, protocol) {
        (Stream::Tcp(io), Protocol::Http2) => serve_http2(io, script).await?,
        (Stream::Tls(io), Protocol::Http2) => serve_http2(io, script).await?,
        (Stream::Tcp(io), _) => serve_http1(io, protocol, script).await?,
        (Stream::Tls(io), _) => serve_http1(io, protocol, script).await?,
    };
    stream.close(end).await
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn close(self, end: End) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(mut socket) => {
                if end != End::Rst {
                    socket.shutdown().await?;
                }
                socket
            }
            Self::Tls(mut stream) => {
                if end == End::FinWithoutNotify {
                    stream.get_mut().0.shutdown().await?;
                } else if end != End::Rst {
                    stream.shutdown().await?;
                }
                stream.into_inner().0
            }
        };
        if end == End::Rst {
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            return Ok(());
        }
        // Closing with unread bytes would reset the connection.
        until_closed(socket).await;
        Ok(())
    }
}

async fn until_closed(mut io: impl AsyncRead + Unpin) {
    while !matches!(io.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {}
}

/// Plays scripts until one ends the connection.
async fn serve_http1(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocol: Protocol,
    script: &Mutex<Script>,
) -> io::Result<End> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(io.read_u8().await?);
        }
        let script = *script.lock().unwrap();
        io.write_all(&http1_response(protocol, script)).await?;
        io.flush().await?;
        match script.end {
            End::Open => {}
            End::Stall => until_closed(&mut *io).await,
            end => return Ok(end),
        }
    }
}

fn http1_response(protocol: Protocol, Script { framing, sent, .. }: Script) -> Vec<u8> {
    let version = if protocol == Protocol::Http10 { 0 } else { 1 };
    let length = BODY.len();
    let fields = match framing {
        Framing::Length => format!("Content-Length: {length}\r\n"),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Close | Framing::Stream => String::new(),
    };
    let (first, second) = BODY.split_at(length / 2);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunks = || chunk(first) + &chunk(second);
    let body = match (framing, sent) {
        (Framing::Chunked, Sent::Whole) => chunks() + "0\r\n\r\n",
        (Framing::Chunked, Sent::Trailers) => chunks() + "0\r\nX-Sum: 1\r\n\r\n",
        (Framing::Chunked, Sent::Half) => chunk(first),
        (Framing::Chunked, Sent::HalfChunk) => format!("{length:x}\r\n{first}"),
        (Framing::Chunked, Sent::InvalidChunk) => chunk(first) + "x\r\n",
        (Framing::Chunked, Sent::NoLastLine) => chunks() + "0\r\n",
        (_, Sent::Whole) => BODY.to_owned(),
        (_, Sent::Head) => String::new(),
        _ => first.to_owned(),
    };
    format!("HTTP/1.{version} 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
        .into_bytes()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Also ACK.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Returns an HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [
        &length[1..],
        &[kind, flags],
        &stream.to_be_bytes()[..],
        payload,
    ]
    .concat()
}

/// Returns a field that is neither indexed nor compressed (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [
        &[0, length(name)],
        name.as_bytes(),
        &[length(value)],
        value.as_bytes(),
    ]
    .concat()
}

/// Plays scripts until one ends the connection.
async fn serve_http2(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &Mutex<Script>,
) -> io::Result<End> {
    io.read_exact(&mut [0; 24]).await?;
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        io.read_exact(&mut payload).await?;
        match kind {
            PING if flags & END_STREAM != 0 => return Ok(End::Rst),
            SETTINGS | PING if flags & END_STREAM == 0 => {
                let payload = if kind == PING { &payload[..] } else { &[] };
                io.write_all(&frame(kind, END_STREAM, 0, payload)).await?;
            }
            HEADERS => {
                let script = *script.lock().unwrap();
                let stream = u32::from_be_bytes(stream);
                io.write_all(&http2_response(stream, script)).await?;
                io.flush().await?;
                match script.end {
                    End::Fin | End::FinWithoutNotify | End::GoAwayFin => return Ok(script.end),
                    // A reset may overtake the response. The acknowledgement shows that it arrived.
                    End::Rst => io.write_all(&frame(PING, 0, 0, &[0; 8])).await?,
                    _ => {}
                }
            }
            _ => {}
        }
        io.flush().await?;
    }
}

/// Returns the frames of a response and those of its end.
fn http2_response(stream: u32, Script { framing, sent, end }: Script) -> Vec<u8> {
    // `:status` 200 of the static table.
    let mut head = vec![0x88];
    head.extend(field("content-type", "application/json"));
    if framing == Framing::Length {
        head.extend(field("content-length", &BODY.len().to_string()));
    }
    let (first, second) = BODY.split_at(BODY.len() / 2);
    let data = |text: &str, flags| frame(DATA, flags, stream, text.as_bytes());
    let trailers = || {
        let flags = END_HEADERS | END_STREAM;
        frame(HEADERS, flags, stream, &field("x-sum", "1"))
    };
    let go_away = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    let body = match sent {
        Sent::Head => Vec::new(),
        Sent::Whole => data(BODY, END_STREAM),
        Sent::EmptyLastFrame => [data(BODY, 0), data("", END_STREAM)].concat(),
        Sent::Trailers => [data(BODY, 0), trailers()].concat(),
        Sent::NoEndStream => data(BODY, 0),
        Sent::HalfWithEndStream => data(first, END_STREAM),
        Sent::Half | Sent::HalfChunk | Sent::InvalidChunk | Sent::NoLastLine => data(first, 0),
    };
    let after = match end {
        End::Reset(reason) => frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes()),
        End::GoAwayBefore => go_away(0),
        End::GoAwayFin => go_away(stream),
        End::GoAwayRest => [go_away(stream), data(second, END_STREAM)].concat(),
        _ => Vec::new(),
    };
    [frame(HEADERS, END_HEADERS, stream, &head), body, after].concat()
}
