//! Asks Citrix about one customer's site when somebody needs it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::uri::InvalidUri;
use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::{info, warn};

use super::api::{Api, ApiRequest, ApiResponse};
use super::response::{self, Sites};
use super::slot::{PAUSE, Site, SiteSlot};
use crate::config::Credential;
use crate::system::clock::Clock;
use crate::token::slot::{ForcedRefresh, Token, TokenSlot};
use citrix_wire::citrix::{AuthorizationScheme, SITE_FROZEN};
use citrix_wire::form;

/// The least time between two requests to wake a site up (interface §4.4).
const BETWEEN_ACTIVATIONS: Duration = Duration::from_secs(60);

/// The task that asks for one customer. It asks only when it is told to: a customer that nobody uses costs nothing.
#[derive(Debug)]
pub struct Agent<A> {
    customer_id: HeaderValue,
    /// The API gateway's base URL, without a slash at the end.
    gateway: String,
    authorization: AuthorizationScheme,
    site: Arc<SiteSlot>,
    token: Arc<TokenSlot>,
    api: A,
    clock: Clock,
    /// For a token, where there is none.
    patience: Duration,
    activated: Option<Instant>,
    /// The last answer was a 401.
    unauthorized: bool,
}

impl<A: Api> Agent<A> {
    /// An agent that fills `site`. It does nothing until [`Agent::serve`] is polled. `patience` bounds the wait for
    /// a token.
    pub fn new(
        credential: &Credential,
        site: Arc<SiteSlot>,
        token: Arc<TokenSlot>,
        api: A,
        clock: Clock,
        patience: Duration,
    ) -> Self {
        Self {
            customer_id: credential.customer_id.clone(),
            gateway: credential.api.url.to_string(),
            authorization: credential.api.authorization,
            site,
            token,
            api,
            clock,
            patience,
            activated: None,
            unauthorized: false,
        }
    }

    /// Asks when asked, for ever. What fails is logged, and tried again when it is needed again.
    pub async fn serve(mut self) -> Infallible {
        let site = Arc::clone(&self.site);
        loop {
            tokio::select! {
                () = site.wanted() => self.find().await,
                () = site.seen_frozen() => self.activate().await,
            }
        }
    }

    fn customer(&self) -> &str {
        self.customer_id.to_str().unwrap_or_default()
    }

    async fn find(&mut self) {
        let sites = self.sites().await;
        let customer = self.customer();
        let again = PAUSE.as_secs();
        let site = match sites {
            Ok(Sites::One(id)) => {
                info!(
                    customer,
                    site = id.to_str().unwrap_or_default(),
                    "found the customer's site"
                );
                Site::Known(id)
            }
            Ok(Sites::Several(ids)) => {
                warn!(
                    customer,
                    sites = ids.join(", "),
                    "the customer has several sites; requests must say which in Citrix-InstanceId, or the \
                     configuration in instance_id"
                );
                Site::Several(ids.into())
            }
            Ok(Sites::None) => {
                warn!(
                    customer,
                    "the customer has no site; Citrix is asked again in {again} s at the earliest"
                );
                Site::Unknown
            }
            Err(cause) => {
                warn!(
                    customer,
                    cause,
                    "the customer's site is not found; Citrix-InstanceId is not added, and Citrix asked again in \
                     {again} s at the earliest"
                );
                Site::Unknown
            }
        };
        self.site.publish(site);
    }

    async fn sites(&mut self) -> Result<Sites, String> {
        let url = self.url("/cvad/manage/me")?;
        let reply = self.call(Method::GET, url).await?;
        match reply.status {
            StatusCode::OK => response::parse(self.customer(), &reply.body)
                .ok_or_else(|| told(&reply, "GET /cvad/manage/me in an unknown shape")),
            status => {
                if status.as_u16() == SITE_FROZEN {
                    self.site.report_frozen();
                }
                Err(told(&reply, "GET /cvad/manage/me"))
            }
        }
    }

    /// Asks Citrix to wake the site up, unless that was done a moment ago.
    async fn activate(&mut self) {
        if self
            .activated
            .is_some_and(|at| at.elapsed() < BETWEEN_ACTIVATIONS)
        {
            return;
        }
        self.activated = Some(Instant::now());
        let outcome = self.request_activation().await;
        let customer = self.customer();
        match outcome {
            Ok(()) => info!(
                customer,
                "Citrix froze the customer's site; its activation is under way"
            ),
            Err(cause) => warn!(
                customer,
                cause, "Citrix froze the customer's site and did not activate it"
            ),
        }
    }

    async fn request_activation(&mut self) -> Result<(), String> {
        let customer = self.customer();
        let mut path =
            format!("/resourceprovider/{customer}/site/activation?customerId=").into_bytes();
        form::encode(customer, &mut path);
        let url = self.url(&String::from_utf8_lossy(&path))?;
        let reply = self.call(Method::POST, url).await?;
        match reply.status {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            _ => Err(told(&reply, "the activation")),
        }
    }

    fn url(&self, path: &str) -> Result<Uri, String> {
        format!("{}{path}", self.gateway)
            .parse()
            .map_err(|error: InvalidUri| error.to_string())
    }

    /// One request; twice, if Citrix answers 401 and there is a newer token then. A login is asked for only after
    /// another answer than 401: what refuses fresh tokens as well must not cost a login each time.
    async fn call(&mut self, method: Method, url: Uri) -> Result<ApiResponse, String> {
        let token = self
            .token
            .wait_usable(self.clock, self.patience)
            .await
            .map_err(|e| e.reason)?;
        let reply = self.call_with(&token, &method, &url).await?;
        if reply.status != StatusCode::UNAUTHORIZED
            || std::mem::replace(&mut self.unauthorized, true)
        {
            self.unauthorized = reply.status == StatusCode::UNAUTHORIZED;
            return Ok(reply);
        }
        if let ForcedRefresh::Deferred(_) = self.token.report_rejected(token.generation()) {
            return Ok(reply);
        }
        let newer = self
            .token
            .wait_newer(token.generation(), self.clock, self.patience)
            .await;
        let newer = newer.map_err(|e| e.reason)?;
        let reply = self.call_with(&newer, &method, &url).await?;
        self.unauthorized = reply.status == StatusCode::UNAUTHORIZED;
        Ok(reply)
    }

    async fn call_with(
        &self,
        token: &Token,
        method: &Method,
        url: &Uri,
    ) -> Result<ApiResponse, String> {
        let call = ApiRequest {
            method: method.clone(),
            url: url.clone(),
            authorization: token.authorization(self.authorization).clone(),
            customer_id: self.customer_id.clone(),
        };
        self.api.call(call).await.map_err(|error| error.to_string())
    }
}

/// An answer that says no, for the log; nothing of its body.
fn told(reply: &ApiResponse, what: &str) -> String {
    let id = reply.transaction_id.to_str().unwrap_or_default();
    format!(
        "Citrix answered {} to {what} (transaction id {id})",
        reply.status.as_u16()
    )
}

#[cfg(test)]
mod tests;
