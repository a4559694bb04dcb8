//! A real server on a Unix socket, and a client for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use fleet_protocol::reply::Value;

/// A server without persistence, ended on drop.
pub struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

/// A connection in protocol version 2.
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Starts a server. Without the program, `None` and a line of output; a failure where `CI` is set.
pub fn start() -> Option<Server> {
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
    let server = Server { process, folder };
    // It listens some milliseconds after it has started.
    while UnixStream::connect(server.socket()).is_err() {
        sleep(Duration::from_millis(5));
    }
    Some(server)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

impl Server {
    fn socket(&self) -> PathBuf {
        Path::new(self.folder.path()).join("socket")
    }

    /// Opens a connection.
    pub fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    /// Sends a command and returns its reply, or the server's error.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Value, String> {
        self.send(words);
        self.read()
    }

    /// Sends a command.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
            bytes.extend_from_slice(word.as_ref());
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// Reads one reply.
    pub fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        let length = || rest.parse::<i64>().unwrap();
        Ok(match kind {
            "+" => Value::Bytes(rest.as_bytes().to_vec()),
            ":" => Value::Int(length()),
            "-" => return Err(rest.to_owned()),
            "$" => match usize::try_from(length()) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).unwrap();
                    bytes.truncate(length);
                    Value::Bytes(bytes)
                }
                Err(_) => Value::Nil,
            },
            "*" => match length() {
                -1 => Value::Nil,
                length => Value::Array((0..length).map(|_| self.read()).collect::<Result<_, _>>()?),
            },
            _ => panic!("{line:?}"),
        })
    }
}
