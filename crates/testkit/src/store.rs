//! Real stores (`redis-server`), sentinels, and a faulty network in front of them. `REDIS_SERVER`
//! names another program, such as an older Redis or Valkey.

pub mod model;
mod observe;
mod proxy;
mod resp;
mod sentinels;

pub use observe::Monitor;
pub use proxy::{Network, StoreProxy};
pub use sentinels::SentinelSetup;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::pki::{TestCa, TestCertificate};
use crate::ports::reserve;

const POLL: Duration = Duration::from_millis(5);

/// A server without persistence on a Unix socket, ended on drop.
#[derive(Debug)]
pub struct StoreServer {
    process: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    tls_port: Option<u16>,
}

impl StoreServer {
    /// Starts a server. Without the program, `None` and a line of output; a failure where `CI` is
    /// set.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// Starts a server with more arguments.
    pub fn with(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Self::launch(folder, arguments.collect(), None)
    }

    /// Starts a server that accepts `DEBUG`, as all before Redis 7.0 do.
    pub fn with_debug() -> Option<Self> {
        let version = Command::new(program()?).arg("--version").output().unwrap();
        let is_old = String::from_utf8_lossy(&version.stdout).contains("v=6.");
        let permits: &[&str] = &["--enable-debug-command", "local"];
        Self::with(if is_old { &[] } else { permits })
    }

    /// Starts a server that also accepts TLS on a loopback port, and requests client certificates
    /// that `ca` issued.
    pub fn with_tls(ca: &TestCa, own: &TestCertificate) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let [port] = reserve();
        let arguments = [
            ("--tls-port", port.to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--tls-cert-file", file("tls.crt", &own.certificate)),
            ("--tls-key-file", file("tls.key", &own.key)),
            ("--tls-ca-cert-file", file("ca.pem", &ca.pem())),
            ("--tls-auth-clients", "optional".to_owned()),
        ];
        let arguments = arguments.map(|(name, value)| [name.to_owned(), value]);
        Self::launch(folder, arguments.concat(), Some(port))
    }

    /// Starts two nodes of a cluster, of which only the second one holds slots.
    pub fn cluster() -> Option<[Self; 2]> {
        let [first, second, first_bus, second_bus] = reserve();
        let node = |port: u16, bus: u16| {
            let (port, bus) = (port.to_string(), bus.to_string());
            let own = [
                "--port",
                &port,
                "--cluster-port",
                &bus,
                "--bind",
                "127.0.0.1",
            ];
            Self::with(&[&own[..], &["--cluster-enabled", "yes"]].concat())
        };
        let nodes = [node(first, first_bus)?, node(second, second_bus)?];
        assert_eq!(nodes[1].run("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK");
        let meet = format!("CLUSTER MEET 127.0.0.1 {second} {second_bus}");
        assert_eq!(nodes[0].run(&meet), "+OK");
        while !nodes[0].run("GET key").starts_with("-MOVED") {
            sleep(POLL);
        }
        Some(nodes)
    }

    fn launch(
        folder: tempfile::TempDir,
        arguments: Vec<String>,
        tls_port: Option<u16>,
    ) -> Option<Self> {
        let program = program()?;
        let process = spawn(&program, &folder, &arguments);
        let mut server = Self {
            process,
            program,
            folder,
            arguments,
            tls_port,
        };
        server.await_start();
        Some(server)
    }

    /// Waits until the server listens, some milliseconds after it has started.
    fn await_start(&mut self) {
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.process.try_wait().unwrap();
            assert_eq!(ended, None, "{}", self.log());
            sleep(POLL);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Returns the port of TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("a server with TLS")
    }

    /// Returns the `url` of `[fleet]` for its socket.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Runs a command of words without spaces; returns the first line of the reply.
    pub fn run(&self, command: &str) -> String {
        first_line(UnixStream::connect(self.socket()).unwrap(), command)
    }

    /// Stops the process, which keeps its connections.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a stopped process.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again after [`StoreServer::kill`], without data, at the same socket and port.
    pub fn restart(&mut self) {
        self.process = spawn(&self.program, &self.folder, &self.arguments);
        self.await_start();
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &PathBuf, folder: &tempfile::TempDir, arguments: &[String]) -> Child {
    let socket = folder.path().join("socket");
    let log = File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(program);
    // RDB files, which `StoreServer::dump` reads, are not compressed.
    command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
    command.args(["--rdbcompression", "no", "--dir"]);
    command.arg(folder.path()).arg("--unixsocket").arg(socket);
    command.args(arguments).stdout(log).spawn().unwrap()
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("REDIS_SERVER") {
        return Some(path.into());
    }
    let found = find("redis-server");
    if found.is_none() {
        let ci = std::env::var_os("CI").is_some();
        assert!(!ci, "redis-server is not installed");
        eprintln!("skipped: redis-server is not installed");
    }
    found
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// Sends a command and returns the first line of the reply.
fn first_line(stream: impl Read + Write, command: &str) -> String {
    let mut stream = BufReader::new(stream);
    let command = format!("{command}\r\n");
    stream.get_mut().write_all(command.as_bytes()).unwrap();
    read_line(&mut stream)
}

fn read_line(stream: &mut BufReader<impl Read>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
