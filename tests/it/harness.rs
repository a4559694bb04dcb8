//! A gateway between a caller and an upstream of the test, each on its own loopback port.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use citrix_auth_proxy::app::{App, NewConfig};
use citrix_auth_proxy::config::{self, BindAddress, Changes};
use citrix_auth_proxy::system::clock::Clock;
use citrix_auth_proxy::upstream::tls::UpstreamTls;
use citrix_emulator::{Emulator, Options, Tls};
use h2::client::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::NamedTempFile;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

pub use testkit::egress::EgressProxy;
pub use testkit::pki;
pub use testkit::token_endpoint::{REJECTED_TRANSACTION_ID, TOKEN, TokenEndpoint};
pub use testkit::upstream::{OK, Upstream};
pub use testkit::wire::{Message, Wire, wait_until, within_timeout};

/// The secret of the API client of every gateway in these tests.
pub const SECRET: &str = "c4nary-client-secret==";
/// The site id that tests configure.
pub const SITE: &str = "61603f15-cdf9-4c7f-99ff-91636601a795";

/// Returns a GET request with `Connection: close`.
pub fn get(path: &str) -> String {
    get_with(path, "")
}

/// Like [`get`] with more header lines, each with its line end. `Host` is that of an absolute
/// target.
pub fn get_with(target: &str, fields: &str) -> String {
    let host = target
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?']).next());
    let host = host.unwrap_or("localhost");
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n")
}

pub struct Gateway {
    app: App,
    settings: BTreeMap<String, String>,
    /// The token endpoint, unless an emulator issues the tokens.
    pub logins: TokenEndpoint,
}

/// The settings of a gateway before it starts.
pub struct Plan {
    settings: BTreeMap<String, String>,
    toml: String,
    logins: Option<TokenEndpoint>,
    clock: Clock,
}

impl Gateway {
    /// Returns the plan of a gateway whose `api_url` is that of `upstream`.
    pub fn in_front_of(upstream: &Upstream) -> Plan {
        Self::with_api_url(&upstream.url())
    }

    /// Returns the plan of a gateway with this `api_url`.
    pub fn with_api_url(url: &str) -> Plan {
        Plan::new([("CITRIX_AUTH_PROXY_CITRIX__API_URL", url.to_owned())])
    }

    /// Returns the plan of a gateway for the emulator's customer.
    pub fn in_front_of_cloud(cloud: &Cloud) -> Plan {
        let emulator = &cloud.emulator;
        Plan::new([
            ("CITRIX_AUTH_PROXY_CITRIX__API_URL", emulator.base_url()),
            (
                "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL",
                emulator.token_url(emulator.customer_id()),
            ),
            ("CITRIX_CLIENT_ID", emulator.client_id().to_owned()),
            ("CITRIX_CLIENT_SECRET", emulator.client_secret().to_owned()),
            (
                "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE",
                cloud.ca.path().display().to_string(),
            ),
        ])
    }

    /// Returns the plan of a gateway that uses Citrix's real names, which only `proxy` can resolve.
    pub fn behind(proxy: &EgressProxy, cloud: &Cloud) -> Plan {
        let customer = cloud.emulator.customer_id();
        Self::in_front_of_cloud(cloud)
            .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", "https://api.cloud.com")
            .set(
                "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL",
                &format!("https://api.cloud.com/cctrustoauth2/{customer}/tokens/clients"),
            )
            .set("HTTPS_PROXY", &proxy.url(""))
    }

    /// Returns the plan of a gateway for the customers of `[[customer]]` blocks, each with its own
    /// token endpoint.
    pub fn for_customers(blocks: &str) -> Plan {
        let citrix = [
            "CITRIX_CUSTOMER_ID",
            "CITRIX_CLIENT_ID",
            "CITRIX_CLIENT_SECRET",
        ];
        citrix
            .into_iter()
            .fold(Plan::new([]), Plan::without)
            .with(blocks)
    }

    /// Returns the address for callers.
    pub fn address(&self) -> String {
        self.app.addresses().listeners[0].0.to_string()
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> String {
        self.app.addresses().admin.to_string()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Opens a caller connection.
    pub async fn connect(&self) -> Wire {
        match &self.app.addresses().listeners[0].0 {
            BindAddress::Tcp(address) => {
                let socket = within_timeout(TcpStream::connect(address)).await.unwrap();
                // Small writes are sent at once.
                socket.set_nodelay(true).unwrap();
                Wire::new(socket)
            }
            BindAddress::Unix(path) => {
                Wire::new(within_timeout(UnixStream::connect(path)).await.unwrap())
            }
        }
    }

    /// Sends `request` on a new connection and returns the response.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Message {
        let mut wire = self.connect().await;
        wire.write(request).await;
        wire.response().await
    }

    /// Like [`Gateway::raw`], and returns all bytes after the head until the connection closes.
    pub async fn raw_head(&self, request: impl AsRef<[u8]>) -> (Message, Vec<u8>) {
        let mut wire = self.connect().await;
        wire.write(request).await;
        (wire.head().await, wire.rest().await)
    }

    /// Sends `request` to the admin listener and returns the response.
    pub async fn admin(&self, request: impl AsRef<[u8]>) -> Message {
        let mut wire = Wire::new(
            TcpStream::connect(self.app.addresses().admin)
                .await
                .unwrap(),
        );
        wire.write(request).await;
        wire.response().await
    }

    /// Returns the text of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.admin(get("/metrics")).await.text()
    }

    /// Opens an HTTP/2 connection with prior knowledge.
    pub async fn http2(&self) -> SendRequest<Bytes> {
        http2_over(TcpStream::connect(self.address()).await.unwrap()).await
    }

    /// Opens a TLS connection; also returns the protocol selected by ALPN.
    pub async fn connect_tls(&self, ca: &str, alpn: &[&str]) -> (Wire, Option<String>) {
        let connector = TlsConnector::from(Arc::new(tls_client(Some(ca), alpn)));
        let socket = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = within_timeout(connector.connect(name, socket))
            .await
            .unwrap();
        let agreed = stream
            .get_ref()
            .1
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        (Wire::new(stream), agreed)
    }

    /// Applies a new TOML configuration; the environment is unchanged.
    pub fn reload(&mut self, toml: &str) -> Changes {
        let config = config::from_toml(toml, self.settings.clone()).unwrap();
        let tls = UpstreamTls::new(&config.live.upstream).unwrap();
        self.app.reload(NewConfig { config, tls })
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn into_app(self) -> App {
        self.app
    }
}

impl Plan {
    fn new(settings: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut plan = Self {
            settings: BTreeMap::new(),
            toml: String::new(),
            logins: None,
            clock: Clock::SYSTEM,
        };
        for (name, value) in [
            ("CITRIX_CUSTOMER_ID", "acme"),
            ("CITRIX_CLIENT_ID", "client"),
            ("CITRIX_CLIENT_SECRET", SECRET),
            ("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "127.0.0.1:0"),
            // One worker has one pool, so that tests know which connection is used next.
            ("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "1"),
            ("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", "127.0.0.1:0"),
        ] {
            plan.settings.insert(name.to_owned(), value.to_owned());
        }
        plan.settings.extend(
            settings
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        plan
    }

    /// Adds TOML.
    pub fn with(mut self, toml: &str) -> Self {
        writeln!(self.toml, "{toml}").unwrap();
        self
    }

    /// Sets a key by its variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable that the harness sets, so that the TOML decides.
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Listens on a unix socket.
    pub fn on_socket(self, path: &Path) -> Self {
        self.set(
            "CITRIX_AUTH_PROXY_LISTEN__ADDRESS",
            &format!("unix:{}", path.display()),
        )
    }

    /// Replaces the default token endpoint, which issues a token for each login.
    pub fn logging_in_at(mut self, logins: TokenEndpoint) -> Self {
        self.logins = Some(logins);
        self
    }

    /// Replaces the clock by one that the test advances.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub async fn start(mut self) -> Gateway {
        let logins = match self.logins {
            Some(logins) => logins,
            None => TokenEndpoint::granting().await,
        };
        // `[[customer]]` blocks set these themselves.
        if self.settings.contains_key("CITRIX_CUSTOMER_ID") {
            let token_url = "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL".to_owned();
            self.settings
                .entry(token_url)
                .or_insert_with(|| logins.url());
        }
        let config = config::from_toml(&self.toml, self.settings.clone()).unwrap();
        let app = App::start(config, self.clock, None).await.unwrap();
        Gateway {
            app,
            settings: self.settings,
            logins,
        }
    }
}

/// The emulator with TLS and its CA in a file.
pub struct Cloud {
    pub emulator: Emulator,
    ca: NamedTempFile,
}

impl Cloud {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let emulator = citrix_emulator::start(Options {
            tls: Tls::SelfSigned,
            ..options
        })
        .await
        .unwrap();
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), emulator.ca_pem().unwrap()).unwrap();
        Self { emulator, ca }
    }

    /// Returns the path of the CA file.
    pub fn ca_file(&self) -> String {
        self.ca.path().display().to_string()
    }
}

/// Starts HTTP/2 on a byte stream; the connection runs in the background.
pub async fn http2_over(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Bytes> {
    let (sender, connection) = within_timeout(h2::client::handshake(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Returns a TLS configuration that trusts only `ca`.
pub fn tls_client(ca: Option<&str>, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
            .unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    tls
}

/// Returns an HTTP client that follows no redirects.
pub fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls_client(None, &[]));
    builder
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}
