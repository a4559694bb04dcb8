//! The bytes of request heads that have not ended, over all workers.
//!
//! Their senders are not authenticated yet. Heads of the usual size are not counted, so that their
//! requests are not affected when others use up the limit.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::limit::owner::{OwnedPermit, Owner, Resource};

/// Bytes of a head that are not counted.
const UNCOUNTED: usize = 8 * 1024;
/// Bytes of all unfinished heads, without [`UNCOUNTED`] of each.
const MAX_HEAD_BYTES: usize = 16 * 1024 * 1024;

/// The head that is arriving on one connection.
#[derive(Default)]
pub(super) struct UnfinishedHead {
    bytes: Cell<usize>,
    /// For `bytes` beyond [`UNCOUNTED`].
    permit: RefCell<Option<OwnedPermit>>,
}

impl UnfinishedHead {
    /// Returns the bytes that have arrived.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Sets the bytes that have arrived, if none of them are or were counted. Returns `false`
    /// otherwise.
    pub(super) fn set_uncounted(&self, bytes: usize) -> bool {
        let uncounted = bytes.max(self.bytes.get()) <= UNCOUNTED;
        if uncounted {
            self.bytes.set(bytes);
        }
        uncounted
    }

    /// Sets the bytes that have arrived. Returns `false`, and changes nothing, if too many of all
    /// heads are buffered.
    pub(super) fn set(&self, bytes: usize, owner: &Arc<Owner>, all: &Arc<Resource>) -> bool {
        let counted = self.bytes.get().saturating_sub(UNCOUNTED);
        let more = bytes.saturating_sub(UNCOUNTED).saturating_sub(counted);
        if more > 0 && !self.grow(more, owner, all) {
            return false;
        }
        if counted > 0 && bytes < self.bytes.get() {
            // The next head.
            *self.permit.borrow_mut() = None;
        }
        self.bytes.set(bytes);
        true
    }

    fn grow(&self, more: usize, owner: &Arc<Owner>, all: &Arc<Resource>) -> bool {
        let mut permit = self.permit.borrow_mut();
        match &mut *permit {
            Some(permit) => permit.grow(more, MAX_HEAD_BYTES).is_ok(),
            None => {
                *permit = all.acquire(owner, more, MAX_HEAD_BYTES).ok();
                permit.is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::owner::{OwnerKey, ResourceKind};

    fn owner() -> Arc<Owner> {
        Owner::new(OwnerKey::new_caller())
    }

    #[test]
    fn heads_of_the_usual_size_are_not_counted() {
        let (owner, all) = (owner(), Resource::new(ResourceKind::HeadBytes));
        let head = UnfinishedHead::default();
        assert!(head.set_uncounted(UNCOUNTED) && !head.set_uncounted(UNCOUNTED + 1000));
        assert!(head.set(UNCOUNTED + 1000, &owner, &all));
        assert_eq!(all.in_use(), 1000);
        assert!(head.set(0, &owner, &all), "the head has ended");
        assert_eq!(all.in_use(), 0);
    }

    #[test]
    fn all_heads_together_are_bounded() {
        let (greedy, all) = (owner(), Resource::new(ResourceKind::HeadBytes));
        let mut heads = Vec::new();
        loop {
            let head = UnfinishedHead::default();
            if !(1..=15).all(|step| head.set(step * 4096, &greedy, &all)) {
                break;
            }
            heads.push(head);
        }
        assert!(heads.len() <= MAX_HEAD_BYTES / (15 * 4096 - UNCOUNTED));
        assert!(all.in_use() <= MAX_HEAD_BYTES);
        let modest = UnfinishedHead::default();
        assert!(
            modest.set(60_000, &owner(), &all),
            "a part is free for others"
        );
        heads.clear();
        drop(modest);
        assert_eq!(all.in_use(), 0);
    }
}
