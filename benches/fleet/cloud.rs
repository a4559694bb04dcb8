//! Citrix Cloud: the repository's emulator, in this process.

use std::time::Duration;

use citrix_emulator::{Emulator, Faults, Options, ServiceStats};

use crate::Fallible;

/// An emulated Citrix Cloud with one customer.
pub(crate) struct Cloud {
    pub(crate) emulator: Emulator,
}

impl Cloud {
    /// Starts one whose queries at `/monitorodata` take `query`.
    pub(crate) async fn start(query: Duration) -> Fallible<Self> {
        let faults = Faults {
            monitor_latency: query,
            ..Faults::default()
        };
        Self::with(Options {
            faults,
            ..Options::default()
        })
        .await
    }

    pub(crate) async fn with(options: Options) -> Fallible<Self> {
        let emulator = citrix_emulator::start(options).await?;
        Ok(Self { emulator })
    }

    /// Returns the configuration of a gateway for its customer.
    pub(crate) fn configuration(&self) -> String {
        self.configuration_with(self.emulator.client_secret())
    }

    /// Returns the configuration of a gateway with another secret.
    pub(crate) fn configuration_with(&self, secret: &str) -> String {
        let emulator = &self.emulator;
        let customer = emulator.customer_id();
        format!(
            "[citrix]\ncustomer_id = '{customer}'\nclient_id = '{}'\nclient_secret = '{secret}'\n\
             instance_id = '{}'\napi_url = '{}'\ntoken_url = '{}'\n\
             [listen]\naddress = '127.0.0.1:0'\nworkers = 1\n\
             [admin]\naddress = '127.0.0.1:0'\n\
             [lifecycle]\ndrain_delay = '200ms'\n\
             [log]\nformat = 'json'\naccess = false\n",
            emulator.client_id(),
            emulator.site_id(),
            emulator.base_url(),
            emulator.token_url(customer),
        )
    }

    /// Returns the number of login attempts so far.
    pub(crate) fn logins(&self) -> u64 {
        self.emulator.stats().token_requests
    }

    /// Returns what Citrix counted at `/monitorodata`.
    pub(crate) fn monitor(&self) -> ServiceStats {
        let stats = self.emulator.stats();
        let customer = stats.customers.get(self.emulator.customer_id());
        let monitor = customer.and_then(|customer| customer.services.get("monitor"));
        monitor.copied().unwrap_or_default()
    }
}
