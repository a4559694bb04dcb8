//! Names of Citrix's hosts that identify services (contract §1.6 and §4).

/// The hosts of a service. Patterns have at most one `*`. Under other names than Citrix's, such as
/// `localhost`, only the path selects the service.
#[derive(Clone, Copy)]
pub(super) enum Hosts {
    Any,
    /// These hosts, and all that are not Citrix's.
    Of(&'static [&'static str]),
    /// Only these hosts, since the paths would hide those of other services.
    Only(&'static [&'static str]),
}

pub(super) const API: Hosts = Hosts::Of(&[
    "api.cloud.com",
    "api-us.cloud.com",
    "api-eu.cloud.com",
    "api-ap-s.cloud.com",
    "api.citrixcloud.jp",
    "api.cloud.us",
]);
pub(super) const TRUST: Hosts = Hosts::Of(&["trust.citrixworkspacesapi.*"]);
pub(super) const REGISTRY: Hosts = Hosts::Of(&["registry.citrixworkspacesapi.*"]);
pub(super) const CORE: Hosts = Hosts::Of(&["core.citrixworkspacesapi.*"]);
pub(super) const AGENTHUB: Hosts = Hosts::Of(&["agenthub.citrixworkspacesapi.*"]);
pub(super) const NOTIFICATIONS: Hosts = Hosts::Of(&["notifications.citrixworkspacesapi.*"]);
pub(super) const CWS: Hosts = Hosts::Of(&["cws.citrixworkspacesapi.*"]);
pub(super) const WEBHOOKS: Hosts = Hosts::Of(&["webhooks.citrixworkspacesapi.*"]);
pub(super) const CATALOGS: Hosts = Hosts::Only(&["catalogs.apps.cloud.com"]);
pub(super) const DIRECT: Hosts = Hosts::Of(&[
    "*.xendesktop.net",
    "*.xendesktop.us",
    "*.apps.citrixworkspacesapi.jp",
]);
pub(super) const WEM: Hosts = Hosts::Of(&[
    "api.wem.cloud.com",
    "*-api.wem.cloud.com",
    "*-api.wem.citrixcloud.jp",
]);
pub(super) const APP_CONFIGURATION: Hosts = Hosts::Of(&["wsaca.cloud.com"]);
pub(super) const SESSION_RECORDING: Hosts = Hosts::Of(&["sessionrecording.apps.cloud.com"]);
pub(super) const APP_LAYERING: Hosts = Hosts::Of(&["*.workstreams.cloud.com"]);
pub(super) const ADM: Hosts = Hosts::Of(&["adm.cloud.com", "*.adm.cloud.com"]);
pub(super) const ENDPOINT_MANAGEMENT: Hosts = Hosts::Of(&["*.xm.cloud.com"]);

/// DNS names of the generated certificate, in addition to `localhost`.
pub(super) const CERTIFICATE_NAMES: [&str; 14] = [
    "*.cloud.com",
    "*.adm.cloud.com",
    "*.apps.cloud.com",
    "*.wem.cloud.com",
    "*.workstreams.cloud.com",
    "*.xm.cloud.com",
    "api.cloud.us",
    "api.citrixcloud.jp",
    "*.wem.citrixcloud.jp",
    "*.citrixworkspacesapi.net",
    "*.citrixworkspacesapi.us",
    "*.citrixworkspacesapi.jp",
    "*.xendesktop.net",
    "*.xendesktop.us",
];

/// Returns `true` if a name without port is one of Citrix's.
pub(super) fn is_citrix(host: &str) -> bool {
    let domains = [
        ".cloud.com",
        ".cloud.us",
        ".citrixcloud.jp",
        ".xendesktop.net",
        ".xendesktop.us",
    ];
    let host = host.to_ascii_lowercase();
    domains.iter().any(|domain| host.ends_with(domain)) || host.contains(".citrixworkspacesapi.")
}

impl Hosts {
    /// Returns `true` if requests to `host`, a name without port, can address the service.
    pub(super) fn serve(self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(names) => !is_citrix(host) || names.iter().any(|name| matches(host, name)),
            Self::Only(names) => names.iter().any(|name| matches(host, name)),
        }
    }
}

fn matches(host: &str, pattern: &str) -> bool {
    let host = host.to_ascii_lowercase();
    match pattern.split_once('*') {
        None => host == pattern,
        Some((head, tail)) => {
            host.len() > head.len() + tail.len() && host.starts_with(head) && host.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citrix_names_select_services_and_other_names_do_not() {
        for (hosts, host, serves) in [
            (API, "API.cloud.com", true),
            (API, "registry.citrixworkspacesapi.net", false),
            (REGISTRY, "registry.citrixworkspacesapi.us", true),
            (REGISTRY, "127.0.0.1", true),
            (DIRECT, "acme.xendesktop.net", true),
            (DIRECT, ".xendesktop.net", false),
            (CATALOGS, "localhost", false),
            (CATALOGS, "catalogs.apps.cloud.com", true),
            (WEM, "eu-api.wem.cloud.com", true),
            (Hosts::Any, "api.cloud.com", true),
        ] {
            assert_eq!(hosts.serve(host), serves, "{host}");
        }
    }
}
