//! `GET /history.json`: the last hour by the minute, in total, by route and by caller, for the charts
//! of the status page.
//!
//! Sampled from the workers' counters and records: a request does no work for it.

mod series;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::times::Times;
use super::{Admin, FORMAT, FullResponse, json};
use crate::observe::metrics::{Counts, Totals};
use crate::observe::recent::{Recent, Sample};
use series::{Series, SeriesView};

/// Number of minutes that are kept, besides the current one.
const MINUTES: usize = 60;
const MINUTE: Duration = Duration::from_mins(1);
/// Routes, and callers, with a series of their own. Those without requests in the hour make room for
/// others; what is left is counted together.
const MAX_SERIES: usize = 64;

/// The last hour.
pub(super) struct LastHour(Mutex<Hour>);

struct Hour {
    /// Starts of the minutes that have ended, the oldest first.
    ended: VecDeque<Instant>,
    /// Start of the current minute.
    began: Instant,
    sampled: Instant,
    /// Counts at that time.
    totals: Arc<Totals>,
    total: Series,
    routes: SeriesByName,
    callers: SeriesByName,
}

#[derive(Default)]
struct SeriesByName {
    named: BTreeMap<String, Series>,
    rest: Series,
}

impl SeriesByName {
    fn of(&mut self, name: &str) -> &mut Series {
        if !self.named.contains_key(name) {
            if self.named.len() >= MAX_SERIES {
                self.named.retain(|_, series| series.requests() > 0);
            }
            if self.named.len() >= MAX_SERIES {
                return &mut self.rest;
            }
        }
        self.named.entry(name.to_owned()).or_default()
    }

    fn end_minute(&mut self) {
        self.named.values_mut().for_each(Series::end_minute);
        self.rest.end_minute();
    }

    /// Returns the series with requests, the busiest first.
    fn views(&mut self, minutes: usize) -> Vec<SeriesView> {
        let named = self.named.iter_mut();
        let mut used: Vec<_> = named.filter(|(_, series)| series.requests() > 0).collect();
        used.sort_by_key(|(_, series)| std::cmp::Reverse(series.requests()));
        let views = used
            .into_iter()
            .map(|(name, series)| series.view(Some(name.clone()), minutes));
        let mut views: Vec<_> = views.collect();
        if self.rest.requests() > 0 {
            views.push(self.rest.view(None, minutes));
        }
        views
    }
}

impl LastHour {
    pub(super) fn new(start: Instant) -> Self {
        Self(Mutex::new(Hour::new(start)))
    }

    /// Adds what happened since the last sample.
    pub(super) fn add(&self, now: Instant, totals: &Arc<Totals>, recent: &Recent) {
        let mut hour = self.lock();
        let samples = recent.sample(hour.sampled);
        hour.add(now, totals, &samples);
    }

    fn lock(&self) -> MutexGuard<'_, Hour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hour {
    fn new(start: Instant) -> Self {
        Self {
            ended: VecDeque::new(),
            began: start,
            sampled: start,
            totals: Arc::default(),
            total: Series::default(),
            routes: SeriesByName::default(),
            callers: SeriesByName::default(),
        }
    }

    fn add(&mut self, now: Instant, totals: &Arc<Totals>, samples: &[Sample]) {
        let before = std::mem::replace(&mut self.totals, Arc::clone(totals));
        let (mut all, mut all_waiting) = (Counts::default(), 0);
        for (name, route) in &totals.routes {
            let earlier = before.routes.get(name).map(|route| route.counts());
            let counts = route.counts().since(earlier.unwrap_or_default());
            all += counts;
            all_waiting += route.waiting;
            if counts.requests > 0 || route.waiting > 0 {
                self.routes.of(name).count(counts, route.waiting);
            }
        }
        self.total.count(all, all_waiting);
        for (name, counts) in &totals.callers {
            let earlier = before.callers.get(name).copied();
            let counts = counts.since(earlier.unwrap_or_default());
            if counts.requests > 0 {
                self.callers.of(name).count(counts, 0);
            }
        }
        for sample in samples {
            self.total.add(sample);
            self.routes.of(&sample.route.as_str()).add(sample);
            self.callers.of(&sample.caller.as_str()).add(sample);
        }
        self.sampled = now;
        if now.saturating_duration_since(self.began) >= MINUTE {
            self.end_minute(now);
        }
    }

    fn end_minute(&mut self, now: Instant) {
        if self.ended.len() == MINUTES {
            self.ended.pop_front();
        }
        self.ended.push_back(self.began);
        self.began = now;
        self.total.end_minute();
        self.routes.end_minute();
        self.callers.end_minute();
    }
}

#[derive(Serialize)]
struct HistoryDocument {
    format: u32,
    now: String,
    /// The oldest first; the last is the current one.
    minutes: Vec<MinuteView>,
    total: SeriesView,
    routes: Vec<SeriesView>,
    callers: Vec<SeriesView>,
}

#[derive(Serialize)]
struct MinuteView {
    at: String,
    /// About 60; fewer in the current minute.
    seconds: f64,
}

pub(super) fn respond(admin: &Admin) -> FullResponse {
    let times = Times::now(&admin.shared);
    json(
        StatusCode::OK,
        &document(&mut admin.last_hour.lock(), &times),
    )
}

fn document(hour: &mut Hour, times: &Times) -> HistoryDocument {
    let starts: Vec<Instant> = hour.ended.iter().copied().chain([hour.began]).collect();
    let ends = starts.iter().skip(1).chain([&hour.sampled]);
    let minutes: Vec<MinuteView> = starts
        .iter()
        .zip(ends)
        .map(|(began, end)| MinuteView {
            at: times.seconds(*began),
            seconds: (end.saturating_duration_since(*began).as_secs_f64() * 10.0).round() / 10.0,
        })
        .collect();
    let count = minutes.len();
    HistoryDocument {
        format: FORMAT,
        now: times.precise(times.instant),
        minutes,
        total: hour.total.view(None, count),
        routes: hour.routes.views(count),
        callers: hour.callers.views(count),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn counts(requests: u64, server_errors: u64) -> Counts {
        Counts {
            requests,
            client_errors: 0,
            server_errors,
        }
    }

    /// Totals of callers alone.
    fn totals(callers: &[(&str, Counts)]) -> Arc<Totals> {
        let mut totals = Totals::default();
        for (name, counts) in callers {
            totals.callers.insert((*name).to_owned(), *counts);
        }
        Arc::new(totals)
    }

    fn callers(hour: &mut Hour, minutes: usize) -> Value {
        serde_json::to_value(hour.callers.views(minutes)).unwrap()
    }

    #[test]
    fn counts_are_those_of_each_minute_the_busiest_caller_first() {
        let mut hour = Hour::new(Instant::now());
        for second in [10, 20, 60, 70] {
            let now = hour.began + Duration::from_secs(if second == 60 { 60 } else { 10 });
            hour.add(
                now,
                &totals(&[("a", counts(second, 1)), ("b", counts(1, 0))]),
                &[],
            );
        }
        let series = callers(&mut hour, 2);
        let of = |index: usize, name: &str| series[index][name].clone();
        assert_eq!(
            (of(0, "name"), of(0, "requests")),
            (json!("a"), json!([60, 10]))
        );
        assert_eq!(of(0, "server_errors"), json!([1, 0]));
        assert_eq!(
            (of(1, "name"), of(1, "requests")),
            (json!("b"), json!([1, 0]))
        );
    }

    #[test]
    fn callers_beyond_the_bound_are_counted_together_until_others_are_idle() {
        let mut hour = Hour::new(Instant::now());
        let names: Vec<String> = (0..MAX_SERIES + 6)
            .map(|number| format!("{number:03}"))
            .collect();
        let all: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), counts(1, 0)))
            .collect();
        let mut now = hour.began;
        hour.add(now, &totals(&all), &[]);
        let series = callers(&mut hour, 1);
        let rest = &series[MAX_SERIES];
        assert_eq!(
            (&rest["name"], &rest["requests"]),
            (&Value::Null, &json!([6]))
        );
        for _ in 0..=MINUTES {
            now += MINUTE;
            hour.add(now, &totals(&all), &[]);
        }
        let more: Vec<_> = all.iter().map(|(name, _)| (*name, counts(2, 0))).collect();
        hour.add(now, &totals(&more[MAX_SERIES..]), &[]);
        let series = callers(&mut hour, 1);
        assert_eq!(
            (series.as_array().unwrap().len(), &series[0]["name"]),
            (6, &json!("064"))
        );
        assert_eq!(hour.ended.len(), MINUTES);
    }
}
