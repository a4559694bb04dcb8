//! The gateway in a separate process, under callgrind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::Fallible;
use crate::caller::Caller;
use crate::profile::Counts;

/// Prefix of the names of profiles.
const PROFILE: &str = "profile";

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
    /// Profiles written so far, each a file per thread.
    profiles: usize,
    last_profile: PathBuf,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready. Its instructions are not counted yet.
    pub(crate) fn start(toml: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.toml");
        fs::write(&file, toml)?;
        let mut child = Command::new("valgrind")
            .args([
                "--tool=callgrind",
                "--instr-atstart=no",
                "--separate-threads=yes",
            ])
            .arg(option("--vgdb-prefix=", folder.path(), "vgdb"))
            .arg(option("--log-file=", folder.path(), "valgrind.log"))
            .arg(option("--callgrind-out-file=", folder.path(), PROFILE))
            .arg(binary()?)
            .arg("--config")
            .arg(&file)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("valgrind (a package of that name): {error}"))?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            let line = lines.next().ok_or("the gateway exited")??;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            let message = line["message"].as_str().unwrap_or_default();
            if message.starts_with("listening") {
                addresses.push(line["address"].as_str().unwrap_or_default().parse()?);
            }
        }
        // Drains the pipe: a full one would block the gateway.
        thread::spawn(move || lines.for_each(drop));
        let gateway = Self {
            child,
            address: addresses[0],
            folder,
            profiles: 0,
            last_profile: PathBuf::new(),
        };
        let ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        while Caller::connect(addresses[1])?.status(ready)? != 200 {
            thread::sleep(Duration::from_millis(50));
        }
        Ok(gateway)
    }

    /// Counts from now on.
    pub(crate) fn count(&self) -> Fallible<()> {
        self.control(&["instrumentation", "on"])
    }

    /// Returns what the worker did since the previous call, or since the count began. Other threads
    /// write logs and keep time, whatever the requests.
    pub(crate) fn counts(&mut self) -> Fallible<Counts> {
        self.control(&["dump"])?;
        self.profiles += 1;
        let prefix = format!("{PROFILE}.{}-", self.profiles);
        let mut busiest = (Counts::default(), PathBuf::new());
        for file in fs::read_dir(self.folder.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(&prefix) {
                busiest = busiest.max((Counts::read(&file.path())?, file.path()));
            }
        }
        self.last_profile = busiest.1;
        Ok(busiest.0)
    }

    /// Keeps the profile of the last [`Gateway::counts`] for `callgrind_annotate`.
    pub(crate) fn keep_profile(&self, name: &str) -> Fallible<()> {
        let folder = target()?.join("instructions");
        fs::create_dir_all(&folder)?;
        fs::copy(
            &self.last_profile,
            folder.join(name).with_extension("profile"),
        )?;
        Ok(())
    }

    fn control(&self, command: &[&str]) -> Fallible<()> {
        let done = Command::new("vgdb")
            .arg(format!("--pid={}", self.child.id()))
            .arg(option("--vgdb-prefix=", self.folder.path(), "vgdb"))
            .args(command)
            .output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("vgdb: {}", String::from_utf8_lossy(&done.stderr)).into())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Fails if the process has exited, which is harmless.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn option(name: &str, folder: &Path, file: &str) -> String {
    format!("{name}{}", folder.join(file).display())
}

/// Returns the folder of build results.
fn target() -> Fallible<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(3).ok_or("no target folder")?.to_owned())
}

/// Returns the binary of `just dist`.
fn binary() -> Fallible<PathBuf> {
    if let Some(named) = std::env::var_os("GATEWAY") {
        return Ok(named.into());
    }
    let path = target()?.join("dist/citrix-auth-proxy");
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} does not exist; build it: just dist", path.display()).into())
}
