//! State of the gateway's own token endpoints, shared by all workers.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::gateway_token::Signer;
use super::throttle::AuthThrottle;
use crate::limit::owner::{Resource, ResourceKind};

/// State of the gateway's own token endpoints.
pub struct LoginEndpoints {
    /// The signer where neither `login.signing_key` nor `fleet.key` is set.
    fallback_signer: Signer,
    /// The throttle of all requests with a bad secret.
    pub(crate) throttle: AuthThrottle,
    /// Logins whose body is being read.
    pub(crate) body_reads: Arc<Resource>,
    pub(crate) outcomes: LoginOutcomes,
}

/// Counters of `logins_total`, one per value of the label `outcome`.
pub(crate) struct LoginOutcomes {
    pub(crate) ok: IntCounter,
    pub(crate) invalid_client: IntCounter,
    pub(crate) malformed: IntCounter,
    pub(crate) refused: IntCounter,
}

/// An error that prevents the start of the token endpoints.
#[derive(Debug, thiserror::Error)]
pub enum LoginEndpointsError {
    /// The signing key cannot be generated.
    #[error("the system has no randomness for a signing key")]
    Randomness(#[from] Unspecified),
    /// A metric is registered already (a bug).
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl LoginEndpoints {
    /// Generates a signing key for this process and registers the metrics.
    ///
    /// # Errors
    /// If the system has no randomness, or the metrics are registered already.
    pub fn new(registry: &Registry) -> Result<Self, LoginEndpointsError> {
        let help = "Logins at the gateway's token endpoints by outcome.";
        let options = Opts::new("citrix_auth_proxy_logins_total", help);
        let logins = IntCounterVec::new(options, &["outcome"])?;
        registry.register(Box::new(logins.clone()))?;
        let outcome = |name| logins.with_label_values(&[name]);
        Ok(Self {
            fallback_signer: Signer::random()?,
            throttle: AuthThrottle::new(registry)?,
            body_reads: Resource::new(ResourceKind::Logins),
            outcomes: LoginOutcomes {
                ok: outcome("ok"),
                invalid_client: outcome("invalid_client"),
                malformed: outcome("malformed"),
                refused: outcome("refused"),
            },
        })
    }

    /// Returns the signer with a configured key, else the one with this process's own key.
    pub fn signer<'s>(&'s self, configured: Option<&'s Signer>) -> &'s Signer {
        configured.unwrap_or(&self.fallback_signer)
    }
}
