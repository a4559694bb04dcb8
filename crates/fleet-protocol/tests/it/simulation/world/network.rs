//! Connections, delays and the store.

use fleet_protocol::command::LoginResult;
use fleet_protocol::reply::Body;

use super::*;
use crate::simulation::store::kind;

impl World {
    pub(super) fn delay(&mut self) -> u64 {
        let usual = self.random.u64(100..1000);
        let (until, slow) = self.slow;
        let slow = if self.now < until { micros(slow) } else { 0 };
        // Rarely a retransmission.
        let lost = if self.random.u32(..1000) == 0 {
            250 * MILLISECOND
        } else {
            0
        };
        usual + slow + lost
    }

    pub(super) fn reconnect(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let backoff = match node.attempts {
            0 => 0,
            attempts => ((100 * MILLISECOND) << attempts.min(4)).min(SECOND),
        };
        node.attempts += 1;
        let (epoch, jitter) = (node.epoch, 0.5 + self.random.f64());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "at most a second"
        )]
        let backoff = (backoff as f64 * jitter) as u64;
        self.schedule(self.now + backoff, Happening::Connect(index, epoch));
    }

    pub(super) fn connect(&mut self, index: usize, epoch: u64) {
        let node = &self.nodes[index];
        if node.epoch != epoch || node.connection.is_some() {
            return;
        }
        if node.paused_until > self.now {
            return self.schedule(node.paused_until, Happening::Connect(index, epoch));
        }
        if self.store.health == Health::Stopped {
            // Each attempt has a timeout.
            return self.schedule(self.now + 2 * SECOND, Happening::Connect(index, epoch));
        }
        if self.store.health == Health::Down || node.cut_off_until > self.now {
            return self.reconnect(index);
        }
        self.number += 1;
        let connection = self.number;
        let at = self.now + self.delay();
        let node = &mut self.nodes[index];
        (node.connection, node.up, node.down) = (Some(connection), at, at);
        let event = Event::Connected {
            run: Some(self.store.run_id()),
            now: StoreTime(self.store.time(self.now) / 1000),
        };
        self.schedule(at, Happening::Reply(index, connection, event));
    }

    /// Ends the connection of a machine, which learns it after its pause.
    pub(super) fn disconnect(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if let Some(connection) = node.connection {
            node.ended = Some(connection);
            let at = node.paused_until;
            self.schedule(at, Happening::Lost(index, connection));
        }
    }

    pub(super) fn lost(&mut self, index: usize, connection: u64) {
        if self.nodes[index].connection == Some(connection) {
            self.handle(index, Event::Disconnected);
            self.nodes[index].connection = None;
            self.reconnect(index);
        }
    }

    /// A command arrives at the store.
    pub(super) fn arrive(&mut self, request: Request) {
        let node = &self.nodes[request.machine];
        let current = node.connection == Some(request.connection);
        let connected = current && node.ended != node.connection;
        match self.store.health {
            Health::Down => {}
            Health::Stopped => self.store.pending.push(request),
            // Commands of an ended connection that arrive run; replies are dropped.
            Health::Up if connected || self.random.bool() => self.execute(request),
            Health::Up => {}
        }
    }

    pub(super) fn execute(&mut self, request: Request) {
        let index = request.machine;
        if matches!(request.command, Command::Beat(_)) {
            self.note_contact(index);
        }
        *self
            .store
            .commands
            .entry(kind(&request.command))
            .or_default() += 1;
        let at = self.store.time(self.now);
        if let Some(trace) = &mut self.store.trace {
            trace.push((at, index, request.command.clone()));
        }
        let (reply, pushes) = self.store.model.run(at, &request.command);
        if let (Command::Finish(finish), Body::Done) = (&request.command, &reply.body) {
            match &finish.result {
                LoginResult::Token { record, .. } => self.published(finish.identity, record),
                LoginResult::Rejected { lifetime, .. } => {
                    self.verdict_published(finish.identity, *lifetime);
                }
                _ => {}
            }
        }
        for (replica, push) in pushes {
            self.push(replica, push);
        }
        let id = request.id;
        self.send_down(index, request.connection, Event::Reply { id, reply });
    }

    pub(super) fn push(&mut self, replica: Option<Replica>, push: Push) {
        let receivers = match replica {
            Some(replica) => self.by_replica.get(&replica).copied().into_iter().collect(),
            None => (0..self.nodes.len()).collect::<Vec<_>>(),
        };
        for index in receivers {
            if self.random.f64() < self.scenario.lost_pushes {
                continue;
            }
            if let Some(connection) = self.nodes[index].connection {
                self.send_down(index, connection, Event::Push(push.clone()));
                if let Push::Gate { place, .. } = push
                    && self.nodes[index].ended != Some(connection)
                {
                    self.gate_announced(index, place);
                }
            }
        }
    }

    pub(super) fn send_down(&mut self, index: usize, connection: u64, event: Event) {
        if self.nodes[index].ended == Some(connection) {
            return;
        }
        let at = (self.now + self.delay()).max(self.nodes[index].down);
        self.nodes[index].down = at;
        self.schedule(at, Happening::Reply(index, connection, event));
    }

    /// Returns `true` if the permits of a machine may have been given to others: it was not heard
    /// for a lease, or not in the grace period after a loss of data.
    pub(super) fn is_out_of_contact(&self, index: usize) -> bool {
        let heard = self.nodes[index].heard;
        let unheard = self.now - heard;
        let missed = |loss: u64| loss >= heard && self.now - loss >= micros(TIMING.grace_period());
        unheard >= micros(TIMING.lease) || self.store.loss.is_some_and(missed)
    }

    pub(super) fn note_contact(&mut self, index: usize) {
        if self.is_out_of_contact(index) {
            self.services
                .iter_mut()
                .for_each(|service| service.excuse(index));
        }
        self.nodes[index].heard = self.now;
    }
}
