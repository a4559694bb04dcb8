//! A store of a fleet that accepts connections and then fails. Faults of a real store and of the
//! network to it are tested in `tests/it/fleet_gateways/faults.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use citrix_auth_proxy::system::clock::Clock;
use futures_util::future::join_all;
use serde_json::Value;
use tempfile::NamedTempFile;
use testkit::socket_end::SocketEnd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::pki::TestCa;
use crate::harness::{Gateway, OK, Upstream, get, wait_until, within_timeout};

const KEY: &str = "c4nary-fleet-key-of-32-bytes-or-more";

/// The action of the store after its bytes.
#[derive(Clone, Copy, Debug)]
enum End {
    Of(SocketEnd),
    /// The bytes again and again.
    Repeat,
}

/// What a store sends after the first bytes of a client, and what follows.
const FAULTS: [(&str, &[u8], End); 21] = {
    use End::{Of, Repeat};
    use SocketEnd::{Drip, Fin, HalfClose, Rst, Stall};
    [
        ("close", b"", Of(Fin)),
        ("half-close", b"", Of(HalfClose)),
        ("reset", b"", Of(Rst)),
        ("stall", b"", Of(Stall)),
        ("close within a reply", b"%7\r\n$6\r\nser", Of(Fin)),
        ("reset within a reply", b"%7\r\n$6\r\nser", Of(Rst)),
        ("stall within a reply", b"%7\r\n$6\r\nser", Of(Stall)),
        ("drip", b"$1000\r\n", Of(Drip)),
        ("garbage", b"\0\0\0\0\0\r\n", Of(Stall)),
        ("endless line", b"+++++++++++++++++++++++++++++++", Repeat),
        ("endless replies", b"+OK\r\n", Repeat),
        ("endless nesting", b"*1\r\n", Repeat),
        ("endless pushes", b">2\r\n+message\r\n+x\r\n", Repeat),
        ("length above the memory", b"$99999999999999\r\n", Of(Stall)),
        ("count above the memory", b"*9999999999999\r\n", Of(Stall)),
        ("negative length", b"$-7\r\n", Of(Stall)),
        (
            "error",
            b"-LOADING Redis is loading the dataset in memory\r\n",
            Of(Stall),
        ),
        ("error without end", b"-ERR ", Of(Stall)),
        ("redirection", b"-MOVED 1 127.0.0.1:1\r\n", Of(Stall)),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n", Of(Stall)),
        ("TLS alert", b"\x15\x03\x03\0\x02\x02\x28", Of(Fin)),
    ]
};

async fn serve(mut socket: TcpStream, bytes: &'static [u8], end: End) {
    if !matches!(socket.read(&mut [0; 4096]).await, Ok(1..)) {
        return;
    }
    socket.write_all(bytes).await.ok();
    match end {
        End::Of(end) => end.apply(socket).await,
        End::Repeat => {
            let many = bytes.repeat(1000);
            while socket.write_all(&many).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Starts a store with this fault. Returns its URL and the number of connections.
async fn store(bytes: &'static [u8], end: End) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(socket, bytes, end));
        }
    });
    (format!("redis://127.0.0.1:{port}"), connections)
}

/// Returns what differs from a gateway that gives the connection up, opens another, and serves.
async fn deviation(
    upstream: &Upstream,
    name: &str,
    bytes: &'static [u8],
    end: End,
) -> Option<String> {
    let (url, connections) = store(bytes, end).await;
    let gateway = Gateway::in_front_of(upstream)
        .with(&format!(
            "[fleet]\nurl = '{url}'\nlease = '2s'\ntimeout = '300ms'"
        ))
        .set("CITRIX_AUTH_PROXY_FLEET__KEY", KEY)
        .start()
        .await;
    wait_until(name, || async { connections.load(Ordering::Relaxed) >= 2 }).await;
    for path in ["/systemlog/records", "/monitorodata/Machines"] {
        let status = gateway.raw(get(path)).await.status();
        if status != 200 {
            return Some(format!("{name}: {path} {status}"));
        }
    }
    let status = gateway.admin(get("/status.json")).await.text();
    let status: Value = serde_json::from_str(&status).unwrap();
    let metrics = gateway.metrics().await;
    let is_right = status["fleet"]["state"] == "alone"
        && metrics.contains("citrix_auth_proxy_fleet_joined 0\n");
    (!is_right).then(|| format!("{name}: {}", status["fleet"]))
}

#[tokio::test]
async fn no_fault_of_a_store_fails_a_request() {
    let upstream = Upstream::responding(OK).await;
    let gateways = FAULTS.map(|(name, bytes, end)| deviation(&upstream, name, bytes, end));
    let wrong: Vec<_> = join_all(gateways).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn store_with_an_expired_certificate_fails_no_request() {
    const DAY: Duration = Duration::from_hours(24);
    let (ca, now) = (TestCa::new("store"), Clock::SYSTEM.now());
    let expired = ca.issue_valid("store", &["localhost"], now - 9 * DAY, now - DAY);
    let acceptor = TlsAcceptor::from(Arc::new(expired.server_config()));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&format!(
            "[fleet]\nurl = 'rediss://localhost:{port}'\nlease = '2s'\ntimeout = '300ms'\n\
             tls = {{ ca_file = {:?} }}",
            file.path()
        ))
        .set("CITRIX_AUTH_PROXY_FLEET__KEY", KEY)
        .start()
        .await;
    // The second attempt follows the first failure.
    for _ in 0..2 {
        let (socket, _) = within_timeout(listener.accept()).await.unwrap();
        let error = within_timeout(acceptor.accept(socket)).await.err().unwrap();
        assert!(error.to_string().contains("CertificateExpired"), "{error}");
    }
    for path in ["/systemlog/records", "/monitorodata/Machines"] {
        assert_eq!(gateway.raw(get(path)).await.status(), 200, "{path}");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("citrix_auth_proxy_fleet_joined 0\n"));
}
