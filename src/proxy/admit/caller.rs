//! Whose request it is, and what those are told who are nobody.

use http::HeaderMap;

use crate::callers::browser_guard;
use crate::callers::credentials::PresentedCredentials;
use crate::callers::{Callers, UnknownCaller};
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::state::Shared;
use crate::state::snapshot::Snapshot;
use citrix_wire::host::Authority;

/// The place in the configuration of the caller that a request is from; `None` when nobody is configured, and
/// whatever is shown is left unread.
pub(super) fn pick_caller(
    snapshot: &Snapshot,
    shared: &Shared,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    exchange: &mut Exchange,
) -> Result<Option<usize>, Failure> {
    let callers = &snapshot.callers;
    if callers.is_empty() {
        let permitted = snapshot.live.allow_anonymous || exchange.is_local();
        return browser_guard::admit_anonymous(permitted, authority, headers).map(|()| None);
    }
    let shown = PresentedCredentials::read(headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let signer = shared.login_endpoints.signer(snapshot.signer.as_ref());
    let number = match callers.admit(&shown, exchange.peer_identity(), signer, shared.clock) {
        Ok(number) => number,
        Err(unknown) => {
            let failure = refuse_unknown(callers, unknown);
            exchange.bad_secret = callers.is_bad_secret(unknown, &shown);
            return Err(failure);
        }
    };
    browser_guard::reject_cross_site(callers, number, authority, headers)?;
    Ok(Some(number))
}

/// The same answer whatever was wrong: who tries secrets shall not learn that one was right, but for the place.
fn refuse_unknown(callers: &Callers, unknown: UnknownCaller<'_>) -> Failure {
    // A login helps who shows an old token, whether or not anybody has a secret.
    let failure = if callers.have_secrets() || unknown == UnknownCaller::StaleToken {
        let detail = "show a caller's name and secret by HTTP Basic, or its secret in X-Api-Key or as a bearer \
                      token, from where that caller may come";
        Failure::new(Reason::CallerUnknown, detail)
    } else {
        // No secret to be found out, and none that would help.
        Failure::new(
            Reason::CallerForbidden,
            "nobody from where you come may use this gateway",
        )
    };
    failure.with_source(unknown.to_string())
}
