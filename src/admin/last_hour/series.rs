//! The minutes of one scope: of all requests, of a route, or of a caller.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::MINUTES;
use crate::observe::metrics::Counts;
use crate::observe::recent::Sample;

/// A minute that has ended, or what is known of the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Minute {
    counts: Counts,
    /// Requests in the queue, at the sample with most.
    waiting: u64,
    citrix: Option<Quantiles>,
    gateway: Option<Quantiles>,
    waited: Option<Quantiles>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Quantiles {
    p50: Duration,
    p99: Duration,
}

impl Quantiles {
    /// Returns the quantiles by nearest rank; `None` without values.
    fn of(values: &mut [Duration]) -> Option<Self> {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied()
        };
        at(50).zip(at(99)).map(|(p50, p99)| Self { p50, p99 })
    }
}

/// The last hour of one scope.
#[derive(Default)]
pub(super) struct Series {
    /// The oldest first. Fewer than those of the hour if the scope is newer.
    ended: VecDeque<Minute>,
    counts: Counts,
    waiting: u64,
    citrix: Vec<Duration>,
    gateway: Vec<Duration>,
    waited: Vec<Duration>,
}

impl Series {
    pub(super) fn count(&mut self, counts: Counts, waiting: u64) {
        self.counts += counts;
        self.waiting = self.waiting.max(waiting);
    }

    pub(super) fn add(&mut self, sample: &Sample) {
        self.waited.push(sample.waited);
        if let Some((gateway, citrix)) = sample.responded {
            self.gateway.push(gateway);
            self.citrix.push(citrix);
        }
    }

    /// Ends the current minute.
    pub(super) fn end_minute(&mut self) {
        let minute = self.current();
        if self.ended.len() == MINUTES {
            self.ended.pop_front();
        }
        self.ended.push_back(minute);
        *self = Self {
            ended: std::mem::take(&mut self.ended),
            ..Self::default()
        };
    }

    fn current(&mut self) -> Minute {
        Minute {
            counts: self.counts,
            waiting: self.waiting,
            citrix: Quantiles::of(&mut self.citrix),
            gateway: Quantiles::of(&mut self.gateway),
            waited: Quantiles::of(&mut self.waited),
        }
    }

    /// Returns the number of requests in the hour.
    pub(super) fn requests(&self) -> u64 {
        let ended = self.ended.iter().map(|minute| minute.counts.requests);
        ended.sum::<u64>() + self.counts.requests
    }

    /// Returns the last `minutes` minutes, the current one included.
    pub(super) fn view(&mut self, name: Option<String>, minutes: usize) -> SeriesView {
        let current = self.current();
        let before_start = minutes.saturating_sub(self.ended.len() + 1);
        let absent = std::iter::repeat_n(Minute::default(), before_start);
        let surplus = (self.ended.len() + 1).saturating_sub(minutes);
        let known = self.ended.iter().copied().skip(surplus).chain([current]);
        let all: Vec<Minute> = absent.chain(known).collect();
        let quantiles = |of: fn(&Minute) -> Option<Quantiles>, which: fn(Quantiles) -> Duration| {
            let values = all.iter().map(|minute| of(minute).map(which));
            values.map(|time| time.map(milliseconds)).collect()
        };
        let (p50, p99) = (|of: Quantiles| of.p50, |of: Quantiles| of.p99);
        SeriesView {
            name,
            requests: all.iter().map(|minute| minute.counts.requests).collect(),
            client_errors: all
                .iter()
                .map(|minute| minute.counts.client_errors)
                .collect(),
            server_errors: all
                .iter()
                .map(|minute| minute.counts.server_errors)
                .collect(),
            citrix_p50_ms: quantiles(|minute| minute.citrix, p50),
            citrix_p99_ms: quantiles(|minute| minute.citrix, p99),
            gateway_p50_ms: quantiles(|minute| minute.gateway, p50),
            gateway_p99_ms: quantiles(|minute| minute.gateway, p99),
            waiting: all.iter().map(|minute| minute.waiting).collect(),
            waited_p99_ms: quantiles(|minute| minute.waited, p99),
        }
    }
}

/// One value for each minute.
#[derive(Serialize)]
pub(super) struct SeriesView {
    /// `None` for all requests, and for the rest of routes or callers.
    name: Option<String>,
    requests: Vec<u64>,
    /// Responses 4xx.
    client_errors: Vec<u64>,
    /// Responses 5xx.
    server_errors: Vec<u64>,
    citrix_p50_ms: Vec<Option<f64>>,
    citrix_p99_ms: Vec<Option<f64>>,
    gateway_p50_ms: Vec<Option<f64>>,
    gateway_p99_ms: Vec<Option<f64>>,
    /// Zeros for a caller.
    waiting: Vec<u64>,
    waited_p99_ms: Vec<Option<f64>>,
}

/// Rounds to a microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let of = |values: &[u64]| {
            let mut values: Vec<_> = values.iter().copied().map(Duration::from_millis).collect();
            let quantiles = Quantiles::of(&mut values);
            quantiles.map(|of| (of.p50.as_millis(), of.p99.as_millis()))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some((7, 7)));
        assert_eq!(of(&[3, 1]), Some((1, 3)));
        assert_eq!(of(&(1..=1000).rev().collect::<Vec<_>>()), Some((500, 990)));
    }

    #[test]
    fn series_is_padded_and_bounded() {
        let mut series = Series::default();
        let counts = |requests| Counts {
            requests,
            ..Counts::default()
        };
        series.count(counts(1), 3);
        series.end_minute();
        series.count(counts(2), 0);
        let view = series.view(None, 4);
        assert_eq!(
            (view.requests, view.waiting),
            (vec![0, 0, 1, 2], vec![0, 0, 3, 0])
        );
        for _ in 0..MINUTES + 5 {
            series.end_minute();
        }
        assert_eq!(series.ended.len(), MINUTES);
        assert_eq!(series.requests(), 0);
        assert_eq!(series.view(None, MINUTES + 1).requests.len(), MINUTES + 1);
    }
}
