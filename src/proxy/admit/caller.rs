//! Whose request it is, and what those are told who are nobody.

use http::HeaderMap;

use super::super::Shared;
use crate::browser_guard;
use crate::callers::credentials::Shown;
use crate::callers::{Callers, Unknown};
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::snapshot::Snapshot;
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
        return anybody(snapshot, authority, headers, exchange).map(|()| None);
    }
    let shown = Shown::read(headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let signer = shared.logins.signer(snapshot);
    let number = match callers.admit(&shown, exchange.origin(), signer, shared.clock) {
        Ok(number) => number,
        Err(unknown) => {
            let failure = refuse_unknown(callers, unknown);
            exchange.guessed = callers.is_guess(unknown, &shown);
            return Err(failure);
        }
    };
    guard_pages(callers, number, authority, headers)?;
    Ok(Some(number))
}

/// Lets in whoever comes, where nobody is configured: from this machine, but for a browser's page of another site.
pub(in crate::proxy) fn anybody(
    snapshot: &Snapshot,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
    exchange: &Exchange,
) -> Result<(), Failure> {
    // A balancer on this machine, which connects from loopback, must not lend that to everybody it serves.
    if !snapshot.live.allow_anonymous && !exchange.is_local() {
        let detail = "nobody is configured as a caller, so only this machine may use the gateway";
        return Err(Failure::new(Reason::CallerForbidden, detail));
    }
    browser_guard::check_site(authority, headers)
}

/// Keeps pages of other sites out of what a caller without a secret may do: what a browser does by itself, connecting
/// and showing a certificate, lets no page in.
pub(in crate::proxy) fn guard_pages(
    callers: &Callers,
    number: usize,
    authority: Option<&Authority<'_>>,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    if callers
        .get(number)
        .is_some_and(|caller| caller.secret.is_none())
    {
        browser_guard::check_site(authority, headers)?;
    }
    Ok(())
}

/// The same answer whatever was wrong: who tries secrets shall not learn that one was right, but for the place.
fn refuse_unknown(callers: &Callers, unknown: Unknown<'_>) -> Failure {
    // A login helps who shows an old token, whether or not anybody has a secret.
    let failure = if callers.have_secrets() || unknown == Unknown::StaleToken {
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
    failure.because(unknown.to_string())
}
