//! Gateways in processes of their own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::client::get;
use crate::cloud::Cloud;
use crate::{Fallible, percent};

/// The key of every fleet here.
const KEY: &str = "a key of the bench, 32 bytes or more";
/// Longest wait for a gateway to start, to join or to end.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// Clock ticks per second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// A running gateway, killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    _folder: TempDir,
}

/// Returns the binary that `GATEWAY` names. Without it: the one that cargo built with this bench,
/// or, for a bench without optimization, the shipped one, which `just dist` builds.
pub(crate) fn binary() -> Fallible<PathBuf> {
    if let Some(named) = std::env::var_os("GATEWAY") {
        return Ok(named.into());
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_citrix-auth-proxy"));
    if !cfg!(debug_assertions) {
        return Ok(built);
    }
    let target = built.ancestors().nth(2).ok_or("no target folder")?;
    let shipped = target.join("dist/citrix-auth-proxy");
    if shipped.exists() {
        return Ok(shipped);
    }
    Err(format!("{} does not exist; build it: just dist", shipped.display()).into())
}

/// Returns the table `[fleet]` of replicas that share a store.
pub(crate) fn sharing(url: &str, replicas: usize) -> String {
    format!("[fleet]\nurl = '{url}'\nkey = '{KEY}'\nreplicas = {replicas}\n")
}

/// Starts replicas with one configuration and waits until they have joined their store.
pub(crate) async fn start_joined(
    count: usize,
    configuration: &str,
    url: &str,
) -> Fallible<Vec<Gateway>> {
    let configuration = format!("{configuration}{}", sharing(url, count));
    let replicas = start_ready(count, &configuration).await?;
    for replica in &replicas {
        replica.joined().await?;
    }
    Ok(replicas)
}

/// Starts replicas with one configuration at the same time and waits until they are ready.
pub(crate) async fn start_ready(count: usize, configuration: &str) -> Fallible<Vec<Gateway>> {
    let start = |_| async {
        let gateway = Gateway::start(configuration).await?;
        gateway.ready().await?;
        Fallible::Ok(gateway)
    };
    try_join_all((0..count).map(start)).await
}

impl Gateway {
    /// Starts a gateway and waits until it listens.
    pub(crate) async fn start(configuration: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.toml");
        fs::write(&file, configuration)?;
        let mut child = Command::new(binary()?)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let mut gateway = Self {
            child,
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            admin: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            _folder: folder,
        };
        let addresses = tokio::task::spawn_blocking(move || {
            let mut addresses = Vec::new();
            while addresses.len() < 2 {
                let line = lines.next().ok_or("the gateway exited")??;
                let line: Value = serde_json::from_str(&line)?;
                let message = line["message"].as_str().unwrap_or_default();
                if message.starts_with("listening") {
                    addresses.push(line["address"].as_str().unwrap_or_default().parse()?);
                }
            }
            // Drains the pipe: a full one would block the gateway.
            std::thread::spawn(move || lines.for_each(drop));
            Fallible::Ok(addresses)
        });
        let addresses = timeout(DEADLINE, addresses).await???;
        (gateway.address, gateway.admin) = (addresses[0], addresses[1]);
        Ok(gateway)
    }

    /// Waits until it has a token.
    pub(crate) async fn ready(&self) -> Fallible<()> {
        let ready = async {
            while self.admin("/readyz").await?.0 != 200 {
                sleep(POLL).await;
            }
            Fallible::Ok(())
        };
        timeout(DEADLINE, ready).await?
    }

    /// Waits until it has joined its store.
    pub(crate) async fn joined(&self) -> Fallible<()> {
        let joined = async {
            while self.status().await?["fleet"]["state"] != "joined" {
                sleep(POLL).await;
            }
            Fallible::Ok(())
        };
        timeout(DEADLINE, joined).await?
    }

    /// Returns the content of `/status.json`.
    pub(crate) async fn status(&self) -> Fallible<Value> {
        Ok(serde_json::from_slice(
            &self.admin("/status.json").await?.1,
        )?)
    }

    async fn admin(&self, path: &str) -> Fallible<(u16, bytes::Bytes)> {
        get(Ipv4Addr::LOCALHOST, self.admin, path).await
    }

    /// Returns the processor time used so far.
    pub(crate) fn processor_time(&self) -> Fallible<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in parentheses, may contain spaces.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.map(|field| field.parse().unwrap_or(0.0)).sum();
        Ok(Duration::from_secs_f64(ticks / TICKS))
    }

    /// Ends it without notice.
    pub(crate) fn kill(&mut self) {
        // Fails if the process has exited, which is harmless.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Requests it to end its exchanges and exit.
    pub(crate) fn terminate(&self) -> Fallible<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Waits until it has exited.
    pub(crate) async fn exited(&mut self) -> Fallible<ExitStatus> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                return Err("the gateway does not exit".into());
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends one query through each replica, so that the grace period of a new fleet is over.
pub(crate) async fn warm_up(replicas: &[Gateway], path: &str) -> Fallible<()> {
    for replica in replicas {
        let query = get(Ipv4Addr::LOCALHOST, replica.address, path);
        let (status, _) = timeout(DEADLINE, query).await??;
        if status != 200 {
            return Err(format!("{status} for the first query").into());
        }
    }
    Ok(())
}

/// Describes the permits of Monitor OData at Citrix: the peak and the rejections.
pub(crate) fn at_citrix(cloud: &Cloud) -> String {
    let monitor = cloud.monitor();
    format!(
        "at Citrix at most {} at once, {} × 429 ({})",
        monitor.concurrency_peak,
        monitor.rate_limited,
        percent(
            monitor.rate_limited,
            monitor.requests + monitor.rate_limited
        ),
    )
}
