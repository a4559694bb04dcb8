//! The store in the simulation: the model with a clock and faults.

use std::collections::BTreeMap;

use fleet_protocol::command::{Command, RunId};
use fleet_protocol::machine::CommandId;

use crate::scripts::TIMING;
use testkit::store::model::Model;

/// A command on its way.
#[derive(Clone, Debug)]
pub struct Request {
    pub machine: usize,
    /// Number of the connection.
    pub connection: u64,
    pub id: CommandId,
    pub command: Command,
}

/// Whether the store responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Accepts commands and runs them later.
    Stopped,
    /// Refuses connections.
    Down,
}

/// A store with its clock.
#[derive(Debug)]
pub struct Store {
    pub model: Model,
    pub health: Health,
    /// Commands that arrived while it was stopped.
    pub pending: Vec<Request>,
    /// Microseconds between the simulated time and its clock.
    pub clock: i64,
    /// When that was changed.
    pub clock_set: Option<u64>,
    pub run: u8,
    /// When data was last lost, or may have been: a failover, a set clock.
    pub loss: Option<u64>,
    /// Commands that ran, by kind.
    pub commands: BTreeMap<&'static str, usize>,
    /// All of them with the store's time in microseconds and their machine, if they are recorded.
    pub trace: Option<Vec<(u64, usize, Command)>>,
}

/// Returns the kind of a command.
pub fn kind(command: &Command) -> &'static str {
    match command {
        Command::Enter(_) => "enter",
        Command::Leave(_) => "leave",
        Command::Beat(_) => "beat",
        Command::Bye(_) => "bye",
        Command::Reserve(_) => "reserve",
        Command::Close(_) => "close",
        Command::Gates => "gates",
        Command::Login(_) => "login",
        Command::Finish(_) => "finish",
        Command::Publish(_) => "publish",
        Command::Members(_) => "members",
        Command::Get(_) => "get",
        Command::Set(_) | Command::Mark(_) => "set",
    }
}

impl Store {
    pub fn new() -> Self {
        Self {
            model: Model::new(TIMING),
            health: Health::Up,
            pending: Vec::new(),
            clock: 1_795_000_000_000_000,
            clock_set: None,
            run: 1,
            loss: None,
            commands: BTreeMap::new(),
            trace: None,
        }
    }

    pub fn time(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.clock)
    }

    /// Sets the clock by a number of microseconds.
    pub fn set_clock(&mut self, now: u64, by: i64) {
        self.clock += by;
        self.clock_set = Some(now);
    }

    pub fn run_id(&self) -> RunId {
        RunId([self.run; 20])
    }
}
