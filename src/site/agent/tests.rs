//! The agent against a scripted API gateway, on a paused clock.

use std::sync::Mutex;

use http::uri::{Authority, Scheme};
use prometheus::Registry;
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;
use crate::config::{InstanceId, SecretSource, UpstreamEndpoint, UpstreamUrl};
use crate::fleet::scripted::ScriptedStore;
use crate::site::api::ApiError;
use crate::system::moment::Moment;
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::clouds::Cloud;

const ONE: &str = r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s-1"}]}]}"#;
const TWO: &str = r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s-1"},{"Id":"s-2"}]}]}"#;
/// Longer than any response takes.
const TIMEOUT: Duration = Duration::from_secs(5);

type ScriptedResponse = Result<(u16, &'static str), ApiError>;

type ApiScript = dyn Fn(usize, &ApiRequest) -> ScriptedResponse + Send + Sync;

/// An API gateway whose responses come from a closure, a second after the request.
#[derive(Clone)]
struct ScriptedApi {
    script: Arc<ApiScript>,
    calls: Arc<Mutex<Vec<ApiRequest>>>,
}

impl Api for ScriptedApi {
    async fn call(&self, call: ApiRequest) -> Result<ApiResponse, ApiError> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len()
        };
        sleep(Duration::from_secs(1)).await;
        let (status, body) = (self.script)(number, &call)?;
        Ok(ApiResponse {
            status: StatusCode::from_u16(status).unwrap(),
            transaction_id: HeaderValue::from_static("t-1"),
            location: None,
            body: body.into(),
        })
    }
}

/// A running agent with its slot and its requests.
struct TestAgent {
    site: Arc<SiteSlot>,
    calls: Arc<Mutex<Vec<ApiRequest>>>,
    _agent: JoinSet<Infallible>,
}

fn token(generation: u64) -> Token {
    let text = SecretString::from(format!("token-{generation}"));
    Token::new(
        generation,
        &text,
        Moment::now(Clock::SYSTEM).after(Duration::from_hours(24)),
    )
    .unwrap()
}

fn start(
    script: impl Fn(usize, &ApiRequest) -> ScriptedResponse + Send + Sync + 'static,
) -> TestAgent {
    start_with(TokenSlot::holding(token(1)), script)
}

fn start_with(
    slot: TokenSlot,
    script: impl Fn(usize, &ApiRequest) -> ScriptedResponse + Send + Sync + 'static,
) -> TestAgent {
    start_in(None, slot, script)
}

/// Starts an agent of a replica.
fn start_in(
    fleet: Option<Arc<Fleet>>,
    slot: TokenSlot,
    script: impl Fn(usize, &ApiRequest) -> ScriptedResponse + Send + Sync + 'static,
) -> TestAgent {
    let authority = Authority::from_static("api.example");
    let url = UpstreamUrl::new(Scheme::HTTPS, authority, "/base".to_owned()).unwrap();
    let credential = Credential {
        customer_id: HeaderValue::from_static("acme"),
        cloud: Cloud::Commercial,
        api: UpstreamEndpoint {
            url,
            authorization: AuthorizationScheme::Cws,
        },
        client_id: "client-id".to_owned(),
        client_secret: SecretSource::Plain("secret".into()),
        client_secret_next: None,
        instance_id: InstanceId::Auto,
        token_url: "https://api.example/tokens".parse().unwrap(),
        token_dialect: TokenDialect::Oauth2,
    };
    let site = Arc::<SiteSlot>::default();
    let api = ScriptedApi {
        script: Arc::new(script),
        calls: Arc::default(),
    };
    let calls = Arc::clone(&api.calls);
    let agent = Agent::new(
        &credential,
        Arc::clone(&site),
        Arc::new(slot),
        api,
        Clock::SYSTEM,
        TIMEOUT,
    )
    .with_fleet(fleet);
    let mut tasks = JoinSet::new();
    tasks.spawn(agent.serve());
    TestAgent {
        site,
        calls,
        _agent: tasks,
    }
}

impl TestAgent {
    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn call(&self, index: usize) -> ApiRequest {
        self.calls.lock().unwrap()[index].clone()
    }

    async fn find(&self) -> Site {
        self.site.find(TIMEOUT).await
    }

    async fn report_frozen(&self) {
        self.site.report_frozen();
        // Longer than the response takes.
        sleep(Duration::from_secs(2)).await;
    }
}

fn known(id: &'static str) -> Site {
    Site::Known(HeaderValue::from_static(id))
}

#[tokio::test(start_paused = true)]
async fn site_is_looked_up_once_on_first_demand() {
    let agent = start(|_, _| Ok((200, ONE)));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(agent.calls(), 0);
    let (one, two, three) = tokio::join!(agent.find(), agent.find(), agent.find());
    assert_eq!(
        [one, two, three],
        [known("s-1"), known("s-1"), known("s-1")]
    );
    sleep(Duration::from_hours(1)).await;
    assert_eq!((agent.find().await, agent.calls()), (known("s-1"), 1));
    let call = agent.call(0);
    assert_eq!(
        (call.method, call.url.to_string().as_str()),
        (Method::GET, "https://api.example/base/cvad/manage/me")
    );
    assert_eq!(
        (call.authorization, call.customer_id),
        (
            HeaderValue::from_static("CwsAuth Bearer=token-1"),
            HeaderValue::from_static("acme")
        )
    );
}

#[tokio::test(start_paused = true)]
async fn failed_lookup_is_retried_after_the_interval_without_waits_meanwhile() {
    let agent = start(|number, _| match number {
        1 => Err(ApiError("no route to host".to_owned())),
        2 => Ok((403, "{}")),
        3 => Ok((200, "<html>")),
        4 => Ok((200, r#"{"Customers":[]}"#)),
        _ => Ok((200, ONE)),
    });
    for failures in 1..=4 {
        assert_eq!(
            (agent.find().await, agent.calls()),
            (Site::Unknown, failures)
        );
        let began = Instant::now();
        assert_eq!(agent.find().await, Site::Unknown);
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep(RETRY_INTERVAL - Duration::from_secs(1)).await;
        assert_eq!(
            (agent.find().await, agent.calls()),
            (Site::Unknown, failures)
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(agent.find().await, known("s-1"));
}

#[tokio::test(start_paused = true)]
async fn several_sites_are_returned_until_a_later_lookup_finds_one() {
    let agent = start(|number, _| Ok((200, if number == 1 { TWO } else { ONE })));
    let both = Site::Several(["s-1".to_owned(), "s-2".to_owned()].into());
    assert_eq!(agent.find().await, both);
    assert_eq!((agent.find().await, agent.calls()), (both, 1));
    sleep(RETRY_INTERVAL).await;
    assert_eq!((agent.find().await, agent.calls()), (known("s-1"), 2));
}

#[tokio::test(start_paused = true)]
async fn find_returns_after_its_timeout() {
    let agent = start(|_, _| Ok((200, ONE)));
    let began = Instant::now();
    assert_eq!(
        agent.site.find(Duration::from_millis(300)).await,
        Site::Unknown
    );
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (agent.site.find(Duration::ZERO).await, agent.calls()),
        (known("s-1"), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn no_token_sends_no_request() {
    let agent = start_with(TokenSlot::new(), |_, _| Ok((200, ONE)));
    assert_eq!(
        (agent.site.find(TIMEOUT * 2).await, agent.calls()),
        (Site::Unknown, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn frozen_site_is_activated_at_most_once_a_minute() {
    let agent = start(|number, _| Ok((if number == 2 { 500 } else { 202 }, "")));
    agent.report_frozen().await;
    let call = agent.call(0);
    let url = "https://api.example/base/resourceprovider/acme/site/activation?customerId=acme";
    assert_eq!(
        (call.method, call.url.to_string().as_str()),
        (Method::POST, url)
    );
    for _ in 0..10 {
        agent.report_frozen().await;
    }
    assert_eq!(agent.calls(), 1);
    advance(ACTIVATION_INTERVAL).await;
    agent.report_frozen().await;
    assert_eq!(agent.calls(), 2);
    // Also after a failure.
    agent.report_frozen().await;
    assert_eq!(agent.calls(), 2);
    advance(ACTIVATION_INTERVAL).await;
    assert_eq!(agent.calls(), 2, "not needed");
    agent.report_frozen().await;
    assert_eq!(agent.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn frozen_site_found_by_a_lookup_is_activated() {
    let agent = start(|_, call| {
        Ok(if call.method == Method::GET {
            (530, "")
        } else {
            (200, "")
        })
    });
    assert_eq!(agent.find().await, Site::Unknown);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((agent.calls(), agent.call(1).method), (2, Method::POST));
}

/// Starts agents of replicas that share `store`.
fn start_replicas(store: &ScriptedStore, count: usize) -> Vec<TestAgent> {
    let start = |_| {
        let fleet = store.join('k', &Registry::new());
        let slot = TokenSlot::holding(token(1));
        start_in(Some(fleet), slot, |_, _| Ok((200, ONE)))
    };
    (0..count).map(start).collect()
}

fn calls(agents: &[TestAgent]) -> usize {
    agents.iter().map(TestAgent::calls).sum()
}

#[tokio::test(start_paused = true)]
async fn replicas_look_up_a_site_once() {
    let store = ScriptedStore::new();
    let agents = start_replicas(&store, 3);
    for agent in &agents {
        assert_eq!(agent.find().await, known("s-1"));
    }
    assert_eq!(calls(&agents), 1);
    // The store forgets it after an hour, the replicas do not.
    advance(Duration::from_hours(1)).await;
    let later = start_replicas(&store, 1);
    assert_eq!(later[0].find().await, known("s-1"));
    assert_eq!(calls(&later), 1);
}

#[tokio::test(start_paused = true)]
async fn damaged_site_of_the_store_is_looked_up() {
    let store = ScriptedStore::new();
    let first = start_replicas(&store, 1);
    first[0].find().await;
    store.change_records(|record| record[14] ^= 1);
    let second = start_replicas(&store, 1);
    assert_eq!(second[0].find().await, known("s-1"));
    assert_eq!(calls(&second), 1);
}

#[tokio::test(start_paused = true)]
async fn replicas_request_an_activation_once_a_minute() {
    let store = ScriptedStore::new();
    let agents = start_replicas(&store, 3);
    let report = async |after: u64| {
        sleep(Duration::from_secs(after)).await;
        agents.iter().for_each(|agent| agent.site.report_frozen());
        sleep(Duration::from_secs(2)).await;
        calls(&agents)
    };
    assert_eq!(report(0).await, 1);
    assert_eq!(report(50).await, 1);
    assert_eq!(report(10).await, 2);
    store.set_up(false);
    assert_eq!(report(60).await, 5, "each without a store");
}
