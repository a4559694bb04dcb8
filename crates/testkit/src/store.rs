//! Real stores (`redis-server`) and sentinels. `REDIS_SERVER` names another program, such as an older
//! Redis or Valkey.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A server without persistence, ended on drop.
#[derive(Debug)]
pub struct StoreServer {
    process: Child,
    folder: tempfile::TempDir,
}

impl StoreServer {
    /// Starts a server. Without the program, `None` and a line of output; a failure where `CI` is
    /// set.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .arg("--unixsocket")
            .arg(folder.path().join("socket"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, folder };
        // It listens some milliseconds after it has started.
        while UnixStream::connect(server.socket()).is_err() {
            sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Runs a command of words without spaces; returns the first line of the reply.
    pub fn run(&self, command: &str) -> String {
        first_line(UnixStream::connect(self.socket()).unwrap(), command)
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A primary, its replica, and a sentinel that watches them, on loopback ports.
#[derive(Debug)]
pub struct SentinelSetup {
    /// The primary, the replica, the sentinel.
    processes: Vec<Child>,
    /// The sentinel's port.
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl SentinelSetup {
    /// The primary's name at the sentinel.
    pub const MASTER: &str = "main";

    /// Starts all, and waits until the sentinel knows the replica; `None` as
    /// [`StoreServer::start`].
    pub fn start() -> Option<Self> {
        let server = program()?;
        let folder = tempfile::tempdir().unwrap();
        let [primary, replica, port] = free_ports();
        let mut processes = Vec::new();
        for (name, own, of) in [("a", primary, None), ("b", replica, Some(primary))] {
            let data = folder.path().join(name);
            fs::create_dir(&data).unwrap();
            let mut command = Command::new(&server);
            command.args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--bind",
                "127.0.0.1",
                "--dir",
            ]);
            command.arg(data).args(["--port", &own.to_string()]);
            if let Some(of) = of {
                command.args(["--replicaof", "127.0.0.1", &of.to_string()]);
            }
            processes.push(command.stdout(Stdio::null()).spawn().unwrap());
        }
        let file = folder.path().join("sentinel.conf");
        let name = Self::MASTER;
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds {name} 1000\n",
            folder.path().display()
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(server);
        command.arg(file).arg("--sentinel").stdout(Stdio::null());
        processes.push(command.spawn().unwrap());
        let setup = Self {
            processes,
            port,
            _folder: folder,
        };
        let known = format!("SENTINEL replicas {name}");
        while setup.run(&known).is_none_or(|reply| reply != "*1") {
            sleep(Duration::from_millis(50));
        }
        Some(setup)
    }

    /// Runs a command in the sentinel.
    fn run(&self, command: &str) -> Option<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        Some(first_line(stream, command))
    }

    /// Ends the primary; the sentinel promotes the replica.
    pub fn kill_primary(&mut self) {
        let _ = self.processes[0].kill();
    }
}

impl Drop for SentinelSetup {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Returns ports that were free a moment ago: the servers do not report one that they choose.
fn free_ports() -> [u16; 3] {
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
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

fn first_line(stream: impl Read + Write, command: &str) -> String {
    let mut stream = BufReader::new(stream);
    let command = format!("{command}\r\n");
    stream.get_mut().write_all(command.as_bytes()).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}
