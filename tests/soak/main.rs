//! Tests of the verdicts of `benches/soak`, whose bench has no test harness.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]
#![expect(dead_code, reason = "the rest of the modules serves the bench")]

#[path = "../../benches/soak/closures.rs"]
mod closures;
#[path = "../../benches/soak/content.rs"]
mod content;
#[path = "../../benches/soak/http1.rs"]
mod http1;
#[path = "../../benches/soak/ledger.rs"]
mod ledger;
#[path = "../../benches/soak/plan.rs"]
mod plan;
#[path = "../../benches/soak/series.rs"]
mod series;
#[path = "../../benches/soak/token_history.rs"]
mod token_history;
#[path = "../../benches/soak/verdict.rs"]
mod verdict;
#[path = "../../benches/soak/windows.rs"]
mod windows;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, advance};

use crate::ledger::{
    Account, ConnectionUse, End, Evidence, Hit, Ledger, Outcome, Treatment, Upload,
};
use crate::plan::{Behaviour, Credential, Plan, Service, Version};
use crate::token_history::TokenHistory;
use crate::verdict::Category;

const SECOND: Duration = Duration::from_secs(1);

/// A soak without a gateway, on a clock that the tests move.
struct Soak {
    evidence: Evidence,
    tokens: Arc<TokenHistory>,
}

impl Soak {
    /// Starts with token 1, granted some time ago, and no closed connection.
    async fn start() -> Self {
        let tokens = Arc::new(TokenHistory::default());
        let evidence = Evidence::new(Arc::clone(&tokens));
        let soak = Self { evidence, tokens };
        soak.log_in(Some(1));
        soak.count_closed(0);
        advance(100 * SECOND).await;
        soak.count_closed(0);
        soak
    }

    fn log_in(&self, granted: Option<u64>) {
        self.tokens.login(Instant::now(), granted);
    }

    /// Reads the gateway's counters.
    fn count_closed(&self, total: u64) {
        let now = Instant::now();
        self.evidence.closures.note(total, now, now);
    }

    /// Sends a request with a token to the upstream, which rejects it, and passes the 401 a moment
    /// later.
    async fn passes_401(&self, plan: Plan, token: u64) -> Category {
        let sent = Instant::now();
        self.tokens.reject(plan.scope(), token);
        advance(Duration::from_millis(10)).await;
        let unauthorized = Outcome::Responded {
            status: 401,
            reason: None,
            end: End::Complete,
        };
        let mut account = account(plan, sent, unauthorized);
        account.hits.push(Hit {
            at: sent,
            token: Some(token),
            treatment: Treatment::Failed(401),
            upload: Upload::Complete,
        });
        verdict::of(&account, &self.evidence)
    }

    /// Evaluates a request that got no response on a connection that it was the first to use, and
    /// that ends now.
    fn gets_no_response(&self, sent: Instant) -> Category {
        let connection = ConnectionUse {
            id: 1,
            is_reused: false,
            since: sent,
        };
        verdict::of(&account(get(), sent, lost(connection)), &self.evidence)
    }
}

fn account(plan: Plan, sent: Instant, outcome: Outcome) -> Account {
    Account {
        plan,
        sent,
        ended: Some((Instant::now(), outcome)),
        hits: Vec::new(),
    }
}

fn lost(connection: ConnectionUse) -> Outcome {
    Outcome::NoResponse {
        error: "connection reset".to_owned(),
        connection,
    }
}

fn get() -> Plan {
    let mut plan = Plan::draw(&mut Rng::with_seed(1), 1);
    plan.behaviour = Behaviour::Normal;
    (plan.service, plan.credential) = (Service::Api, Credential::ApiKey);
    (plan.version, plan.method, plan.upload) = (Version::Http11, "GET", 0);
    plan
}

fn is_documented(category: &Category, rule: &str) -> bool {
    matches!(category, Category::Documented(cause) if cause.contains(rule))
}

fn is_lost(category: &Category, rule: &str) -> bool {
    matches!(category, Category::Lost(what) if what.contains(rule))
}

#[tokio::test(start_paused = true)]
async fn lost_connection_is_documented_only_while_the_gateway_counts_closed_ones() {
    let soak = Soak::start().await;
    let sent = Instant::now();
    advance(SECOND).await;
    assert!(is_lost(&soak.gets_no_response(sent), "not explained"));
    soak.count_closed(1);
    let closed = soak.gets_no_response(sent);
    assert!(closed.is_closed_at_limit(), "{closed:?}");
    advance(3 * SECOND).await;
    soak.count_closed(1);
    let later = soak.gets_no_response(Instant::now());
    assert!(is_lost(&later, "not explained"), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn connection_of_a_request_that_was_sent_is_lost_whatever_the_gateway_counts() {
    let soak = Soak::start().await;
    let sent = Instant::now();
    soak.count_closed(1);
    let connection = ConnectionUse {
        id: 1,
        is_reused: false,
        since: sent,
    };
    let mut account = account(get(), sent, lost(connection));
    account.hits.push(Hit {
        at: sent,
        token: Some(1),
        treatment: Treatment::Served,
        upload: Upload::Complete,
    });
    let category = verdict::of(&account, &soak.evidence);
    assert!(is_lost(&category, "that was sent"), "{category:?}");
}

#[test]
fn counter_is_not_read_from_comments() {
    let metrics = "# HELP a_refused_total Refused 7\n# TYPE a_refused_total counter\n\
                   a_refused_total 3\na_total{limit=\"x\"} 4\n";
    assert_eq!(series::counter(metrics, "refused_total"), 3);
    assert_eq!(series::counter(metrics, r#"total{limit="x"}"#), 4);
    assert_eq!(series::counter(metrics, "unknown_total"), 0);
}

#[test]
fn series_are_bounded_by_the_values_of_their_labels() {
    let metrics = "# HELP a_total A\na_total{code=\"200\",route=\"/\"} 1\n\
                   a_total{code=\"503\",route=\"/b\"} 1\nb_total{code=\"200\"} 1\nc 1\n";
    let series = series::count(metrics);
    let incomplete: Vec<_> = series.incomplete.into_iter().collect();
    assert_eq!((series.count, series.bound, series.label_values), (4, 6, 5));
    assert_eq!(incomplete, [("a_total".to_owned(), [2, 4])]);
}

#[tokio::test(start_paused = true)]
async fn connections_closed_at_the_limit_are_counted_once() {
    let ledger = Ledger::new(Arc::default());
    let now = Instant::now();
    ledger.evidence.closures.note(0, now, now);
    ledger.evidence.closures.note(1, now, now);
    let connection = ConnectionUse {
        id: 7,
        is_reused: false,
        since: now,
    };
    for _ in 0..2 {
        let mut plan = get();
        plan.id = ledger.next_id();
        let id = plan.id;
        ledger.send(plan);
        ledger.end(id, lost(connection));
    }
    ledger.settle(true);
    let totals = ledger.totals();
    assert_eq!((totals.closed, totals.violation_count), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn unauthorized_for_a_valid_token_is_lost() {
    let soak = Soak::start().await;
    soak.log_in(None);
    let category = soak.passes_401(get(), 1).await;
    assert!(is_lost(&category, "token that is valid"), "{category:?}");
}

#[tokio::test(start_paused = true)]
async fn unauthorized_without_a_login_is_lost() {
    let soak = Soak::start().await;
    soak.tokens.revoke(1);
    let category = soak.passes_401(get(), 1).await;
    assert!(is_lost(&category, "without a login"), "{category:?}");
}

#[tokio::test(start_paused = true)]
async fn unauthorized_is_documented_until_the_backoff_after_a_failed_login_is_over() {
    let soak = Soak::start().await;
    soak.tokens.revoke(1);
    soak.log_in(None);
    let category = soak.passes_401(get(), 1).await;
    assert!(is_documented(&category, "the login failed"), "{category:?}");
    advance(20 * SECOND).await;
    let category = soak.passes_401(get(), 1).await;
    assert!(is_lost(&category, "without a login"), "{category:?}");
}

#[tokio::test(start_paused = true)]
async fn unauthorized_within_the_minimum_interval_of_logins_is_documented() {
    let soak = Soak::start().await;
    soak.log_in(Some(2));
    soak.tokens.revoke(2);
    let category = soak.passes_401(get(), 2).await;
    let rule = "min_forced_interval";
    assert!(is_documented(&category, rule), "{category:?}");
}

#[tokio::test(start_paused = true)]
async fn unauthorized_without_a_replay_with_the_next_token_is_lost() {
    let soak = Soak::start().await;
    soak.tokens.revoke(1);
    let mut passed = get();
    passed.upload = 70_000;
    let category = soak.passes_401(passed.clone(), 1).await;
    assert!(is_documented(&category, "replay buffer"), "{category:?}");
    soak.log_in(Some(2));
    advance(2 * SECOND).await;
    for plan in [get(), passed] {
        let category = soak.passes_401(plan, 1).await;
        assert!(is_lost(&category, "had been replaced"), "{category:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn second_token_rejected_within_a_minute_suppresses_logins_for_a_minute() {
    let soak = Soak::start().await;
    soak.tokens.revoke(1);
    soak.passes_401(get(), 1).await;
    soak.log_in(Some(2));
    advance(30 * SECOND).await;
    soak.tokens.revoke(2);
    for _ in 0..3 {
        let category = soak.passes_401(get(), 2).await;
        assert!(is_documented(&category, "suppressed"), "{category:?}");
        advance(20 * SECOND).await;
    }
    let mut other = get();
    other.credential = Credential::Basic;
    let category = soak.passes_401(other, 2).await;
    assert!(is_lost(&category, "without a login"), "{category:?}");
}

#[tokio::test(start_paused = true)]
async fn replay_counts_as_accepted_once_its_caller_got_the_response() {
    let got = Outcome::Responded {
        status: 200,
        reason: None,
        end: End::Complete,
    };
    for (outcome, is_suppressed) in [(Outcome::Left, true), (got, false)] {
        let soak = Soak::start().await;
        let ledger = Ledger::new(Arc::clone(&soak.tokens));
        soak.tokens.revoke(1);
        soak.passes_401(get(), 1).await;
        soak.log_in(Some(2));
        ledger.send(get());
        for (token, treatment) in [(1, Treatment::Failed(401)), (2, Treatment::Served)] {
            let (plan, hit) = ledger.arrive(1).unwrap();
            ledger.authorized(&plan, hit, token, token == 2);
            ledger.treated(1, hit, treatment);
        }
        ledger.end(1, outcome);
        advance(30 * SECOND).await;
        soak.tokens.revoke(2);
        let category = soak.passes_401(get(), 2).await;
        assert_eq!(is_documented(&category, "suppressed"), is_suppressed);
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_replay_between_two_rejected_tokens_prevents_the_suppression() {
    let soak = Soak::start().await;
    soak.tokens.revoke(1);
    soak.passes_401(get(), 1).await;
    soak.log_in(Some(2));
    soak.tokens.accept(get().scope());
    advance(30 * SECOND).await;
    soak.tokens.revoke(2);
    let category = soak.passes_401(get(), 2).await;
    assert!(is_lost(&category, "without a login"), "{category:?}");
}
