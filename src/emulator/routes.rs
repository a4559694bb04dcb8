//! Which service a path belongs to, and what all of them have in common.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use hyper::body::Incoming;
use uuid::Uuid;

use super::access::{Access, Customer, Dialect, refusal};
use super::answers::{self, Response};
use super::query::Query;
use super::state::State;
use super::stats::count;
use super::{control, cvad, helpers, monitor, platform, trust};
use crate::citrix::headers::{CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID};

/// One row of the table.
struct Service {
    /// The first segments of its paths, in any letter case; `{customer}` and `{any}` match every segment.
    pattern: &'static str,
    handler: Handler,
    /// The header in which it tells the transaction id, if it does (contract 3).
    transaction: Option<HeaderName>,
    /// Who may use it; anybody when none.
    access: Option<Access>,
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handler {
    Control,
    Oauth2,
    Trust,
    Cvad,
    CvadMe,
    Monitor,
    SystemLog,
    ResourceLocations,
    ServiceStates,
    AccessSecurity,
    AppConfiguration,
    Echo,
    Upload,
    Download,
    Status,
}

/// The services of the API gateway that are content with the customer header and the standard errors.
const STANDARD: Access = Access {
    plain_bearer: false,
    exact_accept: false,
    customer: Customer::Header,
    dialect: Dialect::Standard,
};
const SYSTEM_LOG: Access = Access { dialect: Dialect::SystemLog, ..STANDARD };
const CVAD: Access = Access { exact_accept: true, dialect: Dialect::Cvad, ..STANDARD };
const DIRECT: Access = Access { plain_bearer: true, customer: Customer::Path, ..CVAD };
const MONITOR: Access = Access { dialect: Dialect::Monitor, ..STANDARD };
const ACCESS_SECURITY: Access = Access { exact_accept: true, dialect: Dialect::AccessSecurity, ..STANDARD };
const APP_CONFIGURATION: Access = Access { plain_bearer: true, ..STANDARD };
/// The classic hosts.
const CLASSIC: Access = Access { customer: Customer::Path, ..STANDARD };
/// Ours: a token is wanted, a customer is not.
const HELPER: Access = Access { customer: Customer::Optional, ..STANDARD };

/// The first row that matches is the one.
#[rustfmt::skip]
static SERVICES: [Service; 17] = [
    open("/_emulator",                                     Handler::Control,           None),
    open("/cctrustoauth2/{customer}/tokens/clients",       Handler::Oauth2,            Some(X_CWS_TRANSACTION_ID)),
    open("/{customer}/tokens/clients",                     Handler::Trust,             Some(X_CWS_TRANSACTION_ID)),

    guarded("/cvad/manage",                                Handler::Cvad,              Some(CITRIX_TRANSACTION_ID), CVAD),
    guarded("/citrix/orchestration/api/me",                Handler::CvadMe,            Some(CITRIX_TRANSACTION_ID), DIRECT),
    guarded("/citrix/orchestration/api/{customer}/{any}",  Handler::Cvad,              Some(CITRIX_TRANSACTION_ID), DIRECT),
    guarded("/monitorodata",                               Handler::Monitor,           None,                        MONITOR),
    guarded("/systemlog",                                  Handler::SystemLog,         Some(CC_TRANSACTION_ID),     SYSTEM_LOG),
    guarded("/resourcelocations",                          Handler::ResourceLocations, Some(CITRIX_TRANSACTION_ID), STANDARD),
    guarded("/accessSecurity",                             Handler::AccessSecurity,    Some(CITRIX_TRANSACTION_ID), ACCESS_SECURITY),
    guarded("/aca",                                        Handler::AppConfiguration,  Some(CITRIX_TRANSACTION_ID), APP_CONFIGURATION),

    guarded("/echo",                                       Handler::Echo,              Some(CITRIX_TRANSACTION_ID), HELPER),
    guarded("/upload",                                     Handler::Upload,            Some(CITRIX_TRANSACTION_ID), HELPER),
    guarded("/download",                                   Handler::Download,          Some(CITRIX_TRANSACTION_ID), HELPER),
    guarded("/status",                                     Handler::Status,            Some(CITRIX_TRANSACTION_ID), HELPER),

    guarded("/{customer}/resourcelocations",               Handler::ResourceLocations, Some(X_CWS_TRANSACTION_ID),  CLASSIC),
    guarded("/{customer}/serviceStates",                   Handler::ServiceStates,     Some(X_CWS_TRANSACTION_ID),  CLASSIC),
];

const fn open(pattern: &'static str, handler: Handler, transaction: Option<HeaderName>) -> Service {
    Service { pattern, handler, transaction, access: None }
}

const fn guarded(
    pattern: &'static str,
    handler: Handler,
    transaction: Option<HeaderName>,
    access: Access,
) -> Service {
    Service { pattern, handler, transaction, access: Some(access) }
}

/// A request on its way to the one who answers it.
pub(super) struct Call<'a> {
    pub(super) state: &'a State,
    pub(super) parts: &'a Parts,
    /// The customer in the path.
    pub(super) customer: Option<&'a str>,
    /// The path's segments behind the service's own, as they came.
    pub(super) rest: Vec<&'a str>,
    pub(super) body: Incoming,
}

impl<'a> Call<'a> {
    pub(super) fn query(&self) -> Query<'a> {
        Query::new(&self.parts.uri)
    }

    /// Whether it only reads.
    pub(super) fn is_get(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.parts.method)
    }

    pub(super) fn is_post(&self) -> bool {
        self.parts.method == Method::POST
    }
}

/// Answers any request.
pub(super) async fn serve(state: &State, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let Some((service, customer, rest)) = find(parts.uri.path()) else {
        return answers::not_found();
    };
    let transaction = transaction_id(&parts);
    let refused = match service.access {
        Some(access) => {
            count(&state.counters.requests);
            let text = transaction.to_str().unwrap_or_default();
            refusal(state, access, &parts, customer, text)
        }
        None => None,
    };
    let mut response = match refused {
        Some(refused) => refused,
        None => answer(service.handler, Call { state, parts: &parts, customer, rest, body }).await,
    };
    if let Some(name) = &service.transaction
        && state.tells_transaction_ids()
    {
        response.headers_mut().insert(name, transaction);
    }
    response
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
        Handler::CvadMe => cvad::me(&call),
        Handler::SystemLog => platform::system_log(&call),
        Handler::ResourceLocations => platform::resource_locations(&call),
        Handler::ServiceStates => platform::service_states(&call),
        Handler::AccessSecurity => platform::access_security(&call),
        Handler::AppConfiguration => platform::app_configuration(&call),
        Handler::Echo => helpers::echo(call).await,
        Handler::Upload => helpers::upload(call).await,
        Handler::Download => helpers::download(&call),
        Handler::Status => helpers::status(&call),
        Handler::Control | Handler::Oauth2 | Handler::Trust | Handler::Monitor => answers::not_found(),
    }
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
fn find(path: &str) -> Option<Found<'_>> {
    SERVICES.iter().find_map(|service| {
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
            let (service, found_customer, found_rest) = find(path).unwrap();
            assert_eq!(
                (service.pattern, found_customer, &found_rest[..]),
                (pattern, customer, rest),
                "{path}"
            );
        }
        for path in ["/", "*", "/nowhere", "/cvad", "/cvad/managed", "/echoes"] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
