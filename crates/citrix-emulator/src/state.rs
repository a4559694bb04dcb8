//! State of a running emulator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::document_store::Documents;
use super::faults::{Fault, Faults, TokenFault};
use super::jobs::Jobs;
use super::options::{Links, Options, ServiceLimits};
use super::rate::Meter;
use super::stats::{Counters, Stats};
use super::tenants::Tenant;
use super::tokens::TokenStore;
use crate::clock;

/// State that all services share.
pub(super) struct State {
    /// Base URL of the emulator.
    pub(super) base_url: String,
    /// Base URL of the other region, if it has a listener.
    pub(super) region_url: Option<String>,
    first: Arc<Tenant>,
    more: Vec<Arc<Tenant>>,
    pub(super) tokens: TokenStore,
    pub(super) jobs: Jobs,
    pub(super) documents: Documents,
    pub(super) logins: Meter,
    pub(super) limits: ServiceLimits,
    pub(super) system_log_forbids: bool,
    pub(super) system_log_old_names: bool,
    pub(super) links: Links,
    pub(super) machine_bytes: usize,
    pub(super) compress: bool,
    pub(super) counters: Counters,
    faults: Mutex<Faults>,
}

impl State {
    pub(super) fn new(options: Options, base_url: String, region_url: Option<String>) -> Self {
        let tenant = |customer| Arc::new(Tenant::new(customer));
        Self {
            base_url,
            region_url,
            first: tenant(options.customer),
            more: options.more_customers.into_iter().map(tenant).collect(),
            tokens: TokenStore::new(options.token_lifetime),
            jobs: Jobs::default(),
            documents: Documents::default(),
            logins: Meter::default(),
            limits: options.limits,
            system_log_forbids: options.system_log_forbids,
            system_log_old_names: options.system_log_old_names,
            links: options.links,
            machine_bytes: options.machine_bytes,
            compress: options.compress,
            counters: Counters::default(),
            faults: Mutex::new(options.faults),
        }
    }

    /// Returns the first customer, which always exists.
    pub(super) fn first(&self) -> &Arc<Tenant> {
        &self.first
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Returns the customer with this id, case-insensitive.
    pub(super) fn tenant(&self, id: &[u8]) -> Option<&Arc<Tenant>> {
        self.tenants().find(|tenant| tenant.has_id(id))
    }

    pub(super) fn stats(&self) -> Stats {
        let customers = self
            .tenants()
            .map(|tenant| (tenant.id().to_owned(), tenant.stats().clone()));
        self.counters.snapshot(customers.collect())
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults() = faults;
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token_fault(&self) -> Option<TokenFault> {
        self.faults().token
    }

    pub(super) fn inject(&self, path: &str) -> Option<(Fault, u32)> {
        self.faults().inject(path)
    }

    /// Returns `true` if responses have a transaction id (contract §4: bursts of 502 have none).
    pub(super) fn sends_transaction_ids(&self) -> bool {
        !self.faults().no_transaction_ids
    }

    /// Returns the time of the cloud's clock.
    pub(super) fn now(&self) -> SystemTime {
        let skew = self.faults().clock_skew;
        let distance = Duration::from_secs(skew.unsigned_abs());
        let now = clock::now();
        let skewed = if skew < 0 {
            now.checked_sub(distance)
        } else {
            now.checked_add(distance)
        };
        skewed.unwrap_or(now)
    }

    /// Waits for the injected latency.
    pub(super) async fn latency(&self) {
        let latency = self.faults().latency;
        wait(latency).await;
    }

    /// Waits for the injected latency and the additional one of Monitor.
    pub(super) async fn monitor_latency(&self) {
        let latency = {
            let faults = self.faults();
            faults.latency + faults.monitor_latency
        };
        wait(latency).await;
    }
}

async fn wait(time: Duration) {
    if time > Duration::ZERO {
        tokio::time::sleep(time).await;
    }
}
