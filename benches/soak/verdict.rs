//! The rules by which each request is accounted for (docs/interface.md section 4.4).

use std::time::Duration;

use crate::ledger::{Account, ConnectionUse, End, Evidence, Outcome, Treatment, Upload};
use crate::plan::{Behaviour, Credential, Plan, Service, Version};
use crate::token_history::Unauthorized;
use crate::windows::Fault;

/// The verdict on a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Category {
    Ok,
    /// Rejected by the gateway as it should be.
    Rejected,
    /// The caller left as planned.
    CallerLeft,
    /// Failed in a documented way, because of what a fault did.
    Documented(&'static str),
    /// Failed without a fault that explains it, or without any end.
    Lost(String),
    /// Sent to the upstream more often than the rules permit.
    Duplicated(String),
    /// Something else arrived than was sent.
    Corrupted(String),
}

impl Category {
    pub(crate) fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Lost(_) | Self::Duplicated(_) | Self::Corrupted(_)
        )
    }

    /// Returns whether the gateway closed the connection at `limits.max_connections`.
    pub(crate) fn is_closed_at_limit(&self) -> bool {
        matches!(self, Self::Documented(NOT_CONNECTED | NOT_READ))
    }
}

const NOT_CONNECTED: &str = "no connection: the gateway counts one closed at its limit";
const NOT_READ: &str = "no response: the gateway counts a connection closed at its limit";
/// Idle time after which the gateway may close a connection while the next request is on its way: it
/// does so after 10 s if no request was admitted on it.
const IDLE: Duration = Duration::from_millis(9500);

/// The times for which the effects of faults last.
const UPSTREAM_EFFECT: Duration = Duration::from_secs(5);
/// The keeper waits longer after each failure.
const TOKEN_EFFECT: Duration = Duration::from_secs(45);
/// A lease without the store, and then the queue's longest wait.
const STORE_EFFECT: Duration = Duration::from_secs(20);
/// The time for which a busy machine delays what follows.
const STARVATION_EFFECT: Duration = Duration::from_secs(6);

/// Returns the category of a request whose account is complete.
pub(crate) fn of(account: &Account, evidence: &Evidence) -> Category {
    let category = category(account, evidence);
    let is_lost = matches!(category, Category::Lost(_));
    if is_lost && covers(account, evidence, &[Fault::Starvation], STARVATION_EFFECT) {
        return Category::Documented("no processor time");
    }
    category
}

fn category(account: &Account, evidence: &Evidence) -> Category {
    for hit in &account.hits {
        if let Upload::Corrupt(what) = &hit.upload {
            return Category::Corrupted(format!("upload: {what}"));
        }
    }
    if let Some(what) = duplicated(account, evidence) {
        return Category::Duplicated(what);
    }
    let Some((_, outcome)) = &account.ended else {
        return Category::Lost("the caller is still waiting".to_owned());
    };
    match outcome {
        Outcome::Responded {
            end: End::Corrupt(what),
            ..
        } => Category::Corrupted(format!("response: {what}")),
        Outcome::Left => Category::CallerLeft,
        Outcome::Hung => Category::Lost("no end within a minute".to_owned()),
        Outcome::NotConnected(_) => explained(is_limit_reached(account, evidence), NOT_CONNECTED),
        Outcome::NoResponse { connection, .. } => no_response(account, evidence, connection),
        Outcome::Responded {
            status,
            reason,
            end,
        } => responded(account, evidence, *status, reason.as_deref(), end),
    }
}

fn explained(is_explained: bool, cause: &'static str) -> Category {
    if is_explained {
        Category::Documented(cause)
    } else {
        Category::Lost(format!("not explained: {cause}"))
    }
}

/// Returns what permits none of the repetitions of a request.
fn duplicated(account: &Account, evidence: &Evidence) -> Option<String> {
    let plan = &account.plan;
    let repeated = account.hits.len().saturating_sub(1);
    if plan.service == Service::Rejected && !account.hits.is_empty() {
        return Some("a rejected request was sent".to_owned());
    }
    let mut unhinted = 0;
    for hit in &account.hits[..repeated] {
        let is_permitted = match hit.treatment {
            Treatment::Failed(401 | 429) => true,
            Treatment::Failed(503) if plan.is_idempotent() => true,
            Treatment::Failed(502..=504) => {
                unhinted += 1;
                matches!(plan.method, "GET" | "HEAD") && unhinted == 1
            }
            Treatment::Broken => plan.is_repeatable(),
            // GOAWAY ended its connection before the stall was over.
            Treatment::Stalled => plan.is_repeatable() && is_ended_by_goaway(account, evidence),
            _ => false,
        };
        if !is_permitted {
            return Some(format!("sent again after {:?}", hit.treatment));
        }
    }
    None
}

/// Returns the category of a request whose connection ended. The gateway closes none with a request
/// that it has admitted, and says when it does so for others.
fn no_response(account: &Account, evidence: &Evidence, connection: &ConnectionUse) -> Category {
    if account.plan.behaviour == Behaviour::StallUpload {
        return Category::Documented("connection closed: the caller stalled");
    }
    if is_closed_by_caller(account, evidence) {
        return Category::CallerLeft;
    }
    if !account.hits.is_empty() {
        return Category::Lost("no response to a request that was sent".to_owned());
    }
    let idle = account.sent.saturating_duration_since(connection.since);
    if connection.is_reused && idle > IDLE {
        return Category::Documented("no response: an idle connection was closed");
    }
    let (_, until) = period(account);
    let from = connection.since.min(account.sent);
    explained(evidence.closures.covers(from, until), NOT_READ)
}

fn responded(
    account: &Account,
    evidence: &Evidence,
    status: u16,
    reason: Option<&str>,
    end: &End,
) -> Category {
    let last = account.hits.last().map(|hit| hit.treatment);
    if let Some(reason) = reason {
        return own(account, evidence, status, reason, last);
    }
    if *end == End::Truncated {
        if is_closed_by_caller(account, evidence) {
            return Category::CallerLeft;
        }
        return match last {
            Some(Treatment::Broken) => Category::Documented("truncated: the upstream broke off"),
            Some(Treatment::Stalled) => Category::Documented("truncated: the upstream stalled"),
            _ => explained(is_ended_by_goaway(account, evidence), "truncated: GOAWAY"),
        };
    }
    match (status, last) {
        (200, Some(Treatment::Served)) => Category::Ok,
        // The response may be complete before the upstream has noted it.
        (200, Some(Treatment::Gone | Treatment::Open)) => {
            Category::Lost("complete for the caller only".to_owned())
        }
        (200, _) => Category::Lost("a response that the upstream did not send".to_owned()),
        (401, Some(Treatment::Failed(401))) => unauthorized(account, evidence),
        (429, Some(Treatment::Failed(429))) => Category::Documented("429 of the upstream"),
        (503, Some(Treatment::Failed(503))) => Category::Documented("503 of the upstream"),
        (502, Some(Treatment::Failed(502))) => Category::Documented("502 of the upstream"),
        _ => Category::Lost(format!("status {status} after {last:?}")),
    }
}

/// Returns the category of a request whose last arrival the upstream rejected for its token.
fn unauthorized(account: &Account, evidence: &Evidence) -> Category {
    let last = account.hits.last();
    let Some((hit, token)) = last.and_then(|hit| Some((hit, hit.token?))) else {
        return Category::Lost("401 without a token".to_owned());
    };
    let explained = evidence.tokens.explain(&Unauthorized {
        scope: account.plan.scope(),
        token,
        arrived: hit.at,
        ended: period(account).1,
        is_replayable: account.plan.is_replayable(),
    });
    match explained {
        Ok(rule) => Category::Documented(rule),
        Err(what) => Category::Lost(what.to_owned()),
    }
}

/// Returns the category of a response of the gateway itself.
fn own(
    account: &Account,
    evidence: &Evidence,
    status: u16,
    reason: &str,
    last: Option<Treatment>,
) -> Category {
    let plan = &account.plan;
    let during = |faults: &[Fault], effect| covers(account, evidence, faults, effect);
    match (status, reason) {
        (401, "caller_unknown") if plan.credential == Credential::Wrong => Category::Rejected,
        (403, "caller_forbidden") if plan.service == Service::Rejected => Category::Rejected,
        (408, "request_timeout") if plan.behaviour == Behaviour::StallUpload => {
            Category::Documented("408: the caller stalled")
        }
        (502, "upstream_broken") => match last {
            Some(Treatment::Broken) => Category::Documented("502: the upstream broke off"),
            _ => explained(
                during(
                    &[Fault::IdleClosed, Fault::GoAway, Fault::StreamRefused],
                    UPSTREAM_EFFECT,
                ),
                "502: the upstream closed its connections",
            ),
        },
        (504, "upstream_timeout") => explained(
            last == Some(Treatment::Stalled),
            "504: the upstream stalled",
        ),
        (503, "token_unavailable") => {
            let (from, until) = period(account);
            let is_wanted = |fault: Fault| fault.is_token_service();
            explained(
                evidence
                    .windows
                    .covers(is_wanted, TOKEN_EFFECT, from, until),
                "503: the token service failed",
            )
        }
        (503, "queue_timeout") => explained(
            is_limited(plan) && is_queue_disturbed(account, evidence),
            "503: the queue's limit waits for the store or the upstream",
        ),
        (503, "overloaded") if plan.credential == Credential::Limited => {
            Category::Documented("503: the caller's own limit")
        }
        (503, "overloaded") => explained(
            is_limit_reached(account, evidence)
                || is_limited(plan) && is_queue_disturbed(account, evidence),
            "503: many connections or requests",
        ),
        _ => Category::Lost(format!("{status} {reason}")),
    }
}

/// Returns whether the gateway closed or refused a connection at its limit meanwhile.
fn is_limit_reached(account: &Account, evidence: &Evidence) -> bool {
    let (from, until) = period(account);
    evidence.closures.covers(from, until)
}

/// Returns whether the caller closed its HTTP/2 connection while the request was in progress.
fn is_closed_by_caller(account: &Account, evidence: &Evidence) -> bool {
    account.plan.version == Version::Http2
        && covers(
            account,
            evidence,
            &[Fault::CallerClosesHttp2],
            Duration::ZERO,
        )
}

/// Returns whether an upstream's GOAWAY may have ended the request.
fn is_ended_by_goaway(account: &Account, evidence: &Evidence) -> bool {
    account.plan.service == Service::Http2
        && covers(account, evidence, &[Fault::GoAway], UPSTREAM_EFFECT)
}

fn is_limited(plan: &Plan) -> bool {
    matches!(plan.service, Service::OData | Service::Gated)
}

/// Returns whether permits came late: from the store, or because requests before took long.
fn is_queue_disturbed(account: &Account, evidence: &Evidence) -> bool {
    let (from, until) = period(account);
    let is_wanted = |fault: Fault| {
        fault.is_store()
            || matches!(
                fault,
                Fault::Stall | Fault::StallMidBody | Fault::Status429 | Fault::Status503
            )
            || fault.is_token_service()
    };
    evidence
        .windows
        .covers(is_wanted, STORE_EFFECT, from, until)
}

fn covers(account: &Account, evidence: &Evidence, faults: &[Fault], effect: Duration) -> bool {
    let (from, until) = period(account);
    evidence
        .windows
        .covers(|fault| faults.contains(&fault), effect, from, until)
}

fn period(account: &Account) -> (tokio::time::Instant, tokio::time::Instant) {
    let ended = account.ended.as_ref().map(|(ended, _)| *ended);
    (account.sent, ended.unwrap_or(account.sent))
}
