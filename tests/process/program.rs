//! The binary as a child process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use testkit::wire::within_timeout;

/// A running process, killed when dropped.
pub struct Program {
    child: Child,
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
}

/// A pipe, read by its own thread so that the program never blocks on the test.
struct Pipe {
    /// The reader ends after the next line.
    stop: Arc<AtomicBool>,
    bytes_per_second: Arc<AtomicU32>,
    reader: JoinHandle<String>,
    lines: mpsc::UnboundedReceiver<String>,
}

/// Exit code and complete output of a program.
#[derive(Debug)]
pub struct Exit {
    pub code: Option<i32>,
    pub core_dumped: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts the binary with `variables` as its whole environment.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_citrix-auth-proxy"));
        command.args(arguments).stdin(Stdio::null());
        Self::spawn(command, variables)
    }

    /// Starts the binary with `socket` as file descriptor 3, as a service manager passes it.
    pub fn start_with_socket(
        socket: &TcpListener,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let command = Self::with_socket(socket, arguments, "");
        Self::spawn(command, variables)
    }

    /// Starts the binary with `socket` and with a redirection of stderr, in the shell's notation.
    pub fn start_with_stderr(
        redirection: &str,
        socket: &TcpListener,
        variables: &[(&str, &str)],
    ) -> Self {
        let command = Self::with_socket(socket, &["run"], redirection);
        Self::spawn(command, variables)
    }

    fn with_socket(socket: &TcpListener, arguments: &[&str], redirection: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        // The shell receives the socket as its stdin; `exec` keeps the process id for LISTEN_PID.
        let script = format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 {redirection}");
        command.args(["-c", &script]);
        command
            .arg(env!("CARGO_BIN_EXE_citrix-auth-proxy"))
            .args(arguments);
        command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
        command
    }

    /// Closes the reading end of stderr, so that the program has a broken pipe.
    pub fn break_stderr(&mut self) {
        self.stderr
            .as_ref()
            .unwrap()
            .stop
            .store(true, Ordering::Relaxed);
    }

    /// Limits the reader of stderr; 0 stops it.
    pub fn limit_log_reader(&self, bytes_per_second: u32) {
        let pipe = self.stderr.as_ref().unwrap();
        pipe.bytes_per_second
            .store(bytes_per_second, Ordering::Relaxed);
    }

    /// Starts the binary with a limit as an option of `ulimit`: `-Sn 256` for open files. Writes
    /// beyond one on the size of files fail.
    pub fn start_with_limit(limit: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            &format!("trap '' XFSZ; ulimit {limit} && exec \"$0\""),
        ]);
        command
            .arg(env!("CARGO_BIN_EXE_citrix-auth-proxy"))
            .stdin(Stdio::null());
        Self::spawn(command, variables)
    }

    /// Starts the binary with core dumps as large as permitted, and, where this process is root, as
    /// another user.
    pub fn start_with_core_dumps(
        binary: &Path,
        user: Option<u32>,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = "ulimit -c unlimited; exec \"$0\" run";
        command.args(["-c", script]).arg(binary);
        command.stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Self::spawn(command, variables)
    }

    fn spawn(mut command: Command, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_clear()
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Some(Pipe::read(child.stdout.take().unwrap()));
        let stderr = Some(Pipe::read(child.stderr.take().unwrap()));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Runs the binary until it exits.
    pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Exit {
        Self::start(arguments, variables).wait().await
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Returns the next line of stdout.
    pub async fn line(&mut self) -> String {
        within_timeout(self.stdout.as_mut().unwrap().lines.recv())
            .await
            .expect("a line on stdout")
    }

    /// Returns the next log line whose message starts with `message`, skipping the lines before it.
    pub async fn logged(&mut self, message: &str) -> Value {
        let lines = &mut self.stderr.as_mut().unwrap().lines;
        let mut skipped = Vec::new();
        while let Some(line) = within_timeout(lines.recv()).await {
            let parsed: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if parsed["message"]
                .as_str()
                .unwrap_or_default()
                .starts_with(message)
            {
                return parsed;
            }
            skipped.push(line);
        }
        panic!("never logged: {message}; log: {skipped:#?}");
    }

    /// Sends a signal by its name, for example `TERM`.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until the process exits.
    pub async fn wait(mut self) -> Exit {
        let status = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                // `Child::wait` would block the runtime.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let status = within_timeout(status).await;
        let all = |pipe: Option<Pipe>| pipe.unwrap().reader.join().unwrap();
        Exit {
            code: status.code(),
            core_dumped: status.core_dumped(),
            stdout: all(self.stdout.take()),
            stderr: all(self.stderr.take()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the process has exited, which is harmless.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads at a limited rate; not at all while that is 0.
struct LimitedReader<R> {
    pipe: R,
    bytes_per_second: Arc<AtomicU32>,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rate = || self.bytes_per_second.load(Ordering::Relaxed);
        while rate() == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let length = buffer.len().min(4096);
        let read = self.pipe.read(&mut buffer[..length])?;
        if rate() != u32::MAX {
            let bytes = u32::try_from(read).unwrap();
            let seconds = f64::from(bytes) / f64::from(rate().max(1));
            std::thread::sleep(Duration::from_secs_f64(seconds.min(1.0)));
        }
        Ok(read)
    }
}

impl Pipe {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let bytes_per_second = Arc::new(AtomicU32::new(u32::MAX));
        let pipe = LimitedReader {
            pipe,
            bytes_per_second: Arc::clone(&bytes_per_second),
        };
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(pipe).lines() {
                let line = line.unwrap();
                all += &line;
                all.push('\n');
                sender.send(line).ok();
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
            all
        });
        Self {
            stop,
            bytes_per_second,
            reader,
            lines,
        }
    }
}

impl Exit {
    /// Returns the lines of stderr, all of which must be log lines; stdout must be empty.
    pub fn log(&self) -> Vec<Value> {
        assert_eq!(self.stdout, "");
        let parse = |line: &str| -> Value {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string(),
                "{line}"
            );
            line
        };
        self.stderr.lines().map(parse).collect()
    }
}
