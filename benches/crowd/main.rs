//! What callers notice of each other and of secrets: memory of idle connections, what slow callers take from the
//! others, and whether the time of a refusal tells anything.
//!
//! `ulimit -n 20000; cargo bench --bench crowd` measures the release binary, or the one that `GATEWAY` names, in a
//! process of its own. `-- memory`, `-- slow` and `-- secrets` measure one of the three.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

mod callers;
mod gateway;
mod secrets;
mod upstream;

use std::error::Error;
use std::time::Duration;

use callers::{Kind, Slow};
use gateway::Gateway;
use tokio::time::sleep;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// How long connections are idle before memory is read: longer than whatever is done after some seconds.
const SETTLED: Duration = Duration::from_secs(25);
/// How long the bystander asks, with a crowd or without: longer than a slow caller is borne with.
const ASKED_FOR: Duration = Duration::from_secs(75);

/// How large a measurement is.
#[derive(Clone, Copy)]
struct Size {
    idle: usize,
    slow: usize,
    refused: usize,
    settled: Duration,
    asked_for: Duration,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wants = |what: &str| {
        let named = |argument: &String| matches!(argument.as_str(), "memory" | "slow" | "secrets");
        arguments.iter().any(|argument| argument == what) || !arguments.iter().any(named)
    };
    // `cargo test --benches` runs it, too.
    let size = if arguments.iter().any(|argument| argument == "--bench") {
        Size {
            idle: 10_000,
            slow: 2_000,
            refused: 300_000,
            settled: SETTLED,
            asked_for: ASKED_FOR,
        }
    } else {
        Size {
            idle: 20,
            slow: 6,
            refused: 100,
            settled: Duration::ZERO,
            asked_for: Duration::from_millis(200),
        }
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            if wants("memory") {
                memory(size).await?;
            }
            if wants("slow") {
                slow(size).await?;
            }
            if wants("secrets") {
                secrets::compare(size.refused).await?;
            }
            Ok(())
        })
}

/// Memory of a connection that idles, for each kind of connection.
async fn memory(size: Size) -> Fallible<()> {
    for kind in [
        Kind::Fresh,
        Kind::Http1,
        Kind::Http1Tls,
        Kind::Http2,
        Kind::Http2Tls,
    ] {
        let gateway = Gateway::start().await?;
        // What is allocated once is there before the first look.
        drop(callers::idle(&gateway, kind, (size.idle / 100).max(1)).await?);
        sleep(size.settled).await;
        let before = gateway.resident()?;
        let crowd = callers::idle(&gateway, kind, size.idle).await?;
        let busy = gateway.resident()?;
        sleep(size.settled).await;
        // The allocator gives memory back as it is used.
        callers::bystander(gateway.address, size.settled / 10).await?;
        let after = gateway.resident()?;
        let each = |bytes: u64| (bytes.saturating_sub(before)) as f64 / 1024.0 / size.idle as f64;
        println!(
            "{kind:?}: {before} bytes before, {after} after: {:.1} KiB for each of {} idle connections; {:.1} at once",
            each(after),
            size.idle,
            each(busy),
        );
        drop(crowd);
    }
    Ok(())
}

/// Latency of a bystander without a crowd, among idle connections, and among slow callers as well.
async fn slow(size: Size) -> Fallible<()> {
    let gateway = Gateway::start().await?;
    callers::bystander(gateway.address, Duration::from_secs(1).min(size.asked_for)).await?;
    println!(
        "alone: {}",
        callers::bystander(gateway.address, size.asked_for / 5).await?
    );
    let crowd = callers::idle(&gateway, Kind::Http1, size.idle).await?;
    println!(
        "with {} idle: {}",
        size.idle,
        callers::bystander(gateway.address, size.asked_for / 5).await?
    );
    // Half of them stay at the door. The others take places in flight, of which there are 1,024.
    let slow = Slow::start(
        gateway.address,
        [size.slow / 2, size.slow / 4, size.slow / 4],
    );
    sleep(size.settled / 2).await;
    let among = callers::bystander(gateway.address, size.asked_for).await?;
    println!("with {} slow ones besides: {among}", size.slow);
    println!("  of the slow ones: {}", slow.ended());
    println!("  {} in flight", gateway.in_flight().await?);
    drop(crowd);
    Ok(())
}
