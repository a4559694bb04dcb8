//! A fault every second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use testkit::store::StoreServer;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::Fallible;
use crate::caller::Callers;
use crate::configuration::{INVALID, MAX_CONNECTIONS, Settings, toml};
use crate::plan::{Behaviour, Plan, Version};
use crate::tokens::{Mode, Tokens};
use crate::upstream::{Action, Upstream};
use crate::windows::Fault;

/// The gateway reads changed files within this time.
const FILES_READ: Duration = Duration::from_secs(12);
/// A second revocation within a minute counts as a rejection of a fresh token, after which the
/// gateway forces no login for a while.
const REVOCATION_INTERVAL: Duration = Duration::from_secs(25);
/// Time for which excessive connections stay open: less than any timeout of the gateway's.
const CONNECTION_TIME: Duration = Duration::from_millis(1500);
const SHORT: Duration = Duration::from_secs(2);

/// Injects faults in an order that the seed determines.
pub(crate) struct Injector {
    pub(crate) callers: Arc<Callers>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) store: Arc<Store>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) random: Rng,
    /// Faults that are still to come before each kind comes again.
    pub(crate) bag: Vec<Fault>,
    /// Number of the configuration in force.
    pub(crate) variation: u64,
    pub(crate) last_revocation: Instant,
}

/// The store and whether a fault of it is in progress.
pub(crate) struct Store {
    server: Mutex<StoreServer>,
    is_busy: AtomicBool,
}

impl Store {
    pub(crate) fn new(server: StoreServer) -> Arc<Self> {
        Arc::new(Self {
            server: Mutex::new(server),
            is_busy: AtomicBool::new(false),
        })
    }

    /// Uses the server on a thread that may block.
    async fn with(self: &Arc<Self>, use_it: impl FnOnce(&mut StoreServer) + Send + 'static) {
        let store = Arc::clone(self);
        let used = tokio::task::spawn_blocking(move || {
            use_it(&mut store.server.lock().unwrap_or_else(PoisonError::into_inner));
        });
        // The store's own checks end the soak's process if they fail.
        used.await.ok();
    }
}

/// The client secrets: those with a number from the first to the second one are accepted, and the
/// second one is in the file.
pub(crate) struct Secrets {
    numbers: Mutex<(u64, u64)>,
    tokens: Arc<Tokens>,
}

impl Secrets {
    pub(crate) fn new(tokens: Arc<Tokens>) -> Arc<Self> {
        Arc::new(Self {
            numbers: Mutex::new((0, 0)),
            tokens,
        })
    }

    /// Returns the secret with this number.
    pub(crate) fn secret(number: u64) -> String {
        format!("client-secret-number-{number}-of-the-soak")
    }

    /// Adds a secret and returns its number.
    fn next(&self) -> u64 {
        let number = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.1 += 1;
            numbers.1
        };
        self.accept_from(0);
        number
    }

    /// Rejects the secrets before this number.
    fn accept_from(&self, first: u64) {
        let accepted = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.0 = numbers.0.max(first);
            numbers.0..=numbers.1
        };
        self.tokens
            .accept_secrets(accepted.map(Self::secret).collect());
    }
}

impl Injector {
    /// Injects faults until `end`.
    pub(crate) async fn run(mut self, end: Instant) -> Fallible<()> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if Instant::now() >= end {
                return Ok(());
            }
            let fault = self.draw();
            self.inject(fault)?;
        }
    }

    fn draw(&mut self) -> Fault {
        loop {
            if self.bag.is_empty() {
                self.bag = Fault::ALL.to_vec();
                self.random.shuffle(&mut self.bag);
            }
            let is_busy = self.store.is_busy.load(Ordering::SeqCst);
            let fault = self.bag.pop();
            if let Some(fault) = fault.filter(|fault| !(fault.is_store() && is_busy)) {
                return fault;
            }
        }
    }

    fn inject(&mut self, fault: Fault) -> Fallible<()> {
        let gateway = &self.callers.gateway;
        let (begin, mut time) = (Instant::now(), SHORT);
        match fault {
            Fault::TokenRevoked => self.revoke(),
            Fault::TokenServiceFails => self.fail_logins(Mode::Fail),
            Fault::TokenServiceStalls => self.fail_logins(Mode::Stall),
            Fault::TokenServiceLimits => self.fail_logins(Mode::Limit),
            Fault::SecretRotated | Fault::SecretReplaced => {
                time = FILES_READ;
                self.change_secret(fault == Fault::SecretReplaced)?;
            }
            Fault::IdleClosed => self.upstream.idle_closed.send_modify(|count| *count += 1),
            Fault::GoAway => self.upstream.goaway.send_modify(|count| *count += 1),
            Fault::ReloadChanged => {
                self.variation += 1;
                gateway.reload(&toml(&self.settings, &gateway.folder, self.variation))?;
            }
            Fault::ReloadInvalid => {
                gateway.reload(INVALID)?;
                let valid = toml(&self.settings, &gateway.folder, self.variation);
                let gateway = Arc::clone(gateway);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(600)).await;
                    // A gateway that has ended fails the soak anyway.
                    gateway.reload(&valid).ok();
                });
            }
            Fault::CertificateSwapped => gateway.swap_certificate(),
            Fault::SlowCallers => self.behave(&[Behaviour::DripUpload, Behaviour::DripDownload], 6),
            Fault::StalledCallers => self.behave(&[Behaviour::StallUpload], 4),
            Fault::CallersLeave => {
                self.behave(&[Behaviour::AbortUpload, Behaviour::AbortDownload], 12);
            }
            Fault::CallerClosesHttp2 => self.callers.close_http2(),
            Fault::ManyConnections => self.exceed_max_connections(),
            Fault::StoreStopped
            | Fault::StorePaused
            | Fault::StoreFlushed
            | Fault::StoreRestarted => time = self.disturb_store(fault),
            _ => self.arm(fault),
        }
        self.callers.ledger.evidence.windows.add(fault, begin, time);
        Ok(())
    }

    /// Lets the next requests at the upstream fail.
    fn arm(&mut self, fault: Fault) {
        let (action, count) = match fault {
            Fault::ResetBefore => (Action::ResetBefore, 4),
            Fault::ResetAfter => (Action::ResetAfter, 4),
            Fault::CloseAfter => (Action::CloseAfter, 4),
            Fault::ResetMidBody => (Action::ResetMidBody, 4),
            Fault::Stall => (Action::Stall, 2),
            Fault::StallMidBody => (Action::StallMidBody, 2),
            Fault::Status429 => (Action::Status(429, true), 3),
            Fault::Status503 => (Action::Status(503, true), 3),
            Fault::Status503Bare => (Action::Status(503, false), 4),
            Fault::Status502 => (Action::Status(502, false), 4),
            Fault::StreamRefused => return self.upstream.arm(true, Action::Refuse, 4),
            // One of the codes of RFC 9113 section 7 except REFUSED_STREAM, NO_ERROR included.
            _ => {
                let code = self.random.u32(0..14);
                let code = if code == 7 { 8 } else { code };
                return self.upstream.arm(true, Action::Reset(code), 2);
            }
        };
        self.upstream.arm(self.random.u8(..3) == 0, action, count);
    }

    /// Revokes all tokens, unless that was done a moment ago.
    fn revoke(&mut self) {
        if self.last_revocation.elapsed() > REVOCATION_INTERVAL {
            self.last_revocation = Instant::now();
            self.upstream.tokens.revoke();
        }
    }

    fn fail_logins(&mut self, mode: Mode) {
        let tokens = Arc::clone(&self.upstream.tokens);
        tokens.set(mode);
        if self.random.bool() {
            self.revoke();
        }
        tokio::spawn(async move {
            sleep(SHORT).await;
            tokens.set(Mode::Grant);
        });
    }

    /// Writes another secret. The old one is accepted until the gateway has read it, or no longer.
    fn change_secret(&mut self, is_abrupt: bool) -> Fallible<()> {
        let number = self.secrets.next();
        if is_abrupt {
            self.secrets.accept_from(number);
            if self.random.bool() {
                self.revoke();
            }
        }
        let secrets = Arc::clone(&self.secrets);
        tokio::spawn(async move {
            sleep(FILES_READ).await;
            secrets.accept_from(number);
        });
        let folder = &self.callers.gateway.folder;
        self.settings.write_secret(folder, &Secrets::secret(number))
    }

    /// Starts requests whose callers behave in these ways by turns.
    fn behave(&mut self, behaviours: &[Behaviour], count: usize) {
        for number in 0..count {
            let id = self.callers.ledger.next_id();
            let mut plan = Plan::draw(&mut self.random, id);
            if number % 3 == 2 {
                plan.version = Version::Http2;
            }
            let plan = plan.behaving(behaviours[number % behaviours.len()]);
            tokio::spawn(Arc::clone(&self.callers).send(plan));
        }
    }

    /// Opens more connections than the gateway permits, for a while, and counts those that it closes
    /// before.
    fn exceed_max_connections(&self) {
        let (plain, tls) = (self.callers.gateway.plain, self.callers.gateway.tls);
        for number in 0..MAX_CONNECTIONS + 100 {
            let address = if number % 4 == 0 { tls } else { plain };
            let ledger = Arc::clone(&self.callers.ledger);
            tokio::spawn(async move {
                if let Ok(connection) = TcpStream::connect(address).await
                    && timeout(CONNECTION_TIME, connection.readable())
                        .await
                        .is_ok()
                {
                    ledger.closed_without_request();
                }
            });
        }
    }

    /// Disturbs the store and returns how long it takes.
    fn disturb_store(&mut self, fault: Fault) -> Duration {
        let time = match fault {
            Fault::StoreStopped | Fault::StoreRestarted => {
                Duration::from_millis(self.random.u64(500..8000))
            }
            _ => SHORT,
        };
        let store = Arc::clone(&self.store);
        store.is_busy.store(true, Ordering::SeqCst);
        tokio::spawn(async move {
            match fault {
                Fault::StoreStopped => {
                    store.with(|server| server.stop()).await;
                    sleep(time).await;
                    store.with(|server| server.resume()).await;
                }
                Fault::StoreRestarted => {
                    store.with(StoreServer::kill).await;
                    sleep(time).await;
                    store.with(StoreServer::restart).await;
                }
                Fault::StorePaused => {
                    let pause =
                        |server: &mut StoreServer| drop(server.run("CLIENT PAUSE 2000 ALL"));
                    store.with(pause).await;
                    sleep(time).await;
                }
                _ => {
                    let flush = |server: &mut StoreServer| drop(server.run("FLUSHALL"));
                    store.with(flush).await;
                }
            }
            sleep(Duration::from_secs(3)).await;
            store.is_busy.store(false, Ordering::SeqCst);
        });
        time
    }
}
