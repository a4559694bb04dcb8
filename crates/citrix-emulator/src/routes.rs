//! The table of services by host and path.

use http::HeaderName;

use super::access::{Access, CustomerIn, Dialect};
use super::canned::{self, Canned};
use super::hosts::{self, Hosts};
use super::stats::MONITOR;
use citrix_wire::citrix::headers::{
    CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID,
};

/// One row of the table.
pub(super) struct ServiceRoute {
    /// Name in the counters.
    pub(super) name: &'static str,
    hosts: Hosts,
    /// First segments of the paths, case-insensitive; `{customer}` and `{any}` match every segment.
    pattern: &'static str,
    pub(super) handler: Handler,
    /// Response field for the transaction id, if the service sends one (contract §3).
    pub(super) transaction: Option<HeaderName>,
    /// Access checks, if any.
    pub(super) access: Option<Access>,
}

/// The function that responds.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Control,
    Oauth2,
    Trust,
    Cvad,
    CvadMe,
    Activation,
    Monitor,
    SystemLog,
    ResourceLocations,
    AccessSecurity,
    AppConfiguration,
    Analytics,
    SessionRecording,
    AppLayering,
    Adm,
    EndpointManagement,
    Canned(&'static [Canned]),
    /// An address that Citrix has retired.
    Retired,
    Echo,
    Upload,
    Download,
    Status,
}

/// Services of the API gateway that require the customer header and send standard errors.
const STANDARD: Access = Access {
    plain_bearer: false,
    exact_accept: false,
    customer: CustomerIn::Header,
    dialect: Dialect::Standard,
};
const SYSTEM_LOG: Access = Access {
    dialect: Dialect::SystemLog,
    ..STANDARD
};
const CVAD: Access = Access {
    exact_accept: true,
    dialect: Dialect::Cvad,
    ..STANDARD
};
const DIRECT: Access = Access {
    plain_bearer: true,
    customer: CustomerIn::Path,
    ..CVAD
};
const MONITOR_ACCESS: Access = Access {
    dialect: Dialect::Monitor,
    ..STANDARD
};
const SECURITY: Access = Access {
    exact_accept: true,
    dialect: Dialect::AccessSecurity,
    ..STANDARD
};
const APP_CONFIGURATION: Access = Access {
    plain_bearer: true,
    ..STANDARD
};
/// Services with the customer in the path.
const CLASSIC: Access = Access {
    customer: CustomerIn::Path,
    ..STANDARD
};
/// The emulator's own paths: a token is required, a customer is not.
const HELPER: Access = Access {
    customer: CustomerIn::Optional,
    ..STANDARD
};

const NEW: Option<HeaderName> = Some(CITRIX_TRANSACTION_ID);
const OLD: Option<HeaderName> = Some(X_CWS_TRANSACTION_ID);
const CC: Option<HeaderName> = Some(CC_TRANSACTION_ID);

/// All services; the first row that matches applies.
#[rustfmt::skip]
static SERVICES: [ServiceRoute; 43] = [
    row("emulator", Hosts::Any, "/_emulator", Handler::Control, None, None),
    row("token", hosts::API, "/cctrustoauth2/{customer}/tokens/clients", Handler::Oauth2, OLD, None),
    row("trust", hosts::TRUST, "/{customer}/tokens/clients", Handler::Trust, OLD, None),

    row("cvad", hosts::API, "/cvad/manage", Handler::Cvad, NEW, Some(CVAD)),
    row("activation", hosts::API, "/resourceprovider/{customer}/site/activation", Handler::Activation, NEW, Some(CLASSIC)),
    row("monitor-retired", hosts::DIRECT, "/citrix/monitor/odata", Handler::Retired, None, None),
    row("cvad-retired", hosts::DIRECT, "/citrix/orchestration/api/v1", Handler::Retired, NEW, None),
    row("cvad-retired", hosts::DIRECT, "/citrix/orchestration/api/techpreview", Handler::Retired, NEW, None),
    row("cvad-retired", hosts::API, "/cvadapis", Handler::Retired, NEW, None),
    row("cvad-direct", hosts::DIRECT, "/citrix/orchestration/api/me", Handler::CvadMe, NEW, Some(DIRECT)),
    row("cvad-direct", hosts::DIRECT, "/citrix/orchestration/api/ping", Handler::Canned(canned::PING), NEW, None),
    row("cvad-direct", hosts::DIRECT, "/citrix/orchestration/api/{customer}/{any}", Handler::Cvad, NEW, Some(DIRECT)),
    row(MONITOR, hosts::API, "/monitorodata", Handler::Monitor, None, Some(MONITOR_ACCESS)),
    row("analytics", hosts::API, "/casodata", Handler::Analytics, None, Some(MONITOR_ACCESS)),
    row("systemlog", hosts::API, "/systemlog", Handler::SystemLog, CC, Some(SYSTEM_LOG)),
    row("access-security", hosts::API, "/accessSecurity", Handler::AccessSecurity, NEW, Some(SECURITY)),
    row("access-security", hosts::API, "/feature-data_accesssecurity", Handler::AccessSecurity, NEW, Some(SECURITY)),
    row("resource-locations", hosts::API, "/resourcelocations", Handler::ResourceLocations, NEW, Some(STANDARD)),
    row("administrators", hosts::API, "/administrators", Handler::Canned(canned::ADMINISTRATORS), NEW, Some(STANDARD)),
    row("licensing", hosts::API, "/licensing", Handler::Canned(canned::LICENSING), CC, Some(STANDARD)),
    row("notifications", hosts::API, "/notifications", Handler::Canned(canned::NOTIFICATIONS), OLD, Some(STANDARD)),
    row("connectors", hosts::API, "/connectors", Handler::Canned(canned::CONNECTORS), NEW, Some(STANDARD)),
    row("catalogs", hosts::API, "/catalogservice/{customer}/{any}", Handler::Canned(canned::CATALOGS), NEW, Some(CLASSIC)),
    row("catalogs", hosts::CATALOGS, "/{customer}/{any}", Handler::Canned(canned::CATALOGS), NEW, Some(CLASSIC)),
    row("quickcreate", hosts::API, "/quickcreateservice/{customer}", Handler::Canned(canned::QUICK_CREATE), NEW, Some(CLASSIC)),
    row("wem", hosts::WEM, "/services/wem", Handler::Canned(canned::WEM), NEW, Some(STANDARD)),
    row("app-configuration", hosts::APP_CONFIGURATION, "/aca", Handler::AppConfiguration, NEW, Some(APP_CONFIGURATION)),
    row("session-recording", hosts::SESSION_RECORDING, "/api/site", Handler::SessionRecording, NEW, Some(STANDARD)),
    row("session-recording", hosts::SESSION_RECORDING, "/api/recordings", Handler::SessionRecording, NEW, Some(STANDARD)),
    row("app-layering", hosts::APP_LAYERING, "/services/Citrix.AppLayering/master/LayeringServices", Handler::AppLayering, NEW, Some(STANDARD)),
    row("adm", hosts::ADM, "/massvc/{customer}/nitro/v2/config", Handler::Adm, NEW, Some(CLASSIC)),
    row("endpoint-management", hosts::ENDPOINT_MANAGEMENT, "/api/endpoint-management/report", Handler::EndpointManagement, NEW, Some(STANDARD)),

    row("helpers", Hosts::Any, "/echo", Handler::Echo, NEW, Some(HELPER)),
    row("helpers", Hosts::Any, "/upload", Handler::Upload, NEW, Some(HELPER)),
    row("helpers", Hosts::Any, "/download", Handler::Download, NEW, Some(HELPER)),
    row("helpers", Hosts::Any, "/status", Handler::Status, NEW, Some(HELPER)),

    row("resource-locations", hosts::REGISTRY, "/{customer}/resourcelocations", Handler::ResourceLocations, OLD, Some(CLASSIC)),
    row("service-states", hosts::CORE, "/{customer}/serviceStates", Handler::Canned(canned::SERVICE_STATES), OLD, Some(CLASSIC)),
    row("connectors", hosts::AGENTHUB, "/{customer}/edgeservers", Handler::Canned(canned::EDGE_SERVERS), OLD, Some(CLASSIC)),
    row("notifications", hosts::NOTIFICATIONS, "/{customer}/notifications", Handler::Canned(canned::NOTIFICATIONS), OLD, Some(CLASSIC)),
    row("identity", hosts::CWS, "/{customer}/identityProviders", Handler::Canned(canned::IDENTITY_PROVIDERS), OLD, Some(CLASSIC)),
    row("identity", hosts::CWS, "/{customer}/AuthDomains", Handler::Canned(canned::AUTH_DOMAINS), OLD, Some(CLASSIC)),
    row("webhooks", hosts::WEBHOOKS, "/{customer}/subscriptions", Handler::Canned(canned::SUBSCRIPTIONS), OLD, Some(CLASSIC)),
];

const fn row(
    name: &'static str,
    hosts: Hosts,
    pattern: &'static str,
    handler: Handler,
    transaction: Option<HeaderName>,
    access: Option<Access>,
) -> ServiceRoute {
    ServiceRoute {
        name,
        hosts,
        pattern,
        handler,
        transaction,
        access,
    }
}

pub(super) type Found<'a> = (&'static ServiceRoute, Option<&'a str>, Vec<&'a str>);

/// Returns the service of a path, the customer in the path, and the remaining segments.
pub(super) fn find<'a>(host: &str, path: &'a str) -> Option<Found<'a>> {
    SERVICES
        .iter()
        .filter(|service| service.hosts.serve(host))
        .find_map(|service| {
            let mut customer = None;
            let mut segments = path.strip_prefix('/')?.split('/');
            for wanted in service.pattern.split('/').skip(1) {
                let segment = segments.next()?;
                match wanted {
                    "{any}" => {}
                    "{customer}" => customer = Some(segment),
                    _ if wanted.eq_ignore_ascii_case(segment) => {}
                    _ => return None,
                }
            }
            Some((service, customer, segments.collect()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_selects_service() {
        for (path, pattern, customer, rest) in [
            (
                "/cvad/manage/Machines",
                "/cvad/manage",
                None,
                &["Machines"][..],
            ),
            ("/CVAD/Manage/me", "/cvad/manage", None, &["me"]),
            (
                "/cctrustoauth2/a/tokens/clients",
                "/cctrustoauth2/{customer}/tokens/clients",
                Some("a"),
                &[],
            ),
            (
                "/root/tokens/clients",
                "/{customer}/tokens/clients",
                Some("root"),
                &[],
            ),
            ("/resourcelocations/1", "/resourcelocations", None, &["1"]),
            (
                "/acme/resourcelocations",
                "/{customer}/resourcelocations",
                Some("acme"),
                &[],
            ),
            (
                "/citrix/orchestration/api/me",
                "/citrix/orchestration/api/me",
                None,
                &[],
            ),
            (
                "/Citrix/Orchestration/api/acme/site/Machines",
                "/citrix/orchestration/api/{customer}/{any}",
                Some("acme"),
                &["Machines"],
            ),
            ("/echo/a//b%2Fc/", "/echo", None, &["a", "", "b%2Fc", ""]),
        ] {
            let (service, found_customer, found_rest) = find("localhost", path).unwrap();
            assert_eq!(
                (service.pattern, found_customer, &found_rest[..]),
                (pattern, customer, rest),
                "{path}"
            );
        }
        for path in ["/", "*", "/nowhere", "/cvad", "/cvad/managed", "/echoes"] {
            assert!(find("localhost", path).is_none(), "{path}");
        }
    }

    #[test]
    fn citrix_host_name_restricts_services() {
        for (host, path, service) in [
            ("api.cloud.com", "/acme/resourcelocations", None),
            (
                "registry.citrixworkspacesapi.net",
                "/acme/resourcelocations",
                Some("resource-locations"),
            ),
            (
                "registry.citrixworkspacesapi.net",
                "/resourcelocations",
                None,
            ),
            (
                "acme.xendesktop.net",
                "/Citrix/Monitor/OData/v4/Data/Machines",
                Some("monitor-retired"),
            ),
            (
                "catalogs.apps.cloud.com",
                "/acme/site/images",
                Some("catalogs"),
            ),
            ("api.wem.cloud.com", "/services/wem/sites", Some("wem")),
            ("api.wem.cloud.com", "/echo", Some("helpers")),
        ] {
            assert_eq!(
                find(host, path).map(|(found, ..)| found.name),
                service,
                "{host}{path}"
            );
        }
    }
}
