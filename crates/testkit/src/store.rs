//! A real store (`redis-server`) on a Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
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
        let Some(program) = find("redis-server") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "redis-server is not installed"
            );
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
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
        let mut stream = BufReader::new(UnixStream::connect(self.socket()).unwrap());
        stream
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}
