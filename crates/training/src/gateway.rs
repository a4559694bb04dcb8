//! The instrumented gateway in a separate process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use tempfile::TempDir;
use testkit::pki::{TestCa, TlsFiles, tls_client_config};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Fallible;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Mutex<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: SocketAddr,
    /// Trusts the gateway's certificate.
    pub(crate) tls_client: Arc<ClientConfig>,
    _folder: TempDir,
    _tls: TlsFiles,
}

impl Gateway {
    /// Starts a gateway with plain and TLS listeners, and waits until it is ready.
    pub(crate) async fn start(binary: &Path, toml: &str) -> Fallible<Self> {
        let authority = TestCa::new("training");
        let tls = TlsFiles::new(&authority.issue("localhost", &["localhost"]));
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.toml");
        let listeners = tls.toml("address = '127.0.0.1:0'\n");
        fs::write(
            &file,
            format!(
                "{toml}\n[listen]\naddress = '127.0.0.1:0'\nworkers = 1\n{listeners}\
                 [admin]\naddress = '127.0.0.1:0'\n"
            ),
        )?;
        // Without settings of the environment; the instrumented program's own name the profile.
        let kept = ["PATH", "LLVM_PROFILE_FILE"];
        let kept = kept.map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(binary)
            .arg("--config")
            .arg(&file)
            .env_clear()
            .envs(kept.into_iter().flatten())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let log = child.stderr.take().ok_or("no stderr")?;
        let child = Mutex::new(child);
        let [address, tls_address, admin] = read_addresses(BufReader::new(log))?;
        let gateway = Self {
            child,
            address,
            tls_address,
            tls_client: tls_client_config(&authority, None),
            _folder: folder,
            _tls: tls,
        };
        while !is_ready(admin).await? {
            sleep(POLL_INTERVAL).await;
        }
        Ok(gateway)
    }

    /// Drains the gateway, which then writes its profile.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub(crate) async fn stop(&self) -> Fallible<()> {
        let pid = self.with_child(|child| child.id().try_into())?;
        kill_process(Pid::from_raw(pid).ok_or("no process")?, Signal::TERM)?;
        loop {
            match self.with_child(Child::try_wait)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the gateway ended: {status}").into()),
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    fn with_child<T>(&self, use_it: impl FnOnce(&mut Child) -> T) -> T {
        use_it(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.with_child(|child| {
            // Fails if the process has exited, which is harmless.
            child.kill().ok();
            child.wait().ok();
        });
    }
}

/// Reads the addresses of the listeners from the log, and drains the rest of it: a full pipe would
/// block the gateway.
fn read_addresses(log: impl BufRead + Send + 'static) -> Fallible<[SocketAddr; 3]> {
    let mut lines = log.lines();
    let mut addresses = Vec::new();
    let mut read = String::new();
    while addresses.len() < 3 {
        let line = lines
            .next()
            .ok_or_else(|| format!("the gateway exited: {read}"))??;
        read += &line;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let message = line["message"].as_str().unwrap_or_default();
        if message.starts_with("listening") {
            addresses.push(line["address"].as_str().unwrap_or_default().parse()?);
        }
    }
    thread::spawn(move || lines.for_each(drop));
    Ok([addresses[0], addresses[1], addresses[2]])
}

async fn is_ready(admin: SocketAddr) -> Fallible<bool> {
    let io = TokioIo::new(TcpStream::connect(admin).await?);
    let (mut sender, driver) = http1::handshake(io).await?;
    tokio::spawn(driver);
    let request = http::Request::get("/readyz").header("Host", "localhost");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?);
    Ok(response.await?.status().is_success())
}
