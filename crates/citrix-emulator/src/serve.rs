//! Request processing that all services share.

use http::header::{DATE, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::access::{Access, admit};
use super::call::{Call, ListenerOrigin};
use super::faults::Fault;
use super::responses::{self, HoldingBody, Response, WithoutTransactionId};
use super::routes::{Handler, ServiceRoute, find};
use super::state::State;
use super::stats::count;
use super::tenants::{InFlight, MonitorSlot};
use super::{
    access_security, canned, control, cvad, documents, encoding, fault_responses, helpers, monitor,
    platform, services, trust,
};
use citrix_wire::citrix::headers::CITRIX_TRANSACTION_ID;

/// Response extension: the body is truncated after the content coding.
#[derive(Clone, Copy)]
struct Truncate;

/// Response extension of faults: a 429 does not count as the service's limit.
#[derive(Clone, Copy)]
struct Injected;

/// Responds to any request.
pub(super) async fn serve(
    state: &State,
    origin: &ListenerOrigin,
    request: Request<Incoming>,
) -> Response {
    let (parts, body) = request.into_parts();
    let Some((service, customer, rest)) = find(host(&parts), parts.uri.path()) else {
        return responses::not_found();
    };
    let transaction = transaction_id(&parts);
    let call = Call {
        state,
        origin,
        parts: &parts,
        customer,
        rest,
        caller: None,
        body,
    };
    let mut response = match service.access {
        Some(access) => {
            serve_admitted(
                service,
                access,
                call,
                transaction.to_str().unwrap_or_default(),
            )
            .await
        }
        None => truncate_if_marked(respond_or_inject(service, call).await).await,
    };
    let traced = response
        .extensions()
        .get::<WithoutTransactionId>()
        .is_none()
        && state.sends_transaction_ids();
    if let Some(name) = service.transaction.clone().filter(|_| traced) {
        response.headers_mut().insert(name, transaction);
    }
    if state.faults().clock_skew != 0 {
        response = responses::with_text(response, DATE, &httpdate::fmt_http_date(state.now()));
    }
    response
}

/// Responds to a request for a service with access checks.
async fn serve_admitted(
    service: &'static ServiceRoute,
    access: Access,
    mut call: Call<'_>,
    transaction: &str,
) -> Response {
    let state = call.state;
    count(&state.counters.requests);
    let identity = match admit(state, access, call.parts, call.customer, transaction) {
        Ok(identity) => identity,
        Err(rejection) => return *rejection,
    };
    let in_flight = InFlight::enter(&identity.tenant, service.name);
    let is_monitor = matches!(service.handler, Handler::Monitor);
    let slot = if is_monitor {
        MonitorSlot::take(&identity.tenant)
    } else {
        None
    };
    call.caller = Some(identity);
    let parts = call.parts;
    let mut response = if is_monitor && slot.is_none() {
        responses::apim_rate_limited(1)
    } else {
        respond_or_inject(service, call).await
    };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        if response.extensions().get::<Injected>().is_none() {
            in_flight.rate_limited();
        }
        return response;
    }
    if !matches!(
        service.handler,
        Handler::Echo | Handler::Upload | Handler::Download | Handler::Status
    ) {
        if state.links.escaped {
            response = encoding::escape_slashes(response).await;
        }
        if state.compress {
            response = encoding::encode(response, &parts.headers).await;
        }
    }
    truncate_if_marked(response)
        .await
        .map(|body| HoldingBody::new(body, (in_flight, slot)).boxed_unsync())
}

/// Truncates the body of a response that is marked with [`Truncate`].
async fn truncate_if_marked(response: Response) -> Response {
    if response.extensions().get::<Truncate>().is_some() {
        encoding::truncate(response).await
    } else {
        response
    }
}

/// Returns the response of the service, or of a fault of the path.
async fn respond_or_inject(service: &'static ServiceRoute, call: Call<'_>) -> Response {
    let state = call.state;
    let fault = if matches!(service.handler, Handler::Control) {
        None
    } else {
        state.inject(call.parts.uri.path())
    };
    if fault.is_some() {
        count(&state.counters.faults_met);
    }
    match fault {
        None => respond(service.handler, call).await,
        Some((Fault::Truncated, _)) => {
            let mut response = respond(service.handler, call).await;
            response.extensions_mut().insert(Truncate);
            response
        }
        Some((fault, seconds)) => {
            let mut response = fault_responses::respond(fault, seconds, state.now());
            response.extensions_mut().insert(Injected);
            response
        }
    }
}

async fn respond(handler: Handler, call: Call<'_>) -> Response {
    match handler {
        Handler::Control => return control::respond(&call),
        Handler::Oauth2 => return trust::oauth2(call).await,
        Handler::Trust => return trust::trust(call).await,
        // Monitor has its own latency.
        Handler::Monitor => return monitor::respond(&call).await,
        _ => call.state.latency().await,
    }
    match handler {
        Handler::Cvad => cvad::respond(call).await,
        Handler::CvadMe => cvad::me_on_direct_host(&call),
        Handler::Activation => services::activation(&call),
        Handler::SystemLog => platform::system_log(&call),
        Handler::ResourceLocations => platform::resource_locations(&call),
        Handler::AccessSecurity => access_security::respond(&call),
        Handler::AppConfiguration => documents::respond(call).await,
        Handler::Analytics => monitor::analytics(&call),
        Handler::SessionRecording => services::session_recording(&call),
        Handler::AppLayering => services::app_layering(&call),
        Handler::Adm => services::adm(&call),
        Handler::EndpointManagement => services::endpoint_management(&call),
        Handler::Canned(list) => canned::respond(&call, list),
        Handler::Retired => services::retired(&call),
        Handler::Echo => helpers::echo(call).await,
        Handler::Upload => helpers::upload(call).await,
        Handler::Download => helpers::download(&call),
        Handler::Status => helpers::status(&call),
        Handler::Control | Handler::Oauth2 | Handler::Trust | Handler::Monitor => {
            responses::not_found()
        }
    }
}

/// Returns the host of a request without its port.
fn host(parts: &Parts) -> &str {
    let in_header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or(in_header)
        .unwrap_or_default();
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Returns the transaction id of the request, or a new one (contract §3).
fn transaction_id(parts: &Parts) -> HeaderValue {
    let callers = parts
        .headers
        .get(CITRIX_TRANSACTION_ID)
        .filter(|id| id.to_str().is_ok_and(|id| !id.is_empty()));
    callers.cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""))
    })
}
