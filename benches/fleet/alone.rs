//! Replicas without a store that know their number.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cloud::Cloud;
use crate::gateway::{at_citrix, start_ready};
use crate::load::{Load, Plan, Targets};
use crate::{Fallible, GATED, Row};

const TIME: Duration = Duration::from_secs(20);
/// Longest wait for the last requests: longer than `queue_timeout`, after which they fail.
const END: Duration = Duration::from_secs(70);

pub(crate) async fn measure(query: Duration) -> Fallible<Row> {
    let cloud = Cloud::start(query).await?;
    let configuration = format!("{}[fleet]\nreplicas = 3\n", cloud.configuration());
    let replicas = start_ready(3, &configuration).await?;
    let plan = Plan {
        callers: 7,
        path: GATED,
        pause: Duration::ZERO,
        group: 1,
    };
    let start = Instant::now();
    let mut load = Load::start(&Targets::of(&replicas), plan);
    sleep(TIME).await;
    let rate = load.since(start).succeeded() as f64 / TIME.as_secs_f64();
    // All pollers wait in a queue: each has one request more.
    let summary = load.finish(start, END).await;
    let (fewest, most) = summary.fewest_and_most();
    Ok(Row {
        measured: format!(
            "{summary}; {rate:.2} of {:.2} a second; {}; {fewest} to {most} for each caller; {}",
            1.0 / query.as_secs_f64(),
            summary.times(),
            at_citrix(&cloud),
        ),
        target: "0 failed",
        is_met: summary.failed() == 0,
    })
}
