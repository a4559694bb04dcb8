//! The store in the simulation: the model with a clock and faults.

use fleet_protocol::command::{Command, RunId};
use fleet_protocol::machine::CommandId;

use crate::model::Model;
use crate::scripts::TIMING;

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
    pub run: u8,
    /// When data was last lost, or may have been: a failover, a set clock.
    pub loss: Option<u64>,
    pub commands: usize,
}

impl Store {
    pub fn new() -> Self {
        Self {
            model: Model::new(TIMING),
            health: Health::Up,
            pending: Vec::new(),
            clock: 1_795_000_000_000_000,
            run: 1,
            loss: None,
            commands: 0,
        }
    }

    pub fn time(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.clock)
    }

    pub fn run_id(&self) -> RunId {
        RunId([self.run; 20])
    }
}
