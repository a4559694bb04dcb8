//! The signals the program acts on.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// All of them.
pub(in crate::cli) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

/// One that came.
#[derive(Clone, Copy)]
pub(super) enum Signal {
    Stop(Stop),
    /// SIGHUP: the configuration is to be read again. It does not end the program, as it would by default.
    Reload,
}

/// A signal that ends the program.
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

    /// 128 and the signal's number, as shells report it.
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

    /// The next signal to stop; who stops reloads nothing.
    pub(super) async fn stop(&mut self) -> Stop {
        loop {
            if let Signal::Stop(stop) = self.next().await {
                return stop;
            }
        }
    }
}
