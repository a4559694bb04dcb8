//! Callers: credentials, connections, and requests over HTTP/1.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::caller_http2::Http2Connections;
use crate::closures;
use crate::configuration::CALLERS;
use crate::content::{self, Producer, Verifier};
use crate::gateway::Gateway;
use crate::http1::{Framing, Head, ReadLimits, Reader, Sink, Stream, chunk, reset_on_drop};
use crate::ledger::{ConnectionUse, End, Ledger, Outcome};
use crate::plan::{Behaviour, Credential, HOST, Plan, Service, Version};

/// Timeout of a request: far above all timeouts of the gateway.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections that are kept of each kind, and for how long.
const MAX_IDLE: usize = 40;
const MAX_IDLE_TIME: Duration = Duration::from_secs(15);
/// Interval of logins at the gateway.
const LOGIN_INTERVAL: Duration = Duration::from_secs(20);

/// All callers.
pub(crate) struct Callers {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) ledger: Arc<Ledger>,
    /// The token of the caller that logs in.
    token: Mutex<String>,
    idle: [Mutex<Vec<(Connection, Instant)>>; 2],
    http2: [Http2Connections; 2],
    next_connection: AtomicU64,
    /// Certificates that the listener has presented.
    certificates: Mutex<BTreeSet<Vec<u8>>>,
}

/// A connection with HTTP/1.
struct Connection {
    reader: Reader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    usage: ConnectionUse,
}

impl Callers {
    /// Logs in once and keeps logging in.
    pub(crate) async fn start(gateway: Arc<Gateway>, ledger: Arc<Ledger>) -> Fallible<Arc<Self>> {
        let callers = Arc::new(Self {
            gateway,
            ledger,
            token: Mutex::default(),
            idle: Default::default(),
            http2: Default::default(),
            next_connection: AtomicU64::new(0),
            certificates: Mutex::default(),
        });
        callers.log_in(false).await?;
        let again = Arc::clone(&callers);
        tokio::spawn(async move {
            let mut is_json = true;
            loop {
                sleep(LOGIN_INTERVAL).await;
                let begin = Instant::now();
                if let Err(error) = again.log_in(is_json).await {
                    again.login_failed(&error, begin).await;
                }
                is_json = !is_json;
            }
        });
        Ok(callers)
    }

    /// Notes a failed login: a violation, unless the gateway closed its connection at the limit.
    async fn login_failed(&self, error: &crate::Error, begin: Instant) {
        let end = Instant::now();
        // The counters are read a moment later.
        sleep(4 * closures::INTERVAL).await;
        if error.is::<io::Error>() && self.ledger.evidence.closures.covers(begin, end) {
            self.ledger.closed_without_request();
        } else {
            self.ledger.violate(format!("a login failed: {error}"));
        }
    }

    /// Returns the use of a new connection by its first request.
    pub(crate) fn first_use(&self) -> ConnectionUse {
        ConnectionUse {
            id: self.next_connection.fetch_add(1, Ordering::Relaxed),
            is_reused: false,
            since: Instant::now(),
        }
    }

    /// Logs in at the gateway's own token endpoints.
    async fn log_in(&self, is_json: bool) -> Fallible<()> {
        let (name, secret) = CALLERS[2];
        let (path, kind, body, field) = if is_json {
            let body = format!(r#"{{"clientId":"{name}","clientSecret":"{secret}"}}"#);
            ("/root/tokens/clients", "application/json", body, "token")
        } else {
            let body =
                format!("grant_type=client_credentials&client_id={name}&client_secret={secret}");
            let kind = "application/x-www-form-urlencoded";
            (
                "/cctrustoauth2/root/tokens/clients",
                kind,
                body,
                "access_token",
            )
        };
        let login = async {
            let mut wire = Reader::new(self.connect(is_json, b"http/1.1").await?);
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            wire.io.write_all(request.as_bytes()).await?;
            wire.io.flush().await?;
            let head = wire
                .head()
                .await?
                .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let mut sink = Sink::Text(Vec::new());
            wire.body(head.framing(Framing::Close), &mut sink, ReadLimits::NONE)
                .await?;
            let Sink::Text(text) = sink else {
                return Err("no text".into());
            };
            let json: serde_json::Value = serde_json::from_slice(&text)?;
            let token = json[field].as_str().map(str::to_owned);
            token.ok_or_else(|| format!("{}: {json}", head.start).into())
        };
        let token: Fallible<String> = timeout(REQUEST_TIMEOUT, login).await?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token?;
        Ok(())
    }

    /// Returns the fields by which the caller of a request identifies itself.
    pub(crate) fn credentials(&self, plan: &Plan) -> (&'static str, String) {
        let token = || {
            self.token
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let [(_, api_key), (name, secret), _, (_, limited)] = CALLERS;
        match plan.credential {
            Credential::ApiKey => ("x-api-key", api_key.to_owned()),
            Credential::Limited => ("x-api-key", limited.to_owned()),
            Credential::Wrong => ("x-api-key", "a-secret-that-no-caller-has".to_owned()),
            Credential::Basic => {
                let pair = STANDARD.encode(format!("{name}:{secret}"));
                ("authorization", format!("Basic {pair}"))
            }
            Credential::CwsAuth => ("authorization", format!("CwsAuth Bearer={}", token())),
            Credential::Bearer => ("authorization", format!("Bearer {}", token())),
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self, is_tls: bool, protocol: &[u8]) -> io::Result<Stream> {
        let address = if is_tls {
            self.gateway.tls
        } else {
            self.gateway.plain
        };
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        if !is_tls {
            return Ok(Box::new(socket));
        }
        let mut config = (*self.gateway.tls_client).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        if fastrand::bool() {
            // A full handshake, which shows the present certificate.
            config.resumption = Resumption::disabled();
        }
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await?;
        if let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() {
            let mut seen = self
                .certificates
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            seen.insert(certificate.to_vec());
        }
        Ok(Box::new(stream))
    }

    /// Returns the number of certificates that the listener has presented.
    pub(crate) fn certificates_seen(&self) -> usize {
        let seen = self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.len()
    }

    /// Sends a request and notes what comes of it.
    pub(crate) async fn send(self: Arc<Self>, plan: Plan) {
        let id = plan.id;
        self.ledger.send(plan.clone());
        let sent = async {
            if plan.version == Version::Http2 {
                self.http2[usize::from(plan.is_tls)]
                    .send(&self, &plan)
                    .await
            } else {
                self.send_http1(&plan).await
            }
        };
        let outcome = timeout(REQUEST_TIMEOUT, sent)
            .await
            .unwrap_or(Outcome::Hung);
        self.ledger.end(id, outcome);
    }

    /// Ends the connections with HTTP/2 while requests are in progress.
    pub(crate) fn close_http2(&self) {
        self.http2.iter().for_each(Http2Connections::close);
    }

    async fn send_http1(&self, plan: &Plan) -> Outcome {
        let mut connection = match self.connection(plan).await {
            Ok(connection) => connection,
            Err(error) => return Outcome::NotConnected(error.to_string()),
        };
        let usage = connection.usage;
        let (field, value) = self.credentials(plan);
        let head = head(plan, field, &value);
        match exchange(&mut connection, plan, &head).await {
            Ok((outcome, is_reusable)) => {
                if is_reusable && plan.is_kept {
                    connection.usage = ConnectionUse {
                        is_reused: true,
                        since: Instant::now(),
                        ..usage
                    };
                    self.keep(plan.is_tls, connection);
                }
                outcome
            }
            Err(error) => Outcome::NoResponse {
                error: error.to_string(),
                connection: usage,
            },
        }
    }

    async fn connection(&self, plan: &Plan) -> io::Result<Connection> {
        if plan.is_kept {
            let mut idle = self.idle(plan.is_tls);
            while let Some((connection, since)) = idle.pop() {
                if since.elapsed() < MAX_IDLE_TIME {
                    return Ok(connection);
                }
            }
        }
        let protocol: &[u8] = if plan.version == Version::Http10 {
            b"http/1.0"
        } else {
            b"http/1.1"
        };
        let usage = self.first_use();
        let stream = self.connect(plan.is_tls, protocol).await?;
        if matches!(
            plan.behaviour,
            Behaviour::AbortUpload | Behaviour::AbortDownload
        ) && plan.id.is_multiple_of(2)
        {
            reset_on_drop(stream.tcp());
        }
        let (reader, writer) = tokio::io::split(stream);
        Ok(Connection {
            reader: Reader::new(reader),
            writer,
            usage,
        })
    }

    fn idle(&self, is_tls: bool) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle[usize::from(is_tls)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, is_tls: bool, connection: Connection) {
        let mut idle = self.idle(is_tls);
        if idle.len() < MAX_IDLE {
            idle.push((connection, Instant::now()));
        }
    }
}

fn head(plan: &Plan, field: &str, value: &str) -> String {
    let version = if plan.version == Version::Http10 {
        "1.0"
    } else {
        "1.1"
    };
    let mut head = format!(
        "{} {} HTTP/{version}\r\nHost: {HOST}\r\nAccept: */*\r\n{field}: {value}\r\n",
        plan.method,
        plan.target()
    );
    if plan.is_coded {
        head += "Accept-Encoding: gzip\r\n";
    }
    if !plan.is_kept {
        head += "Connection: close\r\n";
    }
    if plan.service == Service::Batch {
        let length = content::batch(plan.id, OLD_TOKEN, plan.upload).len();
        head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    } else if plan.is_upload_chunked {
        head += "Transfer-Encoding: chunked\r\n";
    } else if plan.upload > 0 || matches!(plan.method, "POST" | "PUT" | "PATCH") {
        head += &format!("Content-Length: {}\r\n", plan.upload);
    }
    head + "\r\n"
}

/// The token in items of batches, which the gateway replaces.
pub(crate) const OLD_TOKEN: &str = "an-old-token";

/// Sends a request and reads the response. Returns whether another may follow.
async fn exchange(
    connection: &mut Connection,
    plan: &Plan,
    head: &str,
) -> io::Result<(Outcome, bool)> {
    let (reader, writer) = (&mut connection.reader, &mut connection.writer);
    let download = receive(reader, plan);
    let upload = upload(writer, plan, head);
    tokio::pin!(download, upload);
    let mut is_uploaded = false;
    loop {
        tokio::select! {
            uploaded = &mut upload, if !is_uploaded => {
                is_uploaded = true;
                match (plan.behaviour, uploaded) {
                    (Behaviour::AbortUpload, _) => return Ok((Outcome::Left, false)),
                    // The response may have arrived before the connection broke.
                    (_, Err(_)) => return download.await.map(|(outcome, _)| (outcome, false)),
                    (_, Ok(())) => {}
                }
            }
            received = &mut download => {
                let (outcome, is_reusable) = received?;
                return Ok((outcome, is_reusable && is_uploaded));
            }
        }
    }
}

async fn upload(writer: &mut (impl AsyncWrite + Unpin), plan: &Plan, head: &str) -> io::Result<()> {
    writer.write_all(head.as_bytes()).await?;
    if plan.service == Service::Batch {
        let batch = content::batch(plan.id, OLD_TOKEN, plan.upload);
        writer.write_all(batch.as_bytes()).await?;
        return writer.flush().await;
    }
    let (pause, _) = plan.pauses();
    let mut producer = Producer::new(plan.id, plan.upload);
    let mut written = 0;
    while let Some(piece) = producer.next(plan.upload_piece()) {
        written += piece.len();
        if written > plan.upload / 2 {
            match plan.behaviour {
                Behaviour::AbortUpload => return writer.flush().await,
                Behaviour::StallUpload => {
                    writer.flush().await?;
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
        }
        if plan.is_upload_chunked {
            writer.write_all(&chunk(&piece)).await?;
        } else {
            writer.write_all(&piece).await?;
        }
        if !pause.is_zero() {
            writer.flush().await?;
            sleep(pause).await;
        }
    }
    if plan.is_upload_chunked {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    writer.flush().await
}

async fn receive(
    reader: &mut Reader<ReadHalf<Stream>>,
    plan: &Plan,
) -> io::Result<(Outcome, bool)> {
    let head = loop {
        let head = reader.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() >= 200 {
            break head;
        }
    };
    let is_closing = head.start.starts_with("HTTP/1.0")
        || head
            .field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let response = ResponseHead::of(&head);
    let mut sink = response.sink(plan);
    let mut framing = head.framing(Framing::Close);
    if plan.method == "HEAD" || matches!(head.status(), 204 | 304) {
        framing = Framing::Length(0);
    }
    let (_, pause) = plan.pauses();
    let max_bytes = if plan.behaviour == Behaviour::AbortDownload {
        64 * 1024
    } else {
        usize::MAX
    };
    let read = reader
        .body(framing, &mut sink, ReadLimits { pause, max_bytes })
        .await;
    if plan.behaviour == Behaviour::AbortDownload && response.status == 200 {
        return Ok((Outcome::Left, false));
    }
    let is_reusable = read.is_ok() && !is_closing && reader.is_empty();
    Ok((response.outcome(plan, sink, read.is_ok()), is_reusable))
}

/// The parts of a response head that matter.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) is_coded: bool,
}

impl ResponseHead {
    fn of(head: &Head) -> Self {
        Self {
            status: head.status(),
            reason: head.field("x-proxy-error").map(str::to_owned),
            is_coded: head.field("content-encoding") == Some("gzip"),
        }
    }

    /// Returns where the body goes.
    pub(crate) fn sink(&self, plan: &Plan) -> Sink {
        if self.status == 200 && !plan.has_page() {
            Sink::Bytes(Verifier::new())
        } else {
            Sink::Text(Vec::new())
        }
    }

    /// Returns what the caller got, given the body as far as it arrived.
    pub(crate) fn outcome(self, plan: &Plan, sink: Sink, is_complete: bool) -> Outcome {
        let end = if !is_complete {
            End::Truncated
        } else if self.status != 200 || plan.method == "HEAD" {
            End::Complete
        } else {
            let checked = match sink {
                Sink::Bytes(verifier) => verifier.finish(plan.id, plan.download),
                Sink::Text(text) => check_page(plan, &text, self.is_coded),
            };
            checked.map_or_else(End::Corrupt, |()| End::Complete)
        };
        Outcome::Responded {
            status: self.status,
            reason: self.reason,
            end,
        }
    }
}

fn check_page(plan: &Plan, text: &[u8], is_coded: bool) -> Result<(), String> {
    let mut decoded = Vec::new();
    let text = if is_coded {
        let mut decoder = flate2::read::GzDecoder::new(text);
        io::Read::read_to_end(&mut decoder, &mut decoded).map_err(|error| error.to_string())?;
        &decoded
    } else {
        text
    };
    let expected = content::page(plan.id, &plan.link_base(), plan.download);
    if text == expected.as_bytes() {
        return Ok(());
    }
    let same = text
        .iter()
        .zip(expected.as_bytes())
        .take_while(|(a, b)| a == b);
    let at = same.count().saturating_sub(40);
    let part = String::from_utf8_lossy(&text[at..text.len().min(at + 160)]);
    Err(format!(
        "{} bytes instead of {}, differing at {at} near {part}",
        text.len(),
        expected.len()
    ))
}
