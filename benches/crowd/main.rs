//! Effects of callers on each other: memory of idle connections, latency among slow callers, and
//! timing of rejected secrets.
//!
//! `ulimit -n 20000; cargo bench --bench crowd` measures a build like `just dist`, or the binary that
//! `GATEWAY` names, in a separate process. `-- memory`, `-- slow` or `-- secrets` selects one of
//! the three.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

mod callers;
mod gateway;
mod secrets;
mod upstream;

use std::error::Error;
use std::time::Duration;

use callers::{IdleKind, SlowCallers};
use gateway::Gateway;
use tokio::time::sleep;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Idle time before memory is read: longer than the housekeeping intervals of the gateway.
const SETTLE_TIME: Duration = Duration::from_secs(25);
/// Time for which the bystander sends requests: longer than the gateway waits for a slow caller.
const BYSTANDER_TIME: Duration = Duration::from_secs(75);

/// Scale of the measurements.
#[derive(Clone, Copy)]
struct Size {
    idle: usize,
    slow: usize,
    rejections: usize,
    settle_time: Duration,
    bystander_time: Duration,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let selected = |name: &str| {
        let named = |argument: &String| matches!(argument.as_str(), "memory" | "slow" | "secrets");
        arguments.iter().any(|argument| argument == name) || !arguments.iter().any(named)
    };
    // `cargo test --benches` also runs this.
    let size = if arguments.iter().any(|argument| argument == "--bench") {
        Size {
            idle: 10_000,
            slow: 2_000,
            rejections: 300_000,
            settle_time: SETTLE_TIME,
            bystander_time: BYSTANDER_TIME,
        }
    } else {
        Size {
            idle: 20,
            slow: 6,
            rejections: 100,
            settle_time: Duration::ZERO,
            bystander_time: Duration::from_millis(200),
        }
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            if selected("memory") {
                memory(size).await?;
            }
            if selected("slow") {
                slow(size).await?;
            }
            if selected("secrets") {
                secrets::compare(size.rejections).await?;
            }
            Ok(())
        })
}

/// Measures the memory of an idle connection, for each kind of connection.
async fn memory(size: Size) -> Fallible<()> {
    for kind in [
        IdleKind::Fresh,
        IdleKind::Http1,
        IdleKind::Http1Tls,
        IdleKind::Http2,
        IdleKind::Http2Tls,
    ] {
        let gateway = Gateway::start().await?;
        // Triggers one-time allocations before the first measurement.
        drop(callers::open_idle(&gateway, kind, (size.idle / 100).max(1)).await?);
        sleep(size.settle_time).await;
        let before = gateway.resident()?;
        let crowd = callers::open_idle(&gateway, kind, size.idle).await?;
        let unsettled = gateway.resident()?;
        sleep(size.settle_time).await;
        // The allocator returns memory to the system while requests allocate.
        callers::bystander(gateway.address, size.settle_time / 10).await?;
        let after = gateway.resident()?;
        let each = |bytes: u64| (bytes.saturating_sub(before)) as f64 / 1024.0 / size.idle as f64;
        println!(
            "{kind:?}: {before} bytes before, {after} after: {:.1} KiB for each of {} idle connections; \
             {:.1} before they settled",
            each(after),
            size.idle,
            each(unsettled),
        );
        drop(crowd);
    }
    Ok(())
}

/// Measures the latency of a bystander alone, with idle connections, and with slow callers in
/// addition.
async fn slow(size: Size) -> Fallible<()> {
    let gateway = Gateway::start().await?;
    callers::bystander(
        gateway.address,
        Duration::from_secs(1).min(size.bystander_time),
    )
    .await?;
    println!(
        "alone: {}",
        callers::bystander(gateway.address, size.bystander_time / 5).await?
    );
    let crowd = callers::open_idle(&gateway, IdleKind::Http1, size.idle).await?;
    println!(
        "with {} idle: {}",
        size.idle,
        callers::bystander(gateway.address, size.bystander_time / 5).await?
    );
    // Half of them never complete a head. The others are in flight, up to the limit of 1,024.
    let slow = SlowCallers::start(
        gateway.address,
        [size.slow / 2, size.slow / 4, size.slow / 4],
    );
    sleep(size.settle_time / 2).await;
    let among = callers::bystander(gateway.address, size.bystander_time).await?;
    println!("with {} slow callers in addition: {among}", size.slow);
    println!("  slow callers: {}", slow.summary());
    println!("  {} in flight", gateway.in_flight().await?);
    drop(crowd);
    Ok(())
}
