//! The task that looks up one customer's site and requests its activation.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::uri::InvalidUri;
use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::{info, warn};

use super::api::{Api, ApiRequest, ApiResponse};
use super::response::{self, Sites};
use super::slot::{RETRY_INTERVAL, Site, SiteSlot};
use crate::config::Credential;
use crate::fleet::Fleet;
use crate::fleet::facts::SiteFacts;
use crate::system::clock::Clock;
use crate::token::slot::{ForcedRefresh, Token, TokenSlot};
use citrix_wire::citrix::{AuthorizationScheme, SITE_FROZEN};
use citrix_wire::form;

/// Minimum time between two activation requests (interface §4.4).
const ACTIVATION_INTERVAL: Duration = Duration::from_secs(60);

/// The site agent of one customer. It sends requests on demand only, so an unused customer costs
/// nothing.
#[derive(Debug)]
pub struct Agent<A> {
    customer_id: HeaderValue,
    /// Base URL of the API gateway, without a trailing slash.
    gateway: String,
    authorization: AuthorizationScheme,
    site: Arc<SiteSlot>,
    token: Arc<TokenSlot>,
    api: A,
    clock: Clock,
    token_timeout: Duration,
    /// Facts about the site that replicas share.
    facts: Option<Box<SiteFacts>>,
    last_activation: Option<Instant>,
    /// The last response was a 401.
    unauthorized: bool,
}

impl<A: Api> Agent<A> {
    /// Returns an agent that publishes to `site`. It is idle until [`Agent::serve`] is polled.
    /// `token_timeout` bounds the wait for a token.
    pub fn new(
        credential: &Credential,
        site: Arc<SiteSlot>,
        token: Arc<TokenSlot>,
        api: A,
        clock: Clock,
        token_timeout: Duration,
    ) -> Self {
        Self {
            customer_id: credential.customer_id.clone(),
            gateway: credential.api.url.to_string(),
            authorization: credential.api.authorization,
            site,
            token,
            api,
            clock,
            token_timeout,
            facts: None,
            last_activation: None,
            unauthorized: false,
        }
    }

    /// Shares what is found with other replicas.
    pub fn with_fleet(mut self, fleet: Option<Arc<Fleet>>) -> Self {
        self.facts = fleet.map(|fleet| {
            let facts = SiteFacts::new(fleet, self.customer(), &self.gateway);
            Box::new(facts)
        });
        self
    }

    /// Serves lookups and activations. A failure is logged and retried on the next demand.
    pub fn serve(self) -> impl Future<Output = Infallible> {
        // Boxed, because the future would reserve space for the argument and for the variable.
        let mut this = Box::new(self);
        async move { this.run().await }
    }

    async fn run(&mut self) -> Infallible {
        let site = Arc::clone(&self.site);
        loop {
            // Boxed: the task rests most of the time, one for each customer.
            tokio::select! {
                () = site.lookup_wanted() => Box::pin(self.find()).await,
                () = site.reported_frozen() => Box::pin(self.activate()).await,
            }
        }
    }

    fn customer(&self) -> &str {
        self.customer_id.to_str().unwrap_or_default()
    }

    async fn find(&mut self) {
        if let Some(id) = self.shared_site().await {
            let (customer, site) = (self.customer(), id.to_str().unwrap_or_default());
            info!(customer, site, "site found by another replica");
            self.site.publish(Site::Known(id));
            return;
        }
        let sites = self.look_up().await;
        if let (Some(facts), Ok(Sites::One(id))) = (&self.facts, &sites) {
            facts.set_site(id.to_str().unwrap_or_default()).await;
        }
        let customer = self.customer();
        let next_lookup_in_s = RETRY_INTERVAL.as_secs();
        let site = match sites {
            Ok(Sites::One(id)) => {
                info!(
                    customer,
                    site = id.to_str().unwrap_or_default(),
                    "site found"
                );
                Site::Known(id)
            }
            Ok(Sites::Several(ids)) => {
                warn!(
                    customer,
                    sites = ids.join(", "),
                    "several sites found; requests need Citrix-InstanceId, or the configuration instance_id"
                );
                Site::Several(ids.into())
            }
            Ok(Sites::None) => {
                warn!(
                    customer,
                    next_lookup_in_s, "no site found; Citrix-InstanceId not added"
                );
                Site::Unknown
            }
            Err(cause) => {
                warn!(
                    customer,
                    cause, next_lookup_in_s, "site lookup failed; Citrix-InstanceId not added"
                );
                Site::Unknown
            }
        };
        self.site.publish(site);
    }

    async fn shared_site(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.facts.as_ref()?.site().await?).ok()
    }

    async fn look_up(&mut self) -> Result<Sites, String> {
        const REQUEST: &str = "GET /cvad/manage/me";
        let url = self.url("/cvad/manage/me")?;
        let response = self.call(Method::GET, url).await?;
        match response.status {
            StatusCode::OK => response::parse(self.customer(), &response.body)
                .ok_or_else(|| failure(&response, REQUEST, " in an unknown format")),
            status => {
                if status.as_u16() == SITE_FROZEN {
                    self.site.report_frozen();
                }
                Err(failure(&response, REQUEST, ""))
            }
        }
    }

    /// Requests the site's activation, at most once per [`ACTIVATION_INTERVAL`] and fleet.
    async fn activate(&mut self) {
        if self
            .last_activation
            .is_some_and(|at| at.elapsed() < ACTIVATION_INTERVAL)
        {
            return;
        }
        self.last_activation = Some(Instant::now());
        if let Some(facts) = &self.facts
            && !facts.may_activate(ACTIVATION_INTERVAL).await
        {
            let customer = self.customer();
            info!(
                customer,
                "site frozen; another replica requested activation"
            );
            return;
        }
        let result = self.request_activation().await;
        let customer = self.customer();
        match result {
            Ok(()) => info!(customer, "site frozen; activation requested"),
            Err(cause) => warn!(customer, cause, "site frozen; activation request failed"),
        }
    }

    async fn request_activation(&mut self) -> Result<(), String> {
        let customer = self.customer();
        let mut path =
            format!("/resourceprovider/{customer}/site/activation?customerId=").into_bytes();
        form::encode(customer, &mut path);
        let url = self.url(&String::from_utf8_lossy(&path))?;
        let response = self.call(Method::POST, url).await?;
        match response.status {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            _ => Err(failure(&response, "POST /site/activation", "")),
        }
    }

    fn url(&self, path: &str) -> Result<Uri, String> {
        format!("{}{path}", self.gateway)
            .parse()
            .map_err(|error: InvalidUri| error.to_string())
    }

    /// Sends a request, and replays it after a 401 if a newer token can be obtained. Consecutive
    /// 401s force no login, because a permission problem must not cost a login per request.
    async fn call(&mut self, method: Method, url: Uri) -> Result<ApiResponse, String> {
        let token = self
            .token
            .wait_usable(self.clock, self.token_timeout)
            .await
            .map_err(|unavailable| unavailable.reason)?;
        let response = self.send(&token, &method, &url).await?;
        if response.status != StatusCode::UNAUTHORIZED
            || std::mem::replace(&mut self.unauthorized, true)
        {
            self.unauthorized = response.status == StatusCode::UNAUTHORIZED;
            return Ok(response);
        }
        if let ForcedRefresh::Deferred(_) = self.token.report_rejected(token.generation()) {
            return Ok(response);
        }
        let newer = self
            .token
            .wait_newer(token.generation(), self.clock, self.token_timeout)
            .await
            .map_err(|unavailable| unavailable.reason)?;
        let response = self.send(&newer, &method, &url).await?;
        self.unauthorized = response.status == StatusCode::UNAUTHORIZED;
        Ok(response)
    }

    async fn send(&self, token: &Token, method: &Method, url: &Uri) -> Result<ApiResponse, String> {
        let request = ApiRequest {
            method: method.clone(),
            url: url.clone(),
            authorization: token.authorization(self.authorization).clone(),
            customer_id: self.customer_id.clone(),
        };
        self.api
            .call(request)
            .await
            .map_err(|error| error.to_string())
    }
}

/// Describes a response for the log, without its body.
fn failure(response: &ApiResponse, request: &str, detail: &str) -> String {
    let id = response.transaction_id.to_str().unwrap_or_default();
    let status = response.status.as_u16();
    format!("{request} returned {status}{detail} (transaction id {id})")
}

#[cfg(test)]
mod tests;
