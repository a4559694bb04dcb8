//! `run`: the gateway, from its first log line to its exit code.

mod reloading;
mod signals;
mod supervisor;

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime;
use tracing::level_filters::LevelFilter;

use super::{DRAIN_TIMEOUT, FAILURE, RunArgs, SUCCESS, USAGE, eprint};
use crate::app::reload::ConfigSource;
use crate::app::{Addresses, App, Drained, StartError};
use crate::config::{Config, ConfigProblem, LogSettings};
use crate::inbound::passed_sockets::{PassedSocketError, PassedSockets};
use crate::observe::telemetry::{LogHandle, Telemetry};
use crate::state::lifecycle::Phase;
use crate::system::clock::Clock;
use crate::system::descriptors;
use crate::system::hardening::Hardening;
use signals::{Signal, Stop};
use supervisor::Watchdog;

pub(super) use signals::Signals;
pub(super) use supervisor::Supervisor;

/// Threads for name resolution and files. Watched files use one, and half of them at most.
const MAX_BLOCKING_THREADS: usize = 16;

/// Log settings for an invalid configuration.
const DEFAULT_LOG: LogSettings = LogSettings {
    format: None,
    level: LevelFilter::INFO,
};

/// Runs the gateway until a signal stops it.
pub fn run(args: &RunArgs, hardening: &Hardening) -> ExitCode {
    // First, because it removes variables from the environment.
    let passed = PassedSockets::from_environment();
    let raised = descriptors::raise_limit();
    let loaded = ConfigSource::load(args.config.as_deref());
    let log = loaded
        .as_ref()
        .map_or(DEFAULT_LOG, |(config, _)| config.boot.log);
    let telemetry = match Telemetry::start(log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprint(&format!("failed to start logging: {error}"));
            return ExitCode::from(FAILURE);
        }
    };
    hardening.log();
    match loaded {
        Ok((config, source)) => {
            if let Err(error) = raised {
                tracing::warn!(%error, "failed to raise the limit of open files");
            }
            ExitCode::from(on_a_runtime(gateway(
                config,
                source,
                passed,
                telemetry.handle(),
            )))
        }
        Err(problems) => {
            log_problems(&problems, args.config.as_deref());
            ExitCode::from(USAGE)
        }
    }
}

/// Runs `main` on a single-threaded runtime, the control plane's. Workers have threads and runtimes
/// of their own.
pub(super) fn on_a_runtime(main: impl Future<Output = u8>) -> u8 {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(main);
            // A name resolution in progress must not delay the exit.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprint(&format!("failed to start a runtime: {error}"));
            FAILURE
        }
    }
}

/// Logs the problems of the configuration in this file, or in the environment.
fn log_problems(problems: &[ConfigProblem], file: Option<&Path>) {
    for problem in problems {
        tracing::error!(%problem, "invalid configuration");
    }
    let file = file.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    tracing::error!(
        problems = problems.len(),
        "not started; `citrix-auth-proxy check{file}` checks the corrected configuration without starting"
    );
}

async fn gateway(
    config: Config,
    source: ConfigSource,
    passed: Result<PassedSockets, PassedSocketError>,
    log: LogHandle,
) -> u8 {
    // Before the addresses are logged: a supervisor that reads them may send a signal at once.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "failed to install signal handlers");
            return FAILURE;
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let supervisor = Supervisor::from_environment();
    let started = match passed {
        Ok(passed) => App::start_with(config, Clock::SYSTEM, Some(log), passed).await,
        Err(error) => Err(error.into()),
    };
    match started {
        Ok(app) => {
            log_addresses(app.addresses());
            supervisor.ready();
            let _watchdog = Watchdog::start(&supervisor, app.shared());
            serve(app, &mut signals, Some(source), &supervisor).await
        }
        Err(StartError::Config(problems)) => {
            log_problems(&problems, source.path());
            USAGE
        }
        Err(error) => {
            tracing::error!(%error, "not started");
            FAILURE
        }
    }
}

fn log_addresses(addresses: &Addresses) {
    for (address, tls) in &addresses.listeners {
        tracing::info!(%address, tls, "listening for callers");
    }
    for address in &addresses.intercept {
        tracing::info!(%address, "listening for tools with built-in host names");
    }
    tracing::info!(address = %addresses.admin, version = env!("CARGO_PKG_VERSION"), "listening for operators");
}

/// Serves and reloads until a signal or an operator stops the gateway, then drains it. Returns the
/// exit code.
pub(super) async fn serve(
    mut app: App,
    signals: &mut Signals,
    source: Option<ConfigSource>,
    supervisor: &Supervisor,
) -> u8 {
    let lifecycle = app.lifecycle();
    let mut watch = source.map(|source| source.watch(app.file_reader()));
    let first = loop {
        tokio::select! {
            task = app.failed() => return task_ended(&task),
            candidate = reloading::next(&mut watch) => {
                supervisor.reloading();
                reloading::apply(&mut app, candidate);
                supervisor.ready();
            }
            () = lifecycle.stop_requested() => break "POST /quitquitquit",
            signal = signals.next() => match signal {
                Signal::Stop(stop) => break stop.name(),
                Signal::Reload => reloading::request(&app, watch.as_ref()),
            },
        }
    };
    let live = app.shared().published.load().live.clone();
    lifecycle.advance(Phase::Leaving);
    supervisor.stopping();
    let mut second = None;
    if !live.drain_delay.is_zero() {
        let delay = humantime::format_duration(live.drain_delay).to_string();
        tracing::info!(
            signal = first,
            delay,
            "not ready; still accepting connections"
        );
        tokio::select! {
            task = app.failed() => return task_ended(&task),
            () = tokio::time::sleep(live.drain_delay) => {}
            signal = signals.stop() => second = Some(signal),
        }
    }
    let limit = humantime::format_duration(live.drain_timeout).to_string();
    let in_flight = app.shared().in_flight.in_use();
    tracing::info!(
        signal = first,
        in_flight,
        limit,
        "draining; a further signal stops at once"
    );
    let drained = drain(app, live.drain_timeout, signals, &mut second).await;
    log_stop(drained, second)
}

fn task_ended(task: &str) -> u8 {
    tracing::error!(what = task, "a task that must not end has ended; exiting");
    FAILURE
}

/// Drains; a second signal ends the drain at once.
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

/// Logs how the gateway stopped and returns the exit code.
fn log_stop(drained: Drained, second: Option<Stop>) -> u8 {
    match (drained.aborted, second) {
        (0, _) => {
            tracing::info!("stopped; no requests in flight");
            SUCCESS
        }
        (aborted, Some(signal)) => {
            tracing::warn!(
                aborted,
                signal = signal.name(),
                "stopped by a second signal with requests in flight"
            );
            signal.exit_code()
        }
        (aborted, None) => {
            tracing::warn!(
                aborted,
                "stopped; lifecycle.drain_timeout passed with requests in flight"
            );
            DRAIN_TIMEOUT
        }
    }
}
