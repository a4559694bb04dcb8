//! A wait that Citrix requests of one replica.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::client::get;
use crate::cloud::Cloud;
use crate::gateway::start_joined;
use crate::load::address;
use crate::{Fallible, Row, UNGATED, milliseconds, store_server};

const REPLICAS: usize = 10;
/// The wait that Citrix requests.
const WAIT: Duration = Duration::from_secs(5);
/// Time before its end at which the requests that reached Citrix are counted.
const MARGIN: Duration = Duration::from_millis(50);
/// Time between the 429 and the requests at the other replicas.
const LATER: Duration = Duration::from_millis(20);

pub(crate) async fn measure() -> Fallible<Row> {
    let store = store_server()?;
    let cloud = Cloud::start(Duration::ZERO).await?;
    let replicas = start_joined(REPLICAS, &cloud.configuration(), &store.url()).await?;
    cloud.emulator.add_fault("/systemlog=429:5*1".parse()?);
    let emulator = &cloud.emulator;
    let start = Instant::now();
    let request = |number: usize| {
        let target = replicas[number].address;
        async move {
            let response = get(address(1, number), target, UNGATED).await;
            (response.ok().map(|(status, _)| status), start.elapsed())
        }
    };
    let others = async {
        while emulator.stats().faults_met == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let rejected = Instant::now();
        sleep(LATER).await;
        let requests = join_all((1..REPLICAS).map(request));
        // Replicas may send again from the end of the wait on.
        let early = async {
            tokio::time::sleep_until(rejected + WAIT - MARGIN).await;
            emulator.stats().requests
        };
        tokio::join!(requests, early)
    };
    let (first, (mut responses, early)) = tokio::join!(request(0), others);
    responses.push(first);
    let succeeded = responses.iter().filter(|(status, _)| *status == Some(200));
    let succeeded = succeeded.count();
    let last = responses.iter().map(|(_, end)| *end).max();
    let last = last.unwrap_or_default();
    Ok(Row {
        measured: format!(
            "{early} of 10 requests reached Citrix within 5 s, the rejected one included; \
             {succeeded} × 200, the last after {}",
            milliseconds(last)
        ),
        target: "≤ 2 requests before it is over, all served within 6.5 s",
        is_met: early <= 2 && succeeded == REPLICAS && last <= Duration::from_millis(6500),
    })
}
