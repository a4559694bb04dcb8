//! Traffic that trains profile-guided builds of the gateway.
//!
//! A run starts an instrumented gateway twice, between callers and an upstream that are in this
//! process: once with anonymous callers and HTTP/1.1 to the upstream, once with several customers,
//! callers with secrets, the access log and HTTP/2 to the upstream. Each gets the same requests from
//! every kind of connection, and each response is checked. The gateway has one worker, because
//! threads that count at the same time lose counts, and it ends as operators end it, because it
//! writes the profile when it exits.
//!
//! What a run does not do counts as cold: the compiler makes it small and places it apart. Hence
//! also errors, and content codings and methods that few callers use.

mod connection;
mod gateway;
mod requests;
mod upstream;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::runtime::Builder;
use tokio::time::timeout;

use connection::{Connection, Kind};
use gateway::Gateway;
use requests::Requests;
use upstream::Upstream;

/// A result whose error is for people.
pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Far above what a run takes, also in an emulated machine.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Callers at the same time: a request alone is delayed by no other; among others it shares
/// connections to the upstream, and wake-ups.
const CONCURRENCY: [usize; 2] = [1, 4];
/// Kinds of connections, and their shares of the rounds.
const KINDS: [(Kind, usize); 5] = [
    (Kind::Http1, 6),
    (Kind::Http1PerRequest, 1),
    (Kind::Http1Tls, 2),
    (Kind::Http2, 2),
    (Kind::Http2Tls, 2),
];

/// Sends `rounds` rounds of requests per share to the gateway `binary`, returns their number.
///
/// # Errors
/// When the gateway does not start, responds with anything but what it should, or does not drain.
pub fn train(binary: &Path, rounds: usize) -> Fallible<usize> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async { timeout(TIMEOUT, train_all(binary, rounds)).await? })
}

async fn train_all(binary: &Path, rounds: usize) -> Fallible<usize> {
    let upstream = Upstream::start().await?;
    let mut sent = 0;
    for requests in [
        Requests::anonymous(&upstream),
        Requests::identified(&upstream),
    ] {
        let gateway = Arc::new(Gateway::start(binary, requests.configuration()).await?);
        let requests = Arc::new(requests);
        for concurrency in CONCURRENCY {
            for (kind, share) in KINDS {
                let connection = Connection::open(gateway.clone(), kind).await?;
                let rounds = (rounds * share).div_ceil(concurrency);
                sent += send(&requests, &connection, concurrency, rounds).await?;
            }
        }
        gateway.stop().await?;
    }
    Ok(sent)
}

/// Sends `rounds` rounds from each of `concurrency` callers, returns the number of requests.
async fn send(
    requests: &Arc<Requests>,
    connection: &Connection,
    concurrency: usize,
    rounds: usize,
) -> Fallible<usize> {
    let callers = (0..concurrency).map(|caller| {
        let (requests, mut connection) = (requests.clone(), connection.for_another_caller());
        tokio::spawn(async move {
            let mut sent = 0;
            for _ in 0..rounds {
                sent += requests.send_round(&mut connection, caller).await?;
            }
            Fallible::Ok(sent)
        })
    });
    try_join_all(callers).await?.into_iter().sum()
}
