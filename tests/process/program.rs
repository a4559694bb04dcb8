//! A run of the binary.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use testkit::wire::within_timeout;

/// A process that is killed when a test gives up on it.
pub struct Program {
    child: Child,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

/// A pipe, read by a thread of its own so that the program never waits for the test.
struct Output {
    reader: JoinHandle<String>,
    lines: mpsc::UnboundedReceiver<String>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Starts the binary with these arguments and nothing in its environment but `variables`.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_citrix-auth-proxy"));
        command.args(arguments).stdin(Stdio::null());
        Self::spawn(command, variables)
    }

    /// The same, with a socket as its third file, as a service manager passes one.
    pub fn start_with_socket(
        socket: &TcpListener,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        // As its input to the shell, which has its process id and hands it on with the socket.
        command.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0"]);
        command
            .arg(env!("CARGO_BIN_EXE_citrix-auth-proxy"))
            .args(arguments);
        command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
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
        let stdout = Some(Output::of(child.stdout.take().unwrap()));
        let stderr = Some(Output::of(child.stderr.take().unwrap()));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Runs to the end.
    pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        Self::start(arguments, variables).end().await
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    pub async fn line(&mut self) -> String {
        within_timeout(self.stdout.as_mut().unwrap().lines.recv())
            .await
            .expect("a line on stdout")
    }

    /// The next log line whose message begins so; those before are skipped.
    pub async fn logged(&mut self, message: &str) -> Value {
        let lines = &mut self.stderr.as_mut().unwrap().lines;
        let mut before = Vec::new();
        while let Some(line) = within_timeout(lines.recv()).await {
            let parsed: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if parsed["message"]
                .as_str()
                .unwrap_or_default()
                .starts_with(message)
            {
                return parsed;
            }
            before.push(line);
        }
        panic!("never logged: {message}; but {before:#?}");
    }

    /// Sends a signal by its name (`TERM`).
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

    /// Waits for the end.
    pub async fn end(mut self) -> Ended {
        let exit = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                // Waiting would block the runtime; the pause only spares the processor.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let code = within_timeout(exit).await.code();
        let all = |output: Option<Output>| output.unwrap().reader.join().unwrap();
        Ended {
            code,
            stdout: all(self.stdout.take()),
            stderr: all(self.stderr.take()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It fails when the program has ended, which is fine.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (told, lines) = mpsc::unbounded_channel();
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(pipe).lines() {
                let line = line.unwrap();
                all += &line;
                all.push('\n');
                told.send(line).ok();
            }
            all
        });
        Self { reader, lines }
    }
}

impl Ended {
    /// The log, when stderr holds nothing else and stdout nothing at all.
    pub fn log(&self) -> Vec<Value> {
        assert_eq!(self.stdout, "");
        let parse = |line: &str| -> Value {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string(),
                "{line}"
            );
            line
        };
        self.stderr.lines().map(parse).collect()
    }
}
