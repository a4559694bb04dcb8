//! The upstream over HTTP/1.1: checks and counts requests, and injects faults.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::Fallible;
use crate::content::{self, Producer, Verifier};
use crate::http1::{Framing, Head, ReadLimits, Reader, Sink, Stream, chunk, reset_on_drop};
use crate::ledger::{Ledger, Treatment, Upload};
use crate::listener;
use crate::plan::{Plan, Service, link_prefix};
use crate::tokens::Tokens;

/// Longer than the gateway waits for a response or for more of it.
pub(crate) const STALL: Duration = Duration::from_secs(12);
/// Bytes of a response that are written at once.
pub(crate) const PIECE: usize = 16 * 1024;

/// The effect of a fault on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Resets the connection when the head has arrived.
    ResetBefore,
    /// Resets it, or closes it, when the body has arrived.
    ResetAfter,
    CloseAfter,
    /// Resets it after half of the response.
    ResetMidBody,
    /// Sends nothing.
    Stall,
    /// Sends half of the response and nothing more.
    StallMidBody,
    /// Responds with this status, and with `Retry-After: 1` or without.
    Status(u16, bool),
    /// Refuses the stream of HTTP/2 as not processed.
    Refuse,
    /// Resets the stream with this code.
    Reset(u32),
}

/// State that both upstreams share.
pub(crate) struct Upstream {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tokens: Arc<Tokens>,
    /// Actions for the next requests over HTTP/1.1, and over HTTP/2.
    armed: [Mutex<VecDeque<Action>>; 2],
    /// Counts the occasions at which idle connections close.
    pub(crate) idle_closed: watch::Sender<u64>,
    /// Counts the occasions at which HTTP/2 connections send GOAWAY.
    pub(crate) goaway: watch::Sender<u64>,
}

impl Upstream {
    pub(crate) fn new(ledger: Arc<Ledger>, tokens: Arc<Tokens>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            tokens,
            armed: Default::default(),
            idle_closed: watch::Sender::new(0),
            goaway: watch::Sender::new(0),
        })
    }

    /// Lets the next `count` requests over HTTP/1.1, or over HTTP/2, fail.
    pub(crate) fn arm(&self, is_http2: bool, action: Action, count: usize) {
        self.queue(is_http2).extend(vec![action; count]);
    }

    /// Returns what happens to a request.
    pub(crate) fn take(&self, is_http2: bool, plan: Option<&Plan>) -> Option<Action> {
        let mut queue = self.queue(is_http2);
        // Half of a response without content is all of it.
        let has_content = |plan: &Plan| plan.download > 0 && plan.method != "HEAD";
        let is_partial = matches!(
            queue.front(),
            Some(Action::ResetMidBody | Action::StallMidBody)
        );
        if is_partial && !plan.is_some_and(has_content) {
            return None;
        }
        queue.pop_front()
    }

    fn queue(&self, is_http2: bool) -> std::sync::MutexGuard<'_, VecDeque<Action>> {
        self.armed[usize::from(is_http2)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the listener without TLS.
    pub(crate) async fn listen(self: &Arc<Self>) -> Fallible<SocketAddr> {
        let upstream = Arc::clone(self);
        listener::listen(move |socket| Arc::clone(&upstream).serve(Box::new(socket))).await
    }

    /// Starts the listener with TLS.
    pub(crate) async fn listen_tls(
        self: &Arc<Self>,
        acceptor: TlsAcceptor,
    ) -> Fallible<SocketAddr> {
        let upstream = Arc::clone(self);
        let serve = move |stream| Arc::clone(&upstream).serve(Box::new(stream));
        listener::listen_tls(acceptor, serve).await
    }

    async fn serve(self: Arc<Self>, stream: Stream) {
        let mut wire = Reader::new(stream);
        let mut idle_closed = self.idle_closed.subscribe();
        loop {
            let head = tokio::select! {
                head = wire.head() => head,
                _ = idle_closed.changed() => return,
            };
            let Ok(Some(head)) = head else { return };
            if self.exchange(&mut wire, &head).await.is_err() {
                return;
            }
            idle_closed.mark_unchanged();
        }
    }

    /// Serves one request. Fails if the connection is over.
    async fn exchange(&self, wire: &mut Reader<Stream>, head: &Head) -> io::Result<()> {
        let target = head.start.split(' ').nth(1).unwrap_or_default();
        let Some((plan, hit)) = id_of(target).and_then(|id| self.ledger.arrive(id)) else {
            return Err(io::Error::other("an unknown request"));
        };
        let mut action = self.take(false, Some(&plan));
        if !head.start.starts_with(plan.method) {
            self.ledger
                .violate(format!("another method: {} {plan:?}", head.start));
        }
        let fields = ["authorization", "x-api-key"].map(|name| head.field(name));
        if self.is_revoked(&plan, hit, fields) {
            action = Some(Action::Status(401, false));
        }
        let mut exchange = Exchange {
            ledger: &self.ledger,
            plan: &plan,
            hit,
            wire,
        };
        if action == Some(Action::ResetBefore) {
            return exchange.broken();
        }
        exchange.receive(head).await?;
        let written = exchange.respond(head, action).await;
        if written.is_err() && !matches!(action, Some(action) if action.is_end()) {
            self.ledger.treated(plan.id, hit, Treatment::Gone);
        }
        written
    }

    /// Returns whether the token of a request is a revoked one; anything but a token is a violation.
    pub(crate) fn is_revoked(
        &self,
        plan: &Plan,
        hit: usize,
        [authorization, key]: [Option<&str>; 2],
    ) -> bool {
        let token = authorization.and_then(|value| self.tokens.check(value));
        if token.is_none() || key.is_some() {
            let what = format!(
                "request {} arrived with {authorization:?}, {key:?}",
                plan.id
            );
            self.ledger.violate(what);
        }
        let Some((token, is_valid)) = token else {
            return false;
        };
        self.ledger.authorized(plan, hit, token, is_valid);
        !is_valid
    }
}

impl Action {
    /// Returns whether the connection ends with it.
    pub(crate) fn is_end(self) -> bool {
        !matches!(self, Self::Status(..))
    }
}

/// Returns the id in a target.
pub(crate) fn id_of(target: &str) -> Option<u64> {
    let query = target.split_once("id=")?.1;
    query.split('&').next()?.parse().ok()
}

/// Returns where the content of an upload goes.
pub(crate) fn upload_sink(plan: &Plan) -> Sink {
    if plan.service == Service::Batch {
        Sink::Text(Vec::new())
    } else {
        Sink::Bytes(Verifier::new())
    }
}

/// Compares a complete upload with what was sent.
pub(crate) fn check_upload(plan: &Plan, sink: Sink) -> Upload {
    let checked = match sink {
        Sink::Bytes(verifier) => verifier.finish(plan.id, plan.upload),
        Sink::Text(text) => content::check_batch(plan.id, &text, plan.upload),
    };
    checked.map_or_else(Upload::Corrupt, |()| Upload::Complete)
}

/// Returns the page of a response whose links name this host, coded if both ends want that.
pub(crate) fn page(plan: &Plan, host: &str, is_coded: bool) -> io::Result<Vec<u8>> {
    let base = format!("http://{host}{}", link_prefix(plan.service));
    let page = content::page(plan.id, &base, plan.download).into_bytes();
    if !is_coded {
        return Ok(page);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    io::Write::write_all(&mut encoder, &page)?;
    encoder.finish()
}

/// One request on a connection.
struct Exchange<'a> {
    ledger: &'a Ledger,
    plan: &'a Plan,
    hit: usize,
    wire: &'a mut Reader<Stream>,
}

impl Exchange<'_> {
    fn note(&self, treatment: Treatment) {
        self.ledger.treated(self.plan.id, self.hit, treatment);
    }

    /// Ends the connection with a reset.
    fn broken(&self) -> io::Result<()> {
        self.note(Treatment::Broken);
        reset_on_drop(self.wire.io.tcp());
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Reads the body.
    async fn receive(&mut self, head: &Head) -> io::Result<()> {
        let mut sink = upload_sink(self.plan);
        let framing = head.framing(Framing::Length(0));
        let received = self.wire.body(framing, &mut sink, ReadLimits::NONE).await;
        if received.is_err() {
            self.note(Treatment::Gone);
            return received;
        }
        let upload = check_upload(self.plan, sink);
        self.ledger.uploaded(self.plan.id, self.hit, upload);
        Ok(())
    }

    async fn respond(&mut self, head: &Head, action: Option<Action>) -> io::Result<()> {
        match action {
            Some(Action::ResetAfter | Action::Reset(_) | Action::Refuse) => return self.broken(),
            Some(Action::CloseAfter) => {
                self.note(Treatment::Broken);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Action::Stall) => {
                self.note(Treatment::Stalled);
                sleep(STALL).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            Some(Action::Status(status, is_hinted)) => {
                self.note(Treatment::Failed(status));
                let hint = if is_hinted { "Retry-After: 1\r\n" } else { "" };
                let head = format!("HTTP/1.1 {status} Failed\r\n{hint}Content-Length: 0\r\n\r\n");
                return self.wire.io.write_all(head.as_bytes()).await;
            }
            _ => {}
        }
        let part = match action {
            Some(Action::ResetMidBody) => Some(Treatment::Broken),
            Some(Action::StallMidBody) => Some(Treatment::Stalled),
            _ => None,
        };
        if let Some(treatment) = part {
            self.note(treatment);
        }
        let is_closed = if self.plan.has_page() {
            self.write_page(head, part.is_some()).await?
        } else {
            self.write_bytes(part.is_some()).await?
        };
        self.wire.io.flush().await?;
        match part {
            None => self.note(Treatment::Served),
            Some(Treatment::Stalled) => {
                sleep(STALL).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            Some(_) => return self.broken(),
        }
        if is_closed {
            self.wire.io.shutdown().await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Writes the response or half of it. Returns whether the connection delimits it.
    async fn write_bytes(&mut self, is_half: bool) -> io::Result<bool> {
        let Plan { id, download, .. } = *self.plan;
        // Half a response without length or chunks would look whole.
        let framing = match self.plan.download_framing {
            Framing::Close if !is_half => Framing::Close,
            Framing::Chunked => Framing::Chunked,
            _ => Framing::Length(download),
        };
        let fields = match framing {
            Framing::Length(length) => format!("Content-Length: {length}"),
            Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
            Framing::Close => "Connection: close".to_owned(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{fields}\r\n\r\n"
        );
        self.wire.io.write_all(head.as_bytes()).await?;
        let is_close = framing == Framing::Close;
        if self.plan.method == "HEAD" {
            return Ok(is_close);
        }
        let mut producer = Producer::new(id, download);
        let mut written = 0;
        while let Some(piece) = producer.next(PIECE) {
            if is_half && written + piece.len() > download / 2 {
                self.wire.io.write_all(&[]).await?;
                return Ok(is_close);
            }
            written += piece.len();
            if framing == Framing::Chunked {
                self.wire.io.write_all(&chunk(&piece)).await?;
            } else {
                self.wire.io.write_all(&piece).await?;
            }
        }
        if framing == Framing::Chunked && !is_half {
            self.wire.io.write_all(b"0\r\n\r\n").await?;
        }
        Ok(is_close)
    }

    /// Writes a page of JSON or half of it, always with a length.
    async fn write_page(&mut self, head: &Head, is_half: bool) -> io::Result<bool> {
        let accepts = head.field("accept-encoding").unwrap_or_default();
        let is_coded = self.plan.is_coded && accepts.contains("gzip");
        let page = page(self.plan, head.field("host").unwrap_or_default(), is_coded)?;
        let coding = if is_coded {
            "Content-Encoding: gzip\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{coding}Content-Length: {}\r\n\r\n",
            page.len()
        );
        let end = if is_half { page.len() / 2 } else { page.len() };
        self.wire.io.write_all(head.as_bytes()).await?;
        self.wire.io.write_all(&page[..end]).await?;
        Ok(false)
    }
}
