//! A replica that ends while it has the permit.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::get;
use crate::cloud::Cloud;
use crate::gateway::{Gateway, start_joined, warm_up};
use crate::load::address;
use crate::{Fallible, GATED, Row, milliseconds, store_server};

const ROUNDS: usize = 3;
/// Time that Citrix needs for a query.
const QUERY: Duration = Duration::from_millis(1500);
/// Time between the requests, and until the replica ends.
const STEP: Duration = Duration::from_millis(200);

/// The observations after a holder ended.
struct Handover {
    /// Time without a query at Citrix: since the replica was killed, or since its query ended.
    gap: Duration,
    /// No other request failed, and a drained replica exited with success.
    is_clean: bool,
}

pub(crate) async fn measure() -> Fallible<Vec<Row>> {
    let store = store_server()?;
    let cloud = Cloud::start(QUERY).await?;
    let mut rows = Vec::new();
    for (what, target, limit) in [
        (
            "killed",
            "next query ≤ 5.5 s after the kill, 0 failed of others",
            5500,
        ),
        (
            "drained",
            "next query ≤ 100 ms after its last one, 0 failed, exit 0",
            100,
        ),
    ] {
        let (mut gaps, mut is_clean) = (Vec::new(), true);
        for _ in 0..ROUNDS {
            let replicas = start_joined(2, &cloud.configuration(), &store.url()).await?;
            warm_up(&replicas, GATED).await?;
            let handover = end_holder(&cloud, replicas, what == "killed").await?;
            gaps.push(handover.gap);
            is_clean &= handover.is_clean;
        }
        let peak = cloud.monitor().concurrency_peak;
        let longest = gaps.iter().max().copied().unwrap_or_default();
        let texts: Vec<_> = gaps.into_iter().map(milliseconds).collect();
        let failed = if is_clean {
            "nothing else failed"
        } else {
            "**others failed**"
        };
        rows.push(Row {
            measured: format!(
                "{what}: next query after {}; {failed}; at Citrix at most {peak} at once",
                texts.join(", ")
            ),
            target,
            is_met: is_clean && longest <= Duration::from_millis(limit) && peak == 1,
        });
    }
    Ok(rows)
}

/// Ends the first replica while its query is in progress and one of each replica waits.
async fn end_holder(
    cloud: &Cloud,
    mut replicas: Vec<Gateway>,
    is_killed: bool,
) -> Fallible<Handover> {
    let other = replicas.pop().ok_or("no replica")?;
    let mut holder = replicas.pop().ok_or("no replica")?;
    let query = |caller: usize, gateway: &Gateway| {
        let (from, to) = (address(1, caller), gateway.address);
        tokio::spawn(async move {
            let response = get(from, to, GATED).await;
            (response.ok().map(|(status, _)| status), Instant::now())
        })
    };
    let held = query(0, &holder);
    while cloud.monitor().in_flight == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(STEP).await;
    let next = query(1, &other);
    sleep(STEP).await;
    let later = query(2, &holder);
    sleep(STEP).await;
    let mut free = Instant::now();
    let mut is_clean = true;
    if is_killed {
        holder.kill();
    } else {
        holder.terminate()?;
    }
    let (status, held_until) = held.await?;
    let (next_status, served) = next.await?;
    is_clean &= next_status == Some(200);
    if !is_killed {
        free = held_until;
        is_clean &= status == Some(200) && later.await?.0 == Some(200);
        is_clean &= holder.exited().await?.success();
    }
    Ok(Handover {
        gap: served.saturating_duration_since(free + QUERY),
        is_clean,
    })
}
