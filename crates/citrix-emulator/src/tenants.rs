//! State of the customers: expiry of secrets, site, rate limits and counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bearer_status::BearerStatus;
use super::customers::{Client, EmulatedCustomer};
use super::rate::Meter;
use super::stats::{CustomerStats, ServiceStats};

/// A customer with its state.
pub(super) struct Tenant {
    pub(super) customer: EmulatedCustomer,
    /// Expiry of each secret, by position of client and secret.
    expiries: Mutex<Vec<Vec<Option<Instant>>>>,
    site: Mutex<SiteState>,
    /// `true` while Monitor processes a query of the customer.
    monitor_busy: AtomicBool,
    pub(super) access_security: Meter,
    pub(super) endpoint_management: Meter,
    stats: Mutex<CustomerStats>,
}

/// The owner of a token.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) tenant: Arc<Tenant>,
    pub(super) client_id: Arc<str>,
}

/// State of a site: Citrix freezes unused sites; an activation thaws them (contract §4, "530").
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

    /// Returns `true` if the secret is valid for the client.
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

    /// Expires a client's secret. Returns `true` if it exists.
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

    /// Freezes the site; it becomes active `thaws_in` after its activation.
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

    /// Activates the site. Returns `true` while it is thawing.
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

    pub(super) fn count_token(&self, status: BearerStatus) {
        *self.stats().tokens.of(status) += 1;
    }

    fn service<T>(&self, name: &'static str, change: impl FnOnce(&mut ServiceStats) -> T) -> T {
        let mut stats = self.stats();
        let services: &mut BTreeMap<_, _> = &mut stats.services;
        change(services.entry(name).or_default())
    }
}

/// A request in progress, from its admission to the end of the response.
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

/// The only query of a customer that Monitor processes, from its admission to the end of the
/// response.
pub(super) struct MonitorSlot(Arc<Tenant>);

impl MonitorSlot {
    /// Returns the slot if it is free.
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
