//! Keepers of tokens: each machine has one for each identity. It logs in if the store grants the
//! login, takes the tokens of others, and without a store logs in for itself.

mod invalid;

use std::mem;

use fleet_protocol::command::{Fact, LoginResult};
use fleet_protocol::machine::{Request, RequestId};
use fleet_protocol::reply::{Body, LoginOutcome};

use super::*;
use crate::simulation::citrix::Account;

/// Customers whose logins a machine begins in a second.
const LOGINS_PER_SECOND: u64 = 50;
const LOCK: Duration = Duration::from_secs(20);
const FORCED_INTERVAL: Duration = Duration::from_secs(10);
/// Time without a store after which a replica without a token logs in for itself.
const OWN_LOGIN: u64 = 2 * SECOND;
/// Time after which a keeper that waits for another replica asks again.
const RETRY: u64 = 5 * SECOND;
/// Delays of commands that concern a token.
const TOLERANCE: u64 = 5 * SECOND;
/// A bound on the time without a token: a lock whose owner ended, and a login.
const MAX_WITHOUT: Duration = Duration::from_secs(30);

pub enum Happening {
    /// A keeper's time, unless it was changed since.
    Due(Place, u64),
    /// A login at Citrix ended.
    Ended(Place, bool),
    /// A request gets 401.
    Rejected(Place),
}

/// A keeper of a process.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    machine: usize,
    epoch: u64,
    identity: usize,
}

/// Returns the time from a login to the next, as the token keeper plans it with this jitter.
fn refresh_after(lifetime: u64, per_mille: u64) -> u64 {
    let usable = lifetime - (60 * SECOND).min(lifetime / 10);
    usable * 3 / 4 * per_mille / 1000
}

/// A token: numbers increase with time.
#[derive(Clone, Copy, Debug)]
struct Token {
    number: u64,
    obtained: StoreTime,
}

impl Token {
    fn seal(self) -> Vec<u8> {
        [self.number, self.obtained.0]
            .map(u64::to_le_bytes)
            .concat()
    }

    fn open(record: &[u8]) -> Self {
        let part = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        Self {
            number: part(0),
            obtained: StoreTime(part(8)),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Keeper {
    /// Number of the token, and when it is due and expires on the machine's clock.
    token: u64,
    due: u64,
    expires: u64,
    /// Number of the last scheduled time.
    schedule: u64,
    attempt: u64,
    failures: u32,
    /// Whether it reads the token of others before it requests a login, has requested one, and
    /// logs in.
    reads: bool,
    asks: bool,
    logs_in: bool,
    /// Whether a 401 forces the next login.
    forced: bool,
    /// Since when it waits for a store.
    waits: Option<u64>,
    /// Since when its machine has joined while it has no token.
    without: Option<u64>,
}

pub struct Logins {
    keepers: Vec<Vec<Keeper>>,
    accounts: Vec<Account>,
    /// Number of the last revoked token of each identity.
    revoked: Vec<u64>,
    /// When each token was obtained.
    tokens: Vec<u64>,
}

impl Logins {
    pub fn new(scenario: &Scenario) -> Self {
        let keepers = vec![Keeper::default(); scenario.identities];
        Self {
            keepers: vec![keepers; scenario.machines],
            accounts: vec![Account::default(); scenario.identities],
            revoked: vec![0; scenario.identities],
            tokens: Vec::new(),
        }
    }
}

impl World {
    /// Starts the keepers of a process.
    pub(super) fn start_logins(&mut self, machine: usize) {
        for identity in 0..self.scenario.identities {
            self.logins.keepers[machine][identity] = Keeper::default();
            let at = self.now + identity as u64 * SECOND / LOGINS_PER_SECOND + SECOND / 10;
            let place = self.place(machine, identity);
            self.schedule_keeper(place, at);
        }
    }

    fn place(&self, machine: usize, identity: usize) -> Place {
        Place {
            machine,
            epoch: self.nodes[machine].epoch,
            identity,
        }
    }

    fn keeper(&mut self, place: Place) -> &mut Keeper {
        &mut self.logins.keepers[place.machine][place.identity]
    }

    fn schedule_keeper(&mut self, place: Place, at: u64) {
        let keeper = self.keeper(place);
        keeper.schedule += 1;
        let number = keeper.schedule;
        self.schedule(at, super::Happening::Login(Happening::Due(place, number)));
    }

    pub(super) fn happen_in_logins(&mut self, happening: Happening) {
        let (Happening::Due(place, _) | Happening::Ended(place, _) | Happening::Rejected(place)) =
            happening;
        let node = &self.nodes[place.machine];
        if node.epoch != place.epoch {
            return;
        }
        if node.paused_until > self.now {
            let at = node.paused_until;
            return self.schedule(at, super::Happening::Login(happening));
        }
        match happening {
            Happening::Due(_, number) if self.keeper(place).schedule == number => self.ask(place),
            Happening::Due(..) => {}
            Happening::Ended(_, shared) => self.login_ended(place, shared),
            Happening::Rejected(_) => {
                let revoked = self.logins.revoked[place.identity];
                let keeper = self.keeper(place);
                if keeper.token > 0 && keeper.token <= revoked {
                    (keeper.token, keeper.forced) = (0, true);
                    self.ask(place);
                }
            }
        }
    }

    /// Reads the token of another replica, or requests a login if there can be none. An absent
    /// store is noticed by the response.
    fn ask(&mut self, place: Place) {
        let keeper = self.keeper(place);
        if keeper.reads || keeper.asks || keeper.logs_in {
            return;
        }
        keeper.attempt += 1;
        if keeper.token > 0 || keeper.forced {
            self.ask_to_log_in(place);
        } else {
            keeper.reads = true;
            let fact = Fact::Token(identity_name(place.identity));
            self.request(place, 2, Request::Get(fact));
        }
    }

    fn ask_to_log_in(&mut self, place: Place) {
        let keeper = self.keeper(place);
        keeper.asks = true;
        let request = Request::Login {
            identity: identity_name(place.identity),
            secret: identity_name(0),
            attempt: keeper.attempt,
            lifetime: LOCK,
            forced: keeper.forced.then_some(FORCED_INTERVAL),
        };
        self.request(place, 0, request);
    }

    fn request(&mut self, place: Place, kind: u64, request: Request) {
        let id = RequestId(place.identity as u64 * 3 + kind);
        self.handle(place.machine, Event::Request { id, request });
    }

    pub(super) fn responded(
        &mut self,
        machine: usize,
        id: RequestId,
        body: Option<Body>,
        now: StoreTime,
    ) {
        let identity = usize::try_from(id.0 / 3).unwrap();
        let place = self.place(machine, identity);
        match (id.0 % 3, body) {
            (0, Some(Body::Login { outcome, token })) => {
                self.keeper(place).asks = false;
                self.decided(place, &outcome, token, now);
            }
            (0, _) => {
                self.keeper(place).asks = false;
                self.without_store(place);
            }
            (2, Some(Body::Value(record))) => {
                if let Some(record) = record {
                    self.adopt(place, Token::open(&record), now);
                }
                let keeper = self.keeper(place);
                if mem::take(&mut keeper.reads) && keeper.token == 0 {
                    self.ask_to_log_in(place);
                }
            }
            (2, _) if mem::take(&mut self.keeper(place).reads) => self.without_store(place),
            _ => {}
        }
    }

    fn decided(
        &mut self,
        place: Place,
        outcome: &LoginOutcome,
        record: Option<Vec<u8>>,
        now: StoreTime,
    ) {
        if let Some(record) = record {
            self.adopt(place, Token::open(&record), now);
        }
        let time = self.now;
        let keeper = self.keeper(place);
        keeper.waits = None;
        // Adopted, now or since the request was sent.
        let adopted = keeper.token > 0 && keeper.due > time;
        match outcome {
            LoginOutcome::Mine if adopted => self.finish(place, LoginResult::Unneeded),
            LoginOutcome::Mine => self.log_in(place, true),
            _ if adopted => {}
            LoginOutcome::Rejected(record) => self.wait_as_decided(place, record, now),
            _ => self.schedule_keeper(place, self.now + RETRY),
        }
    }

    /// Takes a token that is newer and usable.
    fn adopt(&mut self, place: Place, token: Token, now: StoreTime) {
        let lifetime = micros(self.scenario.token_lifetime);
        let age = now.0.saturating_sub(token.obtained.0) * 1000;
        let revoked = self.logins.revoked[place.identity];
        let known = self.keeper(place).token;
        // A revoked one is known as such by the request that it fails.
        let rejected = self.keeper(place).forced && token.number <= revoked;
        if token.number <= known || age >= lifetime * 9 / 10 || rejected {
            return;
        }
        self.use_token(place, token.number, age);
        if token.number <= revoked {
            let at = self.now + self.random.u64(..SECOND);
            self.schedule(at, super::Happening::Login(Happening::Rejected(place)));
        }
    }

    fn use_token(&mut self, place: Place, number: u64, age: u64) {
        let lifetime = micros(self.scenario.token_lifetime);
        let (now, jitter) = (self.now, self.random.u64(900..=1000));
        let refresh = refresh_after(lifetime, jitter);
        let keeper = self.keeper(place);
        (keeper.token, keeper.forced) = (number, false);
        (keeper.waits, keeper.without) = (None, None);
        keeper.expires = now + lifetime - age;
        keeper.due = now + refresh.saturating_sub(age).max(SECOND);
        let due = keeper.due;
        self.schedule_keeper(place, due);
    }

    /// Without a store a replica logs in once its token is nearly over, or after a wait.
    fn without_store(&mut self, place: Place) {
        let lifetime = micros(self.scenario.token_lifetime);
        let now = self.now;
        let keeper = self.keeper(place);
        let left = keeper.expires.saturating_sub(now);
        let has_token = keeper.token > 0 && left > lifetime / 10;
        let since = *keeper.without.get_or_insert(now);
        if has_token || now < since + OWN_LOGIN {
            self.schedule_keeper(place, now + SECOND);
        } else {
            self.log_in(place, false);
        }
    }

    /// Begins a login at Citrix. With the store's grant, the token in the store is due, unless data
    /// was lost or Citrix revoked it.
    fn log_in(&mut self, place: Place, shared: bool) {
        if self.is_invalid(place.identity) {
            return self.log_in_in_vain(place, shared);
        }
        let (now, loss) = (self.now, self.store.loss);
        let planned = refresh_after(micros(self.scenario.token_lifetime), 900);
        let account = &mut self.logins.accounts[place.identity];
        let is_kept = |at: &u64| loss.is_none_or(|loss| loss < *at);
        let obtained = account.obtained.filter(is_kept);
        let early = obtained.is_some_and(|at| now - at + TOLERANCE < planned);
        assert!(!(shared && early), "{place:?} at {now}: {account:?}");
        self.report.logins += 1;
        let unexpected = account.logins > 0 && obtained.is_none();
        self.report.logins_excused += usize::from(!shared || unexpected);
        account.logins += 1;
        if shared {
            account.obtained = None;
        }
        self.begin_login(place, shared);
    }

    fn begin_login(&mut self, place: Place, shared: bool) {
        self.keeper(place).logs_in = true;
        let end = self.now + self.random.u64(50 * MILLISECOND..500 * MILLISECOND);
        self.schedule(
            end,
            super::Happening::Login(Happening::Ended(place, shared)),
        );
    }

    fn login_ended(&mut self, place: Place, shared: bool) {
        if self.is_invalid(place.identity) {
            return self.login_rejected(place, shared);
        }
        self.logins.tokens.push(self.now);
        let number = self.logins.tokens.len() as u64;
        self.keeper(place).logs_in = false;
        self.use_token(place, number, 0);
        if shared {
            let token = Token {
                number,
                obtained: StoreTime(self.store.time(self.now) / 1000),
            };
            let lifetime = self.scenario.token_lifetime;
            self.finish(
                place,
                LoginResult::Token {
                    record: token.seal(),
                    lifetime,
                    secret: identity_name(0),
                },
            );
        }
    }

    fn finish(&mut self, place: Place, result: LoginResult) {
        let request = Request::Finish {
            identity: identity_name(place.identity),
            attempt: self.keeper(place).attempt,
            result,
        };
        self.request(place, 1, request);
    }

    /// A login's token is in the store.
    pub(super) fn published(&mut self, identity: Name, record: &[u8]) {
        let (identity, token) = (index_of(identity, 4_000_000), Token::open(record));
        if token.number > self.logins.revoked[identity] {
            let index = usize::try_from(token.number - 1).unwrap();
            self.logins.accounts[identity].obtained = Some(self.logins.tokens[index]);
        }
    }

    pub(super) fn token_changed(&mut self, machine: usize, identity: Name) {
        let place = self.place(machine, index_of(identity, 4_000_000));
        self.request(place, 2, Request::Get(Fact::Token(identity)));
    }

    /// Citrix revokes an identity's tokens; all machines notice by their next requests.
    pub(super) fn revoke(&mut self) {
        if self.scenario.identities == 0 {
            return;
        }
        let identity = self.random.usize(..self.scenario.identities);
        self.logins.revoked[identity] = self.logins.tokens.len() as u64;
        self.logins.accounts[identity].obtained = None;
        for machine in 0..self.nodes.len() {
            let at = self.now + self.random.u64(..SECOND);
            let place = self.place(machine, identity);
            self.schedule(at, super::Happening::Login(Happening::Rejected(place)));
        }
    }

    /// A replica that has joined is not without a token for longer than a lock and a login.
    pub(super) fn check_tokens(&mut self, disturbed: bool) {
        let (now, last_fault) = (self.now, self.last_fault);
        let invalid = self.scenario.invalid_secrets;
        for (node, keepers) in self.nodes.iter().zip(&mut self.logins.keepers) {
            let joined = node.machine.state() == State::Joined && node.paused_until <= now;
            for keeper in keepers.iter_mut().skip(invalid) {
                let has_begun = keeper.attempt > 0;
                if keeper.token > 0 || !joined || !has_begun || disturbed {
                    keeper.without = None;
                    continue;
                }
                let since = *keeper.without.get_or_insert(now);
                let length = Duration::from_micros(now - since.max(last_fault));
                let longest = &mut self.report.longest_without_token;
                *longest = (*longest).max(length);
                assert!(length <= MAX_WITHOUT, "{keeper:?} at {now}");
            }
        }
    }
}
