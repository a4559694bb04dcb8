//! Customers: their API client and API gateway.

use http::{HeaderValue, Uri};

use super::{SecretSource, UpstreamEndpoint};
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::clouds::Cloud;

/// One customer with its API client.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The customer id, as sent in `Citrix-CustomerId`.
    pub customer_id: HeaderValue,
    /// The cloud that selects hosts and defaults.
    pub cloud: Cloud,
    /// The customer's API gateway.
    pub api: UpstreamEndpoint,
    /// The API client's id.
    pub client_id: String,
    /// The API client's secret.
    pub client_secret: SecretSource,
    /// The second secret during a rotation.
    pub client_secret_next: Option<SecretSource>,
    /// The site id for `Citrix-InstanceId`.
    pub instance_id: InstanceId,
    pub token_url: Uri,
    /// The format of token requests.
    pub token_dialect: TokenDialect,
}

impl Credential {
    /// Returns the customer id as text; it is visible ASCII.
    pub fn customer(&self) -> &str {
        self.customer_id.to_str().unwrap_or_default()
    }

    /// Returns `true` if a token of `other` is valid for this credential: same customer, client and
    /// endpoint. The secret may differ.
    pub fn shares_token_with(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id
            && self.client_id == other.client_id
            && self.token_url == other.token_url
            && self.token_dialect == other.token_dialect
    }

    /// Returns `true` if the site looked up for `other` is also the site of this credential.
    pub fn shares_site_with(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id && self.api == other.api
    }
}

/// The source of `Citrix-InstanceId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceId {
    /// Looked up at Citrix when first needed.
    Auto,
    /// The header is not added.
    None,
    /// The configured site id.
    Fixed(HeaderValue),
}
