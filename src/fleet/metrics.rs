//! Metrics of a fleet that shares a store (interface §5). Absent without `fleet.url`.
//!
//! `fleet_turns_total` is among the metrics of a route.

use std::time::Duration;

use fleet_protocol::State;
use prometheus::{
    Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// In seconds. A store in the same zone takes tens to hundreds of microseconds.
const STORE_BUCKETS: [f64; 11] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 2.0,
];

/// The way in which a replica got a token: the label `outcome` of `fleet_tokens_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// This replica logged in for the fleet.
    Login,
    /// The token of another replica is in use.
    Adopted,
    /// A login of another replica was waited for.
    Waited,
    /// A record was sealed with another key, or is damaged. Not only of tokens.
    Undecipherable,
}

impl TokenOutcome {
    const ALL: [Self; 4] = [
        Self::Login,
        Self::Adopted,
        Self::Waited,
        Self::Undecipherable,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Adopted => "adopted",
            Self::Waited => "waited",
            Self::Undecipherable => "undecipherable",
        }
    }
}

/// The replica at which Citrix requested a wait: the label `from` of `fleet_gates_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateOrigin {
    /// This replica, which announced it.
    Here,
    /// Another replica.
    There,
}

impl GateOrigin {
    const ALL: [Self; 2] = [Self::Here, Self::There];

    const fn label(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::There => "there",
        }
    }
}

/// The metrics of one replica.
#[derive(Clone, Debug)]
pub struct FleetMetrics {
    joined: IntGauge,
    replicas: IntGauge,
    key_differs: IntGauge,
    store: Histogram,
    leases_lost: IntCounter,
    /// In the order of [`TokenOutcome::ALL`].
    tokens: [IntCounter; 4],
    /// In the order of [`GateOrigin::ALL`].
    gates: [IntCounter; 2],
}

impl FleetMetrics {
    /// Registers the metrics; all start at 0.
    ///
    /// # Errors
    /// If they are already registered.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name, help| registered(registry, IntGauge::with_opts(opts(name, help))?);
        let counters = |name, help, label: &str| {
            registered(registry, IntCounterVec::new(opts(name, help), &[label])?)
        };
        let help = "Duration of commands to the fleet's store.";
        let store = HistogramOpts::from(opts("fleet_store_seconds", help));
        let store = Histogram::with_opts(store.buckets(STORE_BUCKETS.to_vec()))?;
        let help = "Permits whose lease expired in the store while they were in use.";
        let leases_lost = IntCounter::with_opts(opts("fleet_leases_lost_total", help))?;
        let help = "Tokens of the fleet, by the way in which this replica got them.";
        let tokens = counters("fleet_tokens_total", help, "outcome")?;
        let help = "Waits that Citrix requested, by the replica at which it did.";
        let gates = counters("fleet_gates_total", help, "from")?;
        Ok(Self {
            joined: gauge("fleet_joined", "1 while the fleet's store decides, else 0.")?,
            replicas: gauge(
                "fleet_replicas",
                "Replicas that the store counts; while it is away, the assumed number.",
            )?,
            key_differs: gauge("fleet_key_differs", "1 if replicas have different keys.")?,
            store: registered(registry, store)?,
            leases_lost: registered(registry, leases_lost)?,
            tokens: TokenOutcome::ALL.map(|each| tokens.with_label_values(&[each.label()])),
            gates: GateOrigin::ALL.map(|each| gates.with_label_values(&[each.label()])),
        })
    }

    /// Sets the state of the link.
    pub fn set_state(&self, state: State) {
        self.joined.set(i64::from(state == State::Joined));
    }

    /// Sets the number of replicas, as the store counts them or as it is assumed, and whether they
    /// have different keys.
    pub fn set_members(&self, replicas: u32, keys_differ: bool) {
        self.replicas.set(i64::from(replicas));
        self.key_differs.set(i64::from(keys_differ));
    }

    /// Adds the duration of a command.
    pub fn add_command(&self, duration: Duration) {
        self.store.observe(duration.as_secs_f64());
    }

    /// Counts a permit that was lost while it was in use.
    pub fn count_lost_lease(&self) {
        self.leases_lost.inc();
    }

    /// Counts a token, or a record that cannot be opened.
    pub fn count_token(&self, outcome: TokenOutcome) {
        let [login, adopted, waited, undecipherable] = &self.tokens;
        match outcome {
            TokenOutcome::Login => login,
            TokenOutcome::Adopted => adopted,
            TokenOutcome::Waited => waited,
            TokenOutcome::Undecipherable => undecipherable,
        }
        .inc();
    }

    /// Counts a gate that was closed.
    pub fn count_gate(&self, from: GateOrigin) {
        let [here, there] = &self.gates;
        match from {
            GateOrigin::Here => here,
            GateOrigin::There => there,
        }
        .inc();
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("citrix_auth_proxy_{name}"), help)
}

fn registered<C>(registry: &Registry, collector: C) -> Result<C, Error>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn each_count_appears_in_its_series() {
        let registry = Registry::new();
        let metrics = FleetMetrics::register(&registry).unwrap();
        for (times, outcome) in (1..).zip(TokenOutcome::ALL) {
            (0..times).for_each(|_| metrics.count_token(outcome));
        }
        for (times, from) in (1..).zip(GateOrigin::ALL) {
            (0..times).for_each(|_| metrics.count_gate(from));
        }
        metrics.set_state(State::Joined);
        metrics.set_members(3, true);
        metrics.add_command(Duration::from_micros(200));
        metrics.count_lost_lease();
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        for series in [
            "fleet_tokens_total{outcome=\"login\"} 1",
            "fleet_tokens_total{outcome=\"adopted\"} 2",
            "fleet_tokens_total{outcome=\"waited\"} 3",
            "fleet_tokens_total{outcome=\"undecipherable\"} 4",
            "fleet_gates_total{from=\"here\"} 1",
            "fleet_gates_total{from=\"there\"} 2",
            "fleet_joined 1",
            "fleet_replicas 3",
            "fleet_key_differs 1",
            "fleet_leases_lost_total 1",
            "fleet_store_seconds_bucket{le=\"0.0001\"} 0",
            "fleet_store_seconds_bucket{le=\"0.00025\"} 1",
        ] {
            let line = format!("\ncitrix_auth_proxy_{series}\n");
            assert!(text.contains(&line), "{series} in {text}");
        }
        metrics.set_state(State::Alone);
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        assert!(text.unwrap().contains("citrix_auth_proxy_fleet_joined 0\n"));
    }
}
