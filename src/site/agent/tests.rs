//! The agent against a scripted Citrix, on a clock that stands still unless a test sleeps.

use std::sync::Mutex;

use http::uri::{Authority, Scheme};
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;
use crate::config::{InstanceId, SecretSource, UpstreamEndpoint, UpstreamUrl};
use crate::site::api::ApiError;
use citrix_wire::citrix::TokenDialect;
use citrix_wire::citrix::clouds::Cloud;

const ONE: &str = r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s-1"}]}]}"#;
const TWO: &str = r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s-1"},{"Id":"s-2"}]}]}"#;
/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer = Result<(u16, &'static str), ApiError>;

type Script = dyn Fn(usize, &ApiRequest) -> Answer + Send + Sync;

/// A Citrix whose answers a closure makes; it takes a second for each.
#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<ApiRequest>>>,
}

impl Api for Scripted {
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

/// A running agent and what it works with.
struct Lab {
    site: Arc<SiteSlot>,
    calls: Arc<Mutex<Vec<ApiRequest>>>,
    _agent: JoinSet<Infallible>,
}

fn token(generation: u64) -> Token {
    let text = SecretString::from(format!("token-{generation}"));
    Token::new(
        generation,
        &text,
        Clock::SYSTEM.now() + Duration::from_hours(1),
    )
    .unwrap()
}

fn lab(script: impl Fn(usize, &ApiRequest) -> Answer + Send + Sync + 'static) -> Lab {
    lab_with(TokenSlot::holding(token(1)), script)
}

fn lab_with(
    slot: TokenSlot,
    script: impl Fn(usize, &ApiRequest) -> Answer + Send + Sync + 'static,
) -> Lab {
    let url = UpstreamUrl {
        scheme: Scheme::HTTPS,
        authority: Authority::from_static("api.example"),
        base_path: "/base".to_owned(),
    };
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
    let api = Scripted {
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
        PATIENCE,
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(agent.serve());
    Lab {
        site,
        calls,
        _agent: tasks,
    }
}

impl Lab {
    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn call(&self, index: usize) -> ApiRequest {
        self.calls.lock().unwrap()[index].clone()
    }

    async fn find(&self) -> Site {
        self.site.find(PATIENCE).await
    }

    async fn froze(&self) {
        self.site.report_frozen();
        // Long enough for the answer.
        sleep(Duration::from_secs(2)).await;
    }
}

fn known(id: &'static str) -> Site {
    Site::Known(HeaderValue::from_static(id))
}

#[tokio::test(start_paused = true)]
async fn the_site_is_asked_for_once_however_many_need_it_and_not_before() {
    let lab = lab(|_, _| Ok((200, ONE)));
    sleep(Duration::from_hours(1)).await;
    assert_eq!(lab.calls(), 0);
    let (one, two, three) = tokio::join!(lab.find(), lab.find(), lab.find());
    assert_eq!(
        [one, two, three],
        [known("s-1"), known("s-1"), known("s-1")]
    );
    sleep(Duration::from_hours(1)).await;
    assert_eq!((lab.find().await, lab.calls()), (known("s-1"), 1));
    let call = lab.call(0);
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
async fn after_a_failure_nobody_waits_and_citrix_is_asked_again_in_half_a_minute() {
    let lab = lab(|number, _| match number {
        1 => Err(ApiError("no route to host".to_owned())),
        2 => Ok((403, "{}")),
        3 => Ok((200, "<html>")),
        4 => Ok((200, r#"{"Customers":[]}"#)),
        _ => Ok((200, ONE)),
    });
    for failures in 1..=4 {
        assert_eq!((lab.find().await, lab.calls()), (Site::Unknown, failures));
        let began = Instant::now();
        assert_eq!(lab.find().await, Site::Unknown);
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep(PAUSE - Duration::from_secs(1)).await;
        assert_eq!((lab.find().await, lab.calls()), (Site::Unknown, failures));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(lab.find().await, known("s-1"));
}

#[tokio::test(start_paused = true)]
async fn several_sites_are_told_and_a_site_that_goes_away_is_seen() {
    let lab = lab(|number, _| Ok((200, if number == 1 { TWO } else { ONE })));
    let both = Site::Several(["s-1".to_owned(), "s-2".to_owned()].into());
    assert_eq!(lab.find().await, both);
    assert_eq!((lab.find().await, lab.calls()), (both, 1));
    sleep(PAUSE).await;
    assert_eq!((lab.find().await, lab.calls()), (known("s-1"), 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_he_wants_to() {
    let lab = lab(|_, _| Ok((200, ONE)));
    let began = Instant::now();
    assert_eq!(
        lab.site.find(Duration::from_millis(300)).await,
        Site::Unknown
    );
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (lab.site.find(Duration::ZERO).await, lab.calls()),
        (known("s-1"), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_asked() {
    let lab = lab_with(TokenSlot::new(), |_, _| Ok((200, ONE)));
    assert_eq!(
        (lab.site.find(PATIENCE * 2).await, lab.calls()),
        (Site::Unknown, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_frozen_site_is_woken_up_once_a_minute_at_most() {
    let lab = lab(|number, _| Ok((if number == 2 { 500 } else { 202 }, "")));
    lab.froze().await;
    let call = lab.call(0);
    let url = "https://api.example/base/resourceprovider/acme/site/activation?customerId=acme";
    assert_eq!(
        (call.method, call.url.to_string().as_str()),
        (Method::POST, url)
    );
    for _ in 0..10 {
        lab.froze().await;
    }
    assert_eq!(lab.calls(), 1);
    advance(BETWEEN_ACTIVATIONS).await;
    lab.froze().await;
    assert_eq!(lab.calls(), 2);
    // Also when it failed.
    lab.froze().await;
    assert_eq!(lab.calls(), 2);
    advance(BETWEEN_ACTIVATIONS).await;
    assert_eq!(lab.calls(), 2, "nobody needs it");
    lab.froze().await;
    assert_eq!(lab.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_site_that_is_frozen_when_it_is_asked_for_is_woken_up_too() {
    let lab = lab(|_, call| {
        Ok(if call.method == Method::GET {
            (530, "")
        } else {
            (200, "")
        })
    });
    assert_eq!(lab.find().await, Site::Unknown);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((lab.calls(), lab.call(1).method), (2, Method::POST));
}
