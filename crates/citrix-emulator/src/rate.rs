//! Rate limits with fixed windows.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A number of requests per time, written `1000/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Maximum number of requests in a window.
    pub count: u32,
    /// Length of a window; not zero.
    pub per: Duration,
}

/// The text is not `COUNT/TIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written COUNT/TIME, for example 1000/1m")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (count, per) = text.split_once('/').ok_or(RateError)?;
        let count = count.parse().map_err(|_| RateError)?;
        let per = humantime::parse_duration(per).map_err(|_| RateError)?;
        if per.is_zero() {
            Err(RateError)
        } else {
            Ok(Self { count, per })
        }
    }
}

/// The current window of a rate limit.
#[derive(Default)]
pub(super) struct Meter(Mutex<Option<Window>>);

#[derive(Clone, Copy)]
struct Window {
    ends: Instant,
    used: u32,
}

impl Meter {
    /// Counts one request and returns the number that remains in the window.
    ///
    /// # Errors
    /// Returns the time until the window ends if it is used up.
    pub(super) fn acquire(&self, rate: Rate) -> Result<u32, Duration> {
        let now = Instant::now();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = window.filter(|window| window.ends > now);
        let open = open.unwrap_or(Window {
            ends: now + rate.per,
            used: 0,
        });
        if open.used >= rate.count {
            return Err(open.ends - now);
        }
        *window = Some(Window {
            used: open.used + 1,
            ..open
        });
        Ok(rate.count - open.used - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn exhausted_window_rejects_until_it_ends() {
        let rate: Rate = "2/10s".parse().unwrap();
        let meter = Meter::default();
        assert_eq!((meter.acquire(rate), meter.acquire(rate)), (Ok(1), Ok(0)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(meter.acquire(rate), Err(Duration::from_secs(6)));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(meter.acquire(rate), Ok(1));
    }

    #[test]
    fn invalid_rate_is_rejected() {
        for text in ["", "5", "x/1m", "5/", "5/0s"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }
}
