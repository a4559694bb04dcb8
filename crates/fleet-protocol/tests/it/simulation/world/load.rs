//! Callers, their requests, and the second invariant.

use super::*;

impl World {
    pub(super) fn poll(&mut self, poller: usize) {
        let Poller {
            machine,
            queue,
            caller,
            ..
        } = self.pollers[poller];
        let node = &mut self.nodes[machine];
        if node.paused_until > self.now {
            let at = node.paused_until;
            return self.schedule(at, Happening::Poll(poller));
        }
        let line = node.waiting.entry((queue, caller)).or_default();
        line.push_back(poller);
        let of_poller = &mut self.pollers[poller];
        of_poller.since = Some(self.now);
        of_poller.request += 1;
        let request = of_poller.request;
        let end = self.now + micros(QUEUE_TIMEOUT);
        self.schedule(end, Happening::Timeout(poller, request));
        self.want(machine, queue, caller);
    }

    pub(super) fn want(&mut self, machine: usize, queue: usize, caller: usize) {
        let limit = QueueLimit {
            at_once: u32::try_from(AT_ONCE).unwrap(),
            room: 1000,
            timeout: QUEUE_TIMEOUT,
        };
        let (queue, caller) = (queue_name(queue), caller_name(caller));
        self.handle(
            machine,
            Event::Wanted {
                queue,
                limit,
                caller,
            },
        );
    }

    pub(super) fn time_out(&mut self, poller: usize, request: u64) {
        let Poller {
            machine,
            queue,
            caller,
            since,
            ..
        } = self.pollers[poller];
        if self.pollers[poller].request != request || since.is_none() {
            return;
        }
        self.report.timeouts += 1;
        self.pollers[poller].since = None;
        let line = self.nodes[machine]
            .waiting
            .get_mut(&(queue, caller))
            .unwrap();
        line.retain(|other| *other != poller);
        if line.is_empty() {
            self.nodes[machine].waiting.remove(&(queue, caller));
            let (queue, caller) = (queue_name(queue), caller_name(caller));
            self.handle(machine, Event::Unwanted { queue, caller });
        }
        self.schedule(self.now, Happening::Poll(poller));
    }

    pub(super) fn granted(
        &mut self,
        machine: usize,
        name: Name,
        caller: Name,
        permit: PermitId,
        by: State,
    ) {
        let (queue, caller) = (index_of(name, 1_000_000), index_of(caller, 2_000_000));
        let line = self.nodes[machine]
            .waiting
            .get_mut(&(queue, caller))
            .unwrap();
        let poller = line.pop_front().unwrap();
        let more = !line.is_empty();
        if !more {
            self.nodes[machine].waiting.remove(&(queue, caller));
        }
        let of_poller = &mut self.pollers[poller];
        let waited = Duration::from_micros(self.now - of_poller.since.take().unwrap());
        assert!(waited <= QUEUE_TIMEOUT, "{waited:?}");
        of_poller.served += 1;
        self.report.longest_wait = self.report.longest_wait.max(waited);
        self.report.permits += 1;
        self.report.alone += usize::from(by == State::Alone);
        for other in self.services[queue].machines() {
            if self.is_out_of_contact(other) {
                self.services[queue].excuse(other);
            }
        }
        self.idle_since[queue] = None;
        let excused = by == State::Alone;
        self.services[queue].begin(
            name,
            Running {
                machine,
                permit,
                excused,
            },
        );
        let mean = micros(self.scenario.query);
        let end = self.now + self.random.u64(mean / 2..=mean * 3 / 2);
        let epoch = self.nodes[machine].epoch;
        self.schedule(
            end,
            Happening::Ended {
                machine,
                epoch,
                queue,
                permit,
                poller,
            },
        );
        if more {
            self.want(machine, queue, caller);
        }
    }

    /// No queue is idle for longer than a lease and a heartbeat while a ticket waits in a store
    /// that responds. Older data of a promoted store, or another clock, may add two leases: that of
    /// a permit that had ended, and that of a ticket that had been served, if its push is lost.
    pub(super) fn sweep(&mut self) {
        self.schedule(self.now + SWEEP, Happening::Sweep);
        if self.random.u32(..4) == 0 {
            self.replicated = self.store.model.clone();
        }
        let mut waits = vec![false; self.services.len()];
        for node in &self.nodes {
            let paused = node.paused_until > self.now;
            if node.machine.state() == State::Joined && !paused {
                node.waiting
                    .keys()
                    .for_each(|(queue, _)| waits[*queue] = true);
            }
        }
        let disturbed = self.store.health != Health::Up || self.now < self.slow.0;
        if self.now % SECOND < SWEEP {
            self.check_tokens(disturbed);
        }
        let bound = TIMING.lease + TIMING.heartbeat() + TIMING.timeout;
        let was_set = |since| {
            let set = self.store.clock_set;
            set.is_some_and(|set| since < set + 2 * micros(TIMING.lease))
        };
        for (queue, service) in self.services.iter().enumerate() {
            let idle = service.is_idle() && waits[queue] && !disturbed;
            let since = self.idle_since[queue].filter(|_| idle);
            let since = since.unwrap_or(self.now).max(self.last_fault);
            self.idle_since[queue] = idle.then_some(since);
            let length = Duration::from_micros(self.now.saturating_sub(since));
            self.report.longest_idle = self.report.longest_idle.max(length);
            let longer = if was_set(since) {
                2 * TIMING.lease
            } else {
                Duration::ZERO
            };
            assert!(
                length <= bound + longer,
                "queue {queue} is idle for {length:?} at {}",
                self.now
            );
        }
    }
}
