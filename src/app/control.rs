//! The tasks of the control plane: token keepers, site agents, certificate reload, egress proxy.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::config::{Credential, Live, TokenCache};
use crate::fleet::Fleet;
use crate::inbound::tls::CertificateReloader;
use crate::observe::metrics::Metrics;
use crate::site;
use crate::site::agent::Agent;
use crate::site::api::HttpApi;
use crate::site::shared_regions;
use crate::state::Shared;
use crate::state::published::Published;
use crate::system::clock::Clock;
use crate::system::files::FileReader;
use crate::token::cache::Cache;
use crate::token::issuer::HttpIssuer;
use crate::token::keeper::{Keeper, KeeperContext, KeeperSettings};
use crate::token::login_gate::LoginGates;
use crate::token::metrics::TokenMetrics;
use crate::token::slot::TokenSlot;
use crate::upstream::control_plane::{ControlClient, SharedControlClient};
use crate::upstream::dial::DialConfig;

/// The running tasks, which end when this is dropped.
pub(super) struct Control {
    tasks: JoinSet<Infallible>,
    keepers: Vec<KeeperTask>,
    agents: Vec<AgentTask>,
    token_metrics: TokenMetrics,
    client: SharedControlClient,
    clock: Clock,
    cache: Option<(TokenCache, Cache)>,
    egress: Option<AbortHandle>,
    files: FileReader,
    login_gates: LoginGates,
    fleet: Option<Arc<Fleet>>,
}

struct KeeperTask {
    slot: Arc<TokenSlot>,
    customer: String,
    settings: watch::Sender<KeeperSettings>,
    task: AbortHandle,
}

struct AgentTask {
    site: Arc<site::slot::SiteSlot>,
    token: Arc<TokenSlot>,
    request_timeout: Duration,
    task: AbortHandle,
}

impl Control {
    /// Starts no task.
    ///
    /// # Errors
    /// When the metrics are already registered.
    pub(super) fn new(
        metrics: &Metrics,
        client: SharedControlClient,
        files: FileReader,
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
            files,
            login_gates: LoginGates::default(),
            fleet: None,
        })
    }

    /// Shares what tasks that start from now on learn with other replicas.
    pub(super) fn share_logins(&mut self, fleet: Option<Arc<Fleet>>) {
        self.fleet = fleet;
    }

    /// Starts the reload of certificates.
    pub(super) fn run(&mut self, reloader: CertificateReloader) {
        self.tasks.spawn(reloader.run());
    }

    /// Shares the regions of customers with other replicas, if there is a fleet.
    pub(super) fn share_regions(&mut self, shared: &Arc<Shared>) {
        if let Some(fleet) = self.fleet.clone() {
            self.tasks
                .spawn(shared_regions::share(fleet, Arc::clone(shared)));
        }
    }

    /// Runs the task that describes this replica to others.
    pub(super) fn announce(&mut self, task: impl Future<Output = Infallible> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Follows the egress proxy's URL of this configuration instead of the previous one.
    pub(super) fn follow_egress(&mut self, dial_config: &DialConfig) {
        if let Some(proxy) = dial_config.egress().proxy() {
            tracing::info!(%proxy, "connections to Citrix use the egress proxy");
        }
        let follow = dial_config.clone().follow(self.files.clone());
        if let Some(previous) = self.egress.replace(self.tasks.spawn(follow)) {
            previous.abort();
        }
    }

    /// Starts and stops tasks so that they match the published customers. Those that remain get the
    /// new settings.
    pub(super) fn apply(&mut self, published: &Published) {
        let live = &published.live;
        self.update_cache(live.token_cache.as_ref());
        let cache = self.cache.as_ref().map(|(_, cache)| cache.clone());
        let mut keepers = std::mem::take(&mut self.keepers);
        let mut agents = std::mem::take(&mut self.agents);
        let mut new = Vec::new();
        for customer in &published.customers {
            let (credential, token, site) = (&customer.credential, &customer.token, &customer.site);
            let settings = KeeperSettings::new(credential, live.token, cache.clone());
            match take(&mut keepers, |keeper| Arc::ptr_eq(&keeper.slot, token)) {
                Some(keeper) => {
                    keeper.settings.send_replace(settings);
                    self.keepers.push(keeper);
                }
                None => new.push((credential, token, settings)),
            }
            let timeout = live.token.request_timeout;
            let is_same = |agent: &AgentTask| {
                Arc::ptr_eq(&agent.site, site)
                    && Arc::ptr_eq(&agent.token, token)
                    && agent.request_timeout == timeout
            };
            let agent = take(&mut agents, is_same)
                .unwrap_or_else(|| self.start_agent(credential, site, token, timeout));
            self.agents.push(agent);
        }
        for agent in agents {
            agent.task.abort();
        }
        for keeper in keepers {
            keeper.task.abort();
            self.token_metrics.forget(&keeper.customer);
        }
        // Afterwards, because a customer may have a stopped keeper and a new one.
        for (credential, token, settings) in new {
            let keeper = self.start_keeper(credential, token, settings);
            self.keepers.push(keeper);
        }
    }

    /// Replaces the token cache if its settings have changed.
    fn update_cache(&mut self, settings: Option<&TokenCache>) {
        if self.cache.as_ref().map(|(settings, _)| settings) != settings {
            self.cache = settings.map(|settings| (settings.clone(), Cache::new(settings)));
        }
    }

    fn start_keeper(
        &mut self,
        credential: &Arc<Credential>,
        slot: &Arc<TokenSlot>,
        settings: KeeperSettings,
    ) -> KeeperTask {
        let customer = credential.customer().to_owned();
        let (metrics, issuer) = (
            self.token_metrics.customer(&customer),
            HttpIssuer::with_shared(self.client.clone(), self.clock),
        );
        slot.acceptance()
            .set_metrics(self.token_metrics.rejections(&customer));
        let context = KeeperContext {
            clock: self.clock,
            files: self.files.clone(),
            logins: self.login_gates.of(&credential.token_url),
            fleet: self.fleet.clone(),
        };
        let (settings, receiver) = watch::channel(settings);
        let keeper = Keeper::new(
            Arc::clone(credential),
            receiver,
            Arc::clone(slot),
            issuer,
            metrics,
            context,
        );
        KeeperTask {
            slot: Arc::clone(slot),
            customer,
            settings,
            task: self.tasks.spawn(keeper.run()),
        }
    }

    fn start_agent(
        &mut self,
        credential: &Credential,
        site: &Arc<site::slot::SiteSlot>,
        token: &Arc<TokenSlot>,
        request_timeout: Duration,
    ) -> AgentTask {
        let (site, token) = (Arc::clone(site), Arc::clone(token));
        let ids = self.fleet.as_ref().map(|fleet| fleet.ids());
        let api = HttpApi::new(self.client.clone(), ids.unwrap_or_default());
        let agent = Agent::new(
            credential,
            Arc::clone(&site),
            Arc::clone(&token),
            api,
            self.clock,
            request_timeout,
        )
        .with_fleet(self.fleet.clone());
        AgentTask {
            site,
            token,
            request_timeout,
            task: self.tasks.spawn(agent.serve()),
        }
    }

    /// Waits until a task has panicked.
    pub(super) async fn failed(&mut self) -> JoinError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                // Stopped by `apply` or `follow_egress`.
                Err(error) if error.is_cancelled() => {}
                Err(error) => return error,
                Ok(never) => match never {},
            }
        }
        pending().await
    }
}

fn take<T>(from: &mut Vec<T>, matches: impl Fn(&T) -> bool) -> Option<T> {
    let index = from.iter().position(matches)?;
    Some(from.swap_remove(index))
}

/// Returns the client of keepers and agents.
pub(super) fn client(live: &Live, dial_config: &DialConfig) -> ControlClient {
    ControlClient::new(dial_config.clone(), live.token.request_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use citrix_wire::transaction_id::IdGenerator;

    fn control() -> Control {
        let client = ControlClient::new(DialConfig::unreachable(), Duration::from_secs(1));
        let metrics = Metrics::new(1).unwrap();
        let files = FileReader::register(metrics.registry()).unwrap();
        Control::new(&metrics, client.into(), files, Clock::SYSTEM).unwrap()
    }

    /// A thousand customers fit in 50 MB (docs/sizing.md). Of each remain, besides these, its token
    /// and its parts of the configuration.
    #[tokio::test]
    async fn idle_tasks_of_a_customer_take_at_most_2500_bytes() {
        let text =
            "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = { env = 'S' }\n";
        let config = config::from_toml(text, [("S".to_owned(), "s".to_owned())]).unwrap();
        let credential = &config.live.credentials[0];
        let control = control();
        let settings = KeeperSettings::new(credential, config.live.token, None);
        let slot = Arc::new(TokenSlot::new());
        let keeper = Keeper::new(
            Arc::clone(credential),
            watch::channel(settings).1,
            Arc::clone(&slot),
            HttpIssuer::with_shared(control.client.clone(), Clock::SYSTEM),
            control.token_metrics.customer("acme"),
            KeeperContext {
                clock: Clock::SYSTEM,
                files: control.files.clone(),
                logins: Arc::default(),
                fleet: None,
            },
        );
        let agent = Agent::new(
            credential,
            Arc::default(),
            slot,
            HttpApi::new(control.client.clone(), IdGenerator::default()),
            Clock::SYSTEM,
            Duration::from_secs(1),
        );
        let keeper = size_of_val(&keeper) + size_of_val(&keeper.run());
        let agent = size_of_val(&agent) + size_of_val(&agent.serve());
        assert!(keeper + agent <= 2500, "{keeper} and {agent} bytes");
    }

    #[tokio::test]
    async fn aborted_task_is_no_failure_and_panicked_task_is_one() {
        let mut control = control();
        control.tasks.spawn(pending()).abort();
        control.tasks.spawn(async { panic!("a bug") });
        assert!(control.failed().await.is_panic());
        assert!(control.tasks.is_empty());
    }
}
