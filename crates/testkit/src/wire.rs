//! A raw HTTP/1 connection, usable as client or server.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Timeout of one wait, far above what any takes on a slow machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the output of `future`; panics after `WAIT_TIMEOUT`.
pub async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_TIMEOUT, future)
        .await
        .expect("timed out")
}

/// Polls `condition` until it holds; panics with `what` after `WAIT_TIMEOUT`. For state of
/// another thread or process that sends no signal.
pub async fn wait_until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, holds)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting until {what}"));
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that a test reads and writes.
pub struct Wire {
    io: Box<dyn Io>,
    read: Vec<u8>,
}

/// A request or a response as received.
#[derive(Debug)]
pub struct Message {
    /// Start line, fields and the empty line.
    pub head: Vec<u8>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The body with its framing.
    pub framed: Vec<u8>,
    /// `false` if the connection closed before the end of the body.
    pub complete: bool,
}

impl Wire {
    pub fn new(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            io: Box::new(io),
            read: Vec::new(),
        }
    }

    /// Returns the connection; panics if bytes were read ahead.
    pub fn into_io(self) -> impl AsyncRead + AsyncWrite + Unpin {
        assert!(
            self.read.is_empty(),
            "bytes read ahead: {:?}",
            String::from_utf8_lossy(&self.read)
        );
        self.io
    }

    /// Writes and flushes; ignores a peer that has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let written = async {
            self.io.write_all(bytes.as_ref()).await.ok();
            self.io.flush().await.ok();
        };
        within_timeout(written).await;
    }

    /// Reads once; returns `false` at the end of the connection, including a reset.
    async fn more(&mut self) -> bool {
        within_timeout(self.io.read_buf(&mut self.read))
            .await
            .unwrap_or_default()
            > 0
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let length = length.min(self.read.len());
        self.read.drain(..length).collect()
    }

    /// Returns the next `length` bytes; panics if the connection closes before.
    pub async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(
                self.more().await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
        self.take(length)
    }

    /// Returns everything until the peer closes the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        self.take(usize::MAX)
    }

    /// Waits until the peer closes the connection; panics if more bytes arrive.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert!(
            rest.is_empty(),
            "bytes before the close: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Returns everything up to and including `end`, or `None` if the peer closes before.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|window| window == end)
            {
                return Some(self.take(at + end.len()));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Returns the head of the next message; panics if the peer closes before.
    pub async fn head(&mut self) -> Message {
        self.next_head()
            .await
            .unwrap_or_else(|| panic!("closed before a head, after {:?}", self.read))
    }

    async fn next_head(&mut self) -> Option<Message> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(Message {
            head,
            body: Vec::new(),
            framed: Vec::new(),
            complete: true,
        })
    }

    /// Returns the next request, or `None` if the peer closes the connection.
    pub async fn next_request(&mut self) -> Option<Message> {
        let mut message = self.next_head().await?;
        if message.has("transfer-encoding") || message.has("content-length") {
            self.body(&mut message).await;
        }
        Some(message)
    }

    /// Returns the next request; panics if the peer closes the connection.
    pub async fn request(&mut self) -> Message {
        self.next_request().await.expect("closed before a request")
    }

    /// Returns the next response; not for HEAD requests.
    pub async fn response(&mut self) -> Message {
        let mut message = self.head().await;
        if !matches!(message.status(), 100..=199 | 204 | 304) {
            self.body(&mut message).await;
        }
        message
    }

    /// Returns the next response, or `None` if the peer closes the connection; not for HEAD
    /// requests.
    pub async fn next_response(&mut self) -> Option<Message> {
        let mut message = self.next_head().await?;
        self.body(&mut message).await;
        Some(message)
    }

    async fn body(&mut self, message: &mut Message) {
        if message.has("transfer-encoding") {
            message.complete = self.chunks(message).await.is_some();
        } else if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length && self.more().await {}
            message.body = self.take(length);
            message.complete = message.body.len() == length;
            message.framed.clone_from(&message.body);
        } else {
            message.body = self.rest().await;
            message.framed.clone_from(&message.body);
        }
    }

    /// Reads all chunks and the trailers; returns `None` if they are truncated.
    async fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&line)
                .unwrap()
                .trim_end()
                .split(';')
                .next()
                .unwrap()
                .to_owned();
            let size = usize::from_str_radix(&size, 16).unwrap();
            message.framed.extend(line);
            while size > 0 && self.read.len() < size + 2 {
                if !self.more().await {
                    return None;
                }
            }
            if size == 0 {
                loop {
                    let line = self.until(b"\r\n").await?;
                    message.framed.extend(&line);
                    if line == b"\r\n" {
                        return Some(());
                    }
                }
            }
            let chunk = self.take(size + 2);
            message.body.extend(&chunk[..size]);
            message.framed.extend(chunk);
        }
    }
}

impl Message {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        text.split("\r\n")
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Returns the request line or the status line.
    pub fn line(&self) -> String {
        self.lines().remove(0)
    }

    pub fn status(&self) -> u16 {
        self.line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Returns names in lower case and values, in order.
    pub fn all_fields(&self) -> Vec<(String, String)> {
        let field = |line: &String| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        self.lines().iter().skip(1).map(field).collect()
    }

    /// Returns the field names, sorted, with duplicates.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .all_fields()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
    }

    /// Returns all values of a field.
    pub fn fields(&self, name: &str) -> Vec<String> {
        self.all_fields()
            .into_iter()
            .filter(|(each, _)| each == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// Returns the value of a field; panics if the field occurs more than once.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut values = self.fields(name);
        assert!(
            values.len() <= 1,
            "{name} occurs more than once: {values:?}"
        );
        values.pop()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.fields(name).is_empty()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Returns the problem document; asserts everything that all error responses of the gateway
    /// have in common.
    pub fn problem(&self, status: u16, reason: &str) -> Value {
        let message =
            String::from_utf8_lossy(&self.head).into_owned() + &String::from_utf8_lossy(&self.body);
        assert_eq!(
            (self.status(), self.field("x-proxy-error").as_deref()),
            (status, Some(reason)),
            "{message}"
        );
        assert_eq!(
            self.field("content-type").as_deref(),
            Some("application/problem+json"),
            "{message}"
        );
        assert_eq!(
            self.field("x-proxy-request-id").map(|id| id.len()),
            Some(36),
            "{message}"
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["type"], format!("urn:citrix-auth-proxy:{reason}"));
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        let id = self
            .field("citrix-transactionid")
            .expect("a transaction id");
        assert_eq!(problem["parameters"][0]["name"], "Citrix-TransactionId");
        assert_eq!(problem["parameters"][0]["value"], id);
        problem
    }
}
