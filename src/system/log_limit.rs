//! A limit on repeated log lines, for events that clients can cause at will.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two lines with the same key.
const INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of lines per [`INTERVAL`].
const MAX_KEYS: usize = 128;

/// Permits one line per key and minute, for at most 128 keys.
#[derive(Debug)]
pub struct LogLimit<K>(Mutex<Lines<K>>);

#[derive(Debug)]
struct Lines<K> {
    /// Time of the last line.
    logged: HashMap<K, Instant>,
    suppressed: u64,
}

impl<K> Default for LogLimit<K> {
    fn default() -> Self {
        Self(Mutex::new(Lines {
            logged: HashMap::new(),
            suppressed: 0,
        }))
    }
}

impl<K: Eq + Hash> LogLimit<K> {
    /// Returns the number of lines that were suppressed since the last one, or `None` if this line
    /// is to be suppressed.
    pub fn permit(&self, key: K) -> Option<u64> {
        let now = Instant::now();
        // A panic leaves nothing half updated.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |logged: &Instant| now.saturating_duration_since(*logged) < INTERVAL;
        if lines.logged.len() >= MAX_KEYS {
            lines.logged.retain(|_, logged| is_recent(logged));
        }
        if lines.logged.len() >= MAX_KEYS || lines.logged.get(&key).is_some_and(is_recent) {
            lines.suppressed += 1;
            return None;
        }
        lines.logged.insert(key, now);
        Some(std::mem::take(&mut lines.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeated_line_is_permitted_once_a_minute_and_counted() {
        let limit = LogLimit::default();
        assert_eq!(limit.permit("a"), Some(0));
        assert_eq!(limit.permit("a"), None);
        assert_eq!(limit.permit("b"), Some(1));
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.permit("a"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_keys_is_bounded() {
        let limit = LogLimit::default();
        let permitted = (0..1000).filter(|key| limit.permit(*key).is_some()).count();
        assert_eq!(permitted, MAX_KEYS);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.permit(1000), Some(1000 - MAX_KEYS as u64));
    }
}
