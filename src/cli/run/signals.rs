//! Signal handling.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// Handlers for SIGTERM, SIGINT and SIGHUP.
pub(in crate::cli) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

#[derive(Clone, Copy)]
pub(super) enum Signal {
    Stop(Stop),
    /// SIGHUP, which by default would end the program.
    Reload,
}

/// A signal that stops the program.
#[derive(Clone, Copy)]
pub(super) enum Stop {
    Terminate,
    Interrupt,
}

impl Stop {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// Returns 128 plus the signal's number, as shells report it.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

impl Signals {
    pub(in crate::cli) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop(Stop::Terminate),
            _ = self.interrupt.recv() => Signal::Stop(Stop::Interrupt),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits for the next signal that stops the program. SIGHUP is ignored: a stopping program
    /// reloads nothing.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            if let Signal::Stop(stop) = self.next().await {
                return stop;
            }
        }
    }
}
