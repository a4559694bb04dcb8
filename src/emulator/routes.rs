//! Which service a host and path belong to, and what all of them have in common.

use http::header::{DATE, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::access::{Access, CustomerIn, Dialect, admit};
use super::answers::{self, Holding, Response, Untraced};
use super::call::{Call, Origin};
use super::canned::{self, Canned};
use super::faults::Trouble;
use super::hosts::{self, Hosts};
use super::state::State;
use super::stats::{MONITOR, count};
use super::tenants::InFlight;
use super::{
    access_security, control, cvad, documents, encoding, helpers, monitor, platform, services, trouble, trust,
};
use crate::citrix::headers::{CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID};

/// One row of the table.
struct Service {
    /// Its name in the counters.
    name: &'static str,
    hosts: Hosts,
    /// The first segments of its paths, in any letter case; `{customer}` and `{any}` match every segment.
    pattern: &'static str,
    handler: Handler,
    /// The header in which it tells the transaction id, if it does (contract 3).
    transaction: Option<HeaderName>,
    /// Who may use it; anybody when none.
    access: Option<Access>,
}

/// Who answers.
#[derive(Clone, Copy)]
enum Handler {
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
    /// Small fixed answers.
    Canned(&'static [Canned]),
    /// An address that Citrix has retired.
    Retired,
    Echo,
    Upload,
    Download,
    Status,
}

/// The services of the API gateway that are content with the customer header and the standard errors.
const STANDARD: Access = Access {
    plain_bearer: false,
    exact_accept: false,
    customer: CustomerIn::Header,
    dialect: Dialect::Standard,
};
const SYSTEM_LOG: Access = Access { dialect: Dialect::SystemLog, ..STANDARD };
const CVAD: Access = Access { exact_accept: true, dialect: Dialect::Cvad, ..STANDARD };
const DIRECT: Access = Access { plain_bearer: true, customer: CustomerIn::Path, ..CVAD };
const MONITOR_ACCESS: Access = Access { dialect: Dialect::Monitor, ..STANDARD };
const SECURITY: Access = Access { exact_accept: true, dialect: Dialect::AccessSecurity, ..STANDARD };
const APP_CONFIGURATION: Access = Access { plain_bearer: true, ..STANDARD };
/// The customer is in the path.
const CLASSIC: Access = Access { customer: CustomerIn::Path, ..STANDARD };
/// Ours: a token is wanted, a customer is not.
const HELPER: Access = Access { customer: CustomerIn::Optional, ..STANDARD };

/// An answer that is to end in the middle, once it is in its final coding.
#[derive(Clone, Copy)]
struct CutOff;

/// An answer of a fault: no limit of the service's is behind its 429.
#[derive(Clone, Copy)]
struct Befallen;

const NEW: Option<HeaderName> = Some(CITRIX_TRANSACTION_ID);
const OLD: Option<HeaderName> = Some(X_CWS_TRANSACTION_ID);
const CC: Option<HeaderName> = Some(CC_TRANSACTION_ID);

/// The first row that matches is the one.
#[rustfmt::skip]
static SERVICES: [Service; 43] = [
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
) -> Service {
    Service { name, hosts, pattern, handler, transaction, access }
}

/// Answers any request.
pub(super) async fn serve(state: &State, origin: &Origin, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let Some((service, customer, rest)) = find(host(&parts), parts.uri.path()) else {
        return answers::not_found();
    };
    let transaction = transaction_id(&parts);
    let call = Call { state, origin, parts: &parts, customer, rest, caller: None, body };
    let mut response = match service.access {
        Some(access) => guarded(service, access, call, transaction.to_str().unwrap_or_default()).await,
        None => finished(troubled(service, call).await).await,
    };
    let traced = response.extensions().get::<Untraced>().is_none() && state.tells_transaction_ids();
    if let Some(name) = service.transaction.clone().filter(|_| traced) {
        response.headers_mut().insert(name, transaction);
    }
    if state.faults().clock_skew != 0 {
        response = answers::with_text(response, DATE, &httpdate::fmt_http_date(state.now()));
    }
    response
}

/// A service that wants to know who asks.
async fn guarded(
    service: &'static Service,
    access: Access,
    mut call: Call<'_>,
    transaction: &str,
) -> Response {
    let state = call.state;
    count(&state.counters.requests);
    let identity = match admit(state, access, call.parts, call.customer, transaction) {
        Ok(identity) => identity,
        Err(refusal) => return *refusal,
    };
    let in_flight = InFlight::enter(&identity.tenant, service.name);
    call.caller = Some(identity);
    let parts = call.parts;
    let mut response = troubled(service, call).await;
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        if response.extensions().get::<Befallen>().is_none() {
            in_flight.rate_limited();
        }
        return response;
    }
    if !matches!(service.handler, Handler::Echo | Handler::Upload | Handler::Download | Handler::Status) {
        if state.links.escaped {
            response = encoding::escape_slashes(response).await;
        }
        if state.compress {
            response = encoding::encode(response, &parts.headers).await;
        }
    }
    finished(response).await.map(|body| Holding::new(body, in_flight).boxed_unsync())
}

/// The answer as it leaves, cut off if that is its fault.
async fn finished(response: Response) -> Response {
    if response.extensions().get::<CutOff>().is_some() { encoding::cut_off(response).await } else { response }
}

/// The service's answer, unless a fault of its path befalls the request.
async fn troubled(service: &'static Service, call: Call<'_>) -> Response {
    let state = call.state;
    let befalls =
        if matches!(service.handler, Handler::Control) { None } else { state.befall(call.parts.uri.path()) };
    if befalls.is_some() {
        count(&state.counters.faults_met);
    }
    match befalls {
        None => answer(service.handler, call).await,
        Some((Trouble::CutOff, _)) => {
            let mut response = answer(service.handler, call).await;
            response.extensions_mut().insert(CutOff);
            response
        }
        Some((trouble, seconds)) => {
            let mut response = trouble::answer(trouble, seconds, state.now());
            response.extensions_mut().insert(Befallen);
            response
        }
    }
}

async fn answer(handler: Handler, call: Call<'_>) -> Response {
    match handler {
        Handler::Control => return control::answer(&call),
        Handler::Oauth2 => return trust::oauth2(call).await,
        Handler::Trust => return trust::trust(call).await,
        // It waits by itself, with its slot taken.
        Handler::Monitor => return monitor::answer(&call).await,
        _ => call.state.latency().await,
    }
    match handler {
        Handler::Cvad => cvad::answer(call).await,
        Handler::CvadMe => cvad::me_alone(&call),
        Handler::Activation => services::activation(&call),
        Handler::SystemLog => platform::system_log(&call),
        Handler::ResourceLocations => platform::resource_locations(&call),
        Handler::AccessSecurity => access_security::answer(&call),
        Handler::AppConfiguration => documents::answer(call).await,
        Handler::Analytics => monitor::analytics(&call),
        Handler::SessionRecording => services::session_recording(&call),
        Handler::AppLayering => services::app_layering(&call),
        Handler::Adm => services::adm(&call),
        Handler::EndpointManagement => services::endpoint_management(&call),
        Handler::Canned(answers) => canned::answer(&call, answers),
        Handler::Retired => services::retired(&call),
        Handler::Echo => helpers::echo(call).await,
        Handler::Upload => helpers::upload(call).await,
        Handler::Download => helpers::download(&call),
        Handler::Status => helpers::status(&call),
        Handler::Control | Handler::Oauth2 | Handler::Trust | Handler::Monitor => answers::not_found(),
    }
}

/// The host that a request is sent to, without its port.
fn host(parts: &Parts) -> &str {
    let in_header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(in_header).unwrap_or_default();
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The caller's transaction id, else a new one (contract 3).
fn transaction_id(parts: &Parts) -> HeaderValue {
    let callers =
        parts.headers.get(CITRIX_TRANSACTION_ID).filter(|id| id.to_str().is_ok_and(|id| !id.is_empty()));
    callers.cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""))
    })
}

type Found<'a> = (&'static Service, Option<&'a str>, Vec<&'a str>);

/// The service of a path, the customer in it, and the segments behind.
fn find<'a>(host: &str, path: &'a str) -> Option<Found<'a>> {
    SERVICES.iter().filter(|service| service.hosts.serve(host)).find_map(|service| {
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
    fn paths_find_their_service() {
        for (path, pattern, customer, rest) in [
            ("/cvad/manage/Machines", "/cvad/manage", None, &["Machines"][..]),
            ("/CVAD/Manage/me", "/cvad/manage", None, &["me"]),
            ("/cctrustoauth2/a/tokens/clients", "/cctrustoauth2/{customer}/tokens/clients", Some("a"), &[]),
            ("/root/tokens/clients", "/{customer}/tokens/clients", Some("root"), &[]),
            ("/resourcelocations/1", "/resourcelocations", None, &["1"]),
            ("/acme/resourcelocations", "/{customer}/resourcelocations", Some("acme"), &[]),
            ("/citrix/orchestration/api/me", "/citrix/orchestration/api/me", None, &[]),
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
    fn under_a_name_of_citrix_a_path_is_looked_for_on_that_host_only() {
        for (host, path, service) in [
            ("api.cloud.com", "/acme/resourcelocations", None),
            ("registry.citrixworkspacesapi.net", "/acme/resourcelocations", Some("resource-locations")),
            ("registry.citrixworkspacesapi.net", "/resourcelocations", None),
            ("acme.xendesktop.net", "/Citrix/Monitor/OData/v4/Data/Machines", Some("monitor-retired")),
            ("catalogs.apps.cloud.com", "/acme/site/images", Some("catalogs")),
            ("api.wem.cloud.com", "/services/wem/sites", Some("wem")),
            ("api.wem.cloud.com", "/echo", Some("helpers")),
        ] {
            assert_eq!(find(host, path).map(|(found, ..)| found.name), service, "{host}{path}");
        }
    }
}
