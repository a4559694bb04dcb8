//! `run`: the gateway, from its first log line to its exit code.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::{CUT_OFF, DONE, FAILED, RunArgs, USAGE, complain};
use crate::app::{Addresses, App};
use crate::clock::Clock;
use crate::config::{self, Config, Log, LogFormat, Problem};
use crate::lifecycle::Phase;
use crate::telemetry::{LogHandle, Telemetry};

/// How log lines look before the configuration told.
const LOG_UNTIL_CONFIGURED: Log = Log { format: LogFormat::Json, level: LevelFilter::INFO };

/// Runs the gateway until it is told to stop.
pub fn run(args: &RunArgs) -> ExitCode {
    let loaded = config::load(args.config.as_deref(), config::process_environment());
    let log = loaded.as_ref().map_or(LOG_UNTIL_CONFIGURED, |config| config.boot.log);
    let telemetry = match Telemetry::start(log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&format!("cannot log: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    match loaded {
        Ok(config) => ExitCode::from(on_a_runtime(gateway(config, telemetry.handle()))),
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

fn log_problems(problems: &[Problem]) {
    for problem in problems {
        tracing::error!(%problem, "the configuration is wrong");
    }
    tracing::error!(problems = problems.len(), "not started; `citrix-auth-proxy check` lists the problems");
}

async fn gateway(config: Config, log: LogHandle) -> u8 {
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
    match App::start(config, Clock::SYSTEM, Some(log)).await {
        Ok(app) => {
            announce(app.addresses());
            serve(app, &mut signals).await
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

/// Waits for the signal to stop, drains, and tells how it went by the exit code.
pub(super) async fn serve(mut app: App, signals: &mut Signals) -> u8 {
    tokio::select! {
        what = app.failed() => {
            tracing::error!(what, "the gateway is broken and ends");
            return FAILED;
        }
        signal = signals.stop() => tracing::info!(signal = signal.name(), "draining"),
    }
    let limit = app.shared().published.load().live.drain_timeout;
    let lifecycle = app.lifecycle();
    let mut second = None;
    let drained = {
        let mut drain = std::pin::pin!(app.drain(limit));
        tokio::select! {
            drained = &mut drain => drained,
            signal = signals.stop() => {
                second = Some(signal);
                lifecycle.advance(Phase::Stopping);
                drain.await
            }
        }
    };
    match (drained.cut, second) {
        (0, _) => {
            tracing::info!("stopped; nothing was in flight");
            DONE
        }
        (cut, Some(signal)) => {
            tracing::warn!(cut, signal = signal.name(), "stopped at once by a second signal");
            signal.exit_code()
        }
        (cut, None) => {
            tracing::warn!(cut, "stopped; lifecycle.drain_timeout passed with requests in flight");
            CUT_OFF
        }
    }
}

/// The signals the program acts on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// A signal that ends the program.
#[derive(Clone, Copy)]
pub(super) enum Stop {
    Terminate,
    Interrupt,
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// 128 and the signal's number, as shells report it.
    fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal to stop. SIGHUP does not end the program, as it would by default.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Stop::Terminate,
                _ = self.interrupt.recv() => return Stop::Interrupt,
                _ = self.hangup.recv() => tracing::warn!("SIGHUP: reloading is not built yet; restart instead"),
            }
        }
    }
}
