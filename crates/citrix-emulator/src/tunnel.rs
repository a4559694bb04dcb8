//! `CONNECT` to Citrix's hosts, all served by the emulator: it can be the proxy of a tool with
//! built-in host names.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::hosts::is_citrix;
use super::responses::{self, Response};
use super::state::State;
use super::stats::count;

/// Serves a cleartext connection to a TLS port; returns the tunnel if the client opens one.
pub(super) async fn accept(stream: TcpStream, state: &State) -> Option<Upgraded> {
    let tunnel = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request, &tunnel);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // The client sees a broken connection.
    connection.with_upgrades().await.ok();
    let tunnel = tunnel
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    count(&state.counters.tunnels);
    tunnel.await.ok()
}

fn respond(mut request: Request<Incoming>, tunnel: &Mutex<Option<OnUpgrade>>) -> Response {
    if request.method() != Method::CONNECT {
        return responses::text(
            StatusCode::BAD_REQUEST,
            "This port speaks TLS, and CONNECT without it.",
        );
    }
    // The emulator never opens a connection to another host.
    if !request.uri().host().is_some_and(is_citrix) {
        return responses::text(StatusCode::FORBIDDEN, "The host is none of Citrix's.");
    }
    *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(&mut request));
    responses::empty(StatusCode::OK)
}
