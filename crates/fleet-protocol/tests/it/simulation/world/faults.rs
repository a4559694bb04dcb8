//! Faults.

use super::*;

impl World {
    pub(super) fn fault(&mut self) {
        let interval = micros(self.scenario.fault_interval);
        let next = self.random.u64(interval / 2..interval * 3 / 2);
        self.schedule(self.now + next, Happening::Fault);
        let fault = self.scenario.faults[self.random.usize(..self.scenario.faults.len())];
        let index = self.random.usize(..self.nodes.len());
        // Shown where the run fails.
        eprintln!("{} {fault:?}, machine {index}", self.now);
        let now = self.now;
        self.last_fault = now;
        let until = |length| now + micros(length);
        match fault {
            Fault::Flush => self.lose_data(Model::new(TIMING)),
            Fault::Stop(length) if self.store.health == Health::Up => {
                self.store.health = Health::Stopped;
                self.schedule(until(length), Happening::Resume(Health::Stopped));
            }
            Fault::Restart(length) | Fault::Failover(length) if self.store.health == Health::Up => {
                self.store.health = Health::Down;
                self.store.run = self.store.run.wrapping_add(1);
                let older = std::mem::replace(&mut self.replicated, Model::new(TIMING));
                if matches!(fault, Fault::Failover(_)) {
                    let by = self.random.i64(-5_000_000..5_000_000);
                    self.store.set_clock(now, by);
                    self.lose_data(older);
                } else {
                    self.lose_data(Model::new(TIMING));
                }
                self.schedule(until(length), Happening::Resume(Health::Down));
                (0..self.nodes.len()).for_each(|index| self.disconnect(index));
            }
            Fault::SetClock(seconds) => {
                self.store.set_clock(now, seconds * 1_000_000);
                self.store.loss = Some(self.now);
            }
            Fault::Slow(delay) => self.slow = (self.now + 4 * SECOND, delay),
            Fault::Reset => (0..self.nodes.len()).for_each(|index| self.disconnect(index)),
            Fault::PauseMachine(length) => self.nodes[index].paused_until = until(length),
            Fault::CutOff(length) => {
                self.nodes[index].cut_off_until = until(length);
                self.disconnect(index);
            }
            Fault::Kill => self.replace(index),
            Fault::Revoke => self.revoke(),
            Fault::Drain => {
                self.services
                    .iter_mut()
                    .for_each(|service| service.abort(index));
                self.handle(index, Event::Bye);
                self.nodes[index].ends = true;
                self.schedule(until(EXIT), Happening::Exit(index, self.nodes[index].epoch));
            }
            _ => {}
        }
    }

    pub(super) fn lose_data(&mut self, model: Model) {
        self.store.model = model;
        self.store.loss = Some(self.now);
    }

    /// The store continues.
    pub(super) fn resume(&mut self, was: Health) {
        self.store.health = Health::Up;
        if was == Health::Down {
            self.store.loss = Some(self.now);
        }
        let mut pending = std::mem::take(&mut self.store.pending);
        // Connections have no order between them.
        self.random.shuffle(&mut pending);
        pending.sort_by_key(|request| request.connection);
        pending
            .into_iter()
            .for_each(|request| self.execute(request));
    }

    /// Ends the process of a machine and starts another one.
    pub(super) fn replace(&mut self, index: usize) {
        self.services
            .iter_mut()
            .for_each(|service| service.abort(index));
        let epoch = self.nodes[index].epoch + 1;
        self.nodes[index] = self.new_node(index, epoch);
        self.schedule(self.now, Happening::Connect(index, epoch));
        self.wake(index);
        self.restart_rates(index);
        self.start_logins(index);
        self.start_requests(index);
        for poller in 0..self.pollers.len() {
            if self.pollers[poller].machine == index {
                self.pollers[poller].since = None;
                self.pollers[poller].request += 1;
                self.schedule(self.now, Happening::Poll(poller));
            }
        }
    }
}
