//! The tasks of the control side: who keeps tokens, sites and certificates.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::config::{Credential, Live, TokenCache};
use crate::inbound::tls::CertificateReloader;
use crate::observe::metrics::Metrics;
use crate::site;
use crate::site::agent::Agent;
use crate::site::api::HttpApi;
use crate::state::published::Published;
use crate::system::clock::Clock;
use crate::system::files::ReadFailures;
use crate::token::cache::Cache;
use crate::token::issuer::HttpIssuer;
use crate::token::keeper::{Keeper, KeeperSettings};
use crate::token::metrics::TokenMetrics;
use crate::token::slot::TokenSlot;
use crate::upstream::control_plane::{ControlClient, SharedControlClient};
use crate::upstream::dial::DialConfig;

/// All of them. They end with it.
pub(super) struct Control {
    tasks: JoinSet<Infallible>,
    keepers: Vec<Keeping>,
    agents: Vec<Asking>,
    token_metrics: TokenMetrics,
    client: SharedControlClient,
    clock: Clock,
    cache: Option<(TokenCache, Cache)>,
    egress: Option<AbortHandle>,
    read_failures: ReadFailures,
}

/// A keeper, and whose token it keeps.
struct Keeping {
    slot: Arc<TokenSlot>,
    customer: String,
    orders: watch::Sender<KeeperSettings>,
    task: AbortHandle,
}

/// A site agent, and what it fills.
struct Asking {
    site: Arc<site::slot::SiteSlot>,
    token: Arc<TokenSlot>,
    patience: Duration,
    task: AbortHandle,
}

impl Control {
    /// No task yet.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub(super) fn new(
        metrics: &Metrics,
        client: SharedControlClient,
        clock: Clock,
    ) -> Result<Self, prometheus::Error> {
        let token_metrics = TokenMetrics::register(metrics.registry())?;
        let (tasks, keepers, agents) = (JoinSet::new(), Vec::new(), Vec::new());
        Ok(Self {
            tasks,
            keepers,
            agents,
            token_metrics,
            client,
            clock,
            cache: None,
            egress: None,
            read_failures: metrics.file_read_failures.clone(),
        })
    }

    /// Puts the reloader of certificates to work.
    pub(super) fn run(&mut self, reloader: CertificateReloader) {
        self.tasks.spawn(reloader.run());
    }

    /// Watches how connections leave now, and no more how they did before.
    pub(super) fn follow_egress(&mut self, dial_config: &DialConfig) {
        if let Some(proxy) = dial_config.egress().proxy() {
            tracing::info!(%proxy, "connections to Citrix leave through the egress proxy");
        }
        if let Some(before) = self.egress.replace(
            self.tasks
                .spawn(dial_config.clone().follow(self.read_failures.clone())),
        ) {
            before.abort();
        }
    }

    /// Makes the tasks those of what is published: who is not needed any more ends, who is new begins, and who stays
    /// hears of the settings.
    pub(super) fn follow(&mut self, published: &Published) {
        let live = &published.live;
        self.share_cache(live.token_cache.as_ref());
        let cache = self.cache.as_ref().map(|(_, cache)| cache.clone());
        let mut keepers = std::mem::take(&mut self.keepers);
        let mut agents = std::mem::take(&mut self.agents);
        let mut new = Vec::new();
        for customer in &published.customers {
            let (credential, token, site) = (&customer.credential, &customer.token, &customer.site);
            let orders = KeeperSettings::new(credential, live.token, cache.clone());
            match take(&mut keepers, |keeping| Arc::ptr_eq(&keeping.slot, token)) {
                Some(keeping) => {
                    keeping.orders.send_replace(orders);
                    self.keepers.push(keeping);
                }
                None => new.push((credential, token, orders)),
            }
            let patience = live.token.request_timeout;
            let is_it = |asking: &Asking| {
                let same = Arc::ptr_eq(&asking.site, site) && Arc::ptr_eq(&asking.token, token);
                same && asking.patience == patience
            };
            let asking = take(&mut agents, is_it);
            let asking = asking.unwrap_or_else(|| self.ask(credential, site, token, patience));
            self.agents.push(asking);
        }
        for agent in agents {
            agent.task.abort();
        }
        for keeping in keepers {
            keeping.task.abort();
            self.token_metrics.forget(&keeping.customer);
        }
        // After the old ones were forgotten: a customer may have both.
        for (credential, token, orders) in new {
            let keeping = self.keep(credential, token, orders);
            self.keepers.push(keeping);
        }
    }

    /// The same cache as long as its settings are the same.
    fn share_cache(&mut self, settings: Option<&TokenCache>) {
        if self.cache.as_ref().map(|(settings, _)| settings) != settings {
            self.cache = settings.map(|settings| (settings.clone(), Cache::new(settings)));
        }
    }

    fn keep(
        &mut self,
        credential: &Credential,
        slot: &Arc<TokenSlot>,
        orders: KeeperSettings,
    ) -> Keeping {
        let customer = credential.customer().to_owned();
        let (metrics, issuer) = (
            self.token_metrics.customer(&customer),
            HttpIssuer::over(self.client.clone(), self.clock),
        );
        let (orders, obeyed) = watch::channel(orders);
        let keeper = Keeper::new(
            credential.clone(),
            obeyed,
            Arc::clone(slot),
            issuer,
            self.clock,
            metrics,
            &self.read_failures,
        );
        Keeping {
            slot: Arc::clone(slot),
            customer,
            orders,
            task: self.tasks.spawn(keeper.keep()),
        }
    }

    fn ask(
        &mut self,
        credential: &Credential,
        site: &Arc<site::slot::SiteSlot>,
        token: &Arc<TokenSlot>,
        patience: Duration,
    ) -> Asking {
        let (site, token) = (Arc::clone(site), Arc::clone(token));
        let api = HttpApi(self.client.clone());
        let agent = Agent::new(
            credential,
            Arc::clone(&site),
            Arc::clone(&token),
            api,
            self.clock,
            patience,
        );
        Asking {
            site,
            token,
            patience,
            task: self.tasks.spawn(agent.serve()),
        }
    }

    /// Returns when a task ended that never should: it panicked.
    pub(super) async fn failed(&mut self) -> JoinError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                // Nobody needed it any more.
                Err(error) if error.is_cancelled() => {}
                Err(error) => return error,
                Ok(never) => match never {},
            }
        }
        pending().await
    }
}

fn take<T>(from: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Option<T> {
    let index = from.iter().position(is_it)?;
    Some(from.swap_remove(index))
}

/// The client of keepers and agents.
pub(super) fn client(live: &Live, dial_config: &DialConfig) -> ControlClient {
    ControlClient::new(dial_config.clone(), live.token.request_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        let client = ControlClient::new(DialConfig::unreachable(), Duration::from_secs(1));
        Control::new(&Metrics::new(1).unwrap(), client.into(), Clock::SYSTEM).unwrap()
    }

    #[tokio::test]
    async fn who_was_told_to_go_has_not_failed_and_who_panics_has() {
        let mut control = control();
        control.tasks.spawn(pending()).abort();
        control
            .tasks
            .spawn(async { panic!("as a mistake of ours would") });
        assert!(control.failed().await.is_panic());
        assert!(control.tasks.is_empty());
    }
}
