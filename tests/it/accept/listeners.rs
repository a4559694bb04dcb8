//! Listener sockets and their protocols.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use citrix_auth_proxy::app::App;
use citrix_auth_proxy::config::{self, BindAddress};
use citrix_auth_proxy::system::clock::Clock;
use http::Request;

use crate::harness::{Gateway, OK, Upstream, Wire, get, http2_over, tls_client, within_timeout};

#[tokio::test]
async fn unix_socket_has_the_configured_mode_and_is_removed_at_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .on_socket(&path)
        .with("[listen]\nunix_mode = \"0600\"")
        .start()
        .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    gateway.into_app().drain(Duration::from_secs(10)).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn stale_socket_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream)
        .on_socket(&path)
        .start()
        .await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
}

#[tokio::test]
async fn live_socket_or_other_file_prevents_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (live, file) = (folder.path().join("live.sock"), folder.path().join("file"));
    let _listener = UnixListener::bind(&live).unwrap();
    std::fs::write(&file, "content").unwrap();
    assert!(start_error(&live).await.contains("live.sock"));
    assert!(start_error(&file).await.contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");
}

async fn start_error(path: &Path) -> String {
    let text = format!(
        "[citrix]\ncustomer_id = \"acme\"\nclient_id = \"id\"\napi_url = \"http://127.0.0.1:9\"\n\
         [listen]\naddress = \"unix:{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n",
        path.display()
    );
    let secret = [("CITRIX_CLIENT_SECRET".to_owned(), "secret".to_owned())];
    let config = config::from_toml(&text, secret).unwrap();
    App::start(config, Clock::SYSTEM, None)
        .await
        .err()
        .unwrap()
        .to_string()
}

/// Returns a gateway with TLS, and the CA certificate to trust.
async fn tls_gateway(upstream: &Upstream) -> (Gateway, String) {
    tls_gateway_with(upstream, "").await
}

async fn tls_gateway_with(upstream: &Upstream, more: &str) -> (Gateway, String) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let toml = format!("[listen]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}");
    let gateway = Gateway::in_front_of(upstream)
        .with(&toml)
        .with(more)
        .start()
        .await;
    (gateway, issued.cert.pem())
}

#[tokio::test]
async fn tls_without_alpn_or_with_http1_serves_http1() {
    let upstream = Upstream::responding(OK).await;
    let (gateway, ca) = tls_gateway(&upstream).await;
    for (offered, expected) in [(&["http/1.1"][..], Some("http/1.1")), (&[], None)] {
        let (mut caller, selected) = gateway.connect_tls(&ca, offered).await;
        assert_eq!(selected.as_deref(), expected);
        caller.write(get("/")).await;
        assert_eq!(caller.response().await.status(), 200);
        assert!(upstream.request().await.has("authorization"));
    }
}

#[tokio::test]
async fn tls_with_alpn_h2_serves_http2() {
    let upstream = Upstream::responding(OK).await;
    let (gateway, ca) = tls_gateway(&upstream).await;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls_client(
        Some(&ca),
        &["http/1.1", "h2"],
    )));
    let socket = tokio::net::TcpStream::connect(gateway.address())
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = within_timeout(connector.connect(name, socket))
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut http2 = http2_over(stream).await;
    let request = Request::get("https://localhost/over-http2")
        .body(())
        .unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    assert_eq!(upstream.request().await.line(), "GET /over-http2 HTTP/1.1");
}

#[tokio::test]
async fn rfc9113_3_3_preface_over_tls_without_alpn_begins_no_http2() {
    let upstream = Upstream::responding(OK).await;
    let (gateway, ca) = tls_gateway(&upstream).await;
    for alpn in [&[][..], &["http/1.1"]] {
        let (mut caller, selected) = gateway.connect_tls(&ca, alpn).await;
        assert_eq!(selected.as_deref(), alpn.first().copied());
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let get = b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        caller.write([&preface[..], settings, get].concat()).await;
        let response = String::from_utf8(caller.rest().await).unwrap();
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert_eq!(response.matches("HTTP/").count(), 1, "{response}");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn stalled_handshake_times_out() {
    let upstream = Upstream::responding(OK).await;
    // Long enough for a complete handshake on a busy machine.
    let (gateway, ca) = tls_gateway_with(&upstream, "[limits]\nheader_read_timeout = \"1s\"").await;
    let stalls = async |beginning: &str| {
        let mut caller = gateway.connect().await;
        caller.write(beginning).await;
        caller.closed().await;
    };
    tokio::join!(stalls(""), stalls("\x16\x03"));
    let (mut caller, _) = gateway.connect_tls(&ca, &[]).await;
    caller.write("GET / HT").await;
    caller.response().await.problem(408, "request_timeout");
}

/// Returns a port that is free for IPv4 and IPv6.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("[::]:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a gateway with these addresses; another process may take the port first.
async fn on_one_port(upstream: &Upstream, toml: impl Fn(u16) -> String) -> (Gateway, u16) {
    let port = free_port();
    let gateway = Gateway::in_front_of(upstream)
        .without("CITRIX_AUTH_PROXY_LISTEN__ADDRESS")
        .without("CITRIX_AUTH_PROXY_ADMIN__ADDRESS")
        .with(&toml(port))
        .start()
        .await;
    (gateway, port)
}

async fn status_at(address: &str, port: u16, path: &str) -> u16 {
    let socket = tokio::net::TcpStream::connect(format!("{address}:{port}")).await;
    let mut wire = Wire::new(socket.unwrap());
    wire.write(get(path)).await;
    wire.response().await.status()
}

#[tokio::test]
async fn ipv4_and_ipv6_wildcards_share_a_port_in_either_order() {
    let upstream = Upstream::responding(OK).await;
    for (first, second) in [
        ("0.0.0.0", "[::]"),
        ("[::]", "0.0.0.0"),
        ("127.0.0.1", "[::]"),
    ] {
        let (_gateway, port) = on_one_port(&upstream, |port| {
            format!(
                "[insecure]\nallow_anonymous = true\n[admin]\naddress = \"127.0.0.1:0\"\n\
                 [listen]\naddress = [\"{first}:{port}\", \"{second}:{port}\"]"
            )
        })
        .await;
        for address in ["127.0.0.1", "[::1]"] {
            assert_eq!(status_at(address, port, "/").await, 200, "{first} {second}");
        }
    }
}

#[tokio::test]
async fn lone_ipv6_wildcard_accepts_ipv4_and_one_beside_the_admin_listener_does_not() {
    let upstream = Upstream::responding(OK).await;
    let listen = |port: u16, admin: u16| {
        format!(
            "[insecure]\nallow_anonymous = true\n[listen]\naddress = \"[::]:{port}\"\n\
             [admin]\naddress = \"127.0.0.1:{admin}\""
        )
    };
    let (_gateway, port) = on_one_port(&upstream, |port| listen(port, 0)).await;
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(status_at(address, port, "/").await, 200, "{address}");
    }
    let (_gateway, port) = on_one_port(&upstream, |port| listen(port, port)).await;
    assert_eq!(status_at("[::1]", port, "/").await, 200);
    assert_eq!(status_at("127.0.0.1", port, "/livez").await, 200);
}

#[tokio::test]
async fn each_listen_address_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let upstream = Upstream::responding(OK).await;
    let addresses = format!(
        "[listen]\naddress = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"unix:{}\"]",
        path.display()
    );
    let gateway = Gateway::in_front_of(&upstream)
        .without("CITRIX_AUTH_PROXY_LISTEN__ADDRESS")
        .with(&addresses)
        .start()
        .await;
    let bound = gateway.app().addresses().listeners.clone();
    assert_eq!(bound.len(), 3);
    for (address, _) in bound {
        let mut wire = match address {
            BindAddress::Tcp(address) => {
                Wire::new(tokio::net::TcpStream::connect(address).await.unwrap())
            }
            BindAddress::Unix(path) => {
                Wire::new(tokio::net::UnixStream::connect(path).await.unwrap())
            }
        };
        wire.write(get("/")).await;
        assert_eq!(wire.response().await.status(), 200);
    }
}
