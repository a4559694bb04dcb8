//! The cost of a store for a request: one replica with it beside one without `[fleet]`.

use std::net::Ipv4Addr;
use std::time::Duration;

use testkit::store::StoreServer;
use tokio::time::Instant;

use crate::client::Connection;
use crate::cloud::Cloud;
use crate::gateway::{Gateway, start_joined, start_ready, warm_up};
use crate::{Fallible, GATED, Row, UNGATED, store_server};

/// Length of a measurement of both.
const TIME: Duration = Duration::from_secs(10);
/// Requests to one before the other's turn, so that both meet the same machine.
const BLOCK: usize = 20;

/// A gateway and its measurements.
struct Side<'a> {
    gateway: &'a Gateway,
    connection: Connection,
    times: Vec<Duration>,
    processor_time: Duration,
}

impl<'a> Side<'a> {
    async fn of(gateway: &'a Gateway) -> Fallible<Self> {
        Ok(Self {
            gateway,
            connection: Connection::open(Ipv4Addr::LOCALHOST, gateway.address).await?,
            times: Vec::new(),
            processor_time: gateway.processor_time()?,
        })
    }

    async fn run(&mut self, path: &str) -> Fallible<()> {
        for _ in 0..BLOCK {
            let start = Instant::now();
            let (status, _) = self.connection.get(path).await?;
            self.times.push(start.elapsed());
            if status != 200 {
                return Err(format!("{status} for {path}").into());
            }
        }
        Ok(())
    }

    /// Returns median and p99 in microseconds, and the processor time of a request.
    fn end(&mut self) -> Fallible<[f64; 3]> {
        self.times.sort_unstable();
        let time = |part: usize| self.times[self.times.len() * part / 100].as_secs_f64() * 1e6;
        let used = self
            .gateway
            .processor_time()?
            .saturating_sub(self.processor_time);
        let each = used.as_secs_f64() * 1e6 / self.times.len() as f64;
        Ok([time(50), time(99), each])
    }
}

pub(crate) async fn measure() -> Fallible<Vec<Row>> {
    let store = store_server()?;
    let [cloud, other] = [
        Cloud::start(Duration::ZERO).await?,
        Cloud::start(Duration::ZERO).await?,
    ];
    let shared = start_joined(1, &cloud.configuration(), &store.url()).await?;
    let alone = start_ready(1, &other.configuration()).await?;
    for path in [GATED, UNGATED] {
        warm_up(&shared, path).await?;
        warm_up(&alone, path).await?;
    }
    let mut rows = Vec::new();
    for path in [GATED, UNGATED] {
        rows.push(compare(&store, [&shared[0], &alone[0]], path).await?);
    }
    Ok(rows)
}

async fn compare(store: &StoreServer, gateways: [&Gateway; 2], path: &str) -> Fallible<Row> {
    let commands = || store.calls().get("evalsha").copied().unwrap_or_default();
    let (before, start) = (commands(), Instant::now());
    let mut shared = Side::of(gateways[0]).await?;
    let mut alone = Side::of(gateways[1]).await?;
    while start.elapsed() < TIME {
        shared.run(path).await?;
        alone.run(path).await?;
    }
    let commands = commands() - before;
    let seconds = start.elapsed().as_secs_f64();
    let [with, without] = [shared.end()?, alone.end()?];
    let requests = shared.times.len();
    let difference = |which: usize| with[which] - without[which];
    let (median, slow) = (difference(0), difference(1));
    let is_gated = path == GATED;
    Ok(Row {
        measured: format!(
            "{}: median {:.0} µs, without {:.0} (**{median:+.0}**); p99 {:.0}, without {:.0} \
             ({slow:+.0}); processor time {:.0}, without {:.0}; {commands} scripts for {requests} \
             requests in {seconds:.0} s",
            if is_gated {
                "gated and free"
            } else {
                "ungated"
            },
            with[0],
            without[0],
            with[1],
            without[1],
            with[2],
            without[2],
        ),
        target: if is_gated {
            "≤ 1 ms more at the median, ≤ 5 ms at p99"
        } else {
            "no script but a heartbeat a second"
        },
        is_met: if is_gated {
            median <= 1000.0 && slow <= 5000.0
        } else {
            commands as f64 <= seconds + 2.0
        },
    })
}
