//! The emulated Citrix Cloud: a token service, and a service that limits concurrent requests.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use super::clocks;
use super::plan::{Failure, Plan, Refusal};
use super::trace::Trace;
use crate::token::issuer::{IssuedToken, Issuer, LoginError, LoginRequest};
use crate::token::outcome::Outcome;
use crate::token::response::{Grant, Lifetime};
use crate::token::status::Skew;

/// `token.request_timeout`.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const TRIP: Duration = Duration::from_millis(10);

/// Citrix, for all replicas.
pub(super) struct Cloud {
    plan: Plan,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    /// The valid secrets.
    secrets: Vec<u64>,
    failure: Option<Failure>,
    refusal: Option<Refusal>,
    tokens: Vec<Issued>,
    logins: Vec<Instant>,
    /// Before this moment a 429 asked for no login; with the secret of that login, since a new one is
    /// tried at once.
    no_login_before: Option<(Instant, u64)>,
    in_flight: Vec<InFlight>,
    /// Until then, replicas may not know of each other.
    unsettled_until: Instant,
    next_request: u64,
}

struct Issued {
    expires: Instant,
    revoked: bool,
}

struct InFlight {
    number: u64,
    /// A fault of the store or of a replica explains that it exceeds the limit.
    excused: bool,
}

/// A response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) hint: Option<Duration>,
}

/// A request in progress, which ends when this is dropped.
struct Running<'c>(&'c Cloud, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight.retain(|request| request.number != self.1);
    }
}

/// A request to the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) caller: usize,
    /// The number in the token's text.
    pub(super) token: usize,
    /// When its permit was granted, if Citrix limits it.
    pub(super) granted: Option<Instant>,
    pub(super) is_permitted: bool,
}

impl Cloud {
    pub(super) fn new(plan: &Plan, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            plan: plan.clone(),
            trace,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(plan.seed ^ 0xC1),
                secrets: vec![1],
                failure: None,
                refusal: None,
                tokens: Vec::new(),
                logins: Vec::new(),
                no_login_before: None,
                in_flight: Vec::new(),
                unsettled_until: Instant::now(),
                next_request: 0,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    pub(super) fn set_refusal(&self, refusal: Option<Refusal>) {
        self.lock().refusal = refusal;
    }

    pub(super) fn revoke(&self) {
        let mut state = self.lock();
        state
            .tokens
            .iter_mut()
            .for_each(|token| token.revoked = true);
    }

    pub(super) fn add_secret(&self, secret: u64) {
        self.lock().secrets.push(secret);
    }

    pub(super) fn remove_secrets_before(&self, secret: u64) {
        self.lock().secrets.retain(|valid| *valid >= secret);
    }

    /// Forgets the wait that a 429 asked for: a new secret or a restarted process may log in.
    pub(super) fn permit_login(&self) {
        self.lock().no_login_before = None;
    }

    /// Replicas may not know of each other until `until`: their permits and logins are not counted
    /// as those of one.
    pub(super) fn unsettle(&self, until: Instant) {
        let mut state = self.lock();
        state.unsettled_until = state.unsettled_until.max(until);
        state
            .in_flight
            .iter_mut()
            .for_each(|request| request.excused = true);
    }

    /// Returns the logins in the last `time`.
    pub(super) fn logins_within(&self, time: Duration) -> usize {
        let logins = &self.lock().logins;
        let recent = logins.iter().rev();
        recent.take_while(|at| at.elapsed() <= time).count()
    }

    /// Returns the number of requests in progress.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight.len()
    }

    /// Returns the response to a request.
    pub(super) async fn send(&self, request: Request) -> Response {
        // As it leaves: a process that stops then has sent it.
        let expires = self.lock().tokens[request.token].expires;
        self.trace.check(Instant::now() < expires, || {
            format!("expired token {} was sent: {request:?}", request.token)
        });
        sleep(TRIP).await;
        let (mut response, time, _running) = self.arrive(request);
        sleep(time).await;
        self.trace.record(
            "response",
            request.caller,
            [response.status.as_u16().into(), request.token as u64],
        );
        if response.status != StatusCode::TOO_MANY_REQUESTS
            && response.status != StatusCode::SERVICE_UNAVAILABLE
        {
            response.hint = None;
        }
        response
    }

    fn arrive(&self, request: Request) -> (Response, Duration, Option<Running<'_>>) {
        let mut state = self.lock();
        let now = Instant::now();
        let respond = |status, hint| (Response { status, hint }, TRIP, None);
        let token = &state.tokens[request.token];
        if now >= token.expires || token.revoked || !request.is_permitted {
            return respond(StatusCode::UNAUTHORIZED, None);
        }
        match state.refusal {
            Some(Refusal::Busy(hint)) => return respond(StatusCode::TOO_MANY_REQUESTS, hint),
            Some(Refusal::Unavailable(hint)) => {
                return respond(StatusCode::SERVICE_UNAVAILABLE, hint);
            }
            _ => {}
        }
        let factor = match state.refusal {
            Some(Refusal::Slow(factor)) => factor,
            _ => 1,
        };
        let time = self.plan.query.mul_f64(0.5 + state.random.f64()) * factor;
        let response = Response {
            status: StatusCode::OK,
            hint: None,
        };
        let Some(granted) = request.granted else {
            return (response, time / 4, None);
        };
        let counted = state
            .in_flight
            .iter()
            .filter(|other| !other.excused)
            .count();
        let is_unsettled = granted < state.unsettled_until;
        self.trace
            .check(is_unsettled || counted < self.plan.permits, || {
                format!(
                    "{} requests in progress at the arrival of {request:?}, limit {}",
                    counted, self.plan.permits
                )
            });
        state.next_request += 1;
        let number = state.next_request;
        state.in_flight.push(InFlight {
            number,
            excused: is_unsettled,
        });
        (response, time, Some(Running(self, number)))
    }

    /// Decides on a login that arrives.
    fn login(&self, replica: usize, secret: u64) -> (Duration, Result<Duration, LoginError>) {
        let mut state = self.lock();
        let now = Instant::now();
        let is_early = state
            .no_login_before
            .is_some_and(|(until, of)| now < until && of == secret);
        self.trace
            .check(!is_early || now < state.unsettled_until, || {
                format!("replica {replica} logs in although a 429 asked it to wait")
            });
        state.logins.push(now);
        let latency = Duration::from_millis(state.random.u64(30..600));
        let failed = |outcome, hint| {
            let error = LoginError {
                retry_after: hint,
                ..LoginError::new(outcome, None)
            };
            (latency, Err(error))
        };
        let lifetime = match state.failure {
            Some(Failure::Refused) => return failed(Outcome::Refused, None),
            Some(Failure::Stalled) => {
                let error = LoginError::new(Outcome::Timeout, None);
                return (REQUEST_TIMEOUT, Err(error));
            }
            Some(Failure::Limited(hint)) => {
                if let Some(hint) = hint {
                    let known = state.no_login_before.filter(|(_, of)| *of == secret);
                    let until = known.map_or(now, |(until, _)| until).max(now + hint);
                    state.no_login_before = Some((until, secret));
                }
                return failed(Outcome::RateLimited, hint);
            }
            Some(Failure::ServerError(hint)) => return failed(Outcome::Http5xx, hint),
            Some(Failure::Malformed) => {
                let outcomes = [Outcome::Malformed, Outcome::NotJson, Outcome::Truncated];
                let outcome = outcomes[state.random.usize(..outcomes.len())];
                return failed(outcome, None);
            }
            Some(Failure::Rejected) => return failed(Outcome::Unauthorized, None),
            Some(Failure::Slow(time)) => return (time, Ok(self.plan.lifetime)),
            Some(Failure::ShortLived(lifetime)) => lifetime,
            None => self.plan.lifetime,
        };
        if !state.secrets.contains(&secret) {
            return failed(Outcome::InvalidClient, None);
        }
        (latency, Ok(lifetime))
    }

    fn is_early(&self) -> bool {
        self.lock().random.bool()
    }

    /// Issues a token.
    fn issue(&self, lifetime: Duration) -> Grant {
        let mut state = self.lock();
        state.tokens.push(Issued {
            expires: Instant::now() + lifetime,
            revoked: false,
        });
        let number = state.tokens.len() - 1;
        let lifetime = match self.plan.states_expiry {
            true => Lifetime::Until(clocks::citrix() + lifetime),
            false => Lifetime::FromRequest(lifetime),
        };
        Grant {
            token: SecretString::from(format!("token-{number}")),
            lifetime,
            issued: None,
        }
    }
}

/// The token service as one replica reaches it.
pub(super) struct TokenService {
    pub(super) cloud: Arc<Cloud>,
    pub(super) replica: usize,
}

impl Issuer for TokenService {
    async fn log_in(&self, login: LoginRequest<'_>) -> Result<IssuedToken, LoginError> {
        let Self { cloud, replica } = self;
        let secret = login.client_secret.expose_secret();
        let secret = secret.strip_prefix("secret-").unwrap().parse().unwrap();
        let (began, sent) = (Instant::now(), clocks::CLOCKS[*replica].now());
        let (latency, result) = cloud.login(*replica, secret);
        // The service issues the token before or after what delays the response.
        let is_early = cloud.is_early();
        let issue = || result.as_ref().ok().map(|lifetime| cloud.issue(*lifetime));
        let (mut date, mut grant) = (clocks::citrix(), is_early.then(issue).flatten());
        sleep(latency).await;
        if !is_early {
            (date, grant) = (clocks::citrix(), issue());
        }
        let outcome = result
            .as_ref()
            .map_or_else(|error| error.outcome, |_| Outcome::Ok);
        cloud
            .trace
            .record("login", *replica, [secret, outcome as u64]);
        let skew = Skew::measure(date, sent, began.elapsed());
        result?;
        Ok(IssuedToken {
            grant: grant.expect("the login succeeded"),
            transaction_id: None,
            skew: Some(skew),
        })
    }
}
