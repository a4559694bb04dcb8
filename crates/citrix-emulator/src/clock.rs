//! The wall clock.

use std::time::SystemTime;

#[expect(
    clippy::disallowed_methods,
    reason = "the emulator runs on the machine's clock"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
