//! The keeper against a scripted issuer, on a paused clock.

mod cache;
mod customer;
mod failures;
mod fleet;
mod forced;
mod log;
mod redaction;
mod refresh;
mod requested;
mod rotation;
mod siblings;
mod simulation;

use std::cell::Cell;
use std::sync::Mutex;

use prometheus::{Registry, TextEncoder};
use secrecy::{ExposeSecret, SecretString};

use self::log::CapturedLog;
use super::*;
use crate::config::{InstanceId, SecretSource, UpstreamEndpoint, UpstreamUrl};
use crate::system::files::FileReader;
use crate::token::Cache;
use crate::token::metrics::TokenMetrics;
use crate::token::response::{Grant, Lifetime};
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};

/// 2026-01-01T00:00:00Z
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    /// The runtime's time at the start, and the offset in seconds by which a test set the wall
    /// clock.
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
    static SET_BY: Cell<i64> = const { Cell::new(0) };
}

/// Returns a wall clock that follows the runtime's time. Each test has a thread and thus a clock of
/// its own.
fn clock() -> Clock {
    STARTED.set(Some(Instant::now()));
    SET_BY.set(0);
    Clock::custom(|| {
        let elapsed = STARTED.get().expect("a test begins with clock()").elapsed();
        let at = SystemTime::UNIX_EPOCH + EPOCH + elapsed;
        let by = Duration::from_secs(SET_BY.get().unsigned_abs());
        if SET_BY.get() < 0 { at - by } else { at + by }
    })
}

/// Shifts the wall clock only, as suspension or a change of the system time does.
fn set_clock_by(seconds: i64) {
    SET_BY.set(SET_BY.get() + seconds);
}

async fn seconds(seconds: f64) {
    // On a paused clock, sleeping advances the time without waiting.
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn secret(text: &str) -> SecretSource {
    SecretSource::Plain(text.into())
}

fn secret_file(path: &std::path::Path) -> SecretSource {
    SecretSource::File(path.to_owned())
}

/// A login as received by the issuer.
#[derive(Clone, Debug)]
struct LoginCall {
    /// Counted from 1.
    number: u32,
    at: Duration,
    secret: String,
}

type IssuerScript = Box<dyn FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send>;

/// An issuer whose results come from a closure.
#[derive(Clone)]
struct ScriptedIssuer {
    script: Arc<Mutex<IssuerScript>>,
    calls: Arc<Mutex<Vec<LoginCall>>>,
    latency: Duration,
    started: Instant,
}

impl Issuer for ScriptedIssuer {
    async fn log_in(&self, login: LoginRequest<'_>) -> Result<IssuedToken, LoginError> {
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let number = u32::try_from(calls.len()).unwrap() + 1;
            calls.push(LoginCall {
                number,
                at: self.started.elapsed(),
                secret: login.client_secret.expose_secret().to_owned(),
            });
            calls.last().unwrap().clone()
        };
        tokio::time::sleep(self.latency).await;
        (self.script.lock().unwrap())(&call)
    }
}

fn granted(lifetime: u64) -> Result<IssuedToken, LoginError> {
    issued(
        "token-text",
        Lifetime::FromRequest(Duration::from_secs(lifetime)),
    )
}

fn issued(token: &str, lifetime: Lifetime) -> Result<IssuedToken, LoginError> {
    Ok(IssuedToken {
        grant: Grant {
            token: SecretString::from(token),
            lifetime,
            issued: None,
        },
        transaction_id: Some(HeaderValue::from_static("11111111-good")),
        skew: None,
    })
}

fn login_error(outcome: Outcome) -> Result<IssuedToken, LoginError> {
    let transaction_id = Some(HeaderValue::from_static("22222222-bad"));
    Err(LoginError {
        transaction_id,
        ..LoginError::new(outcome, None)
    })
}

struct TestKeeper {
    slot: Arc<TokenSlot>,
    clock: Clock,
    registry: Registry,
    calls: Arc<Mutex<Vec<LoginCall>>>,
    settings_sender: watch::Sender<KeeperSettings>,
    task: tokio::task::JoinHandle<Infallible>,
}

impl Drop for TestKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestKeeper {
    fn start(
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Self {
        Self::with(secret("secret-1"), None, Duration::ZERO, script)
    }

    fn with(
        current: SecretSource,
        next: Option<SecretSource>,
        latency: Duration,
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Self {
        Self::of(credential(current, next), None, clock(), latency, script)
    }

    fn of(
        credential: Credential,
        cache: Option<Cache>,
        clock: Clock,
        latency: Duration,
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Self {
        Self::in_fleet(credential, cache, None, clock, latency, script)
    }

    fn in_fleet(
        credential: Credential,
        cache: Option<Cache>,
        fleet: Option<Arc<Fleet>>,
        clock: Clock,
        latency: Duration,
        script: impl FnMut(&LoginCall) -> Result<IssuedToken, LoginError> + Send + 'static,
    ) -> Self {
        let registry = Registry::new();
        let files = FileReader::register(&registry).unwrap();
        let metrics = TokenMetrics::register(&registry).unwrap().customer("acme");
        let slot = Arc::new(TokenSlot::new());
        let calls = Arc::default();
        let issuer = ScriptedIssuer {
            script: Arc::new(Mutex::new(Box::new(script))),
            calls: Arc::clone(&calls),
            latency,
            started: Instant::now(),
        };
        let (settings_sender, settings_receiver) =
            watch::channel(KeeperSettings::new(&credential, settings(), cache));
        let keeper = Keeper::new(
            Arc::new(credential),
            settings_receiver,
            Arc::clone(&slot),
            issuer,
            metrics,
            KeeperContext {
                clock,
                files,
                logins: Arc::default(),
                fleet,
            },
        );
        Self {
            slot,
            clock,
            registry,
            calls,
            settings_sender,
            task: tokio::spawn(keeper.run()),
        }
    }

    /// Returns the generation of the usable token; 0 for none.
    fn usable(&self) -> u64 {
        self.slot
            .usable(Moment::now(self.clock))
            .map_or(0, |token| token.generation())
    }

    fn logins(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn secrets_tried(&self) -> Vec<String> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .map(|call| call.secret.clone())
            .collect()
    }

    /// Returns the seconds between consecutive logins.
    fn gaps(&self) -> Vec<f64> {
        self.calls
            .lock()
            .unwrap()
            .windows(2)
            .map(|pair| (pair[1].at - pair[0].at).as_secs_f64())
            .collect()
    }

    fn metric(&self, series: &str) -> String {
        let page = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let prefix = format!("citrix_auth_proxy_{series} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or("no such series")
            .to_owned()
    }

    fn state(&self) -> crate::token::TokenState {
        self.slot.status().state(self.clock.now())
    }
}

fn credential(client_secret: SecretSource, client_secret_next: Option<SecretSource>) -> Credential {
    let authority = http::uri::Authority::from_static("api.example");
    let api = UpstreamUrl::new(http::uri::Scheme::HTTPS, authority, String::new()).unwrap();
    Credential {
        cloud: citrix_wire::citrix::clouds::Cloud::Commercial,
        customer_id: HeaderValue::from_static("acme"),
        api: UpstreamEndpoint {
            url: api,
            authorization: AuthorizationScheme::Cws,
        },
        client_id: "client-id".to_owned(),
        client_secret,
        client_secret_next,
        instance_id: InstanceId::None,
        token_url: "https://api.example/cctrustoauth2/acme/tokens/clients"
            .parse()
            .unwrap(),
        token_dialect: TokenDialect::Oauth2,
    }
}

fn settings() -> config::TokenSettings {
    config::TokenSettings {
        refresh_at: 0.75,
        startup_wait: Duration::from_secs(5),
        request_timeout: Duration::from_secs(15),
        min_forced_interval: Duration::from_secs(10),
    }
}
