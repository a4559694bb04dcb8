//! HTTP/1 byte for byte, from either end of a connection.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longer than anything here takes on the slowest machine; only what hangs meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The output of `what`, which must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("what the test waits for never came")
}

/// Tries again and again until it holds: for what another thread does in its own time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = async {
        while !holds().await {
            // There is no signal to wait for; the pause only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until)
        .await
        .unwrap_or_else(|_| panic!("never came true: {what}"));
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that a test reads and writes by hand.
pub struct Wire {
    io: Box<dyn Io>,
    read: Vec<u8>,
}

/// A request or a response as it came over the wire.
#[derive(Debug)]
pub struct Message {
    /// The head, with the empty line.
    pub head: Vec<u8>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The body with its framing.
    pub framed: Vec<u8>,
    /// Whether the body ended as its framing says it ends.
    pub whole: bool,
}

impl Wire {
    pub fn new(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            io: Box::new(io),
            read: Vec::new(),
        }
    }

    /// The connection itself; nothing may have been read ahead.
    pub fn into_io(self) -> impl AsyncRead + AsyncWrite + Unpin {
        assert!(
            self.read.is_empty(),
            "already here: {:?}",
            String::from_utf8_lossy(&self.read)
        );
        self.io
    }

    /// Writes and flushes; the other end may be gone already.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let written = async {
            self.io.write_all(bytes.as_ref()).await.ok();
            self.io.flush().await.ok();
        };
        soon(written).await;
    }

    /// Whether there was more to read.
    async fn more(&mut self) -> bool {
        // A reset ends a connection as well.
        soon(self.io.read_buf(&mut self.read))
            .await
            .unwrap_or_default()
            > 0
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let length = length.min(self.read.len());
        self.read.drain(..length).collect()
    }

    /// Exactly the next `length` bytes.
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

    /// Everything until the other end closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        self.take(usize::MAX)
    }

    /// Returns once the other end closed; nothing more may come before.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert!(
            rest.is_empty(),
            "instead of closing: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Everything up to and including `end`; `None` when the other end closes before.
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

    /// The head of the next message.
    pub async fn head(&mut self) -> Message {
        self.next_head()
            .await
            .unwrap_or_else(|| panic!("closed before a head; {:?} came", self.read))
    }

    async fn next_head(&mut self) -> Option<Message> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(Message {
            head,
            body: Vec::new(),
            framed: Vec::new(),
            whole: true,
        })
    }

    /// The next request, or `None` when the other end closes instead.
    pub async fn next_request(&mut self) -> Option<Message> {
        let mut message = self.next_head().await?;
        if message.has("transfer-encoding") || message.has("content-length") {
            self.body(&mut message).await;
        }
        Some(message)
    }

    /// The next request.
    pub async fn request(&mut self) -> Message {
        self.next_request().await.expect("closed before a request")
    }

    /// The next response to anything but HEAD.
    pub async fn response(&mut self) -> Message {
        let mut message = self.head().await;
        if !matches!(message.status(), 100..=199 | 204 | 304) {
            self.body(&mut message).await;
        }
        message
    }

    /// The next response to anything but HEAD, or `None` when the other end closes instead.
    pub async fn next_response(&mut self) -> Option<Message> {
        let mut message = self.next_head().await?;
        self.body(&mut message).await;
        Some(message)
    }

    async fn body(&mut self, message: &mut Message) {
        if message.has("transfer-encoding") {
            message.whole = self.chunks(message).await.is_some();
        } else if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length && self.more().await {}
            message.body = self.take(length);
            message.whole = message.body.len() == length;
            message.framed.clone_from(&message.body);
        } else {
            message.body = self.rest().await;
            message.framed.clone_from(&message.body);
        }
    }

    /// Reads chunks to the last one and its trailers; `None` when they break off.
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

    /// The request line or the status line.
    pub fn line(&self) -> String {
        self.lines().remove(0)
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Names in lower case and values, in order.
    pub fn all_fields(&self) -> Vec<(String, String)> {
        let field = |line: &String| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        self.lines().iter().skip(1).map(field).collect()
    }

    /// The names of the fields, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .all_fields()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
    }

    /// All values of a field.
    pub fn fields(&self, name: &str) -> Vec<String> {
        self.all_fields()
            .into_iter()
            .filter(|(each, _)| each == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// The value of a field that is there once at most.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut values = self.fields(name);
        assert!(
            values.len() <= 1,
            "{name} is there more than once: {values:?}"
        );
        values.pop()
    }

    /// Whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        !self.fields(name).is_empty()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body of a response of the gateway's own, after a look at what all of them have in common.
    pub fn problem(&self, status: u16, reason: &str) -> Value {
        let said =
            String::from_utf8_lossy(&self.head).into_owned() + &String::from_utf8_lossy(&self.body);
        assert_eq!(
            (self.status(), self.field("x-proxy-error").as_deref()),
            (status, Some(reason)),
            "{said}"
        );
        assert_eq!(
            self.field("content-type").as_deref(),
            Some("application/problem+json"),
            "{said}"
        );
        assert_eq!(
            self.field("x-proxy-request-id").map(|id| id.len()),
            Some(36),
            "{said}"
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
