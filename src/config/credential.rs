//! How a customer logs in, and where its requests go.

use http::{HeaderValue, Uri};

use super::{SecretSource, UpstreamEndpoint};
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::clouds::Cloud;

/// How one customer logs in.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Citrix's customer id, as it is sent in `Citrix-CustomerId`.
    pub customer_id: HeaderValue,
    /// Whose hosts are the customer's.
    pub cloud: Cloud,
    /// The API gateway that the customer's requests go to.
    pub api: UpstreamEndpoint,
    /// The API client's id.
    pub client_id: String,
    /// The API client's secret.
    pub client_secret: SecretSource,
    /// The second secret of a rotation.
    pub client_secret_next: Option<SecretSource>,
    /// Where the site id for `Citrix-InstanceId` comes from.
    pub instance_id: InstanceId,
    /// The token endpoint.
    pub token_url: Uri,
    /// What it speaks.
    pub token_dialect: TokenDialect,
}

impl Credential {
    /// The customer id as text (it was checked to be visible ASCII).
    pub fn customer(&self) -> &str {
        self.customer_id.to_str().unwrap_or_default()
    }

    /// Whether a token of `other` is one of this: the same client of the same customer, at the same endpoint. Its
    /// secret may be another.
    pub fn shares_token_with(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id
            && self.client_id == other.client_id
            && self.token_url == other.token_url
            && self.token_dialect == other.token_dialect
    }

    /// Whether what is known of the site of `other` is true of this one's.
    pub fn shares_site_with(&self, other: &Self) -> bool {
        self.customer_id == other.customer_id && self.api == other.api
    }
}

/// Where `Citrix-InstanceId` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceId {
    /// Asked of Citrix when first needed.
    Auto,
    /// None is sent.
    None,
    /// This one.
    Fixed(HeaderValue),
}
