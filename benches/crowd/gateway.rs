//! The gateway in a separate process.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Fallible, upstream};

/// A running gateway with its upstream; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: SocketAddr,
    admin: SocketAddr,
    certificate: CertificateDer<'static>,
    _folder: TempDir,
}

impl Gateway {
    pub(crate) async fn start() -> Fallible<Self> {
        Self::start_with("").await
    }

    /// Starts a gateway with `extra_toml` appended to its configuration.
    pub(crate) async fn start_with(extra_toml: &str) -> Fallible<Self> {
        let upstream = format!("http://{}", upstream::start().await?);
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let folder = tempfile::tempdir()?;
        let (certificate, key) = (
            folder.path().join("gateway.crt"),
            folder.path().join("gateway.key"),
        );
        fs::write(&certificate, issued.cert.pem())?;
        fs::write(&key, issued.signing_key.serialize_pem())?;
        let file = folder.path().join("gateway.toml");
        let toml = format!(
            "[citrix]\ncustomer_id = 'acme'\nclient_id = 'bench'\nclient_secret = 'bench'\ninstance_id = ''\n\
             api_url = '{upstream}'\ntoken_url = '{upstream}/token'\n\
             [listen]\naddress = '127.0.0.1:0'\nworkers = 2\n\
             tls = {{ address = '127.0.0.1:0', certificate = '{}', key = '{}' }}\n\
             [admin]\naddress = '127.0.0.1:0'\n\
             [limits]\nmax_connections = 20000\n[log]\naccess = false\n{extra_toml}",
            certificate.display(),
            key.display(),
        );
        fs::write(&file, toml)?;
        let program =
            std::env::var("GATEWAY").unwrap_or(env!("CARGO_BIN_EXE_citrix-auth-proxy").to_owned());
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let mut addresses = Vec::new();
        while addresses.len() < 3 {
            let line = lines.next().ok_or("the gateway exited")??;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            if line["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("listening"))
            {
                addresses.push(line["address"].as_str().unwrap_or_default().parse()?);
            }
        }
        // Drains the pipe: a full one would block the gateway.
        std::thread::spawn(move || lines.for_each(drop));
        let gateway = Self {
            child,
            address: addresses[0],
            tls_address: addresses[1],
            admin: addresses[2],
            certificate: issued.cert.der().clone(),
            _folder: folder,
        };
        while !gateway
            .get_admin("/readyz")
            .await?
            .starts_with("HTTP/1.1 200")
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident(&self) -> Fallible<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Returns the value of the metric `in_flight_requests`.
    pub(crate) async fn in_flight(&self) -> Fallible<String> {
        let metrics = self.get_admin("/metrics").await?;
        let value = |line: &str| {
            line.strip_prefix("citrix_auth_proxy_in_flight_requests ")
                .map(str::to_owned)
        };
        Ok(metrics.lines().find_map(value).ok_or("no such metric")?)
    }

    async fn get_admin(&self, path: &str) -> Fallible<String> {
        let mut socket = TcpStream::connect(self.admin).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        socket.read_to_string(&mut response).await?;
        Ok(response)
    }

    /// Returns a TLS client configuration that trusts this gateway.
    pub(crate) fn tls_client(&self, alpn: &str) -> Fallible<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(Arc::new(tls))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails if the process has exited, which is harmless.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
