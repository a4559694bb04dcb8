//! Tools with built-in host names: CONNECT, TLS in place of Citrix's hosts, blind tunnels (interface
//! §4.6).

mod attacks;
mod faults;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use citrix_auth_proxy::system::clock::Clock;
use citrix_auth_proxy::tls::authority;
use http::Request;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::callers::block;
use crate::harness::{
    Cloud, EgressProxy, Gateway, Message, OK, Upstream, Wire, get_with, http2_over, tls_client,
    wait_until, within_timeout,
};

const API: &str = "api.cloud.com";
const SECRET: &str = "c4nary-secret-of-a";

/// The files of an authority and what clients need of them.
struct Authority {
    folder: TempDir,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let domains = ["cloud.com", "citrixworkspacesapi.net", "example.net"].map(str::to_owned);
        let new = authority::create(&domains, Clock::SYSTEM.now()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &new.chain).unwrap();
        std::fs::write(folder.path().join("ca.key"), &*new.key).unwrap();
        Self {
            folder,
            root: new.root,
        }
    }

    /// Returns an `[intercept]` section with the lines of `more` appended.
    fn toml(&self, more: &str) -> String {
        let [certificate, key] = ["ca.pem", "ca.key"].map(|name| self.folder.path().join(name));
        format!(
            "[intercept]\naddress = \"127.0.0.1:0\"\nca = {{ certificate = {certificate:?}, key = {key:?} }}\n{more}\n"
        )
    }
}

struct Intercepting {
    gateway: Gateway,
    upstream: Upstream,
    authority: Authority,
}

impl Intercepting {
    /// Starts a gateway in front of an upstream that responds with [`OK`].
    async fn start(intercept: &str, blocks: &str) -> Self {
        Self::responding(OK, intercept, blocks).await
    }

    async fn responding(response: &str, intercept: &str, blocks: &str) -> Self {
        let upstream = Upstream::responding(response).await;
        let authority = Authority::new();
        let gateway = Gateway::in_front_of(&upstream)
            .with(&authority.toml(intercept))
            .with(blocks)
            .start()
            .await;
        Self {
            gateway,
            upstream,
            authority,
        }
    }

    async fn socket(&self) -> TcpStream {
        let address = self.gateway.app().addresses().intercept[0].to_string();
        within_timeout(TcpStream::connect(address)).await.unwrap()
    }

    /// Sends raw bytes to the proxy and returns the head of its response.
    async fn raw(&self, request: &str) -> Message {
        let mut wire = Wire::new(self.socket().await);
        wire.write(request).await;
        wire.response().await
    }

    /// Opens a tunnel; panics if it is rejected.
    async fn tunnel(&self, host: &str, fields: &str) -> TcpStream {
        let mut socket = self.socket().await;
        let request = connect(&format!("{host}:443"), fields);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within_timeout(socket.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for framing in ["transfer-encoding", "content-length"] {
            assert!(!head.to_lowercase().contains(framing), "{head}");
        }
        socket
    }

    async fn tls(
        &self,
        socket: TcpStream,
        name: &str,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let client = Arc::new(tls_client(Some(&self.authority.root), alpn));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within_timeout(TlsConnector::from(client).connect(name, socket)).await
    }

    /// Opens TLS to a host in a tunnel.
    async fn connect(&self, host: &str, fields: &str) -> Wire {
        let tunnel = self.tunnel(host, fields).await;
        Wire::new(self.tls(tunnel, host, &[]).await.unwrap())
    }

    async fn count(&self, outcome: &str) -> u64 {
        let name =
            format!("citrix_auth_proxy_intercepted_connections_total{{outcome=\"{outcome}\"}} ");
        let metrics = self.gateway.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

fn connect(target: &str, fields: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
}

fn get_from(host: &str, path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n")
}

fn proxy_credentials(name: &str, secret: &str) -> String {
    let credentials = STANDARD.encode(format!("{name}:{secret}"));
    format!("Proxy-Authorization: Basic {credentials}\r\n")
}

#[tokio::test]
async fn request_in_a_tunnel_is_that_to_the_built_in_path() {
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLocation: https://api.cloud.com/y\r\n\
         Set-Cookie: a=b; Domain=api.cloud.com; Path=/\r\nContent-Length: 45\r\n\r\n\
         {\"@odata.nextLink\":\"https://api.cloud.com/n\"}";
    let intercepting = Intercepting::responding(response, "", "").await;
    for alpn in [&[][..], &["http/1.1"]] {
        let tunnel = intercepting.tunnel(API, "").await;
        let mut wire = Wire::new(intercepting.tls(tunnel, API, alpn).await.unwrap());
        for (path, host) in [("/x?q=1", API), ("/monitorodata/x", "API.cloud.com:443")] {
            let fields = "Authorization: Bearer stale\r\n";
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
            wire.write(request).await;
            let response = wire.response().await;
            assert_eq!(response.status(), 200, "{}", response.text());
            assert_eq!(
                response.field("location").as_deref(),
                Some("https://api.cloud.com/y")
            );
            let cookie = "a=b; Domain=api.cloud.com; Path=/";
            assert_eq!(response.field("set-cookie").as_deref(), Some(cookie));
            assert!(response.text().contains("https://api.cloud.com/n"));
            let sent = intercepting.upstream.request().await;
            assert_eq!(sent.line(), format!("GET {path} HTTP/1.1"));
            let token = sent.field("authorization").unwrap();
            assert!(token.starts_with("CwsAuth Bearer=") && !token.contains("stale"));
        }
    }
    let tunnel = intercepting.tunnel(API, "").await;
    let stream = intercepting
        .tls(tunnel, API, &["h2", "http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2_over(stream).await;
    let request = Request::get("https://api.cloud.com/z").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(within_timeout(response).await.unwrap().status(), 200);
    assert_eq!(
        intercepting.upstream.request().await.line(),
        "GET /z HTTP/1.1"
    );
    assert_eq!(intercepting.count("intercepted").await, 3);
}

#[tokio::test]
async fn host_with_a_route_is_that_route() {
    let upstream = Upstream::responding(OK).await;
    let authority = Authority::new();
    let blocks = format!(
        "[[route]]\nprefix = \"/classic/registry\"\nupstream = \"{}\"\n",
        upstream.url()
    );
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .with(&authority.toml(""))
        .with(&blocks)
        .start()
        .await;
    let intercepting = Intercepting {
        gateway,
        upstream,
        authority,
    };
    let host = "registry.citrixworkspacesapi.net";
    let mut wire = intercepting.connect(host, "").await;
    wire.write(get_from(host, "/acme/resourcelocations?a=b", ""))
        .await;
    assert_eq!(wire.response().await.status(), 200);
    let sent = intercepting.upstream.request().await;
    assert_eq!(sent.line(), "GET /acme/resourcelocations?a=b HTTP/1.1");
    let metrics = intercepting.gateway.metrics().await;
    assert!(metrics.contains("requests_total{caller=\"anonymous\",code=\"200\",method=\"GET\",route=\"/classic/registry\"} 1"));
    // The path of another customer's host, and one that no route has.
    let mut wire = intercepting.connect(API, "").await;
    wire.write(get_from(API, "/classic/registry/x", "")).await;
    wire.response().await.problem(404, "no_route");
}

#[tokio::test]
async fn caller_of_connect_is_that_of_the_requests_inside() {
    let rules = block("splunk", SECRET, "paths = [\"/permitted/**\"]");
    let intercepting = Intercepting::start("", &rules).await;
    for fields in [
        String::new(),
        proxy_credentials("splunk", "wrong"),
        proxy_credentials("other", SECRET),
        format!("X-Api-Key: {SECRET}\r\n"),
        format!("Authorization: Bearer {SECRET}\r\n"),
    ] {
        let rejected = intercepting
            .raw(&connect("api.cloud.com:443", &fields))
            .await;
        rejected.problem(407, "caller_unknown");
        let challenge = rejected.field("proxy-authenticate").unwrap();
        assert!(challenge.starts_with("Basic "), "{challenge}");
        assert!(!rejected.has("www-authenticate"));
    }
    assert_eq!(intercepting.count("unauthenticated").await, 5);
    // The same connection, as Java and .NET do.
    let mut socket = Wire::new(intercepting.socket().await);
    socket.write(connect("api.cloud.com:443", "")).await;
    assert_eq!(socket.response().await.status(), 407);
    let credentials = proxy_credentials("splunk", SECRET);
    socket
        .write(connect("api.cloud.com:443", &credentials))
        .await;
    assert_eq!(socket.head().await.status(), 200);
    let mut wire = intercepting.connect(API, &credentials).await;
    for (path, status) in [("/permitted/x", 200), ("/other", 403)] {
        let fields = "Authorization: Bearer stale\r\n";
        wire.write(format!(
            "GET {path} HTTP/1.1\r\nHost: {API}\r\n{fields}\r\n"
        ))
        .await;
        let response = wire.response().await;
        assert_eq!(response.status(), status, "{}", response.text());
    }
    let sent = intercepting.upstream.request().await;
    assert!(!sent.has("proxy-authorization"));
    let metrics = intercepting.gateway.metrics().await;
    assert!(
        metrics.contains(
            "requests_total{caller=\"splunk\",code=\"200\",method=\"GET\",route=\"/\"} 1"
        )
    );
}

#[tokio::test]
async fn changed_caller_must_connect_again() {
    let mut intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let credentials = proxy_credentials("splunk", SECRET);
    let mut wire = intercepting.connect(API, &credentials).await;
    let other = block("splunk", "c4nary-another-secret", "");
    let toml = format!("{}{other}", intercepting.authority.toml(""));
    intercepting.gateway.reload(&toml);
    wire.write(get_from(API, "/x", "")).await;
    wire.response().await.problem(403, "caller_forbidden");
}

#[tokio::test]
async fn login_of_the_tool_is_served_here() {
    let intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let credentials = proxy_credentials("splunk", SECRET);
    let form = "grant_type=client_credentials&client_id=any&client_secret=thing";
    let json = "{\"clientId\":\"any\",\"clientSecret\":\"thing\"}";
    for (host, path, kind, body, field) in [
        (
            API,
            "/cctrustoauth2/acme/tokens/clients",
            "application/x-www-form-urlencoded",
            form,
            "access_token",
        ),
        (
            "trust.citrixworkspacesapi.net",
            "/acme/tokens/clients",
            "application/json",
            json,
            "token",
        ),
    ] {
        let mut wire = intercepting.connect(host, &credentials).await;
        let length = body.len();
        wire.write(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        let response = wire.response().await;
        assert_eq!(response.status(), 200, "{}", response.text());
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        let token = body[field].as_str().unwrap();
        // It is that of the tunnel's caller.
        let bearing = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(
            intercepting
                .gateway
                .raw(get_with("/x", &bearing))
                .await
                .status(),
            200
        );
    }
    let host = "trust.citrixworkspacesapi.net";
    let mut wire = intercepting.connect(host, &credentials).await;
    wire.write(get_from(host, "/acme/other", "")).await;
    wire.response().await.problem(404, "no_route");
    assert_eq!(
        intercepting.upstream.connections(),
        1,
        "no login is forwarded"
    );
}

#[tokio::test]
async fn names_of_connect_tls_and_request_must_agree() {
    let intercepting = Intercepting::start("", "").await;
    let tunnel = intercepting.tunnel(API, "").await;
    let error = intercepting.tls(tunnel, "api-eu.cloud.com", &[]).await;
    assert!(error.is_err());
    for host in [
        "api-eu.cloud.com",
        "api.cloud.com:8443",
        "api.cloud.com.",
        "localhost",
    ] {
        let mut wire = intercepting.connect(API, "").await;
        wire.write(get_from(host, "/x", "")).await;
        wire.response().await.problem(421, "foreign_host");
    }
    assert_eq!(intercepting.count("handshake_failed").await, 1);
    assert_eq!(intercepting.upstream.connections(), 0);
}

#[tokio::test]
async fn tls_without_connect_is_served_by_its_name() {
    let intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let socket = intercepting.socket().await;
    let mut wire = Wire::new(intercepting.tls(socket, API, &[]).await.unwrap());
    wire.write(format!("GET /x HTTP/1.1\r\nHost: {API}\r\n\r\n"))
        .await;
    wire.response().await.problem(401, "caller_unknown");
    wire.write(get_from(API, "/x", &format!("X-Api-Key: {SECRET}\r\n")))
        .await;
    assert_eq!(wire.response().await.status(), 200);
    for name in [
        "bank.example",
        "cloud.com",
        "contoso.xendesktop.net",
        "localhost",
        "127.0.0.1",
    ] {
        let socket = intercepting.socket().await;
        let error = intercepting.tls(socket, name, &[]).await;
        assert!(error.is_err(), "{name}");
    }
    // A client may see the alert first.
    wait_until("handshakes are counted", || async {
        intercepting.count("handshake_failed").await == 5
    })
    .await;
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_the_tunnel_of_a_browser() {
    let intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let credentials = proxy_credentials("splunk", SECRET);
    for fields in [
        "Origin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        let mut wire = intercepting.connect(API, &credentials).await;
        wire.write(get_from(API, "/x", fields)).await;
        wire.response().await.problem(403, "caller_forbidden");
    }
}

#[tokio::test]
async fn absolute_target_is_served_like_the_path() {
    let intercepting = Intercepting::start("", &block("splunk", SECRET, "")).await;
    let credentials = proxy_credentials("splunk", SECRET);
    let get = |target: &str, host: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n")
    };
    let served = intercepting
        .raw(&get("http://api.cloud.com/x?y", API, &credentials))
        .await;
    assert_eq!(served.status(), 200, "{}", served.text());
    let sent = intercepting.upstream.request().await;
    assert_eq!(sent.line(), "GET /x?y HTTP/1.1");
    assert!(!sent.has("proxy-authorization"));
    let unknown = intercepting
        .raw(&get("http://api.cloud.com/x", API, ""))
        .await;
    unknown.problem(407, "caller_unknown");
    for (target, host, status) in [
        ("http://bank.example/x", "bank.example", 403),
        ("http://127.0.0.1/x", "127.0.0.1", 403),
        ("http://169.254.169.254/latest", "169.254.169.254", 403),
        ("http://localhost/x", "localhost", 403),
        ("http://api.cloud.com:8080/x", "api.cloud.com:8080", 403),
        ("http://api.cloud.com./x", "api.cloud.com.", 403),
        ("http://[::1]/x", "[::1]", 403),
        ("http://me@api.cloud.com/x", API, 400),
        ("http://api.cloud.com/x", "bank.example", 400),
        ("/x", API, 400),
        ("ftp://api.cloud.com/x", API, 400),
    ] {
        let rejected = intercepting.raw(&get(target, host, &credentials)).await;
        assert_eq!(rejected.status(), status, "{target}: {}", rejected.text());
    }
    let login = "POST http://bank.example/acme/tokens/clients HTTP/1.1\r\nHost: bank.example\r\n\
                 Connection: close\r\nContent-Length: 0\r\n";
    let rejected = intercepting.raw(&format!("{login}{credentials}\r\n")).await;
    rejected.problem(403, "caller_forbidden");
    assert_eq!(intercepting.upstream.connections(), 1);
}

/// Targets with the status of their rejection; `PORT` is that of a trap on this machine.
const HOSTILE: [(&str, u16); 55] = [
    ("127.0.0.1:PORT", 403),
    ("localhost:PORT", 403),
    ("[::1]:PORT", 403),
    ("api.cloud.com:PORT", 403),
    ("a.tunnel.example:PORT", 403),
    ("127.0.0.1:443", 403),
    ("127.1:443", 403),
    ("0x7f.1:443", 403),
    ("0x7f000001:443", 403),
    ("2130706433:443", 403),
    ("0177.0.0.1:443", 403),
    ("0:443", 403),
    ("0.0.0.0:443", 403),
    ("10.0.0.1:443", 403),
    ("192.168.0.1:443", 403),
    ("169.254.169.254:443", 403),
    ("169.254.169.254:80", 403),
    ("[::1]:443", 403),
    ("[::]:443", 403),
    ("[::ffff:127.0.0.1]:443", 403),
    ("[fe80::1]:443", 403),
    ("localhost:443", 403),
    ("LOCALHOST:443", 403),
    ("a.localhost:443", 403),
    ("metadata.google.internal:443", 403),
    ("bank.example:443", 403),
    ("tunnel.example:443", 403),
    ("eviltunnel.example:443", 403),
    ("a.tunnel.example.evil.example:443", 403),
    ("api.cloud.com.evil.example:443", 403),
    ("api.cloud.com:80", 403),
    ("api.cloud.com:22", 403),
    ("api.cloud.com:0443", 403),
    ("api.cloud.com.:443", 403),
    ("contoso.xendesktop.net:443", 403),
    ("errors-api.cloud.com:443", 403),
    ("me@api.cloud.com:443", 403),
    ("api.cloud.com:443@evil.example:443", 403),
    ("api.cloud.com:443:443", 400),
    ("api.cloud.com", 400),
    ("api.cloud.com:", 400),
    ("api.cloud.com:99999", 403),
    ("api.cloud.com:443/", 400),
    ("https://api.cloud.com:443", 400),
    ("http://api.cloud.com:443/", 400),
    ("/", 400),
    ("*", 400),
    (":443", 400),
    ("api.cloud.com%00.evil.example:443", 400),
    ("api..cloud.com:443", 400),
    ("api.cloud.com\0:443", 400),
    ("api.cloud.com :443", 400),
    ("\u{430}pi.cloud.com:443", 400),
    ("a.tunnel.example:443", 502),
    ("b.tunnel.example:443", 502),
];

/// Malformed requests.
const MALFORMED: [&str; 5] = [
    "CONNECT api.cloud.com:443 HTTP/1.1\r\nHost: a b\r\n\r\n",
    "CONNECT api.cloud.com:443 HTTP/1.1\r\n\r\n",
    "CONNECT api.cloud.com:443 HTTP/1.1\r\nHost: api.cloud.com\r\nHost: api.cloud.com\r\n\r\n",
    "CONNECT api.cloud.com:443 HTTP/1.1\r\nHost: api.cloud.com\r\nContent-Length: 4\r\n\r\nGET ",
    "CONNECT api.cloud.com:443 HTTP/1.1\r\nHost: api.cloud.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

#[tokio::test]
async fn hostile_targets_reach_nothing() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port().to_string();
    let resolve = "[upstream.resolve]\n\"a.tunnel.example\" = [\"127.0.0.1\"]\n\
                   \"b.tunnel.example\" = [\"10.0.0.1\", \"169.254.169.254\", \"::1\"]\n";
    let intercepting = Intercepting::start(
        "tunnel = [\"*.tunnel.example\", \"localhost.example\"]",
        resolve,
    )
    .await;
    for (target, status) in HOSTILE {
        let target = target.replace("PORT", &port);
        let request =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        let response = intercepting.raw(&request).await;
        // hyper rejects some targets itself.
        let permitted = response.status() == status || (status == 403 && response.status() == 400);
        assert!(
            permitted,
            "{target:?}: {} {}",
            response.status(),
            response.text()
        );
    }
    for request in MALFORMED {
        assert_eq!(intercepting.raw(request).await.status(), 400, "{request}");
    }
    // Some clients send the name of the proxy; the target alone counts.
    let request = "CONNECT bank.example:443 HTTP/1.1\r\nHost: api.cloud.com:443\r\n\r\n";
    assert_eq!(intercepting.raw(request).await.status(), 403);
    let mut wire = Wire::new(intercepting.socket().await);
    wire.write("CONNECT api.cloud.com:443 HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.status(), 200);
    // Nothing but the upstream of the configuration is ever connected to.
    // A connection would be in the queue of the kernel.
    let accepted = trap.into_std().unwrap().accept();
    assert!(accepted.is_err());
    assert_eq!(intercepting.upstream.connections(), 0);
    assert_eq!(intercepting.count("tunnelled").await, 0);
    // The ordinary listener opens no tunnel.
    let response = intercepting
        .gateway
        .raw(connect("api.cloud.com:443", "Connection: close\r\n"))
        .await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn tunnel_of_a_named_host_passes_bytes_unread() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = echo.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    });
    let egress = EgressProxy::tunnelling_to(address).await;
    let authority = Authority::new();
    let gateway = Gateway::in_front_of(&Upstream::refusing())
        .set("HTTPS_PROXY", &egress.url(""))
        .set("NO_PROXY", "127.0.0.1")
        .with(&authority.toml("tunnel = [\"*.blob.core.windows.net\"]"))
        .start()
        .await;
    let upstream = Upstream::refusing();
    let intercepting = Intercepting {
        gateway,
        upstream,
        authority,
    };
    let mut tunnel = intercepting.tunnel("a.blob.core.windows.net", "").await;
    tunnel.write_all(b"\x16anything\r\n\r\n").await.unwrap();
    let mut echoed = [0; 13];
    within_timeout(tunnel.read_exact(&mut echoed))
        .await
        .unwrap();
    assert_eq!(&echoed, b"\x16anything\r\n\r\n");
    tunnel.shutdown().await.unwrap();
    assert_eq!(within_timeout(tunnel.read(&mut echoed)).await.unwrap(), 0);
    assert_eq!(egress.tunnel_count("a.blob.core.windows.net:443"), 1);
    assert_eq!(intercepting.count("tunnelled").await, 1);
}

#[tokio::test]
async fn fixed_addresses_replace_those_of_the_resolver() {
    let cloud = Cloud::start().await;
    let port = cloud.emulator.address().port();
    let customer = cloud.emulator.customer_id();
    let gateway = Gateway::in_front_of_cloud(&cloud)
        .set(
            "CITRIX_AUTH_PROXY_CITRIX__API_URL",
            &format!("https://api.cloud.com:{port}"),
        )
        .set(
            "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL",
            &format!("https://api.cloud.com:{port}/cctrustoauth2/{customer}/tokens/clients"),
        )
        .with("[upstream.resolve]\n\"api.cloud.com\" = [\"127.0.0.1\"]\n")
        .start()
        .await;
    let response = gateway.raw(get_with("/echo", "")).await;
    assert_eq!(response.status(), 200, "{}", response.text());
}
