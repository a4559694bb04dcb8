//! The customers as they live: their clients' secrets, their site, what their services have been asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::customers::{Client, EmulatedCustomer};
use super::rate::Meter;
use super::stats::{CustomerStats, ServiceStats};
use super::token_status::TokenStatus;

/// A customer at run time.
pub(super) struct Tenant {
    pub(super) customer: EmulatedCustomer,
    /// By client and secret, when each secret expires.
    expiries: Mutex<Vec<Vec<Option<Instant>>>>,
    site: Mutex<SiteState>,
    /// Whether Monitor works on a query of this customer's.
    monitor_busy: AtomicBool,
    pub(super) access_security: Meter,
    pub(super) endpoint_management: Meter,
    stats: Mutex<CustomerStats>,
}

/// Who a token was issued to.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) tenant: Arc<Tenant>,
    pub(super) client_id: Arc<str>,
}

/// Sites that nobody uses are frozen, and thaw when asked (contract §4, "530").
#[derive(Clone, Copy)]
enum SiteState {
    Awake,
    Frozen { thaws_in: Duration },
    Thawing { until: Instant },
}

impl Tenant {
    pub(super) fn new(customer: EmulatedCustomer) -> Self {
        let now = Instant::now();
        let expiries = |client: &Client| {
            client
                .secrets
                .iter()
                .map(|secret| secret.lifetime.map(|lifetime| now + lifetime))
                .collect()
        };
        Self {
            expiries: Mutex::new(customer.clients.iter().map(expiries).collect()),
            customer,
            site: Mutex::new(SiteState::Awake),
            monitor_busy: AtomicBool::new(false),
            access_security: Meter::default(),
            endpoint_management: Meter::default(),
            stats: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.customer.id
    }

    pub(super) fn has_id(&self, id: &[u8]) -> bool {
        self.customer.id.as_bytes().eq_ignore_ascii_case(id)
    }

    /// Whether the client may log in with that secret now.
    pub(super) fn accepts_secret(&self, client_id: &str, secret: &str) -> bool {
        let now = Instant::now();
        let expiries = lock(&self.expiries);
        let client = self
            .customer
            .clients
            .iter()
            .zip(&*expiries)
            .find(|(client, _)| client.id == client_id);
        client.is_some_and(|(client, expiries)| {
            let mut secrets = client.secrets.iter().zip(expiries);
            secrets.any(|(own, expiry)| {
                own.value == secret && expiry.is_none_or(|expiry| expiry > now)
            })
        })
    }

    /// Lets a client's secret expire now; whether there is such a one.
    pub(super) fn expire_secret(&self, client_id: &str, index: usize) -> bool {
        let mut expiries = lock(&self.expiries);
        let position = self
            .customer
            .clients
            .iter()
            .position(|client| client.id == client_id);
        let expiry = position.and_then(|client| expiries.get_mut(client)?.get_mut(index));
        expiry
            .map(|expiry| *expiry = Some(Instant::now()))
            .is_some()
    }

    /// Freezes the site; once activated it accepts_secret `thaws_in` to thaw.
    pub(super) fn freeze(&self, thaws_in: Duration) {
        *lock(&self.site) = SiteState::Frozen { thaws_in };
    }

    pub(super) fn is_frozen(&self) -> bool {
        match *lock(&self.site) {
            SiteState::Awake => false,
            SiteState::Frozen { .. } => true,
            SiteState::Thawing { until } => until > Instant::now(),
        }
    }

    /// Begins to thaw the site; whether that accepts_secret time.
    pub(super) fn activate(&self) -> bool {
        let mut site = lock(&self.site);
        if let SiteState::Frozen { thaws_in } = *site {
            *site = SiteState::Thawing {
                until: Instant::now() + thaws_in,
            };
        }
        lock(&self.stats).site_activations += 1;
        matches!(*site, SiteState::Thawing { until } if until > Instant::now())
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, CustomerStats> {
        lock(&self.stats)
    }

    pub(super) fn count_token(&self, status: TokenStatus) {
        *self.stats().tokens.of(status) += 1;
    }

    fn service<T>(&self, name: &'static str, change: impl FnOnce(&mut ServiceStats) -> T) -> T {
        let mut stats = self.stats();
        let services: &mut BTreeMap<_, _> = &mut stats.services;
        change(services.entry(name).or_default())
    }
}

/// A request that a service works on, from its admission to the last byte of its answer.
pub(super) struct InFlight {
    tenant: Arc<Tenant>,
    service: &'static str,
}

impl InFlight {
    pub(super) fn enter(tenant: &Arc<Tenant>, service: &'static str) -> Self {
        tenant.service(service, |stats| {
            stats.requests += 1;
            stats.in_flight += 1;
            stats.concurrency_peak = stats.concurrency_peak.max(stats.in_flight);
        });
        Self {
            tenant: Arc::clone(tenant),
            service,
        }
    }

    pub(super) fn rate_limited(&self) {
        self.tenant
            .service(self.service, |stats| stats.rate_limited += 1);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.tenant
            .service(self.service, |stats| stats.in_flight -= 1);
    }
}

/// The one query that Monitor works on for a customer, from its admission to the last byte of its answer.
pub(super) struct MonitorSlot(Arc<Tenant>);

impl MonitorSlot {
    /// The slot, if it is free.
    pub(super) fn take(tenant: &Arc<Tenant>) -> Option<Self> {
        let was_busy = tenant.monitor_busy.swap(true, Ordering::AcqRel);
        (!was_busy).then(|| Self(Arc::clone(tenant)))
    }
}

impl Drop for MonitorSlot {
    fn drop(&mut self) {
        self.0.monitor_busy.store(false, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
