//! Hours of mixed traffic with a fault every second: each request is accounted for at both ends.
//!
//! `cargo bench --profile dev --bench soak -- --for 2h --seed 7 --output FOLDER` runs the gateway
//! that `GATEWAY` names, or else the one that cargo built, with its own upstream, token service and
//! a `redis-server`. Without arguments it takes a minute. It fails, and prints the requests, if one
//! is lost, duplicated or corrupted, or if the gateway uses more and more. docs/reliability.md
//! states the rules and results.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

mod caller;
mod caller_http2;
mod closures;
mod configuration;
mod content;
mod faults;
mod gateway;
mod http1;
mod ledger;
mod listener;
mod options;
mod overload;
mod plan;
mod plot;
mod report;
mod sample;
mod series;
mod token_history;
mod tokens;
mod upstream;
mod upstream_http2;
mod verdict;
mod windows;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use testkit::pki::{TestCa, TestCertificate};
use testkit::store::StoreServer;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_rustls::TlsAcceptor;

use caller::Callers;
use configuration::Settings;
use faults::{Injector, Secrets, Store};
use gateway::Gateway;
use ledger::Ledger;
use options::Options;
use plan::Plan;
use report::Report;
use sample::Sample;
use tokens::Tokens;
use upstream::Upstream;
use windows::Fault;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Fallible<T> = Result<T, Error>;

/// Longer than the longest request.
const LAST_REQUESTS: Duration = Duration::from_secs(75);
/// Time without the processor, for a task that wants it every half second, that explains timeouts: the
/// machine is too busy.
const STARVATION: Duration = Duration::from_secs(2);

fn main() -> Fallible<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` also runs this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(&arguments)?;
    std::fs::create_dir_all(&options.output)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            if options.is_overload {
                overload::run(&options).await
            } else {
                run(&options).await
            }
        })
}

/// Everything that runs.
struct Soak {
    callers: Arc<Callers>,
    upstream: Arc<Upstream>,
    store: Arc<Store>,
    secrets: Arc<Secrets>,
    settings: Arc<Settings>,
}

impl Soak {
    async fn start(options: &Options) -> Fallible<Self> {
        let tokens = Tokens::start(&Secrets::secret(0)).await?;
        let ledger = Arc::new(Ledger::new(Arc::clone(&tokens.history)));
        let upstream = Upstream::new(Arc::clone(&ledger), Arc::clone(&tokens));
        let store = StoreServer::start().ok_or("redis-server is not installed")?;
        let authority = TestCa::new("upstream");
        let certificate = authority.issue("localhost", &["localhost"]);
        let settings = Settings {
            plain_upstream: upstream.listen().await?,
            tls_upstream: upstream
                .listen_tls(acceptor(&certificate, b"http/1.1"))
                .await?,
            http2_upstream: upstream_http2::listen(&upstream, acceptor(&certificate, b"h2"))
                .await?,
            upstream_ca: authority.pem(),
            tokens: tokens.address,
            store: store.url(),
            secret: Secrets::secret(0),
        };
        let log = options.output.join("gateway.log");
        let gateway = Gateway::start(Command::new(gateway::binary()), log, |folder| {
            settings.write_files(folder)?;
            Ok(configuration::toml(&settings, folder, 0))
        });
        let gateway = gateway.await?;
        let callers = Callers::start(Arc::new(gateway), ledger).await?;
        Ok(Self {
            callers,
            upstream,
            store: Store::new(store),
            secrets: Secrets::new(tokens),
            settings: Arc::new(settings),
        })
    }

    fn injector(&self, seed: u64) -> Injector {
        Injector {
            callers: Arc::clone(&self.callers),
            upstream: Arc::clone(&self.upstream),
            store: Arc::clone(&self.store),
            secrets: Arc::clone(&self.secrets),
            settings: Arc::clone(&self.settings),
            random: Rng::with_seed(seed ^ 0xfa17),
            bag: Vec::new(),
            variation: 0,
            last_revocation: Instant::now(),
        }
    }

    /// Sends requests at a constant rate until `end`.
    fn send(&self, options: &Options, end: Instant) -> tokio::task::JoinHandle<()> {
        let callers = Arc::clone(&self.callers);
        let mut random = Rng::with_seed(options.seed);
        let mut ticks = interval(Duration::from_secs(1) / options.rate.max(1));
        // What a busy machine delays is not made up for: the rate is moderate at any time.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            while Instant::now() < end {
                ticks.tick().await;
                let plan = Plan::draw(&mut random, callers.ledger.next_id());
                tokio::spawn(Arc::clone(&callers).send(plan));
            }
        })
    }
}

fn acceptor(certificate: &TestCertificate, protocol: &[u8]) -> TlsAcceptor {
    let mut tls = certificate.server_config();
    tls.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(tls))
}

async fn run(options: &Options) -> Fallible<ExitCode> {
    let soak = Soak::start(options).await?;
    let gateway = Arc::clone(&soak.callers.gateway);
    let ledger = Arc::clone(&soak.callers.ledger);
    let (start, program) = (Instant::now(), gateway.program().await?);
    let end = start + options.time;
    println!("{program}");
    let traffic = soak.send(options, end);
    let closures = tokio::spawn(follow_closures(Arc::clone(&gateway), Arc::clone(&ledger)));
    let starvation = tokio::spawn(note_starvation(Arc::clone(&ledger)));
    let faults = tokio::spawn(soak.injector(options.seed).run(end));
    let mut failed = Vec::new();
    let samples = watch(&gateway, &ledger, start, options, &mut failed).await?;
    traffic.await?;
    faults.await??;
    // The last faults end, and then the last requests.
    let limit = Instant::now() + LAST_REQUESTS;
    while ledger.totals().open > 0 && Instant::now() < limit {
        sleep(Duration::from_secs(1)).await;
        ledger.settle(false);
    }
    let unaccounted = ledger.totals().open;
    closures.abort();
    read_closures(&gateway, &ledger).await;
    ledger.settle(true);
    starvation.abort();
    sleep(Duration::from_secs(2)).await;
    let last = Sample::take(&gateway, &ledger.totals(), start).await?;
    let series = series::count(&gateway.metrics().await?).incomplete;
    let status = gateway.stop().await?;
    let mut report = Report {
        seed: options.seed,
        seconds: options.time.as_secs_f64(),
        program,
        totals: ledger.totals(),
        closures: ledger.evidence.closures.total(),
        faults: ledger.evidence.windows.counts(),
        samples,
        last,
        series,
        logins: soak.upstream.tokens.counts(),
        certificates: soak.callers.certificates_seen(),
        log: gateway.log.get(),
        failed,
    };
    report.totals.open = unaccounted;
    if !status.success() {
        report
            .failed
            .push(format!("the gateway ended with {status}"));
    }
    check(&mut report, options);
    report.write(&options.output)?;
    Ok(if report.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Notes when this process, and so probably the whole machine, had no processor time.
async fn note_starvation(ledger: Arc<Ledger>) {
    loop {
        let begin = Instant::now();
        sleep(Duration::from_millis(500)).await;
        if begin.elapsed() > STARVATION {
            let fault = Fault::Starvation;
            ledger.evidence.windows.add(fault, begin, begin.elapsed());
        }
    }
}

/// Reads again and again how many connections the gateway closed at its limit.
async fn follow_closures(gateway: Arc<Gateway>, ledger: Arc<Ledger>) {
    let mut ticks = interval(closures::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        read_closures(&gateway, &ledger).await;
    }
}

/// Reads it once. A gateway that does not respond fails the soak anyway.
async fn read_closures(gateway: &Gateway, ledger: &Ledger) {
    let began = Instant::now();
    if let Ok(total) = gateway.closed_at_limit().await {
        let closures = &ledger.evidence.closures;
        closures.note(total, began, Instant::now());
    }
}

/// Takes samples until the end of the run, or of the gateway.
async fn watch(
    gateway: &Gateway,
    ledger: &Ledger,
    start: Instant,
    options: &Options,
    failed: &mut Vec<String>,
) -> Fallible<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut ticks = interval(sample::interval(options.time));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < options.time {
        ticks.tick().await;
        ledger.settle(false);
        if let Some(status) = gateway.exited()? {
            failed.push(format!("the gateway ended during the run: {status}"));
            return Ok(samples);
        }
        let (totals, begin) = (ledger.totals(), Instant::now());
        let taken = Sample::take(gateway, &totals, start).await;
        if begin.elapsed() > STARVATION {
            let fault = Fault::Starvation;
            ledger.evidence.windows.add(fault, begin, begin.elapsed());
        }
        let Ok(sample) = taken else { continue };
        if samples.len() % 6 == 0 {
            println!("{}", serde_json::to_string(&sample)?);
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// Notes what must hold after a run and does not.
fn check(report: &mut Report, options: &Options) {
    let last = report.last.clone();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            report.failed.push(what);
        }
    };
    let violations = report.totals.violation_count;
    expect(violations == 0, format!("{violations} violations"));
    let (closed, counted) = (report.totals.closed, report.closures);
    expect(
        closed <= counted,
        format!("{closed} connections closed at the limit, {counted} by the gateway's metrics"),
    );
    expect(
        last.in_flight == 0.0 && last.queued == 0.0,
        format!(
            "at the end {} in flight, {} queued",
            last.in_flight, last.queued
        ),
    );
    // A short run is still warming up.
    if options.time < Duration::from_secs(600) {
        return;
    }
    for (name, quantity) in report::quantities() {
        let (second, fourth) = sample::growth(&report.samples, quantity);
        expect(
            fourth <= second * 1.15 + 5.0,
            format!("{name} grew from {second} to {fourth}"),
        );
    }
}
