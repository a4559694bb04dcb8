//! Several replicas: what Citrix, callers and the store see of real gateways, in one table.
//!
//! `cargo bench --bench fleet` measures the shipped build, or the binary that `GATEWAY` names, with
//! the emulator as Citrix and a real `redis-server` (or the one that `REDIS_SERVER` names). It
//! takes up to twelve minutes. Names, or the beginnings of names, select cases: `-- poll store-killed`;
//! `-- list` lists them. It fails if a target is missed.
//!
//! Citrix and callers are in this process, gateways and the store in their own. Times are those of
//! a machine that does nothing else.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

mod alone;
mod client;
mod cloud;
mod gateway;
mod holder;
mod load;
mod machine;
mod overhead;
mod poll;
mod store;
mod tokens;
mod wait;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use store::Trouble;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A path that Citrix serves one request at a time, and one without a limit.
const GATED: &str = "/monitorodata/Machines?$top=1";
const UNGATED: &str = "/systemlog/records?limit=1";
/// Longest time of a case.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// The cases with their conditions, in the order of the table.
const CASES: [(&str, &str); 23] = [
    (
        "poll",
        "20 pollers at each of 3 replicas, queries of 200 ms, 30 s; beside one with 60",
    ),
    (
        "poll-seven",
        "7 pollers at each of 3 replicas, queries of 300 ms, 30 s",
    ),
    (
        "alone-300ms",
        "without a store, `replicas = 3`: 7 pollers at each, queries of 300 ms, 20 s",
    ),
    ("alone-1s", "the same, queries of 1 s"),
    (
        "tokens",
        "50 replicas with one caller each: start, revocation, rolling restart",
    ),
    (
        "tokens-short",
        "50 replicas, tokens of 20 s, 45 s; beside one replica",
    ),
    (
        "secret",
        "10 replicas with an invalid secret, 60 s; beside one replica",
    ),
    (
        "gate",
        "429 with `Retry-After: 5` at one of 10 replicas, then a request at each",
    ),
    (
        "store-refused",
        "the store is away when replicas start, for 8 s",
    ),
    (
        "store-killed",
        "the store is killed, and back without data after 15 s",
    ),
    ("store-stopped", "the store is stopped for 15 s"),
    ("store-stopped-3s", "the store is stopped for 3 s"),
    (
        "store-half-open",
        "connections to the store lose everything for 8 s",
    ),
    ("store-300ms", "each command takes 300 ms longer, for 8 s"),
    ("store-2s", "each command takes 2 s longer, for 8 s"),
    ("store-paused", "`CLIENT PAUSE 4000 ALL`"),
    (
        "store-full",
        "`maxmemory` is exceeded, `noeviction`, for 8 s",
    ),
    ("store-read-only", "the store becomes a replica for 8 s"),
    ("store-flushed", "`FLUSHALL` and `SCRIPT FLUSH`"),
    ("store-reloaded", "`DEBUG RELOAD` five times"),
    (
        "store-failover",
        "the primary is killed, a sentinel promotes its replica (`down-after` 1 s)",
    ),
    (
        "holder",
        "the replica with the permit is killed, and drained, three times each",
    ),
    (
        "overhead",
        "one caller at one replica, with the store and without `[fleet]`",
    ),
];

/// A line of the table.
struct Row {
    measured: String,
    target: &'static str,
    is_met: bool,
}

fn main() -> Fallible<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` also runs this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<&String> = arguments
        .iter()
        .filter(|argument| *argument != "--bench")
        .collect();
    if names.iter().any(|name| *name == "list") {
        CASES
            .iter()
            .for_each(|(name, what)| println!("{name:<18} {what}"));
        return Ok(ExitCode::SUCCESS);
    }
    let unknown = |wanted: &&&String| !CASES.iter().any(|(name, _)| is_selected(name, wanted));
    if let Some(name) = names.iter().find(unknown) {
        return Err(format!("no case {name}; -- list lists them").into());
    }
    let selected = CASES.into_iter().filter(|(name, _)| {
        names.is_empty() || names.iter().any(|wanted| is_selected(name, wanted))
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(selected))
}

fn is_selected(name: &str, wanted: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Measures cases and prints each as soon as it is known.
async fn measure(cases: impl Iterator<Item = (&'static str, &'static str)>) -> Fallible<ExitCode> {
    let start = Instant::now();
    println!("{}\n", machine::describe().await?);
    println!("| case | measured | target | met |\n|---|---|---|---|");
    let mut code = ExitCode::SUCCESS;
    for (name, what) in cases {
        let rows = match timeout(CASE_TIMEOUT, run(name)).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => vec![unmeasured(&error.to_string())],
            Err(_) => vec![unmeasured("not done in time")],
        };
        for row in rows {
            let met = if row.is_met { "yes" } else { "**no**" };
            println!(
                "| `{name}`: {what} | {} | {} | {met} |",
                row.measured, row.target
            );
            if !row.is_met {
                code = ExitCode::FAILURE;
            }
        }
    }
    println!(
        "\nTook {:.0} s; {}.",
        start.elapsed().as_secs_f64(),
        machine::load()?
    );
    Ok(code)
}

fn unmeasured(error: &str) -> Row {
    Row {
        measured: format!("not measured: {error}"),
        target: "–",
        is_met: false,
    }
}

async fn run(name: &str) -> Fallible<Vec<Row>> {
    let seconds = Duration::from_secs;
    Ok(vec![match name {
        "poll" => poll::beside_one().await?,
        "poll-seven" => poll::seven().await?,
        "alone-300ms" => alone::measure(Duration::from_millis(300)).await?,
        "alone-1s" => alone::measure(seconds(1)).await?,
        "tokens" => return tokens::hour().await,
        "tokens-short" => tokens::short().await?,
        "secret" => tokens::invalid_secret().await?,
        "gate" => wait::measure().await?,
        "holder" => return holder::measure().await,
        "overhead" => return overhead::measure().await,
        "store-failover" => store::failover().await?,
        "store-refused" => store::refused(seconds(8)).await?,
        "store-killed" => store::measure(Trouble::Killed, seconds(15)).await?,
        "store-stopped" => store::measure(Trouble::Stopped, seconds(15)).await?,
        "store-stopped-3s" => store::measure(Trouble::Stopped, seconds(3)).await?,
        "store-half-open" => store::measure(Trouble::HalfOpen, seconds(8)).await?,
        "store-300ms" => store::measure(Trouble::Delayed(300), seconds(8)).await?,
        "store-2s" => store::measure(Trouble::Delayed(2000), seconds(8)).await?,
        "store-paused" => store::measure(Trouble::Paused, seconds(4)).await?,
        "store-full" => store::measure(Trouble::Full, seconds(8)).await?,
        "store-read-only" => store::measure(Trouble::ReadOnly, seconds(8)).await?,
        "store-flushed" => store::measure(Trouble::Flushed, Duration::ZERO).await?,
        "store-reloaded" => store::measure(Trouble::Reloaded, Duration::ZERO).await?,
        _ => return Err("a case without a measurement".into()),
    }])
}

/// Writes a time in milliseconds or seconds.
fn milliseconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}

/// Writes a part of a whole in percent.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// Returns a running store.
///
/// # Errors
/// Fails without `redis-server`.
fn store_server() -> Fallible<testkit::store::StoreServer> {
    store_with(&[])
}

/// Like [`store_server`], with more arguments.
fn store_with(arguments: &[&str]) -> Fallible<testkit::store::StoreServer> {
    let server = testkit::store::StoreServer::with(arguments);
    server.ok_or_else(|| "redis-server is not installed".into())
}
