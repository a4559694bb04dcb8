//! The clouds Citrix runs: which hosts, which login (contract §1.6).
//!
//! Presets, not constants of the protocol: every one of them can be overridden in the configuration.

use super::TokenDialect;

/// One of Citrix's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// The worldwide gateway, which finds the customer's region by itself.
    Commercial,
    /// The region United States.
    Us,
    /// The region European Union.
    Eu,
    /// The region Asia Pacific South.
    ApS,
    /// Japan, a cloud of its own.
    Japan,
    /// US Government, a cloud of its own with the legacy login only.
    Gov,
}

impl Cloud {
    /// Every cloud under the name it has in a configuration.
    pub const ALL: [(&'static str, Self); 6] = [
        ("commercial", Self::Commercial),
        ("us", Self::Us),
        ("eu", Self::Eu),
        ("ap-s", Self::ApS),
        ("japan", Self::Japan),
        ("gov", Self::Gov),
    ];

    /// The name it has in a configuration.
    pub fn name(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, cloud)| *cloud == self)
            .map_or("", |(name, _)| name)
    }

    /// The base URL of the API gateway, without a slash at the end.
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

    /// The domain of the classic hosts, `{service}.` in front (contract §1.6, §4).
    pub const fn classic_domain(self) -> &'static str {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => "citrixworkspacesapi.net",
            Self::Japan => "citrixworkspacesapi.jp",
            Self::Gov => "citrixworkspacesapi.us",
        }
    }

    /// The domain of the hosts that customers have for themselves, `{customer}.` in front.
    pub const fn direct_domain(self) -> &'static str {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => "xendesktop.net",
            Self::Japan => "apps.citrixworkspacesapi.jp",
            Self::Gov => "xendesktop.us",
        }
    }

    /// Workspace Environment Management; nobody has told of a host for US Government.
    pub const fn wem_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us => Some("https://api.wem.cloud.com"),
            Self::Eu => Some("https://eu-api.wem.cloud.com"),
            Self::ApS => Some("https://aps-api.wem.cloud.com"),
            Self::Japan => Some("https://jp-api.wem.citrixcloud.jp"),
            Self::Gov => None,
        }
    }

    /// The App Layering API, known for the commercial regions only.
    pub const fn app_layering_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us => Some("https://us.workstreams.cloud.com"),
            Self::Eu => Some("https://eu.workstreams.cloud.com"),
            Self::ApS => Some("https://ap-s.workstreams.cloud.com"),
            Self::Japan | Self::Gov => None,
        }
    }

    /// A host that all commercial regions share and the other clouds are not known to have.
    pub const fn if_commercial(self, url: &'static str) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => Some(url),
            Self::Japan | Self::Gov => None,
        }
    }

    /// The regions a request may be led to by name: those that take tokens of this cloud. Japan and US Government
    /// are clouds of their own.
    pub const fn regions(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => {
                &[("us", Self::Us), ("eu", Self::Eu), ("ap-s", Self::ApS)]
            }
            Self::Japan | Self::Gov => &[],
        }
    }

    /// The clouds whose API gateways take this one's tokens, this one among them: the worldwide gateway and those of
    /// the regions. Japan and US Government are clouds of their own.
    pub const fn gateways(self) -> &'static [Self] {
        match self {
            Self::Commercial | Self::Us | Self::Eu | Self::ApS => {
                &[Self::Commercial, Self::Us, Self::Eu, Self::ApS]
            }
            Self::Japan => &[Self::Japan],
            Self::Gov => &[Self::Gov],
        }
    }

    /// The login that clients are known to use there.
    pub const fn token_dialect(self) -> TokenDialect {
        match self {
            Self::Gov => TokenDialect::Trust,
            Self::Commercial | Self::Us | Self::Eu | Self::ApS | Self::Japan => {
                TokenDialect::Oauth2
            }
        }
    }

    /// Where `customer_id` logs in, unless the configuration says otherwise.
    ///
    /// `api_origin` is scheme, host and port of the API gateway in use (an override of [`Self::api_url`], or
    /// that itself): the OAuth2 endpoint lives on the same host, so a staging gateway never sees a login go to
    /// production. The trust service has a host of its own and asks for the special customer `root`.
    pub fn token_url(self, api_origin: &str, customer_id: &str, dialect: TokenDialect) -> String {
        match (dialect, self) {
            (TokenDialect::Oauth2, _) => {
                format!("{api_origin}/cctrustoauth2/{customer_id}/tokens/clients")
            }
            (TokenDialect::Trust, Self::Gov) => {
                "https://trust.citrixworkspacesapi.us/root/tokens/clients".to_owned()
            }
            // Of Japan's, only the current login is known.
            (TokenDialect::Trust, _) => {
                "https://trust.citrixworkspacesapi.net/root/tokens/clients".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_1_6_each_cloud_has_its_hosts_and_its_login() {
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
    fn a_cloud_and_its_regions_take_each_others_tokens() {
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
    fn the_trust_login_asks_for_root_on_a_host_of_its_own() {
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
    fn the_oauth2_login_follows_an_overridden_gateway() {
        assert_eq!(
            Cloud::Gov.token_url("http://127.0.0.1:1", "acme", TokenDialect::Oauth2),
            "http://127.0.0.1:1/cctrustoauth2/acme/tokens/clients"
        );
    }
}
