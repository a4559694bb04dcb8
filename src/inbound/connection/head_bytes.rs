//! Bytes that a connection makes the gateway hold, over all workers: heads that have not ended, and
//! buffers that have grown for one.
//!
//! Their senders are not authenticated yet. Heads of the usual size are not counted, so that their
//! requests are not affected when others use up the limit.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::limit::owner::{OwnedPermit, Owner, Resource};

/// Bytes of a head that are not counted.
const UNCOUNTED: usize = 8 * 1024;
/// Bytes of all unfinished heads, without [`UNCOUNTED`] of each.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024 * 1024;

/// The head that is arriving on one connection.
#[derive(Default)]
pub(super) struct UnfinishedHead {
    bytes: Cell<usize>,
    held: HeldBytes,
}

impl UnfinishedHead {
    /// Returns the bytes that have arrived.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Sets the bytes that have arrived, if none of them are counted. Returns `false` otherwise.
    pub(super) fn set_uncounted(&self, bytes: usize) -> bool {
        let uncounted = bytes <= UNCOUNTED;
        if uncounted {
            self.bytes.set(bytes);
        }
        uncounted
    }

    /// Sets the bytes that have arrived. Returns `false`, and changes nothing, if too many of all
    /// heads are buffered.
    pub(super) fn set(&self, bytes: usize, owner: &Arc<Owner>, all: &Arc<Resource>) -> bool {
        let counted = bytes.saturating_sub(UNCOUNTED);
        let accepted = self.held.grow_to(counted, owner, all, MAX_HEAD_BYTES);
        if accepted {
            self.bytes.set(bytes);
        }
        accepted
    }

    /// Returns `true` if bytes are counted: of the head that is arriving, or of a buffer that has
    /// grown for the last one.
    pub(super) fn is_counted(&self) -> bool {
        self.held.bytes.get() > 0
    }

    /// Counts nothing any more: the buffers were released.
    pub(super) fn release(&self) {
        if self.is_counted() {
            self.held.release();
        }
    }
}

/// A part of a resource of bytes, which grows to a maximum until all of it is released.
#[derive(Default)]
pub(super) struct HeldBytes {
    bytes: Cell<usize>,
    permit: RefCell<Option<OwnedPermit>>,
}

impl HeldBytes {
    /// Holds at least this many bytes. Returns `false`, and changes nothing, if the limit or the
    /// owner's share of it is exceeded.
    pub(super) fn grow_to(
        &self,
        bytes: usize,
        owner: &Arc<Owner>,
        all: &Arc<Resource>,
        limit: usize,
    ) -> bool {
        let Some(more @ 1..) = bytes.checked_sub(self.bytes.get()) else {
            return true;
        };
        let mut permit = self.permit.borrow_mut();
        let grown = match &mut *permit {
            Some(permit) => permit.grow(more, limit).is_ok(),
            None => {
                *permit = all.acquire(owner, more, limit).ok();
                permit.is_some()
            }
        };
        if grown {
            self.bytes.set(bytes);
        }
        grown
    }

    /// Releases all bytes.
    pub(super) fn release(&self) {
        *self.permit.borrow_mut() = None;
        self.bytes.set(0);
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
        assert!(head.set_uncounted(0), "the head has ended");
        assert_eq!(all.in_use(), 1000, "the buffer has grown");
        assert!(head.set(UNCOUNTED + 500, &owner, &all), "the next head");
        assert_eq!(all.in_use(), 1000);
        head.release();
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
