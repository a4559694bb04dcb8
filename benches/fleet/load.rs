//! Callers that repeat a request, each from an address of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::get;
use crate::gateway::Gateway;
use crate::{Fallible, milliseconds};

/// Pause of a caller whose gateway is restarted.
const PAUSE: Duration = Duration::from_millis(10);

/// Addresses of replicas; `None` for one that takes no new requests, as behind a load balancer.
#[derive(Clone)]
pub(crate) struct Targets(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl Targets {
    pub(crate) fn of(replicas: &[Gateway]) -> Self {
        let addresses = replicas.iter().map(|replica| Some(replica.address));
        Self(Arc::new(Mutex::new(addresses.collect())))
    }

    pub(crate) fn set(&self, replica: usize, address: Option<SocketAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[replica] = address;
    }

    fn get(&self, replica: usize) -> Option<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[replica]
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A completed request.
#[derive(Clone, Copy)]
struct Exchange {
    caller: usize,
    end: Instant,
    took: Duration,
    /// `None` without a response.
    status: Option<u16>,
}

/// A request and how callers repeat it.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Callers of each replica.
    pub(crate) callers: usize,
    /// With a query, to which the number of the caller is added.
    pub(crate) path: &'static str,
    /// Time between a response and the next request.
    pub(crate) pause: Duration,
    /// Third number of the callers' addresses, `127.0.GROUP.x`.
    pub(crate) group: u8,
}

/// Callers that run until the load is stopped or dropped.
pub(crate) struct Load {
    callers: usize,
    stop: Arc<AtomicBool>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(targets: &Targets, plan: Plan) -> Self {
        let mut load = Self {
            callers: targets.len() * plan.callers,
            stop: Arc::default(),
            exchanges: Arc::default(),
            tasks: JoinSet::new(),
        };
        for caller in 0..load.callers {
            let from = address(plan.group, caller);
            let (stop, exchanges) = (Arc::clone(&load.stop), Arc::clone(&load.exchanges));
            let targets = targets.clone();
            // Identical queries would share responses.
            let path = format!("{}&caller={caller}", plan.path);
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Some(target) = targets.get(caller / plan.callers) else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    let start = Instant::now();
                    let response = get(from, target, &path).await;
                    let exchange = Exchange {
                        caller,
                        end: Instant::now(),
                        took: start.elapsed(),
                        status: response.ok().map(|(status, _)| status),
                    };
                    lock(&exchanges).push(exchange);
                    // A failure at once must not become a flood.
                    let pause = if exchange.status == Some(200) {
                        plan.pause
                    } else {
                        plan.pause.max(PAUSE)
                    };
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                }
            });
        }
        load
    }

    /// Waits until each caller has this many more responses.
    pub(crate) async fn each_served(&self, more: usize, limit: Duration) -> Fallible<()> {
        let (goal, end) = (self.counts(), Instant::now() + limit);
        let is_short = |(now, before): (&usize, &usize)| *now < before + more;
        while self.counts().iter().zip(&goal).any(is_short) {
            if Instant::now() > end {
                return Err("a caller has no response".into());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.callers];
        for exchange in &*lock(&self.exchanges) {
            counts[exchange.caller] += 1;
        }
        counts
    }

    /// Summarizes the requests that ended since `start`.
    pub(crate) fn since(&self, start: Instant) -> Summary {
        self.of(|exchange| exchange.end >= start)
    }

    /// Summarizes the requests that ended before `end`.
    pub(crate) fn before(&self, end: Instant) -> Summary {
        self.of(|exchange| exchange.end < end)
    }

    fn of(&self, is_counted: impl Fn(&Exchange) -> bool) -> Summary {
        let exchanges = lock(&self.exchanges);
        let exchanges = exchanges.iter().filter(|exchange| is_counted(exchange));
        Summary::of(exchanges.copied(), self.callers)
    }

    /// Lets the callers finish their last requests, and summarizes all requests since `start`. A
    /// request that lasts longer than `limit` counts as failed.
    pub(crate) async fn finish(&mut self, start: Instant, limit: Duration) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        let end = Instant::now() + limit;
        while timeout_at(end, self.tasks.join_next())
            .await
            .is_ok_and(|task| task.is_some())
        {}
        let mut summary = self.since(start);
        summary.count(None, self.tasks.len());
        summary
    }
}

/// Returns the address of a caller.
pub(crate) fn address(group: u8, caller: usize) -> Ipv4Addr {
    let caller = u8::try_from(caller + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, group, caller)
}

fn lock(exchanges: &Mutex<Vec<Exchange>>) -> std::sync::MutexGuard<'_, Vec<Exchange>> {
    exchanges.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Statuses and times of requests.
pub(crate) struct Summary {
    /// Times of successful requests, sorted.
    times: Vec<Duration>,
    failed: BTreeMap<Option<u16>, usize>,
    /// Successful requests of each caller.
    served: Vec<usize>,
}

impl Summary {
    fn of(exchanges: impl Iterator<Item = Exchange>, callers: usize) -> Self {
        let mut summary = Self {
            times: Vec::new(),
            failed: BTreeMap::new(),
            served: vec![0; callers],
        };
        for exchange in exchanges {
            if exchange.status == Some(200) {
                summary.times.push(exchange.took);
                summary.served[exchange.caller] += 1;
            } else {
                summary.count(exchange.status, 1);
            }
        }
        summary.times.sort_unstable();
        summary
    }

    fn count(&mut self, status: Option<u16>, more: usize) {
        if more > 0 {
            *self.failed.entry(status).or_default() += more;
        }
    }

    pub(crate) fn succeeded(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failed.values().sum()
    }

    /// Returns the time that this part of the successful requests, in thousandths, did not exceed.
    pub(crate) fn quantile(&self, per_mille: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let at = (self.times.len() * per_mille / 1000).min(last);
        self.times.get(at).copied().unwrap_or_default()
    }

    /// Returns the successful requests of the callers with the fewest and with the most.
    pub(crate) fn fewest_and_most(&self) -> (usize, usize) {
        let least = self.served.iter().min().copied().unwrap_or_default();
        (least, self.served.iter().max().copied().unwrap_or_default())
    }

    /// Describes the times.
    pub(crate) fn times(&self) -> String {
        let [median, most] = [500, 990].map(|part| milliseconds(self.quantile(part)));
        format!("p50 {median}, p99 {most}")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} × 200", self.succeeded())?;
        for (status, count) in &self.failed {
            match status {
                Some(status) => write!(formatter, ", {count} × {status}")?,
                None => write!(formatter, ", {count} without a response")?,
            }
        }
        if self.failed.is_empty() {
            formatter.write_str(", 0 failed")?;
        }
        Ok(())
    }
}
