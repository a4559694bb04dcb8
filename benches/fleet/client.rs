//! HTTP/1.1 requests from chosen loopback addresses, by which gateways tell callers apart.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::task::AbortHandle;

use crate::Fallible;

/// A connection to a gateway, closed when dropped.
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    pub(crate) async fn open(from: Ipv4Addr, to: SocketAddr) -> Fallible<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind((from, 0).into())?;
        let io = TokioIo::new(socket.connect(to).await?);
        let (sender, driver) = handshake(io).await?;
        let driver = tokio::spawn(async { drop(driver.await) }).abort_handle();
        Ok(Self { sender, driver })
    }

    /// Sends a GET request and reads the whole response. Returns its status and body.
    pub(crate) async fn get(&mut self, path: &str) -> Fallible<(u16, Bytes)> {
        // The previous response has been read, but the connection may not have noticed.
        self.sender.ready().await?;
        let request = Request::get(path).header("host", "localhost");
        let response = self.sender.send_request(request.body(Empty::new())?);
        let (head, body) = response.await?.into_parts();
        Ok((head.status.as_u16(), body.collect().await?.to_bytes()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Like [`Connection::get`], on a connection of its own.
pub(crate) async fn get(from: Ipv4Addr, to: SocketAddr, path: &str) -> Fallible<(u16, Bytes)> {
    Connection::open(from, to).await?.get(path).await
}
