//! What the emulator knows while it runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Options;
use super::faults::{Faults, TokenFault};
use super::jobs::Jobs;
use super::stats::Counters;
use super::tokens::TokenStore;

/// Everything the services share.
pub(super) struct State {
    /// The origin that absolute links are made with.
    pub(super) base_url: String,
    pub(super) customer_id: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) site_id: String,
    pub(super) tokens: TokenStore,
    pub(super) jobs: Jobs,
    pub(super) counters: Arc<Counters>,
    faults: Mutex<Faults>,
}

impl State {
    pub(super) fn new(options: Options, base_url: String) -> Self {
        Self {
            base_url,
            customer_id: options.customer_id,
            client_id: options.client_id,
            client_secret: options.client_secret,
            site_id: options.site_id,
            tokens: TokenStore::new(options.token_lifetime),
            jobs: Jobs::default(),
            counters: Arc::default(),
            faults: Mutex::new(options.faults),
        }
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    pub(super) fn token_fault(&self) -> Option<TokenFault> {
        self.faults().token
    }

    /// Whether services may tell a transaction id of their own (contract 4: bursts of 502 have none).
    pub(super) fn tells_transaction_ids(&self) -> bool {
        !self.faults().no_transaction_ids
    }

    /// Waits as long as the latency fault says.
    pub(super) async fn latency(&self) {
        let latency = self.faults().latency;
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        }
    }

    fn faults(&self) -> Faults {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
