//! A primary, its replica, and a sentinel.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::observe::calls_at;
use super::{first_line, program};
use crate::ports::reserve;

const POLL: Duration = Duration::from_millis(50);

/// A primary, its replica, and a sentinel that watches them, on loopback ports.
#[derive(Debug)]
pub struct SentinelSetup {
    server: PathBuf,
    /// The first primary and the first replica.
    servers: [Child; 2],
    ports: [u16; 2],
    sentinel: Child,
    /// The sentinel's port.
    pub port: u16,
    folder: tempfile::TempDir,
}

impl SentinelSetup {
    /// The primary's name at the sentinel.
    pub const MASTER: &str = "main";

    /// Starts all, and waits until the sentinel knows the replica; `None` as
    /// [`StoreServer::start`](super::StoreServer::start).
    pub fn start() -> Option<Self> {
        let server = program()?;
        let folder = tempfile::tempdir().unwrap();
        let [primary, replica, port] = reserve();
        let servers = [
            spawn(&server, folder.path(), primary, None),
            spawn(&server, folder.path(), replica, Some(primary)),
        ];
        let file = folder.path().join("sentinel.conf");
        let name = Self::MASTER;
        // A failover without a usable replica is tried again after twice the failover timeout.
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 1000\n",
            folder.path().display()
        );
        fs::write(&file, settings).unwrap();
        let mut sentinel = Command::new(&server);
        sentinel.arg(file).arg("--sentinel").stdout(Stdio::null());
        let sentinel = sentinel.spawn().unwrap();
        let setup = Self {
            server,
            servers,
            ports: [primary, replica],
            sentinel,
            port,
            folder,
        };
        let known = format!("SENTINEL replicas {name}");
        while setup.run(port, &known).is_none_or(|reply| reply != "*1") {
            sleep(POLL);
        }
        Some(setup)
    }

    /// Runs a command at a port; returns the first line of the reply.
    fn run(&self, port: u16, command: &str) -> Option<String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        Some(first_line(stream, command))
    }

    /// Ends the first primary; the sentinel promotes the replica.
    pub fn kill_primary(&mut self) {
        let _ = self.servers[0].kill();
        let _ = self.servers[0].wait();
    }

    /// Starts the first primary again, which is one until the sentinel orders it to follow the other.
    pub fn revive_primary(&mut self) {
        self.servers[0] = spawn(&self.server, self.folder.path(), self.ports[0], None);
    }

    /// Stops the first primary, which keeps its connections.
    pub fn stop_primary(&self) {
        self.signal_primary(Signal::STOP);
    }

    /// Continues the first primary.
    pub fn resume_primary(&self) {
        self.signal_primary(Signal::CONT);
    }

    fn signal_primary(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.servers[0]), signal).unwrap();
    }

    /// Returns the number of scripts that the first primary ran.
    pub fn scripts_at_first_primary(&self) -> u64 {
        let address = ("127.0.0.1", self.ports[0]);
        let mut stream = TcpStream::connect(address);
        while stream.is_err() {
            sleep(POLL);
            stream = TcpStream::connect(address);
        }
        let calls = calls_at(stream.unwrap());
        calls.get("evalsha").copied().unwrap_or_default()
    }
}

impl Drop for SentinelSetup {
    fn drop(&mut self) {
        for process in self.servers.iter_mut().chain([&mut self.sentinel]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(server: &Path, folder: &Path, port: u16, primary: Option<u16>) -> Child {
    let data = folder.join(port.to_string());
    fs::create_dir_all(&data).unwrap();
    let mut command = Command::new(server);
    command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
    command.arg("--dir").arg(data);
    command.args(["--port", &port.to_string()]);
    if let Some(primary) = primary {
        command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}
