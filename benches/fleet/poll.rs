//! Busy queues of replicas that share a store.

use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::{Instant, sleep};

use crate::cloud::Cloud;
use crate::gateway::{Gateway, at_citrix, start_joined, start_ready, warm_up};
use crate::load::{Load, Plan, Summary, Targets};
use crate::{Fallible, GATED, Row, milliseconds, store_server};

/// Length of a measurement.
const TIME: Duration = Duration::from_secs(30);

/// Observations of callers and Citrix under one load.
struct Outcome {
    summary: Summary,
    /// Successful requests per second.
    rate: f64,
    citrix: String,
    is_exact: bool,
}

impl Outcome {
    fn describe(&self) -> String {
        let (fewest, most) = self.summary.fewest_and_most();
        format!(
            "{}; {:.2} a second; {}; {fewest} to {most} for each caller; {}",
            self.summary,
            self.rate,
            self.summary.times(),
            self.citrix
        )
    }

    /// Returns `true` if no request failed, none was rejected, and callers were served alike.
    fn is_fair_and_exact(&self) -> bool {
        let (fewest, most) = self.summary.fewest_and_most();
        self.summary.failed() == 0 && self.is_exact && most - fewest <= 2
    }
}

/// Measures three replicas with 20 pollers each and one with 60, at the same time, so that both
/// meet the same machine.
pub(crate) async fn beside_one() -> Fallible<Row> {
    let query = Duration::from_millis(200);
    let one = async {
        let cloud = Cloud::start(query).await?;
        let one = start_ready(1, &cloud.configuration()).await?;
        poll(&cloud, &one, 60).await
    };
    let (one, three) = try_join(one, three(query, 20)).await?;
    let slowest = one.summary.quantile(990).mul_f64(1.2);
    Ok(Row {
        measured: format!("one: {}<br>three: {}", one.describe(), three.describe()),
        target: "1 at once, 0 × 429, ≥ 90 % of one replica's rate, p99 ≤ 1.2 times its p99, \
                 callers differ by ≤ 2",
        is_met: three.is_fair_and_exact()
            && three.rate >= 0.9 * one.rate
            && three.summary.quantile(990) <= slowest,
    })
}

/// Measures three replicas with seven pollers each.
pub(crate) async fn seven() -> Fallible<Row> {
    let query = Duration::from_millis(300);
    let three = three(query, 7).await?;
    // 21 callers take turns.
    let slowest = (query * 21).mul_f64(1.2);
    let hand_over = Duration::from_secs_f64(1.0 / three.rate).saturating_sub(query);
    Ok(Row {
        measured: format!(
            "{}; {} between two queries",
            three.describe(),
            milliseconds(hand_over)
        ),
        target: "1 at once, 0 × 429, ≥ 90 % of 3.33 a second, p99 ≤ 7.6 s, callers differ by ≤ 2",
        is_met: three.is_fair_and_exact()
            && three.rate >= 0.9 / query.as_secs_f64()
            && three.summary.quantile(990) <= slowest,
    })
}

async fn three(query: Duration, callers: usize) -> Fallible<Outcome> {
    let store = store_server()?;
    let cloud = Cloud::start(query).await?;
    let replicas = start_joined(3, &cloud.configuration(), &store.url()).await?;
    poll(&cloud, &replicas, callers).await
}

async fn poll(cloud: &Cloud, replicas: &[Gateway], callers: usize) -> Fallible<Outcome> {
    warm_up(replicas, GATED).await?;
    let plan = Plan {
        callers,
        path: GATED,
        pause: Duration::ZERO,
        group: 1,
    };
    let start = Instant::now();
    let load = Load::start(&Targets::of(replicas), plan);
    sleep(TIME).await;
    // Requests that still wait are not counted: all of them begin again and again.
    let summary = load.since(start);
    let monitor = cloud.monitor();
    Ok(Outcome {
        rate: summary.succeeded() as f64 / TIME.as_secs_f64(),
        summary,
        citrix: at_citrix(cloud),
        is_exact: monitor.concurrency_peak == 1 && monitor.rate_limited == 0,
    })
}
