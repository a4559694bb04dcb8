//! Logins of many replicas.

use std::time::Duration;

use citrix_emulator::Options;
use futures_util::future::{try_join, try_join_all};
use testkit::store::StoreServer;
use tokio::time::{Instant, sleep};

use crate::cloud::Cloud;
use crate::gateway::{Gateway, sharing, start_joined, start_ready};
use crate::load::{Load, Plan, Summary, Targets};
use crate::{Fallible, Row, UNGATED, milliseconds, store_server};

const REPLICAS: usize = 50;
/// Replicas that restart at the same time.
const BATCH: usize = 5;
/// Longest wait for the last requests, or for one of each caller.
const END: Duration = Duration::from_secs(30);
/// Time within which a load balancer stops to send requests to a replica.
const REMOVAL: Duration = Duration::from_millis(50);
const PLAN: Plan = Plan {
    callers: 1,
    path: UNGATED,
    pause: Duration::from_millis(200),
    group: 1,
};

/// Measures a start, a revocation and a rolling restart within the lifetime of a token.
pub(crate) async fn hour() -> Fallible<Vec<Row>> {
    let store = store_server()?;
    let cloud = Cloud::start(Duration::ZERO).await?;
    let began = Instant::now();
    let mut replicas = start_joined(REPLICAS, &cloud.configuration(), &store.url()).await?;
    let mut rows = vec![Row {
        measured: format!(
            "start: {} login; all ready and joined after {}",
            cloud.logins(),
            milliseconds(began.elapsed())
        ),
        target: "1 login",
        is_met: cloud.logins() == 1,
    }];
    let targets = Targets::of(&replicas);
    let load = Load::start(&targets, PLAN);
    load.each_served(1, END).await?;
    let (before, start) = (cloud.logins(), Instant::now());
    cloud.emulator.revoke_all();
    load.each_served(10, END).await?;
    rows.push(Row {
        measured: format!(
            "revocation: {} login, {} requests rejected by Citrix; callers: {}",
            cloud.logins() - before,
            cloud.emulator.stats().tokens.revoked_token,
            load.since(start)
        ),
        target: "1 login, 0 failed",
        is_met: cloud.logins() - before == 1 && load.since(start).failed() == 0,
    });
    rows.push(restart(&mut replicas, &cloud, &store, (load, &targets)).await?);
    Ok(rows)
}

/// Restarts all replicas, some at a time, under load.
async fn restart(
    replicas: &mut [Gateway],
    cloud: &Cloud,
    store: &StoreServer,
    (mut load, targets): (Load, &Targets),
) -> Fallible<Row> {
    let (before, start) = (cloud.logins(), Instant::now());
    for first in (0..REPLICAS).step_by(BATCH) {
        let numbers = first..first + BATCH;
        numbers.clone().for_each(|number| targets.set(number, None));
        sleep(REMOVAL).await;
        for replica in &mut replicas[numbers.clone()] {
            replica.terminate()?;
        }
        for replica in &mut replicas[numbers.clone()] {
            replica.exited().await?;
        }
        let started = start_joined(BATCH, &cloud.configuration(), &store.url()).await?;
        for (number, replica) in numbers.zip(started) {
            targets.set(number, Some(replica.address));
            replicas[number] = replica;
        }
    }
    let took = start.elapsed();
    load.each_served(5, END).await?;
    let summary = load.finish(start, END).await;
    Ok(Row {
        measured: format!(
            "rolling restart of all in {}: {} logins; callers: {summary}",
            milliseconds(took),
            cloud.logins() - before
        ),
        target: "0 logins, 0 failed",
        is_met: cloud.logins() == before && summary.failed() == 0,
    })
}

/// Measures tokens of 20 s: many replicas beside one.
pub(crate) async fn short() -> Fallible<Row> {
    const TIME: Duration = Duration::from_secs(45);
    let options = || Options {
        token_lifetime: Duration::from_secs(20),
        ..Options::default()
    };
    let store = store_server()?;
    let (cloud, other) = try_join(Cloud::with(options()), Cloud::with(options())).await?;
    let alone = async {
        let one = start_ready(1, &other.configuration()).await?;
        renewed(&one, &other, TIME).await
    };
    let together = async {
        let replicas = start_joined(REPLICAS, &cloud.configuration(), &store.url()).await?;
        renewed(&replicas, &cloud, TIME).await
    };
    let ((logins, summary), (alone, _)) = try_join(together, alone).await?;
    Ok(Row {
        measured: format!(
            "{logins} logins since all have joined, one replica: {alone}; callers: {summary}"
        ),
        target: "as many logins as one replica (± 1), 0 failed",
        is_met: logins <= alone + 1 && summary.failed() == 0,
    })
}

/// Returns the logins and the requests during a load of some time.
async fn renewed(replicas: &[Gateway], cloud: &Cloud, time: Duration) -> Fallible<(u64, Summary)> {
    let (before, start) = (cloud.logins(), Instant::now());
    let mut load = Load::start(&Targets::of(replicas), PLAN);
    sleep(time).await;
    let logins = cloud.logins() - before;
    Ok((logins, load.finish(start, END).await))
}

/// Measures attempts to log in with an invalid secret: many replicas beside one.
pub(crate) async fn invalid_secret() -> Fallible<Row> {
    const TIME: Duration = Duration::from_secs(60);
    let store = store_server()?;
    let (cloud, other) =
        try_join(Cloud::start(Duration::ZERO), Cloud::start(Duration::ZERO)).await?;
    let invalid = |cloud: &Cloud| cloud.configuration_with("an-invalid-secret==");
    let shared = format!("{}{}", invalid(&cloud), sharing(&store.url(), 10));
    let end = Instant::now() + TIME;
    let one = Gateway::start(&invalid(&other)).await?;
    let many = try_join_all((0..10).map(|_| Gateway::start(&shared))).await?;
    tokio::time::sleep_until(end).await;
    let (attempts, alone) = (cloud.logins(), other.logins());
    drop((one, many));
    Ok(Row {
        measured: format!("{attempts} attempts, one replica: {alone}"),
        target: "as many attempts as one replica (± 1)",
        is_met: attempts <= alone + 1 && attempts > 0,
    })
}
