//! The queue of audit lines, which no owner can fill alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::AuditOwner;
use crate::limit::owner;

/// Maximum number of bytes in the queue, that of a line included that is being written.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Bytes in the queue from which rejections are counted. The rest is for lines that must not be
/// lost.
const MAX_BYTES_FOR_REJECTIONS: usize = MAX_BYTES / 2;

/// A bounded queue, whose bytes are divided by the rule of [`owner`], so that other owners always
/// find room. Not a [`owner::Resource`]: its owners include operators, and its lock is taken anyway.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<QueuedLine>,
    bytes: usize,
    /// Bytes of each owner that has any.
    held: HashMap<AuditOwner, usize>,
}

/// A line in the queue.
#[derive(Debug)]
pub(crate) struct QueuedLine {
    owner: AuditOwner,
    pub(crate) bytes: Vec<u8>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves nothing half updated.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If the owner's share is in use; the line is returned.
    pub(super) fn push(&self, owner: &AuditOwner, line: Vec<u8>) -> Result<(), Vec<u8>> {
        self.push_within(MAX_BYTES, owner, line)
    }

    /// Adds the line of a rejection. Returns `false` if there is no room for it.
    pub(super) fn push_rejection(&self, owner: &AuditOwner, line: Vec<u8>) -> bool {
        self.push_within(MAX_BYTES_FOR_REJECTIONS, owner, line)
            .is_ok()
    }

    fn push_within(&self, limit: usize, key: &AuditOwner, line: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.lock();
        let held = state.held.get(key).copied().unwrap_or(0) + line.len();
        let bytes = state.bytes + line.len();
        // An empty queue accepts a line of any length.
        if state.bytes > 0 && owner::check(limit, bytes, held).is_err() {
            return Err(line);
        }
        state.bytes = bytes;
        state.held.insert(key.clone(), held);
        let owner = key.clone();
        state.lines.push_back(QueuedLine { owner, bytes: line });
        Ok(())
    }

    /// Removes the first line, which still counts until it is released.
    pub(super) fn next(&self) -> Option<QueuedLine> {
        self.lock().lines.pop_front()
    }

    /// Releases the bytes of a removed line, and wakes one that waits.
    pub(super) fn release(&self, line: &QueuedLine) {
        let mut state = self.lock();
        state.bytes -= line.bytes.len();
        if let Some(held) = state.held.get_mut(&line.owner) {
            *held -= line.bytes.len();
            if *held == 0 {
                state.held.remove(&line.owner);
            }
        }
        drop(state);
        self.freed.notify_one();
    }

    /// Completes when bytes were released after this call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().lines.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: usize = 1024;

    fn caller(name: &str) -> AuditOwner {
        AuditOwner::Caller(name.into())
    }

    /// Adds lines until the owner's share is in use. Returns their bytes.
    fn fill(queue: &Queue, owner: &AuditOwner) -> usize {
        (0..)
            .take_while(|_| queue.push(owner, vec![b'x'; LINE]).is_ok())
            .count()
            * LINE
    }

    #[test]
    fn greedy_owners_leave_room_for_a_modest_one() {
        let queue = Queue::default();
        let first = fill(&queue, &caller("first"));
        assert!(first > MAX_BYTES * 8 / 10, "{first}");
        fill(&queue, &caller("second"));
        for name in ["modest", "another"] {
            assert!(
                queue.push(&caller(name), vec![b'x'; LINE]).is_ok(),
                "{name}"
            );
        }
        assert!(queue.bytes() <= MAX_BYTES);
    }

    #[test]
    fn rejections_use_half_of_the_queue_at_most() {
        let (queue, owner) = (Queue::default(), caller("a"));
        while queue.push_rejection(&owner, vec![b'x'; LINE]) {}
        assert!(queue.bytes() <= MAX_BYTES_FOR_REJECTIONS);
        assert!(fill(&queue, &owner) > MAX_BYTES / 4);
    }

    #[test]
    fn line_holds_its_bytes_until_it_is_released() {
        let queue = Queue::default();
        fill(&queue, &caller("a"));
        let before = queue.bytes();
        let line = queue.next().unwrap();
        assert_eq!(queue.bytes(), before);
        queue.release(&line);
        assert_eq!(queue.bytes(), before - LINE);
        while let Some(line) = queue.next() {
            queue.release(&line);
        }
        let state = queue.lock();
        assert!(state.bytes == 0 && state.held.is_empty());
    }
}
