//! A TLS upstream that is token endpoint as well: HTTP/1.1, every response from memory.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use testkit::pki::{TestCa, TlsFiles};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::Fallible;

/// Bytes of a token, as Citrix issues them.
const TOKEN: usize = 2000;
/// Rows of a page with links; one TLS record holds the page.
const ROWS: usize = 100;

/// Serves until dropped.
pub(crate) struct Upstream {
    port: u16,
    files: TlsFiles,
    _runtime: Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Fallible<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let authority = TestCa::new("benchmark");
        let issued = authority.issue("localhost", &["localhost"]);
        let files = TlsFiles::new(&issued);
        files.write("ca.pem", &authority.pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![issued.der()],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
            )?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    socket.set_nodelay(true)?;
                    serve(acceptor.accept(socket).await?, port).await
                });
            }
        });
        Ok(Self {
            port,
            files,
            _runtime: runtime,
        })
    }

    /// Returns the configuration of a gateway for this upstream and one customer.
    pub(crate) fn configuration(&self, more: &str) -> String {
        let customer = self.customer("acme");
        self.configuration_with(&format!("[citrix]\n{customer}{more}"))
    }

    /// Returns the configuration of a gateway, with these customers.
    pub(crate) fn configuration_with(&self, customers: &str) -> String {
        format!(
            "[listen]\naddress = '127.0.0.1:0'\nworkers = 1\n[admin]\naddress = '127.0.0.1:0'\n\
             [upstream]\nca_file = {:?}\n[limits]\nmax_connections = 20000\n[log]\naccess = false\nformat = 'json'\n\
             {customers}",
            self.files.path("ca.pem")
        )
    }

    /// Returns the keys of a customer.
    pub(crate) fn customer(&self, id: &str) -> String {
        let url = self.url();
        format!(
            "customer_id = '{id}'\nclient_id = 'bench'\nclient_secret = 'bench'\ninstance_id = ''\n\
             api_url = '{url}'\ntoken_url = '{url}/cctrustoauth2/{id}/tokens/clients'\n"
        )
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }
}

fn url(port: u16) -> String {
    format!("https://localhost:{port}")
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(io: T, port: u16) -> io::Result<()> {
    let mut io = BufReader::new(io);
    loop {
        let (mut line, mut target, mut length) = (String::new(), String::new(), 0);
        while io.read_line(&mut line).await? > 2 {
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            line.clear();
        }
        if target.is_empty() {
            return Ok(());
        }
        tokio::io::copy(&mut (&mut io).take(length), &mut tokio::io::sink()).await?;
        let body = body(&target, port);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n\
             X-Cws-TransactionId: 0f0e0d0c-6b5f-4d0e-9f1c-0242ac120002\r\nCache-Control: no-cache\r\n\
             Server: bench\r\nDate: Sun, 29 Nov 2026 23:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // One write, so that the gateway reads it at once.
        io.get_mut().write_all((head + &body).as_bytes()).await?;
        io.flush().await?;
    }
}

/// Returns a token, `/bytes/N`, or a page with links.
fn body(target: &str, port: u16) -> String {
    if target.ends_with("/tokens/clients") {
        let token = "t".repeat(TOKEN);
        return format!(
            r#"{{"token_type":"bearer","access_token":"{token}","expires_in":"3600"}}"#
        );
    }
    if let Some(number) = target.strip_prefix("/bytes/") {
        return "x".repeat(number.parse().unwrap_or_default());
    }
    let url = url(port);
    let row = r#"{"Id":"0f0e0d0c-6b5f-4d0e-9f1c-0242ac120002","Name":"DESKTOP\\machine-0001","Registered":true,"Sessions":3}"#;
    format!(
        r#"{{"@odata.context":"{url}/monitorodata/$metadata#Machines","value":[{}],"@odata.nextLink":"{url}/monitorodata/Machines?$skip=100"}}"#,
        vec![row; ROWS].join(",")
    )
}
