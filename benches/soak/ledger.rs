//! The accounts of all requests: what was sent, what the upstream saw, what the caller got.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::closures::Closures;
use crate::plan::{Plan, Scope};
use crate::token_history::TokenHistory;
use crate::verdict::{self, Category};
use crate::windows::Windows;

/// How long an account stays open after its caller is done: a later request at the upstream is a
/// violation by itself.
const GRACE: Duration = Duration::from_secs(15);
/// Violations that are described in full.
const MAX_EXAMPLES: usize = 50;

/// The treatment of a request by the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// The response has not been written yet.
    Open,
    /// The whole response was written.
    Served,
    /// A status that a fault caused.
    Failed(u16),
    /// The connection or the stream was broken on purpose, before or in the response.
    Broken,
    /// Nothing was sent for longer than the gateway waits.
    Stalled,
    /// The gateway left before the response was complete.
    Gone,
}

/// The part of a body that the upstream received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    Incomplete,
    Complete,
    Corrupt(String),
}

/// One arrival of a request at the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) at: Instant,
    /// The number of its token.
    pub(crate) token: Option<u64>,
    pub(crate) treatment: Treatment,
    pub(crate) upload: Upload,
}

/// The end of a body for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Truncated,
    Corrupt(String),
}

/// The result for the caller.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "printed with violations")]
pub(crate) enum Outcome {
    Responded {
        status: u16,
        /// `X-Proxy-Error`.
        reason: Option<String>,
        end: End,
    },
    /// The connection ended before a response.
    NoResponse {
        error: String,
        connection: ConnectionUse,
    },
    NotConnected(String),
    /// The caller left as planned.
    Left,
    /// Nothing within the longest time of a request.
    Hung,
}

/// The connection of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionUse {
    pub(crate) id: u64,
    /// It had carried a request before.
    pub(crate) is_reused: bool,
    /// The time at which it was opened or its last request ended, over HTTP/2 began.
    pub(crate) since: Instant,
}

/// A request and what happened to it.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) plan: Plan,
    pub(crate) sent: Instant,
    pub(crate) ended: Option<(Instant, Outcome)>,
    pub(crate) hits: Vec<Hit>,
}

impl Account {
    /// Returns the scope of a request that was served after a 401.
    fn replayed_scope(&self) -> Option<Scope> {
        let (_, outcome) = self.ended.as_ref()?;
        let [.., before, last] = self.hits.as_slice() else {
            return None;
        };
        let is_served = last.treatment == Treatment::Served
            && matches!(outcome, Outcome::Responded { reason: None, .. });
        let is_replay = before.treatment == Treatment::Failed(401);
        (is_served && is_replay).then(|| self.plan.scope())
    }
}

/// All accounts, open ones and totals of closed ones.
pub(crate) struct Ledger {
    books: Mutex<Books>,
    pub(crate) evidence: Evidence,
}

/// What explains failures besides the account of a request.
pub(crate) struct Evidence {
    pub(crate) windows: Windows,
    pub(crate) closures: Closures,
    pub(crate) tokens: Arc<TokenHistory>,
}

impl Evidence {
    /// Returns evidence of nothing but what happened to tokens.
    pub(crate) fn new(tokens: Arc<TokenHistory>) -> Self {
        Self {
            windows: Windows::default(),
            closures: Closures::default(),
            tokens,
        }
    }
}

#[derive(Default)]
struct Books {
    open: HashMap<u64, Account>,
    next_id: u64,
    hits: u64,
    repeated: u64,
    totals: BTreeMap<Category, u64>,
    violations: Vec<String>,
    violation_count: u64,
    bytes: [u64; 2],
    /// Connections with requests that the gateway closed at its limit.
    closed: HashSet<u64>,
    /// Other connections that it closed at its limit.
    closed_without_request: u64,
}

/// Totals of a run.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) open: usize,
    pub(crate) hits: u64,
    /// Arrivals after the first one of a request.
    pub(crate) repeated: u64,
    pub(crate) categories: BTreeMap<Category, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) violation_count: u64,
    /// Content bytes of uploads and of downloads.
    pub(crate) bytes: [u64; 2],
    /// Connections that must have been closed at `limits.max_connections`.
    pub(crate) closed: u64,
}

impl Ledger {
    pub(crate) fn new(tokens: Arc<TokenHistory>) -> Self {
        Self {
            books: Mutex::default(),
            evidence: Evidence::new(tokens),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the id of the next request.
    pub(crate) fn next_id(&self) -> u64 {
        let mut books = self.books();
        books.next_id += 1;
        books.next_id
    }

    /// Opens the account of a request, which is sent now.
    pub(crate) fn send(&self, plan: Plan) {
        let mut books = self.books();
        books.bytes[0] += plan.upload as u64;
        books.bytes[1] += plan.download as u64;
        let account = Account {
            sent: Instant::now(),
            ended: None,
            hits: Vec::new(),
            plan,
        };
        books.open.insert(account.plan.id, account);
    }

    /// Returns the plan of a request.
    pub(crate) fn plan(&self, id: u64) -> Option<Plan> {
        let books = self.books();
        books.open.get(&id).map(|account| account.plan.clone())
    }

    /// Notes that a request arrived at the upstream. Returns its plan and the number of the
    /// arrival.
    pub(crate) fn arrive(&self, id: u64) -> Option<(Plan, usize)> {
        let mut books = self.books();
        books.hits += 1;
        let Some(account) = books.open.get_mut(&id) else {
            books.violate(format!("request {id} arrived after it was over"));
            return None;
        };
        account.hits.push(Hit {
            at: Instant::now(),
            token: None,
            treatment: Treatment::Open,
            upload: Upload::Incomplete,
        });
        let (plan, hit) = (account.plan.clone(), account.hits.len() - 1);
        books.repeated += u64::from(hit > 0);
        Some((plan, hit))
    }

    /// Notes the token with which a request arrived, and whether the upstream accepts it.
    pub(crate) fn authorized(&self, plan: &Plan, hit: usize, token: u64, is_valid: bool) {
        self.change(plan.id, hit, |hit| hit.token = Some(token));
        if !is_valid {
            self.evidence.tokens.reject(plan.scope(), token);
        }
    }

    /// Notes what the upstream received.
    pub(crate) fn uploaded(&self, id: u64, hit: usize, upload: Upload) {
        self.change(id, hit, |hit| hit.upload = upload);
    }

    /// Notes what the upstream does with the request.
    pub(crate) fn treated(&self, id: u64, hit: usize, treatment: Treatment) {
        // A connection may end after the whole response, or as a fault wants it.
        let is_final = |hit: &Hit| treatment != Treatment::Gone || hit.treatment == Treatment::Open;
        self.change(id, hit, |hit| {
            if is_final(hit) {
                hit.treatment = treatment;
            }
        });
        if treatment == Treatment::Served {
            self.note_replay(id);
        }
    }

    /// Notes a replay that the upstream accepted, once the gateway must have seen that: its caller got
    /// the response.
    fn note_replay(&self, id: u64) {
        let scope = self.books().open.get(&id).and_then(Account::replayed_scope);
        if let Some(scope) = scope {
            self.evidence.tokens.accept(scope);
        }
    }

    fn change(&self, id: u64, hit: usize, change: impl FnOnce(&mut Hit)) {
        let mut books = self.books();
        let account = books.open.get_mut(&id);
        if let Some(hit) = account.and_then(|account| account.hits.get_mut(hit)) {
            change(hit);
        }
    }

    /// Notes what the caller got.
    pub(crate) fn end(&self, id: u64, outcome: Outcome) {
        if let Some(account) = self.books().open.get_mut(&id) {
            account.ended = Some((Instant::now(), outcome));
        }
        self.note_replay(id);
    }

    /// Notes a violation that no account shows.
    pub(crate) fn violate(&self, what: String) {
        self.books().violate(what);
    }

    /// Counts a connection without a request of the traffic that the gateway closed at its limit.
    pub(crate) fn closed_without_request(&self) {
        self.books().closed_without_request += 1;
    }

    /// Closes the accounts whose callers were done some time ago, or all.
    pub(crate) fn settle(&self, all: bool) {
        let now = Instant::now();
        let mut books = self.books();
        let is_due = |account: &Account| {
            let ended = account.ended.as_ref();
            all || ended.is_some_and(|(ended, _)| now.duration_since(*ended) > GRACE)
        };
        let due = books.open.extract_if(|_, account| is_due(account));
        let due: Vec<Account> = due.map(|(_, account)| account).collect();
        for account in due {
            let category = verdict::of(&account, &self.evidence);
            if category.is_violation() {
                let tokens = self.evidence.tokens.describe(account.plan.scope());
                books.violate(format!(
                    "request {}: {category:?}; {account:?}; {tokens}",
                    account.plan.id
                ));
            }
            if category.is_closed_at_limit() {
                match account.ended {
                    Some((_, Outcome::NoResponse { connection, .. })) => {
                        books.closed.insert(connection.id);
                    }
                    _ => books.closed_without_request += 1,
                }
            }
            *books.totals.entry(category).or_default() += 1;
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let books = self.books();
        Totals {
            sent: books.next_id,
            open: books.open.len(),
            hits: books.hits,
            repeated: books.repeated,
            categories: books.totals.clone(),
            violations: books.violations.clone(),
            violation_count: books.violation_count,
            bytes: books.bytes,
            closed: books.closed.len() as u64 + books.closed_without_request,
        }
    }
}

impl Books {
    fn violate(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < MAX_EXAMPLES {
            println!("VIOLATION {what}");
            self.violations.push(what);
        }
    }
}
