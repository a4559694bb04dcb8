//! Citrix's clouds with their hosts and token endpoints (contract §1.6).
//!
//! These are presets; the configuration can override each of them.

use super::TokenDialect;

/// One of Citrix's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Worldwide API gateway, which routes to the customer's region.
    Commercial,
    /// Region United States.
    Us,
    /// Region European Union.
    Eu,
    /// Region Asia Pacific South.
    ApS,
    /// Japan, a separate cloud.
    Japan,
    /// US Government, a separate cloud with only the legacy token endpoint.
    Gov,
}

impl Cloud {
    /// All clouds with their names in a configuration.
    pub const ALL: [(&'static str, Self); 6] = [
        ("commercial", Self::Commercial),
        ("us", Self::Us),
        ("eu", Self::Eu),
        ("ap-s", Self::ApS),
        ("japan", Self::Japan),
        ("gov", Self::Gov),
    ];

    /// Returns the name in a configuration.
    pub fn name(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, cloud)| *cloud == self)
            .map_or("", |(name, _)| name)
    }

    /// Returns the base URL of the API gateway, without a trailing slash.
    pub const fn api_url(self) -> &'static str {
        match self {
            Self::Commercial => "https://api.cloud.com",
            Self::Us => "https://api-us.cloud.com",
            Self::Eu => "https://api-eu.cloud.com",
            Self::ApS => "https://api-ap-s.cloud.com",
            Self::Japan => "https://api.citrixcloud.jp",
            Self::Gov => "https://api.cloud.us",
        }
    }

    /// Returns the host of the API gateway.
    pub fn api_host(self) -> &'static str {
        self.api_url().trim_start_matches("https://")
    }

    /// Returns the parent domain of the classic hosts, `{service}.{domain}` (contract §1.6, §4).
    pub const fn classic_domain(self) -> &'static str {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => "citrixworkspacesapi.net",
            Self::Japan => "citrixworkspacesapi.jp",
            Self::Gov => "citrixworkspacesapi.us",
        }
    }

    /// Returns the parent domain of the customers' direct hosts, `{customer}.{domain}`.
    pub const fn direct_domain(self) -> &'static str {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => "xendesktop.net",
            Self::Japan => "apps.citrixworkspacesapi.jp",
            Self::Gov => "xendesktop.us",
        }
    }

    /// Returns the URL of Workspace Environment Management; none is documented for US Government.
    pub const fn wem_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us => Some("https://api.wem.cloud.com"),
            Self::Eu => Some("https://eu-api.wem.cloud.com"),
            Self::ApS => Some("https://aps-api.wem.cloud.com"),
            Self::Japan => Some("https://jp-api.wem.citrixcloud.jp"),
            Self::Gov => None,
        }
    }

    /// Returns the URL of the App Layering API, documented only for the commercial regions.
    pub const fn app_layering_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us => Some("https://us.workstreams.cloud.com"),
            Self::Eu => Some("https://eu.workstreams.cloud.com"),
            Self::ApS => Some("https://ap-s.workstreams.cloud.com"),
            Self::Japan | Self::Gov => None,
        }
    }

    /// Returns the URL of a host that all commercial regions share; other clouds are not known to
    /// have it.
    pub const fn if_commercial(self, url: &'static str) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => Some(url),
            Self::Japan | Self::Gov => None,
        }
    }

    /// Returns the regions with their names in paths: those that accept tokens of this cloud.
    pub const fn regions(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => {
                &[("us", Self::Us), ("eu", Self::Eu), ("ap-s", Self::ApS)]
            }
            Self::Japan | Self::Gov => &[],
        }
    }

    /// Returns the clouds whose API gateways accept tokens of this cloud, including itself.
    pub const fn gateways(self) -> &'static [Self] {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => {
                &[Self::Commercial, Self::Us, Self::Eu, Self::ApS]
            }
            Self::Japan => &[Self::Japan],
            Self::Gov => &[Self::Gov],
        }
    }

    /// Returns the token endpoint that clients are known to use.
    pub const fn token_dialect(self) -> TokenDialect {
        match self {
            Self::Gov => TokenDialect::Trust,
            Self::Commercial | Self::Us | Self::Eu | Self::ApS | Self::Japan => {
                TokenDialect::Oauth2
            }
        }
    }

    /// Returns the host of the trust service, which has only a token endpoint.
    pub const fn trust_host(self) -> &'static str {
        match self {
            Self::Gov => "trust.citrixworkspacesapi.us",
            // No trust host of Japan is documented.
            Self::Commercial | Self::Us | Self::Eu | Self::ApS | Self::Japan => {
                "trust.citrixworkspacesapi.net"
            }
        }
    }

    /// Returns the default token URL of a customer.
    ///
    /// `api_origin` is scheme, host and port of the API gateway in use, [`Self::api_url`] or an
    /// override: the OAuth2 endpoint is on the same host, so that credentials for a staging gateway
    /// never reach production. The trust service has a separate host and uses the customer `root`.
    pub fn token_url(self, api_origin: &str, customer_id: &str, dialect: TokenDialect) -> String {
        match dialect {
            TokenDialect::Oauth2 => {
                format!("{api_origin}/cctrustoauth2/{customer_id}/tokens/clients")
            }
            TokenDialect::Trust => format!("https://{}/root/tokens/clients", self.trust_host()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_1_6_each_cloud_has_its_api_and_token_url() {
        let oauth2 = "/cctrustoauth2/acme/tokens/clients";
        let table = [
            (
                "commercial",
                "https://api.cloud.com",
                format!("https://api.cloud.com{oauth2}"),
            ),
            (
                "us",
                "https://api-us.cloud.com",
                format!("https://api-us.cloud.com{oauth2}"),
            ),
            (
                "eu",
                "https://api-eu.cloud.com",
                format!("https://api-eu.cloud.com{oauth2}"),
            ),
            (
                "ap-s",
                "https://api-ap-s.cloud.com",
                format!("https://api-ap-s.cloud.com{oauth2}"),
            ),
            (
                "japan",
                "https://api.citrixcloud.jp",
                format!("https://api.citrixcloud.jp{oauth2}"),
            ),
            (
                "gov",
                "https://api.cloud.us",
                "https://trust.citrixworkspacesapi.us/root/tokens/clients".to_owned(),
            ),
        ];
        assert_eq!(table.len(), Cloud::ALL.len());
        for ((name, api_url, token_url), (known, cloud)) in table.into_iter().zip(Cloud::ALL) {
            assert_eq!(known, name);
            assert_eq!(cloud.api_url(), api_url, "{name}");
            assert_eq!(format!("https://{}", cloud.api_host()), api_url, "{name}");
            assert_eq!(
                cloud.token_url(cloud.api_url(), "acme", cloud.token_dialect()),
                token_url,
                "{name}"
            );
        }
    }

    #[test]
    fn contract_1_6_each_cloud_has_its_other_hosts() {
        let net = ("citrixworkspacesapi.net", "xendesktop.net");
        let table = [
            ("commercial", net, Some("https://api.wem.cloud.com"), 3),
            ("us", net, Some("https://api.wem.cloud.com"), 3),
            ("eu", net, Some("https://eu-api.wem.cloud.com"), 3),
            ("ap-s", net, Some("https://aps-api.wem.cloud.com"), 3),
            (
                "japan",
                ("citrixworkspacesapi.jp", "apps.citrixworkspacesapi.jp"),
                Some("https://jp-api.wem.citrixcloud.jp"),
                0,
            ),
            ("gov", ("citrixworkspacesapi.us", "xendesktop.us"), None, 0),
        ];
        for ((name, domains, wem, regions), (known, cloud)) in table.into_iter().zip(Cloud::ALL) {
            assert_eq!(known, name);
            assert_eq!(
                (cloud.classic_domain(), cloud.direct_domain()),
                domains,
                "{name}"
            );
            assert_eq!(
                (cloud.wem_url(), cloud.regions().len()),
                (wem, regions),
                "{name}"
            );
        }
    }

    #[test]
    fn clouds_that_share_tokens_have_equal_gateways() {
        for (name, cloud) in Cloud::ALL {
            assert!(cloud.gateways().contains(&cloud), "{name}");
            assert!(
                cloud
                    .gateways()
                    .iter()
                    .all(|other| other.gateways() == cloud.gateways()),
                "{name}"
            );
        }
    }

    #[test]
    fn trust_login_uses_root_on_a_separate_host() {
        for (name, cloud) in Cloud::ALL {
            let top = if cloud == Cloud::Gov { "us" } else { "net" };
            assert_eq!(
                cloud.token_url("http://127.0.0.1:1", "acme", TokenDialect::Trust),
                format!("https://trust.citrixworkspacesapi.{top}/root/tokens/clients"),
                "{name}"
            );
        }
    }

    #[test]
    fn oauth2_login_uses_an_overridden_gateway() {
        assert_eq!(
            Cloud::Gov.token_url("http://127.0.0.1:1", "acme", TokenDialect::Oauth2),
            "http://127.0.0.1:1/cctrustoauth2/acme/tokens/clients"
        );
    }
}
