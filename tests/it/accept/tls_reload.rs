//! Certificate reload (interface §3.2).

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::pki::{TestCa, TestCertificate, TlsFiles, tls_client_config};
use crate::harness::{Gateway, OK, Upstream, Wire, get, wait_until, within_timeout};

async fn connect(address: &str, tls: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let socket = within_timeout(TcpStream::connect(address)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within_timeout(TlsConnector::from(Arc::clone(tls)).connect(name, socket))
        .await
        .unwrap()
}

/// Returns the certificate presented on a new connection.
async fn presented_certificate(gateway: &Gateway, authority: &TestCa) -> CertificateDer<'static> {
    let stream = connect(&gateway.address(), &tls_client_config(authority, None)).await;
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

async fn wait_until_presented(gateway: &Gateway, authority: &TestCa, issued: &TestCertificate) {
    gateway.app().inbound_tls().unwrap().request_read();
    let expected = issued.der();
    wait_until("the new certificate is presented", || async {
        presented_certificate(gateway, authority).await == expected
    })
    .await;
}

fn localhost(authority: &TestCa) -> TestCertificate {
    authority.issue("gateway", &["localhost"])
}

#[tokio::test]
async fn certificate_replaced_50_times_under_load_fails_no_request() {
    let authority = TestCa::new("authority");
    let files = TlsFiles::new(&localhost(&authority));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .with(&files.toml(""))
        .start()
        .await;
    let (finished, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (address, finished, served) = (
            gateway.address(),
            Arc::clone(&finished),
            Arc::clone(&served),
        );
        // Some resume sessions, one performs a full handshake each time, and one keeps its
        // connection.
        let shared = tls_client_config(&authority, None);
        let authority = authority.pem();
        callers.spawn(async move {
            let mut kept = Wire::new(connect(&address, &shared).await);
            while !finished.load(Ordering::Relaxed) {
                if number == 0 {
                    kept.write("GET /kept HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        .await;
                    assert_eq!(kept.response().await.status(), 200);
                } else {
                    let fresh = Arc::new(crate::harness::tls_client(Some(&authority), &[]));
                    let tls = if number == 1 { &fresh } else { &shared };
                    let mut wire = Wire::new(connect(&address, tls).await);
                    wire.write(get("/")).await;
                    assert_eq!(wire.response().await.status(), 200);
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..50 {
        let next = localhost(&authority);
        files.replace(&next);
        wait_until_presented(&gateway, &authority, &next).await;
    }
    finished.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let served = served.load(Ordering::Relaxed);
    assert!(served > 50, "{served} requests are too few");
}

#[tokio::test]
async fn certificate_directory_swapped_behind_a_symlink_is_reloaded() {
    let authority = TestCa::new("authority");
    let (old, new) = (localhost(&authority), localhost(&authority));
    let files = TlsFiles::new(&old);
    // Like a mounted Kubernetes secret: the files resolve through a symlink to a directory that is
    // swapped.
    for (folder, issued) in [("..1", &old), ("..2", &new)] {
        std::fs::create_dir(files.path(folder)).unwrap();
        files.write(&format!("{folder}/tls.crt"), &issued.certificate);
        files.write(&format!("{folder}/tls.key"), &issued.key);
    }
    symlink("..1", files.path("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::fs::remove_file(files.path(name)).unwrap();
        symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .start()
        .await;
    assert_eq!(presented_certificate(&gateway, &authority).await, old.der());
    symlink("..2", files.path("..data_tmp")).unwrap();
    std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    wait_until_presented(&gateway, &authority, &new).await;
}

#[tokio::test]
async fn tls_sessions_resume_after_a_certificate_change() {
    let authority = TestCa::new("authority");
    let files = TlsFiles::new(&localhost(&authority));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .start()
        .await;
    let tls = tls_client_config(&authority, None);
    let mut wire = Wire::new(connect(&gateway.address(), &tls).await);
    // Session tickets arrive with the response.
    wire.write(get("/")).await;
    assert_eq!(wire.response().await.status(), 200);
    let next = localhost(&authority);
    files.replace(&next);
    wait_until_presented(&gateway, &authority, &next).await;
    let stream = connect(&gateway.address(), &tls).await;
    assert_eq!(
        stream.get_ref().1.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
}

#[tokio::test]
async fn certificate_expiry_is_a_metric() {
    let authority = TestCa::new("authority");
    let files = TlsFiles::new(&localhost(&authority));
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&files.toml(""))
        .start()
        .await;
    // rcgen's certificates last until the year 4096.
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains("\ncitrix_auth_proxy_certificate_expiry_timestamp_seconds 67090118400\n"),
        "{metrics}"
    );
    let plain = Gateway::in_front_of(&upstream).start().await;
    assert!(!plain.metrics().await.contains("certificate_expiry"));
}
