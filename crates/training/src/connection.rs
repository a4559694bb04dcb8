//! Connections of callers.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::gateway::Gateway;

/// Protocol and use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    /// HTTP/1.1 with a connection for each request.
    Http1PerRequest,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Kind {
    const fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }

    const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }

    /// Scheme of links in responses.
    pub(crate) const fn scheme(self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }
}

/// The connection of a caller, opened for the first request unless it shares that of another.
pub(crate) struct Connection {
    gateway: Arc<Gateway>,
    pub(crate) kind: Kind,
    sender: Option<Sender>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub(crate) async fn open(gateway: Arc<Gateway>, kind: Kind) -> Fallible<Self> {
        let mut connection = Self {
            gateway,
            kind,
            sender: None,
        };
        connection.sender = Some(connection.connect().await?);
        Ok(connection)
    }

    /// Returns the same connection for HTTP/2, one yet to be opened for HTTP/1.1.
    pub(crate) fn for_another_caller(&self) -> Self {
        let sender = match &self.sender {
            Some(Sender::Http2(sender)) => Some(Sender::Http2(sender.clone())),
            _ => None,
        };
        Self {
            gateway: self.gateway.clone(),
            kind: self.kind,
            sender,
        }
    }

    /// Sends a request with an absolute target and returns the whole response.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Fallible<Response<Bytes>> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = match &mut sender {
            Sender::Http1(sender) => {
                let target = request.uri().path_and_query().ok_or("no path")?.as_str();
                *request.uri_mut() = target.parse()?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if self.kind != Kind::Http1PerRequest {
            self.sender = Some(sender);
        }
        Ok(Response::from_parts(head, body))
    }

    async fn connect(&self) -> Fallible<Sender> {
        if !self.kind.is_tls() {
            let socket = TcpStream::connect(self.gateway.address).await?;
            socket.set_nodelay(true)?;
            return self.shake_hands(socket).await;
        }
        let protocol = if self.kind.is_http2() {
            "h2"
        } else {
            "http/1.1"
        };
        let mut config = (*self.gateway.tls_client).clone();
        config.alpn_protocols = vec![protocol.into()];
        let socket = TcpStream::connect(self.gateway.tls_address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket);
        self.shake_hands(stream.await?).await
    }

    async fn shake_hands(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Fallible<Sender> {
        let io = TokioIo::new(io);
        // A connection that breaks fails its request.
        Ok(if self.kind.is_http2() {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(driver);
            Sender::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await?;
            tokio::spawn(driver);
            Sender::Http1(sender)
        })
    }
}
