//! The gateway in a process of its own: configuration, signals, what it uses.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;
use testkit::pki::{TestCa, TlsFiles, tls_client_config};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::Fallible;
use crate::http1::{Framing, ReadLimits, Reader, Sink};
use crate::plan::HOST;
use crate::series::counter;

/// Longest wait for one response of the admin listener, for the start and for the end.
const DEADLINE: Duration = Duration::from_secs(60);
const CONFIGURATION: &str = "gateway.toml";
const POLL: Duration = Duration::from_millis(50);
/// Bytes of the log that are kept.
const MAX_LOG: u64 = 8 << 20;

/// A running gateway, killed when dropped.
pub(crate) struct Gateway {
    child: Mutex<Child>,
    pid: Pid,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    admin: SocketAddr,
    authority: TestCa,
    /// Trusts the listener's certificate.
    pub(crate) tls_client: Arc<ClientConfig>,
    pub(crate) folder: Folder,
    pub(crate) log: Arc<LogCounts>,
}

/// The files of a gateway.
pub(crate) struct Folder {
    pub(crate) tls: TlsFiles,
    folder: TempDir,
}

impl Folder {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Fallible<()> {
        Ok(fs::write(self.path(name), text)?)
    }
}

/// Lines of the log, counted.
#[derive(Default)]
pub(crate) struct LogCounts {
    access: AtomicU64,
    audit: AtomicU64,
    /// Other lines by level and message.
    others: Mutex<BTreeMap<String, u64>>,
}

impl LogCounts {
    /// Returns the numbers of access and audit lines, and of others by level and message.
    pub(crate) fn get(&self) -> (u64, u64, BTreeMap<String, u64>) {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        (
            self.access.load(Ordering::Relaxed),
            self.audit.load(Ordering::Relaxed),
            others.clone(),
        )
    }
}

impl Gateway {
    /// Starts a gateway with this configuration and waits until it is ready. Lines of its log other
    /// than those of requests are written to `log`.
    pub(crate) async fn start(
        mut command: Command,
        log: PathBuf,
        configuration: impl FnOnce(&Folder) -> Fallible<String>,
    ) -> Fallible<Self> {
        let authority = TestCa::new("soak");
        let folder = Folder {
            tls: TlsFiles::new(&authority.issue(HOST, &[HOST])),
            folder: tempfile::tempdir()?,
        };
        let toml = configuration(&folder)?;
        folder.write(CONFIGURATION, &toml)?;
        let mut child = command
            .arg("--config")
            .arg(folder.path(CONFIGURATION))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let log = Log::open(&log, lines)?;
        let counts = Arc::clone(&log.counts);
        let (mut log, addresses) = tokio::task::spawn_blocking(|| log.addresses()).await??;
        std::thread::spawn(move || while log.next().is_some() {});
        let gateway = Self {
            pid: Pid::from_child(&child),
            child: Mutex::new(child),
            plain: addresses[0],
            tls: addresses[1],
            admin: addresses[2],
            tls_client: tls_client_config(&authority, None),
            authority,
            folder,
            log: counts,
        };
        let ready = async {
            while !gateway
                .admin("/readyz")
                .await
                .is_ok_and(|(status, _)| status == 200)
            {
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, ready).await?;
        Ok(gateway)
    }

    /// Writes a configuration and requests a reload.
    pub(crate) fn reload(&self, toml: &str) -> Fallible<()> {
        self.folder.write(CONFIGURATION, toml)?;
        self.signal(Signal::HUP)
    }

    /// Replaces the listener's certificate and key.
    pub(crate) fn swap_certificate(&self) {
        let next = self.authority.issue(HOST, &[HOST]);
        self.folder.tls.replace(&next);
    }

    fn signal(&self, signal: Signal) -> Fallible<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Returns how it ended, if it did.
    pub(crate) fn exited(&self) -> Fallible<Option<ExitStatus>> {
        Ok(self.with_child(Child::try_wait)?)
    }

    /// Drains it and returns how it ended.
    pub(crate) async fn stop(&self) -> Fallible<ExitStatus> {
        self.signal(Signal::TERM)?;
        let exited = async {
            loop {
                if let Some(status) = self.exited()? {
                    return Ok(status);
                }
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, exited).await?
    }

    fn with_child<T>(&self, use_it: impl FnOnce(&mut Child) -> T) -> T {
        use_it(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the content of `/metrics`.
    pub(crate) async fn metrics(&self) -> Fallible<String> {
        Ok(self.admin("/metrics").await?.1)
    }

    /// Returns the number of connections closed or refused at `limits.max_connections`.
    pub(crate) async fn closed_at_limit(&self) -> Fallible<u64> {
        let metrics = self.metrics().await?;
        let evicted = counter(&metrics, r#"evictions_total{limit="max_connections"}"#);
        Ok(evicted + counter(&metrics, "connections_refused_total"))
    }

    /// Returns name, version and commit of the program.
    pub(crate) async fn program(&self) -> Fallible<Value> {
        let status: Value = serde_json::from_str(&self.admin("/status.json").await?.1)?;
        Ok(status["program"].clone())
    }

    async fn admin(&self, path: &str) -> Fallible<(u16, String)> {
        let request = async {
            let mut wire = Reader::new(TcpStream::connect(self.admin).await?);
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            wire.io.write_all(head.as_bytes()).await?;
            let head = wire.head().await?.ok_or("no response")?;
            let mut body = Sink::Text(Vec::new());
            wire.body(head.framing(Framing::Close), &mut body, ReadLimits::NONE)
                .await?;
            let Sink::Text(body) = body else {
                return Err("no text".into());
            };
            Fallible::Ok((head.status(), String::from_utf8(body)?))
        };
        timeout(DEADLINE, request).await?
    }

    /// Returns its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the content of a file about the process.
    pub(crate) fn process_file(&self, name: &str) -> Fallible<String> {
        let pid = self.pid.as_raw_nonzero();
        Ok(fs::read_to_string(format!("/proc/{pid}/{name}"))?)
    }

    /// Returns the number of its descriptors.
    pub(crate) fn descriptors(&self) -> Fallible<usize> {
        let pid = self.pid.as_raw_nonzero();
        Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
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

/// Returns the binary that `GATEWAY` names, or the one that cargo built with this program.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("GATEWAY");
    named.map_or_else(
        || env!("CARGO_BIN_EXE_citrix-auth-proxy").into(),
        Into::into,
    )
}

/// The log while it is read, to its end: a full pipe would block the gateway.
struct Log {
    lines: Lines<BufReader<ChildStderr>>,
    kept: fs::File,
    bytes: u64,
    counts: Arc<LogCounts>,
}

impl Log {
    fn open(path: &Path, lines: Lines<BufReader<ChildStderr>>) -> Fallible<Self> {
        Ok(Self {
            lines,
            kept: fs::File::create(path)?,
            bytes: 0,
            counts: Arc::default(),
        })
    }

    /// Reads lines until those with the addresses of the three listeners.
    fn addresses(mut self) -> Fallible<(Self, Vec<SocketAddr>)> {
        let mut addresses = Vec::new();
        while addresses.len() < 3 {
            let line = self.next().ok_or("the gateway exited; see its log")?;
            let line: Value = serde_json::from_str(&line)?;
            let message = line["message"].as_str().unwrap_or_default();
            if message.starts_with("listening") {
                addresses.push(line["address"].as_str().unwrap_or_default().parse()?);
            }
        }
        Ok((self, addresses))
    }

    /// Counts the next line and returns it.
    fn next(&mut self) -> Option<String> {
        let line = self.lines.next()?.ok()?;
        if line.contains(r#""target":"access""#) {
            self.counts.access.fetch_add(1, Ordering::Relaxed);
        } else if line.contains(r#""target":"audit""#) {
            self.counts.audit.fetch_add(1, Ordering::Relaxed);
        } else {
            self.keep(&line);
        }
        Some(line)
    }

    fn keep(&mut self, line: &str) {
        let json: Value = serde_json::from_str(line).unwrap_or_default();
        let level = json["level"].as_str().unwrap_or("?");
        let name = match json["message"].as_str() {
            Some(message) => format!("{level} {message}"),
            None => format!("? {}", line.chars().take(80).collect::<String>()),
        };
        let mut others = self
            .counts
            .others
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *others.entry(name).or_default() += 1;
        drop(others);
        self.bytes += line.len() as u64;
        if self.bytes <= MAX_LOG {
            // A log that cannot be kept does not fail the soak.
            writeln!(self.kept, "{line}").ok();
        }
    }
}
