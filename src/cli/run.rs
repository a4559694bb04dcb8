//! `run`: the gateway, from its first log line to its exit code.

mod reloading;
mod signals;
mod supervisor;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime;
use tracing::level_filters::LevelFilter;

use super::{CUT_OFF, DONE, FAILED, RunArgs, USAGE, complain};
use crate::app::reload::ConfigWatcher;
use crate::app::{Addresses, App, Drained};
use crate::config::{Config, ConfigProblem, LogFormat, LogSettings};
use crate::inbound::passed_sockets::{PassedSocketError, PassedSockets};
use crate::observe::telemetry::{LogHandle, Telemetry};
use crate::state::lifecycle::Phase;
use crate::system::clock::Clock;
use signals::{Signal, Stop};
use supervisor::Watchdog;

pub(super) use signals::Signals;

/// How log lines look before the configuration told.
const LOG_UNTIL_CONFIGURED: LogSettings = LogSettings {
    format: LogFormat::Json,
    level: LevelFilter::INFO,
};

/// Runs the gateway until it is told to stop.
pub fn run(args: &RunArgs) -> ExitCode {
    // First of all: it takes variables out of the environment.
    let passed = PassedSockets::from_environment();
    let loaded = ConfigWatcher::load(args.config.as_deref());
    let log = loaded
        .as_ref()
        .map_or(LOG_UNTIL_CONFIGURED, |(config, _)| config.boot.log);
    let telemetry = match Telemetry::start(log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&format!("cannot log: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    match loaded {
        Ok((config, watch)) => ExitCode::from(on_a_runtime(gateway(
            config,
            watch,
            passed,
            telemetry.handle(),
        ))),
        Err(problems) => {
            log_problems(&problems);
            ExitCode::from(USAGE)
        }
    }
}

/// Runs the control side: keepers, admin listener, signals. Workers have threads and runtimes of their own.
pub(super) fn on_a_runtime(main: impl Future<Output = u8>) -> u8 {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(main);
            // A name that still resolves in a thread must not hold the exit up.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            FAILED
        }
    }
}

fn log_problems(problems: &[ConfigProblem]) {
    for problem in problems {
        tracing::error!(%problem, "the configuration is wrong");
    }
    tracing::error!(
        problems = problems.len(),
        "not started; `citrix-auth-proxy check` lists the problems"
    );
}

async fn gateway(
    config: Config,
    watch: ConfigWatcher,
    passed: Result<PassedSockets, PassedSocketError>,
    log: LogHandle,
) -> u8 {
    // Before anything is announced: whoever reads "listening" may send a signal at once.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot watch for signals");
            return FAILED;
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let started = match passed {
        Ok(passed) => App::start_with(config, Clock::SYSTEM, Some(log), passed).await,
        Err(error) => Err(error.into()),
    };
    match started {
        Ok(app) => {
            announce(app.addresses());
            supervisor::ready();
            let _watchdog = Watchdog::start(app.shared());
            serve(app, &mut signals, Some(watch)).await
        }
        Err(error) => {
            tracing::error!(%error, "not started");
            FAILED
        }
    }
}

fn announce(addresses: &Addresses) {
    for (address, tls) in &addresses.listeners {
        tracing::info!(%address, tls, "listening for callers");
    }
    tracing::info!(address = %addresses.admin, version = env!("CARGO_PKG_VERSION"), "listening for operators");
}

/// Serves and reloads until a signal to stop, drains, and tells how it went by the exit code.
pub(super) async fn serve(
    mut app: App,
    signals: &mut Signals,
    mut watch: Option<ConfigWatcher>,
) -> u8 {
    if let Some(watch) = &mut watch {
        watch.count_failures(&app.shared().metrics.file_read_failures);
    }
    let first = loop {
        tokio::select! {
            what = app.failed() => return broken(&what),
            candidate = reloading::next(&mut watch) => {
                supervisor::reloading();
                reloading::settle(&mut app, candidate);
                supervisor::ready();
            }
            signal = signals.next() => match signal {
                Signal::Stop(stop) => break stop,
                Signal::Reload => reloading::ask(&app, watch.as_ref()),
            },
        }
    };
    let live = app.shared().published.load().live.clone();
    let lifecycle = app.lifecycle();
    lifecycle.advance(Phase::Leaving);
    supervisor::stopping();
    let mut second = None;
    if !live.drain_delay.is_zero() {
        let delay = humantime::format_duration(live.drain_delay).to_string();
        tracing::info!(
            signal = first.name(),
            delay,
            "not ready any more; still accepting"
        );
        tokio::select! {
            what = app.failed() => return broken(&what),
            () = tokio::time::sleep(live.drain_delay) => {}
            signal = signals.stop() => second = Some(signal),
        }
    }
    let limit = humantime::format_duration(live.drain_timeout).to_string();
    let in_flight = app.shared().in_flight.in_use();
    tracing::info!(signal = first.name(), in_flight, limit, "draining");
    let drained = drain(app, live.drain_timeout, signals, &mut second).await;
    told(drained, second)
}

fn broken(what: &str) -> u8 {
    tracing::error!(what, "the gateway is broken and ends");
    FAILED
}

/// Drains; a second signal ends that at once.
async fn drain(
    app: App,
    limit: Duration,
    signals: &mut Signals,
    second: &mut Option<Stop>,
) -> Drained {
    let lifecycle = app.lifecycle();
    let mut drain = std::pin::pin!(app.drain(limit));
    if second.is_none() {
        tokio::select! {
            drained = &mut drain => return drained,
            signal = signals.stop() => *second = Some(signal),
        }
    }
    lifecycle.advance(Phase::Stopping);
    drain.await
}

fn told(drained: Drained, second: Option<Stop>) -> u8 {
    match (drained.cut, second) {
        (0, _) => {
            tracing::info!("stopped; nothing was in flight");
            DONE
        }
        (cut, Some(signal)) => {
            tracing::warn!(
                cut,
                signal = signal.name(),
                "stopped at once by a second signal"
            );
            signal.exit_code()
        }
        (cut, None) => {
            tracing::warn!(
                cut,
                "stopped; lifecycle.drain_timeout passed with requests in flight"
            );
            CUT_OFF
        }
    }
}
