//! State of the gateway's own token endpoints, shared by all workers.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::gateway_token::Signer;
use super::throttle::AuthThrottle;
use crate::limit::permits::PermitCounter;

/// What all workers share of logins.
pub struct LoginEndpoints {
    /// Signs where no `login.signing_key` is configured.
    own: Signer,
    pub(crate) throttle: AuthThrottle,
    pub(crate) being_read: Arc<PermitCounter>,
    pub(crate) outcomes: LoginOutcomes,
}

/// How logins ended: the values of the label `outcome` of `logins_total`.
pub(crate) struct LoginOutcomes {
    pub(crate) ok: IntCounter,
    pub(crate) invalid_client: IntCounter,
    pub(crate) malformed: IntCounter,
    pub(crate) refused: IntCounter,
}

/// Why the endpoints cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum LoginEndpointsError {
    /// No key for tokens.
    #[error("the system has no randomness for a signing key")]
    Randomness(#[from] Unspecified),
    /// A metric registered twice: a mistake of ours.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl LoginEndpoints {
    /// With a key of this process alone.
    ///
    /// # Errors
    /// Without randomness, or when the registry has these metrics already.
    pub fn new(registry: &Registry) -> Result<Self, LoginEndpointsError> {
        let help = "LoginEndpoints at the gateway's own token endpoints, by how they ended.";
        let options = Opts::new("citrix_auth_proxy_logins_total", help);
        let logins = IntCounterVec::new(options, &["outcome"])?;
        registry.register(Box::new(logins.clone()))?;
        let outcome = |name| logins.with_label_values(&[name]);
        Ok(Self {
            own: Signer::random()?,
            throttle: AuthThrottle::new(registry)?,
            being_read: Arc::default(),
            outcomes: LoginOutcomes {
                ok: outcome("ok"),
                invalid_client: outcome("invalid_client"),
                malformed: outcome("malformed"),
                refused: outcome("refused"),
            },
        })
    }

    /// The configured signer, or the one with this process's own key.
    pub fn signer<'s>(&'s self, configured: Option<&'s Signer>) -> &'s Signer {
        configured.unwrap_or(&self.own)
    }
}
