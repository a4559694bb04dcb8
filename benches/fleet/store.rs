//! Faults of the store under load.

use std::time::Duration;

use testkit::store::{Network, SentinelSetup, StoreProxy, StoreServer};
use tokio::time::{Instant, sleep};

use crate::cloud::Cloud;
use crate::gateway::{Gateway, at_citrix, sharing, start_ready, warm_up};
use crate::load::{Load, Plan, Summary, Targets};
use crate::{Fallible, GATED, Row, UNGATED, milliseconds, store_with};

const REPLICAS: usize = 3;
/// Time that Citrix needs for a query.
const QUERY: Duration = Duration::from_millis(50);
/// Time before the fault, and after the store's return.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(7);
/// Longest wait for the last requests.
const END: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Times within which replicas join again, and limits are exact again.
const JOIN_TARGET: Duration = Duration::from_secs(2);
const EXACT_TARGET: Duration = Duration::from_secs(5);

/// A fault of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Killed,
    Stopped,
    HalfOpen,
    /// Milliseconds by which each command takes longer.
    Delayed(u64),
    Paused,
    Full,
    ReadOnly,
    Flushed,
    Reloaded,
}

impl Trouble {
    /// Returns `true` if no limit may be exceeded: the outage is shorter than a lease, or none.
    fn stays_exact(self, time: Duration) -> bool {
        let is_outage = !matches!(self, Self::Flushed | Self::Reloaded | Self::Delayed(..500));
        !is_outage || time < Duration::from_secs(5)
    }

    async fn begin(self, server: &mut StoreServer, proxy: &StoreProxy) -> Fallible<()> {
        match self {
            Self::Killed => server.kill(),
            Self::Stopped => server.stop(),
            Self::HalfOpen => proxy.set(Network::BlackHole),
            // Half of it in each direction.
            Self::Delayed(delay) => proxy.set(Network::Slow(Duration::from_millis(delay / 2))),
            Self::Paused => succeed(server, "CLIENT PAUSE 4000 ALL")?,
            Self::Full => succeed(server, "CONFIG SET maxmemory 1")?,
            Self::ReadOnly => succeed(server, "REPLICAOF 127.0.0.1 1")?,
            Self::Flushed => {
                succeed(server, "FLUSHALL")?;
                succeed(server, "SCRIPT FLUSH")?;
            }
            Self::Reloaded => {
                for _ in 0..5 {
                    succeed(server, "DEBUG RELOAD")?;
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        Ok(())
    }

    fn end(self, server: &mut StoreServer, proxy: &StoreProxy) -> Fallible<()> {
        match self {
            Self::Killed => server.restart(),
            Self::Stopped => server.resume(),
            Self::HalfOpen | Self::Delayed(_) => proxy.set(Network::Up),
            Self::Full => succeed(server, "CONFIG SET maxmemory 0")?,
            Self::ReadOnly => succeed(server, "REPLICAOF NO ONE")?,
            Self::Paused | Self::Flushed | Self::Reloaded => {}
        }
        Ok(())
    }
}

/// Runs a command that must succeed.
fn succeed(server: &StoreServer, command: &str) -> Fallible<()> {
    match server.run(command).as_str() {
        "+OK" => Ok(()),
        reply => Err(format!("{command}: {reply}").into()),
    }
}

/// Measures a fault that lasts for some time.
pub(crate) async fn measure(trouble: Trouble, time: Duration) -> Fallible<Row> {
    let mut server = server()?;
    let proxy = StoreProxy::start(server.socket()).await;
    // Without a network in between where the fault is not one.
    let url = match trouble {
        Trouble::HalfOpen | Trouble::Delayed(_) => proxy.url(),
        _ => server.url(),
    };
    let rig = Rig::start(&sharing(&url, REPLICAS)).await?;
    rig.join().await?;
    let begun = Instant::now();
    trouble.begin(&mut server, &proxy).await?;
    sleep(time).await;
    trouble.end(&mut server, &proxy)?;
    rig.row(begun, trouble.stays_exact(time)).await
}

/// Measures replicas that start without the store.
pub(crate) async fn refused(time: Duration) -> Fallible<Row> {
    let server = server()?;
    let proxy = StoreProxy::start(server.socket()).await;
    proxy.set(Network::Refused);
    let begun = Instant::now();
    let rig = Rig::start(&sharing(&proxy.url(), REPLICAS)).await?;
    sleep(time).await;
    proxy.set(Network::Up);
    rig.row(begun, false).await
}

/// Measures a failover by a sentinel.
pub(crate) async fn failover() -> Fallible<Row> {
    let setup = SentinelSetup::start();
    let mut setup = setup.ok_or("redis-server is not installed")?;
    let fleet = format!(
        "{}sentinels = ['127.0.0.1:{}']\nsentinel_master = '{}'\n",
        sharing("redis://ignored.example.net", REPLICAS),
        setup.port,
        SentinelSetup::MASTER,
    );
    let rig = Rig::start(&fleet).await?;
    rig.join().await?;
    let begun = Instant::now();
    setup.kill_primary();
    // The promoted server is the store's return: known by the replicas that join it.
    while rig.all_joined().await? {
        sleep(POLL).await;
    }
    rig.joined_again().await?;
    let outage = begun.elapsed();
    let row = rig.row(begun, true).await?;
    Ok(Row {
        measured: format!(
            "joined {} after the kill; {}",
            milliseconds(outage),
            row.measured
        ),
        ..row
    })
}

fn server() -> Fallible<StoreServer> {
    let debug = ["--enable-debug-command", "local"];
    store_with(&[&debug[..], &["--maxmemory-policy", "noeviction"]].concat())
}

/// Three busy replicas.
struct Rig {
    cloud: Cloud,
    replicas: Vec<Gateway>,
    gated: Load,
    ungated: Load,
    started: Instant,
}

impl Rig {
    async fn start(fleet: &str) -> Fallible<Self> {
        let cloud = Cloud::start(QUERY).await?;
        let configuration = format!("{}{fleet}", cloud.configuration());
        let replicas = start_ready(REPLICAS, &configuration).await?;
        let targets = Targets::of(&replicas);
        let plan = |callers, path, pause, group| Plan {
            callers,
            path,
            pause: Duration::from_millis(pause),
            group,
        };
        let started = Instant::now();
        Ok(Self {
            gated: Load::start(&targets, plan(3, GATED, 0, 1)),
            ungated: Load::start(&targets, plan(1, UNGATED, 10, 2)),
            cloud,
            replicas,
            started,
        })
    }

    /// Waits until all have joined and serve.
    async fn join(&self) -> Fallible<()> {
        self.joined_again().await?;
        warm_up(&self.replicas, GATED).await?;
        sleep(BEFORE).await;
        Ok(())
    }

    async fn all_joined(&self) -> Fallible<bool> {
        for replica in &self.replicas {
            if replica.status().await?["fleet"]["state"] != "joined" {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn joined_again(&self) -> Fallible<()> {
        for replica in &self.replicas {
            replica.joined().await?;
        }
        Ok(())
    }

    /// Ends the measurement after the store's return, which is now.
    async fn row(mut self, begun: Instant, must_be_exact: bool) -> Fallible<Row> {
        let returned = Instant::now();
        let settled = self.settle(returned).await?;
        let gated = self.gated.finish(self.started, END).await;
        let ungated = self.ungated.finish(self.started, END).await;
        let parts = [self.ungated.before(begun), self.ungated.since(begun)];
        let monitor = self.cloud.monitor();
        let is_exact = if must_be_exact {
            monitor.concurrency_peak <= 1 && monitor.rate_limited == 0
        } else {
            settled.exact.is_none_or(|after| after <= EXACT_TARGET)
        };
        let has_joined = settled.joined.is_some_and(|after| after <= JOIN_TARGET);
        Ok(Row {
            measured: self.describe(&settled, &gated, (&ungated, parts)),
            target: if must_be_exact {
                "0 failed, 1 at once, 0 × 429, joined ≤ 2 s after its return"
            } else {
                "0 failed, joined ≤ 2 s and exact ≤ 5 s after its return"
            },
            is_met: gated.failed() == 0 && ungated.failed() == 0 && has_joined && is_exact,
        })
    }

    /// Observes replicas and rejections for some time after the store's return.
    async fn settle(&self, returned: Instant) -> Fallible<Settled> {
        let mut rejected = self.cloud.monitor().rate_limited;
        let mut settled = Settled {
            joined: None,
            exact: None,
            rejected_before: rejected,
        };
        while returned.elapsed() < AFTER {
            if settled.joined.is_none() && self.all_joined().await? {
                settled.joined = Some(returned.elapsed());
            }
            let now = self.cloud.monitor().rate_limited;
            if now > rejected {
                settled.exact = Some(returned.elapsed());
                rejected = now;
            }
            sleep(POLL).await;
        }
        Ok(settled)
    }

    fn describe(
        &self,
        settled: &Settled,
        gated: &Summary,
        (ungated, [before, since]): (&Summary, [Summary; 2]),
    ) -> String {
        let last = settled.exact.map_or("none".to_owned(), |after| {
            format!("the last after {}", milliseconds(after))
        });
        let before = match before.succeeded() {
            0 => "from the start".to_owned(),
            _ => format!("before {}", milliseconds(before.quantile(990))),
        };
        let joined = settled.joined.map_or("not joined".to_owned(), milliseconds);
        format!(
            "gated: {gated}, longest {}; ungated: {ungated}, p99 {} ({before}); {}, {} of \
             them before its return, then {last}; joined after {joined}",
            milliseconds(gated.quantile(1000)),
            milliseconds(since.quantile(990)),
            at_citrix(&self.cloud),
            settled.rejected_before,
        )
    }
}

/// Times since the store's return.
struct Settled {
    /// When all replicas had joined.
    joined: Option<Duration>,
    /// When Citrix last rejected a request.
    exact: Option<Duration>,
    /// Rejections before the return.
    rejected_before: u64,
}
