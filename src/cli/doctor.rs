//! `check --online`: connects and logs in as the gateway does; each step yields a [`Check`].
//!
//! Each host is connected to step by step, then each customer logs in and requests its site. A step
//! that depends on a failed one is reported as skipped; everything else is tried.

mod certificate;
mod check;
mod connection;
mod endpoint;
mod login;
mod site;
mod store;

use crate::config::{Config, Live, RouteTarget};
use crate::fleet::Source;
use crate::site::api::HttpApi;
use crate::system::clock::Clock;
use crate::tls::TlsError;
use crate::token::issuer::HttpIssuer;
use crate::upstream::control_plane::ControlClient;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::{UpstreamTls, Verifiers};

pub use check::{Check, CheckKind, CheckState};
use citrix_wire::transaction_id::IdGenerator;
use endpoint::Endpoint;

/// State shared by the checks.
struct Doctor<'a> {
    live: &'a Live,
    dial_config: DialConfig,
    verifiers: Verifiers,
    report: &'a mut dyn FnMut(Check),
    /// Endpoints already checked, each with the step that failed.
    visited: Vec<(Endpoint, Option<CheckKind>)>,
}

/// Checks everything that a configuration depends on and reports each finding as it is made.
///
/// # Errors
/// If there are no root certificates.
pub async fn examine(
    config: &Config,
    tls: &UpstreamTls,
    clock: Clock,
    report: &mut dyn FnMut(Check),
) -> Result<(), TlsError> {
    let live = &*config.live;
    let dial_config = DialConfig::of(tls.configs.clone(), &live.upstream);
    let client = ControlClient::new(dial_config.clone(), live.token.request_timeout);
    let issuer = HttpIssuer::new(client.clone(), clock);
    let api = HttpApi::new(client.into(), IdGenerator::default());
    let verifiers = tls.verifiers()?;
    let mut doctor = Doctor {
        live,
        dial_config,
        verifiers,
        report,
        visited: Vec::new(),
    };
    for credential in &live.credentials {
        let token_endpoint = Endpoint::of_uri(&credential.token_url);
        let token_endpoint_fails = doctor.visit(token_endpoint).await;
        let gateway_fails = doctor.visit(Some(Endpoint::of(&credential.api.url))).await;
        let token = login::examine(
            credential,
            token_endpoint_fails,
            &issuer,
            clock,
            doctor.report,
        )
        .await;
        site::examine(credential, &token, gateway_fails, &api, doctor.report).await;
        site::warn_of_us_hosts(credential).map(&mut *doctor.report);
    }
    for route in live.routes.iter().filter(|route| !route.built_in) {
        if let RouteTarget::Fixed(destination) = &route.target {
            doctor.visit(Some(Endpoint::of(&destination.url))).await;
        }
    }
    if let (Some(store), Some(fleet)) = (&config.boot.fleet_store, &live.fleet) {
        let source = Source {
            store,
            fleet,
            upstream: &live.upstream,
            roots: tls.roots(),
        };
        let with = store::Examination {
            source,
            credentials: &live.credentials,
            clock,
        };
        store::examine(&with, report).await;
    }
    Ok(())
}

impl Doctor<'_> {
    /// Connects to an endpoint once; returns the step that failed.
    async fn visit(&mut self, endpoint: Option<Endpoint>) -> Option<CheckKind> {
        let endpoint = endpoint?;
        if let Some((_, outcome)) = self.visited.iter().find(|(known, _)| *known == endpoint) {
            return *outcome;
        }
        let upstream = &self.live.upstream;
        let outcome = connection::examine(
            &endpoint,
            &self.dial_config,
            &self.verifiers,
            upstream,
            self.report,
        )
        .await
        .err();
        self.visited.push((endpoint, outcome));
        outcome
    }
}
