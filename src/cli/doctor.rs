//! Is Citrix to be had from here, and with these credentials? `check --online` asks, and each answer is a [`Check`].
//!
//! One after the other, as the gateway would go: to each host a connection, step by step, then for each customer a login
//! and a question. What an earlier failure makes senseless is told as skipped; all else is tried nevertheless.

mod certificate;
mod check;
mod connection;
mod login;
mod site;

use crate::config::{Live, RouteTarget};
use crate::site::api::HttpApi;
use crate::system::clock::Clock;
use crate::tls::TlsError;
use crate::token::issuer::HttpIssuer;
use crate::upstream::control_plane::ControlClient;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::{self, Verifiers};

pub use check::{Check, Kind, State};
use connection::Place;

/// What all examinations need, and what they found out about hosts.
struct Doctor<'a> {
    live: &'a Live,
    dial_config: DialConfig,
    verifiers: Verifiers,
    tell: &'a mut dyn FnMut(Check),
    /// The hosts that were looked at, and the step at which each failed.
    places: Vec<(Place, Option<Kind>)>,
}

/// Examines everything that `live` needs of the world, and tells each finding as it is made.
///
/// # Errors
/// When the certificates to trust cannot be read.
pub async fn examine(
    live: &Live,
    clock: Clock,
    tell: &mut dyn FnMut(Check),
) -> Result<(), TlsError> {
    let dial_config = DialConfig::new(
        tls::upstream_config(&live.upstream)?,
        live.upstream.egress.clone(),
    );
    let client = ControlClient::new(dial_config.clone(), live.token.request_timeout);
    let issuer = HttpIssuer::new(client.clone(), clock);
    let api = HttpApi(client.into());
    let verifiers = tls::verifiers(&live.upstream)?;
    let mut doctor = Doctor {
        live,
        dial_config,
        verifiers,
        tell,
        places: Vec::new(),
    };
    for credential in &live.credentials {
        let endpoint = Place::of_uri(&credential.token_url);
        let endpoint_fails = doctor.visit(endpoint).await;
        let gateway_fails = doctor.visit(Some(Place::of(&credential.api.url))).await;
        let token = login::examine(credential, endpoint_fails, &issuer, clock, doctor.tell).await;
        site::examine(credential, &token, gateway_fails, &api, doctor.tell).await;
    }
    for route in live.routes.iter().filter(|route| !route.built_in) {
        if let RouteTarget::Fixed(destination) = &route.target {
            doctor.visit(Some(Place::of(&destination.url))).await;
        }
    }
    Ok(())
}

impl Doctor<'_> {
    /// Tries to connect, unless that was tried before; the step that fails.
    async fn visit(&mut self, place: Option<Place>) -> Option<Kind> {
        let place = place?;
        if let Some((_, outcome)) = self.places.iter().find(|(known, _)| *known == place) {
            return *outcome;
        }
        let upstream = &self.live.upstream;
        let outcome = connection::examine(
            &place,
            &self.dial_config,
            &self.verifiers,
            upstream,
            self.tell,
        )
        .await
        .err();
        self.places.push((place, outcome));
        outcome
    }
}
