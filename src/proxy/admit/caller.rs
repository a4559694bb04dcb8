//! The caller of a request.

use http::HeaderMap;

use crate::callers::browser_guard;
use crate::callers::credentials::PresentedCredentials;
use crate::callers::{Callers, Identity, UnknownCaller};
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
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
    if callers.is_empty() {
        let permitted = snapshot.live.allow_anonymous || exchange.is_local();
        return browser_guard::admit_anonymous(permitted, authority, headers, fields)
            .map(|()| None);
    }
    let presented = PresentedCredentials::read(headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let signer = shared.login_endpoints.signer(snapshot.signer.as_ref());
    let peer = exchange.peer_identity();
    let Identity { caller, secret } = match callers.admit(&presented, peer, signer, shared.clock) {
        Ok(identity) => identity,
        Err(unknown) => {
            let failure = unknown_caller(callers, unknown);
            exchange.set_bad_secret(callers.is_bad_secret(unknown, &presented));
            return Err(failure);
        }
    };
    exchange.set_admitted_by_authorization(secret.is_some() && presented.is_authorization());
    if let Some((secret, (_, state))) = secret.zip(snapshot.caller(caller)) {
        state.secret_used(secret, exchange.began());
    }
    browser_guard::reject_cross_site(callers, caller, authority, headers, fields)?;
    Ok(Some(caller))
}

/// Returns one failure for every cause, so that a response does not confirm a secret presented from
/// the wrong network.
fn unknown_caller(callers: &Callers, unknown: UnknownCaller<'_>) -> Failure {
    // A stale gateway token can be replaced by a login, even if no caller has a secret.
    let failure = if callers.have_secrets() || unknown == UnknownCaller::StaleToken {
        let detail = "no valid credentials; send a caller's name and secret by HTTP Basic, or its secret in X-Api-Key \
                      or as a bearer token, from a network of that caller";
        Failure::new(Reason::CallerUnknown, detail)
    } else {
        let detail = "no caller is configured for this network or client certificate";
        Failure::new(Reason::CallerForbidden, detail)
    };
    failure.with_source(unknown.to_string())
}
