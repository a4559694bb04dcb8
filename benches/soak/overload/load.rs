//! Load at a constant rate, whatever the gateway does with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::Fallible;
use crate::gateway::Gateway;
use crate::http1::{Framing, ReadLimits, Reader, Sink, Stream};
use crate::plan::HOST;

/// Requests without a response beyond which no more are sent: those of callers that time out.
const MAX_OUTSTANDING: usize = 3000;
/// Timeout of a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const HTTP2_CONNECTIONS: usize = 16;
const TICK: Duration = Duration::from_millis(5);

/// The protocol and connections of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Http1Kept,
    Http1New,
    Http1TlsNew,
    Http2,
}

/// Callers that send the same request.
#[derive(Clone)]
pub(super) struct Callers {
    pub(super) way: Way,
    /// Secrets, used by turns; none for anonymous callers.
    pub(super) secrets: Vec<String>,
    pub(super) target: String,
    pub(super) from: Ipv4Addr,
}

/// The results of requests.
#[derive(Default)]
pub(super) struct Counts {
    /// Time of each served request, in microseconds.
    times: Mutex<Vec<u64>>,
    rejected: AtomicU64,
    /// Closed or reset without a response, or none in time.
    without_response: AtomicU64,
    other: AtomicU64,
    unsent: AtomicU64,
}

/// Numbers of requests and times of those that were served.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) served: usize,
    pub(super) rejected: u64,
    pub(super) without_response: u64,
    pub(super) other: u64,
    pub(super) unsent: u64,
    pub(super) seconds: f64,
    times: Vec<u64>,
}

impl Summary {
    /// Returns served requests per second.
    pub(super) fn goodput(&self) -> f64 {
        self.served as f64 / self.seconds
    }

    /// Returns whether requests waited for the gateway until no more were sent.
    pub(super) fn is_behind(&self) -> bool {
        self.unsent > 0 || self.without_response > 0
    }

    /// Returns requests per second that had an end.
    pub(super) fn offered(&self) -> f64 {
        (self.served as f64 + self.failed() as f64) / self.seconds
    }

    /// Returns the time in milliseconds that this part of the served requests did not exceed.
    pub(super) fn milliseconds(&self, per_mille: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (self.times.len() * per_mille / 1000).min(last);
        self.times.get(at).map_or(0.0, |time| *time as f64 / 1e3)
    }

    pub(super) fn failed(&self) -> u64 {
        self.rejected + self.without_response + self.other
    }
}

/// The connections of callers and what came of their requests.
pub(super) struct Load {
    callers: Callers,
    address: SocketAddr,
    tls: TlsConnector,
    idle: Mutex<Vec<Reader<Stream>>>,
    http2: Vec<tokio::sync::Mutex<Option<SendRequest<Bytes>>>>,
    outstanding: AtomicUsize,
    next: AtomicUsize,
    counts: Counts,
}

impl Load {
    pub(super) fn new(gateway: &Gateway, callers: Callers) -> Arc<Self> {
        let mut tls = (*gateway.tls_client).clone();
        tls.resumption = rustls::client::Resumption::disabled();
        let is_tls = callers.way == Way::Http1TlsNew;
        Arc::new(Self {
            address: if is_tls { gateway.tls } else { gateway.plain },
            callers,
            tls: TlsConnector::from(Arc::new(tls)),
            idle: Mutex::default(),
            http2: (0..HTTP2_CONNECTIONS)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            outstanding: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            counts: Counts::default(),
        })
    }

    /// Sends `rate` requests per second for `time`.
    pub(super) async fn at_rate(self: &Arc<Self>, rate: f64, time: Duration) -> Summary {
        let start = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sent = 0.0;
        while start.elapsed() < time {
            ticks.tick().await;
            while sent < rate * start.elapsed().as_secs_f64() {
                sent += 1.0;
                if self.outstanding.load(Ordering::Relaxed) >= MAX_OUTSTANDING {
                    self.counts.unsent.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                tokio::spawn(Arc::clone(self).request());
            }
        }
        self.summary(start.elapsed())
    }

    /// Lets each of `count` callers send one request after the other for `time`.
    pub(super) async fn in_turn(self: &Arc<Self>, count: usize, time: Duration) -> Summary {
        let start = Instant::now();
        let callers = (0..count).map(|_| {
            let load = Arc::clone(self);
            tokio::spawn(async move {
                while start.elapsed() < time {
                    Arc::clone(&load).request().await;
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            // A caller's task does not panic.
            caller.await.ok();
        }
        self.summary(start.elapsed())
    }

    /// Waits until all requests have ended.
    pub(super) async fn ended(&self) {
        while self.outstanding.load(Ordering::Relaxed) > 0 {
            sleep(TICK).await;
        }
    }

    fn summary(&self, time: Duration) -> Summary {
        let mut times = {
            let mut times = self
                .counts
                .times
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *times)
        };
        times.sort_unstable();
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Summary {
            served: times.len(),
            rejected: take(&self.counts.rejected),
            without_response: take(&self.counts.without_response),
            other: take(&self.counts.other),
            unsent: take(&self.counts.unsent),
            seconds: time.as_secs_f64(),
            times,
        }
    }

    async fn request(self: Arc<Self>) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let exchange = async {
            match self.callers.way {
                Way::Http2 => self.http2(number).await,
                _ => self.http1(number).await,
            }
        };
        let counts = &self.counts;
        match timeout(RESPONSE_TIMEOUT, exchange).await {
            Ok(Ok(200)) => {
                let time = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                let mut times = counts.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push(time);
            }
            Ok(Ok(503)) => drop(counts.rejected.fetch_add(1, Ordering::Relaxed)),
            Ok(Ok(_)) => drop(counts.other.fetch_add(1, Ordering::Relaxed)),
            Ok(Err(_)) | Err(_) => drop(counts.without_response.fetch_add(1, Ordering::Relaxed)),
        }
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    fn secret(&self, number: usize) -> Option<&str> {
        let secrets = &self.callers.secrets;
        let number = number.checked_rem(secrets.len())?;
        secrets.get(number).map(String::as_str)
    }

    async fn http1(&self, number: usize) -> Fallible<u16> {
        let is_kept = self.callers.way == Way::Http1Kept;
        let kept = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut wire = match kept {
            Some(wire) => wire,
            None => Reader::new(self.connect().await?),
        };
        let mut head = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n", self.callers.target);
        if let Some(secret) = self.secret(number) {
            head += &format!("X-Api-Key: {secret}\r\n");
        }
        if !is_kept {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        // A connection beyond a limit gets a response before it is read.
        let written = wire.io.write_all(head.as_bytes()).await;
        wire.io.flush().await.ok();
        let Some(head) = wire.head().await? else {
            written?;
            return Err("closed".into());
        };
        let mut body = Sink::Text(Vec::new());
        wire.body(head.framing(Framing::Close), &mut body, ReadLimits::NONE)
            .await?;
        if is_kept && head.field("connection").is_none() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(wire);
        }
        Ok(head.status())
    }

    async fn connect(&self) -> Fallible<Stream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind((self.callers.from, 0).into())?;
        let socket: TcpStream = socket.connect(self.address).await?;
        if self.callers.way != Way::Http1TlsNew {
            return Ok(Box::new(socket));
        }
        let stream = self
            .tls
            .connect(ServerName::try_from(HOST)?, socket)
            .await?;
        Ok(Box::new(stream))
    }

    async fn http2(&self, number: usize) -> Fallible<u16> {
        let mut request = Request::get(format!("http://{HOST}{}", self.callers.target));
        if let Some(secret) = self.secret(number) {
            request = request.header("x-api-key", secret);
        }
        let slot = &self.http2[number % HTTP2_CONNECTIONS];
        let sender = {
            let mut slot = slot.lock().await;
            match &*slot {
                Some(sender) => sender.clone(),
                None => {
                    let (sender, driver) = h2::client::handshake(self.connect().await?).await?;
                    tokio::spawn(driver);
                    slot.insert(sender).clone()
                }
            }
        };
        let exchange = async {
            let mut sender = sender.ready().await?;
            let (response, _) = sender.send_request(request.body(())?, true)?;
            let response = response.await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            Fallible::Ok(status)
        };
        let status = exchange.await;
        if status.is_err() {
            slot.lock().await.take();
        }
        status
    }
}
