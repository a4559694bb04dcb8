//! Listeners of the upstreams.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Fallible;
use crate::upstream::STALL;

/// Starts a listener that serves each connection in a task of its own.
pub(crate) async fn listen<F>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> Fallible<SocketAddr>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).ok();
                tokio::spawn(serve(socket));
            }
        }
    });
    Ok(address)
}

/// Starts a listener with TLS.
pub(crate) async fn listen_tls<F>(
    acceptor: TlsAcceptor,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Fallible<SocketAddr>
where
    F: Future<Output = ()> + Send + 'static,
{
    listen(move |socket| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Ok(Ok(stream)) = timeout(STALL, acceptor.accept(socket)).await {
                serve(stream).await;
            }
        }
    })
    .await
}
