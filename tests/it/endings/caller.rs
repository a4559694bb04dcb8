//! Callers that determine from the bytes on their connection whether a response is complete.

use std::io::{self, ErrorKind};

use http::{Request, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Outcome;
use crate::harness::pki::{TestCa, tls_client_config};
use crate::harness::{Gateway, http2_over, within_timeout};

#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    Http10,
    Http10Tls,
    Http11,
    Http11Tls,
    Http2,
}

/// A response as a caller sees it.
pub(super) struct Received {
    /// Or a description of a violation of the protocol.
    pub(super) outcome: Result<Outcome, String>,
    pub(super) body: Vec<u8>,
}

impl Caller {
    pub(super) const ALL: [Self; 5] = [
        Self::Http10,
        Self::Http10Tls,
        Self::Http11,
        Self::Http11Tls,
        Self::Http2,
    ];

    /// Sends a GET request with this transaction id.
    pub(super) async fn get(
        self,
        gateway: &Gateway,
        ca: &TestCa,
        path: &str,
        id: &str,
    ) -> Received {
        let is_tls = matches!(self, Self::Http10Tls | Self::Http11Tls);
        let listener = &gateway.app().addresses().listeners[usize::from(is_tls)].0;
        let socket = within_timeout(TcpStream::connect(listener.to_string())).await;
        let socket = socket.unwrap();
        let request = |version: &str| {
            format!(
                "GET {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\
                 Citrix-TransactionId: {id}\r\n\r\n"
            )
        };
        match self {
            Self::Http2 => http2(socket, path, id).await,
            Self::Http10 => http10(&exchange(socket, request("1.0")).await),
            Self::Http11 => http11(&exchange(socket, request("1.1")).await),
            Self::Http10Tls | Self::Http11Tls => {
                let connector = TlsConnector::from(tls_client_config(ca, None));
                let name = ServerName::try_from("localhost").unwrap();
                let stream = within_timeout(connector.connect(name, socket)).await;
                let stream = stream.unwrap();
                if matches!(self, Self::Http10Tls) {
                    http10(&exchange(stream, request("1.0")).await)
                } else {
                    http11(&exchange(stream, request("1.1")).await)
                }
            }
        }
    }
}

/// Head and body of a response, and the end of the connection.
struct Exchanged {
    head: String,
    body: Vec<u8>,
    /// An error for a reset, and over TLS for a FIN without close_notify.
    end: Result<(), ErrorKind>,
}

async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: String) -> Exchanged {
    let mut received = Vec::new();
    let exchanged = async {
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        io.read_to_end(&mut received).await
    };
    let end: io::Result<usize> = within_timeout(exchanged).await;
    let at = received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = at.map_or(0, |at| at + 4);
    Exchanged {
        head: String::from_utf8(received[..body].to_vec()).unwrap(),
        body: received.split_off(body),
        end: end.map(drop).map_err(|error| error.kind()),
    }
}

impl Exchanged {
    fn length(&self) -> Option<usize> {
        let head = self.head.to_ascii_lowercase();
        let (_, rest) = head.split_once("\r\ncontent-length: ")?;
        rest.split("\r\n").next()?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        let head = self.head.to_ascii_lowercase();
        head.contains("\r\ntransfer-encoding: chunked\r\n")
    }
}

/// HTTP/1.0 has no chunks: a reset is all that distinguishes a truncated response.
fn http10(response: &Exchanged) -> Received {
    let outcome = if response.head.is_empty() && response.end.is_err() {
        // The reset overtook the head.
        Ok(Outcome::Truncated)
    } else if !response.head.starts_with("HTTP/1.0 200 ") || response.is_chunked() {
        Err(response.head.clone())
    } else if response.end.is_err() {
        Ok(Outcome::Truncated)
    } else if response
        .length()
        .is_some_and(|length| length != response.body.len())
    {
        Err("FIN instead of a reset".to_owned())
    } else {
        Ok(Outcome::Complete)
    };
    let body = response.body.clone();
    Received { outcome, body }
}

/// A response without the last chunk, or shorter than its `Content-Length`, is truncated.
fn http11(response: &Exchanged) -> Received {
    let (body, is_complete) = match response.length() {
        Some(length) => (response.body.clone(), response.body.len() == length),
        None => dechunked(&response.body),
    };
    let is_framed = response.is_chunked() != response.length().is_some();
    let outcome = if !response.head.starts_with("HTTP/1.1 200 ") || !is_framed {
        Err(response.head.clone())
    } else if is_complete && response.end.is_err() {
        Err(format!("{:?} after a complete response", response.end))
    } else if response.end == Err(ErrorKind::ConnectionReset) {
        Err("a reset, which may destroy received bytes".to_owned())
    } else if is_complete {
        Ok(Outcome::Complete)
    } else {
        Ok(Outcome::Truncated)
    };
    Received { outcome, body }
}

/// Returns the data of chunks, and `true` if the last chunk ends them.
fn dechunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[at + 2..];
        if size == 0 {
            return (body, rest.ends_with(b"\r\n"));
        }
        body.extend(&rest[..size.min(rest.len())]);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// A truncated response ends with RST_STREAM.
async fn http2(socket: TcpStream, path: &str, id: &str) -> Received {
    let mut http2 = http2_over(socket).await;
    let request = Request::get(format!("http://localhost{path}"))
        .version(Version::HTTP_2)
        .header("citrix-transactionid", id)
        .body(())
        .unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let mut body = Vec::new();
    let response = match within_timeout(response).await {
        Ok(response) if response.status() == 200 => response,
        other => {
            let outcome = Err(format!("{other:?}"));
            return Received { outcome, body };
        }
    };
    let mut incoming = response.into_body();
    let outcome = loop {
        match within_timeout(incoming.data()).await {
            Some(Ok(data)) => body.extend(data),
            Some(Err(error)) if error.reason() == Some(h2::Reason::INTERNAL_ERROR) => {
                break Ok(Outcome::Truncated);
            }
            Some(Err(error)) => break Err(error.to_string()),
            None => match within_timeout(incoming.trailers()).await {
                Ok(_) => break Ok(Outcome::Complete),
                Err(error) => break Err(error.to_string()),
            },
        }
    };
    Received { outcome, body }
}
