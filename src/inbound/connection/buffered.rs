//! The bytes that a client makes its connection buffer, by what arrives.

use super::{Connection, ConnectionPhase, Directive};

/// Bytes that may arrive over TLS after the handshake without any that are decrypted: more than a
/// record (RFC 8446 section 5.2) and a read.
const MAX_UNDECRYPTED: usize = 24 * 1024;
/// Reads of a handshake that postpone an eviction: a client that sends single bytes does not escape
/// it.
const MAX_HANDSHAKE_READS: u8 = 8;

impl Connection {
    /// Records that bytes of a body arrived. It may outlive its exchange.
    pub(in crate::inbound) fn body_arrived(&self) {
        self.undecrypted.set(0);
        self.end_turn();
    }

    pub(in crate::inbound) fn bytes_arrived(&self) {
        self.body_arrived();
        if self.phase.get() == ConnectionPhase::Idle && !self.http2.get() {
            self.enter(ConnectionPhase::Head);
        }
    }

    /// Records that bytes arrived. Returns `false` if they belong to a head that must be rejected.
    pub(in crate::inbound) fn received(&self, bytes: usize) -> bool {
        self.bytes_arrived();
        self.phase.get() != ConnectionPhase::Head || self.head_arrived(self.head.bytes() + bytes)
    }

    /// Sets the number of bytes of the head that is arriving. Returns `false` if it must be
    /// rejected.
    pub(in crate::inbound) fn head_arrived(&self, bytes: usize) -> bool {
        if self.head.set_uncounted(bytes) {
            return true;
        }
        let all = self.all.upgrade();
        let accepted = all.is_none_or(|all| self.head.set(bytes, self.owner(), all.heads()));
        if !accepted {
            self.direct(Directive::HeadRejected);
        }
        accepted
    }

    /// Sets the number of bytes of the header block that is arriving over HTTP/2. Returns `false` if
    /// it must be rejected.
    pub(in crate::inbound) fn block_arrived(&self, bytes: usize) -> bool {
        if bytes == 0 {
            // `h2` decodes a block at its end, and keeps no buffer.
            self.head.release();
        }
        self.head_arrived(bytes)
    }

    /// Records that the buffers of the last head were released.
    pub(in crate::inbound) fn buffers_released(&self) {
        self.head.release();
    }

    /// Records bytes that arrived at the socket. Those that TLS keeps, such as a message of the
    /// handshake that has not ended, count as a head. Returns `false` if the connection must close.
    pub(in crate::inbound) fn arrived_at_socket(&self, bytes: usize) -> bool {
        let is_opening = self.is_opening();
        if !is_opening && !self.secure.get() {
            return true;
        }
        let undecrypted = self.undecrypted.get() + bytes;
        self.undecrypted.set(undecrypted);
        if is_opening {
            let reads = self.handshake_reads.get();
            if bytes > 0 && reads < MAX_HANDSHAKE_READS {
                self.handshake_reads.set(reads + 1);
                self.renumber();
            }
            return self.head_arrived(undecrypted);
        }
        let accepted = undecrypted <= MAX_UNDECRYPTED;
        if !accepted {
            self.direct(Directive::Abort);
        }
        accepted
    }

    /// Records that the buffers of the handshake were released.
    pub(super) fn handshake_ended(&self) {
        self.undecrypted.set(0);
        self.head.set_uncounted(0);
        self.head.release();
    }
}
