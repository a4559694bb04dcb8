//! The caller of a request.

use http::HeaderMap;

use crate::callers::Identity;
use crate::callers::browser_guard;
use crate::callers::credentials::PresentedCredentials;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::intercepted::CallerSource;
use crate::state::Shared;
use crate::state::Snapshot;
use citrix_wire::host::Authority;
use citrix_wire::known_fields::KnownFields;

/// Authenticates the caller and returns its index in the configuration. In anonymous mode it
/// returns `None` and ignores credentials.
///
/// # Errors
/// `caller_unknown`, `caller_forbidden`, or `bad_request` for a repeated credential field.
pub(super) fn pick_caller(
    snapshot: &Snapshot,
    shared: &Shared,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    fields: KnownFields,
    exchange: &mut Exchange,
) -> Result<Option<usize>, Failure> {
    let callers = &snapshot.callers;
    if exchange.intercepted().is_some() {
        // Whatever admits the request is that of a connection or of a proxy, which a browser uses
        // for the pages of every site.
        browser_guard::check_site(authority, headers, fields)?;
    }
    if callers.is_empty() {
        let permitted = snapshot.live.allow_anonymous || exchange.is_local();
        return browser_guard::admit_anonymous(permitted, authority, headers, fields)
            .map(|()| None);
    }
    let Identity { caller, secret } = identify(snapshot, shared, headers, exchange)?;
    if let Some((secret, (_, state))) = secret.zip(snapshot.caller(caller)) {
        state.secret_used(secret, exchange.began());
    }
    browser_guard::reject_cross_site(callers, caller, authority, headers, fields)?;
    Ok(Some(caller))
}

fn identify(
    snapshot: &Snapshot,
    shared: &Shared,
    headers: &HeaderMap,
    exchange: &mut Exchange,
) -> Result<Identity, Failure> {
    let callers = &snapshot.callers;
    let source = exchange.intercepted().map(|it| &it.caller);
    let of_proxy = matches!(source, Some(CallerSource::ProxyField));
    let presented = match source {
        Some(CallerSource::Tunnel(tunnel)) => {
            return callers.identify_tunnel(tunnel.as_ref(), exchange.peer_identity());
        }
        Some(CallerSource::ProxyField) => PresentedCredentials::read_proxy(headers),
        Some(CallerSource::Request) | None => PresentedCredentials::read(headers),
    };
    let presented =
        presented.map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let signer = shared.login_endpoints.signer(snapshot.signer.as_ref());
    let peer = exchange.peer_identity();
    match callers.admit(&presented, peer, signer, shared.clock) {
        Ok(identity) => {
            let by_authorization = identity.secret.is_some() && presented.is_authorization();
            exchange.set_admitted_by_authorization(by_authorization && !of_proxy);
            Ok(identity)
        }
        Err(unknown) => {
            exchange.set_bad_secret(callers.is_bad_secret(unknown, &presented));
            Err(callers.unknown_caller(unknown, of_proxy))
        }
    }
}
