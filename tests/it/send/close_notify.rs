//! RFC 9112 section 9.8: a TLS connection to an upstream that the gateway closes ends with
//! `close_notify`.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, get, within_timeout};

/// An upstream that speaks HTTP/1.1 over TLS.
struct TlsUpstream {
    acceptor: TlsAcceptor,
    listener: TcpListener,
    files: TlsFiles,
}

impl TlsUpstream {
    async fn start() -> Self {
        let ca = TestCa::new("authority");
        let issued = ca.issue("upstream", &["localhost"]);
        let files = TlsFiles::new(&issued);
        files.write("ca.pem", &ca.pem());
        Self {
            acceptor: TlsAcceptor::from(Arc::new(issued.server_config())),
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            files,
        }
    }

    async fn gateway(&self, toml: &str) -> Gateway {
        let port = self.listener.local_addr().unwrap().port();
        let ca = self.files.path("ca.pem").display().to_string();
        Gateway::with_api_url(&format!("https://localhost:{port}"))
            .set("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", &ca)
            .with(toml)
            .start()
            .await
    }

    /// Accepts a connection and reads the head of a request.
    async fn request(&self) -> TlsStream<TcpStream> {
        let (socket, _) = within_timeout(self.listener.accept()).await.unwrap();
        let mut stream = within_timeout(self.acceptor.accept(socket)).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within_timeout(stream.read_u8()).await.unwrap());
        }
        stream
    }
}

/// Reads to the end. Without `close_notify` rustls returns an error.
async fn assert_ends_with_close_notify(mut stream: TlsStream<TcpStream>, case: &str) {
    let mut rest = Vec::new();
    let read = within_timeout(stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "{case}: {read:?}");
}

#[tokio::test]
async fn rfc9112_9_8_connection_to_an_upstream_ends_with_close_notify() {
    let upstream = TlsUpstream::start().await;
    let gateway = upstream
        .gateway("[upstream]\npool_idle_timeout = \"1s\"")
        .await;
    // The upstream asks for it, or the connection is idle for too long.
    for fields in [
        "Connection: close\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\n",
    ] {
        let serve = async {
            let mut stream = upstream.request().await;
            let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{{}}");
            stream.write_all(response.as_bytes()).await.unwrap();
            stream
        };
        let (response, stream) = tokio::join!(gateway.raw(get("/")), serve);
        assert_eq!(response.status(), 200);
        assert_ends_with_close_notify(stream, fields).await;
    }
    // The caller leaves.
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    let stream = upstream.request().await;
    drop(caller);
    assert_ends_with_close_notify(stream, "caller that leaves").await;
}
