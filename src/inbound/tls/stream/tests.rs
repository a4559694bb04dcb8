//! A session next to a client of tokio-rustls.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use testkit::pki::{TestCa, tls_client_config};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A socket that reads and writes at most this many bytes at once.
struct Slow(DuplexStream, usize);

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut few = buf.take(self.1);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut few))?;
        let read = few.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let few = buf.len().min(self.1);
        Pin::new(&mut self.0).poll_write(cx, &buf[..few])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Returns a client and a server, which reads and writes at most `at_once` bytes, after their
/// handshake. The pipe between them holds less than a long record.
async fn connected(
    version: &'static SupportedProtocolVersion,
    at_once: usize,
) -> (ClientStream<DuplexStream>, TlsStream<Slow>) {
    let authority = TestCa::new("ca");
    let issued = authority.issue("gateway", &["localhost"]);
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.der()], key)
        .unwrap();
    let client: Arc<ClientConfig> = tls_client_config(&authority, None);
    let (near, far) = duplex(10_000);
    let mut far = Slow(far, at_once);
    let name = ServerName::try_from("localhost").unwrap();
    let accept = async {
        let first = far.read_u8().await?;
        TlsStream::accept(far, &[first], Arc::new(server)).await
    };
    let connector = TlsConnector::from(client);
    let (client, server) = tokio::join!(connector.connect(name, near), accept);
    (client.unwrap(), server.unwrap())
}

fn text(length: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(length).collect()
}

/// Returns the capacity of all buffers of a session.
fn buffered<S>(stream: &TlsStream<S>) -> usize {
    stream.unfinished.capacity() + stream.plaintext.capacity() + stream.unwritten.capacity()
}

#[tokio::test]
async fn data_of_any_length_arrives_unchanged() {
    for version in VERSIONS {
        for (at_once, length) in [(1, 3000), (700, 50_000), (100_000, 300_000)] {
            let (mut client, mut server) = connected(version, at_once).await;
            let sent = text(length);
            let echo = async {
                let mut received = vec![0; length];
                server.read_exact(&mut received).await.unwrap();
                server.write_all(&received).await.unwrap();
                server.shutdown().await.unwrap();
                server
            };
            let exchange = async {
                client.write_all(&sent).await.unwrap();
                client.flush().await.unwrap();
                let mut received = Vec::new();
                // Fails without `close_notify`.
                client.read_to_end(&mut received).await.unwrap();
                received
            };
            let (server, received) = tokio::join!(echo, exchange);
            assert!(received == sent, "{at_once} {length}");
            assert_eq!(buffered(&server), 0);
        }
    }
}

#[tokio::test]
async fn slices_are_combined_into_one_record() {
    let (mut client, mut server) = connected(&version::TLS13, 100_000).await;
    let (head, body) = (text(200), text(1000));
    let slices = [IoSlice::new(&head), IoSlice::new(&[]), IoSlice::new(&body)];
    assert_eq!(server.write_vectored(&slices).await.unwrap(), 1200);
    server.flush().await.unwrap();
    // The record, and tickets before it.
    let mut received = vec![0; 2000];
    assert_eq!(client.read(&mut received).await.unwrap(), 1200);
    assert!(received.starts_with(&[head, body].concat()));
}

#[tokio::test]
async fn plaintext_that_is_not_read_at_once_is_kept_until_it_is() {
    let (mut client, mut server) = connected(&version::TLS13, 100_000).await;
    client.write_all(&text(9_000)).await.unwrap();
    client.flush().await.unwrap();
    let mut received = vec![0; 9_000];
    for piece in received.chunks_mut(4096) {
        server.read_exact(piece).await.unwrap();
    }
    assert!(received == text(9_000));
    assert_eq!(buffered(&server), 0);
}

#[tokio::test]
async fn key_update_of_the_client_is_responded_to_before_the_next_data() {
    let (mut client, mut server) = connected(&version::TLS13, 100_000).await;
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(b"request").await.unwrap();
        client.flush().await.unwrap();
        let mut received = [0; 8];
        server.read_exact(&mut received[..7]).await.unwrap();
        server.write_all(b"response").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"response", "{round}");
    }
    assert_eq!(buffered(&server), 0);
}

#[tokio::test]
async fn end_without_close_notify_is_an_error_and_with_it_is_the_end() {
    for version in VERSIONS {
        let (client, mut server) = connected(version, 100_000).await;
        drop(client.into_inner());
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        let (mut client, mut server) = connected(version, 100_000).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        assert_eq!(server.write(b"late").await.unwrap(), 4);
    }
}

#[tokio::test]
async fn changed_record_ends_the_session_after_an_alert() {
    let (client, mut server) = connected(&version::TLS13, 100_000).await;
    let (mut socket, mut session) = client.into_inner();
    io::Write::write_all(&mut session.writer(), b"request").unwrap();
    let mut record = Vec::new();
    session.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    socket.write_all(&record).await.unwrap();
    for _ in 0..2 {
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    assert!(server.write(b"response").await.is_err());
    drop(server);
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.unwrap();
    session.read_tls(&mut &received[..]).unwrap();
    let error = session.process_new_packets().unwrap_err();
    assert_eq!(
        error,
        rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
    );
}
