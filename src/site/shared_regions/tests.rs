//! Replicas that share regions through a scripted store, on a paused clock.

use http::uri::{Authority, Scheme};
use prometheus::Registry;
use tokio::task::JoinSet;

use super::*;
use crate::fleet::scripted::ScriptedStore;

const API: &str = "api.cloud.com";
const EU: &str = "api-eu.cloud.com";
const CUSTOMERS: [&str; 2] = ["acme", "contoso"];

struct Source {
    regions: Regions,
    others: Vec<UpstreamUrl>,
}

impl RegionSource for Source {
    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn customers(&self) -> Vec<KnownGateways> {
        let customers = CUSTOMERS.map(|customer| KnownGateways {
            customer: HeaderValue::from_static(customer),
            api: url(API, ""),
            others: self.others.clone(),
        });
        customers.into()
    }
}

struct Replica {
    source: Arc<Source>,
    _task: JoinSet<Infallible>,
}

fn url(host: &'static str, path: &str) -> UpstreamUrl {
    UpstreamUrl::new(Scheme::HTTPS, Authority::from_static(host), path.to_owned()).unwrap()
}

fn relocation(customer: &'static str, base: &str) -> Relocation {
    Relocation {
        customer: HeaderValue::from_static(customer),
        from: url(API, "/a"),
        to: url(EU, base),
        confirmed: false,
        until: Instant::now() + LIFETIME,
    }
}

/// Starts a replica that knows these gateways, and waits until it has read the store.
async fn start(store: &ScriptedStore, others: &[&'static str]) -> Replica {
    let source = Arc::new(Source {
        regions: Regions::default(),
        others: others.iter().map(|host| url(host, "")).collect(),
    });
    let mut task = JoinSet::new();
    let fleet = store.join('k', &Registry::new());
    task.spawn(share(fleet, Arc::clone(&source)));
    settle().await;
    let _task = task;
    Replica { source, _task }
}

async fn settle() {
    sleep(Duration::from_secs(1)).await;
}

impl Replica {
    async fn learn(&self, new: Relocation) {
        self.source.regions.learn(new);
        settle().await;
    }

    fn bases(&self) -> Vec<(String, String)> {
        let list = self.source.regions.list();
        let list = list.iter().map(|known| {
            let customer = known.customer.to_str().unwrap();
            (customer.to_owned(), known.to.to_string())
        });
        list.collect()
    }
}

fn acme_in(to: &str) -> Vec<(String, String)> {
    vec![("acme".to_owned(), to.to_owned())]
}

const EU_B: &str = "https://api-eu.cloud.com/b";

#[tokio::test(start_paused = true)]
async fn region_of_one_replica_is_known_to_others_for_the_rest_of_its_lifetime() {
    let store = ScriptedStore::new();
    let (first, running) = (start(&store, &[EU]).await, start(&store, &[EU]).await);
    first.learn(relocation("acme", "/b")).await;
    sleep(LIFETIME / 2).await;
    let started = start(&store, &[EU]).await;
    assert_eq!(running.bases(), acme_in(EU_B));
    assert_eq!(started.bases(), acme_in(EU_B));
    sleep(LIFETIME / 2).await;
    let late = start(&store, &[EU]).await;
    for replica in [first, running, started, late] {
        assert!(replica.bases().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn region_at_an_unknown_gateway_is_ignored() {
    let store = ScriptedStore::new();
    let first = start(&store, &[EU]).await;
    first.learn(relocation("acme", "/b")).await;
    let other = start(&store, &["api-ap-s.cloud.com"]).await;
    assert!(other.bases().is_empty());
    assert_eq!(start(&store, &[EU]).await.bases(), acme_in(EU_B));
}

#[tokio::test(start_paused = true)]
async fn record_that_was_moved_or_damaged_is_ignored() {
    let store = ScriptedStore::new();
    let first = start(&store, &[EU]).await;
    for customer in CUSTOMERS {
        first.learn(relocation(customer, "/b")).await;
    }
    assert_eq!(start(&store, &[EU]).await.bases().len(), 2);
    store.exchange_tokens();
    assert!(start(&store, &[EU]).await.bases().is_empty());
    store.exchange_tokens();
    store.change_records(|record| record[14] ^= 1);
    assert!(start(&store, &[EU]).await.bases().is_empty());
}

#[tokio::test(start_paused = true)]
async fn region_that_proved_wrong_returns_only_after_another_redirect() {
    let store = ScriptedStore::new();
    let first = start(&store, &[EU]).await;
    let wrong = relocation("acme", "/b");
    first.learn(wrong.clone()).await;
    let second = start(&store, &[EU]).await;
    for replica in [&first, &second] {
        replica.source.regions.remove(&wrong);
    }
    sleep(2 * INTERVAL).await;
    assert!(first.bases().is_empty() && second.bases().is_empty());
    first.learn(relocation("acme", "/b")).await;
    sleep(INTERVAL).await;
    assert_eq!(second.bases(), acme_in(EU_B));
}

#[tokio::test(start_paused = true)]
async fn region_is_shared_once_the_store_is_joined_again() {
    let store = ScriptedStore::new();
    let first = start(&store, &[EU]).await;
    store.set_up(false);
    first.learn(relocation("acme", "/b")).await;
    assert_eq!(first.bases(), acme_in(EU_B));
    store.set_up(true);
    settle().await;
    assert_eq!(start(&store, &[EU]).await.bases(), acme_in(EU_B));
}

#[test]
fn path_of_the_store_is_a_bounded_path() {
    let known = Source {
        regions: Regions::default(),
        others: vec![url(EU, "")],
    };
    let known = &known.customers()[0];
    let (eu, long) = ("https://api-eu.cloud.com", format!("/{}", "x".repeat(512)));
    for (origin, path, accepted) in [
        (eu, "/b", true),
        (eu, "", true),
        (eu, "b", false),
        (eu, "@evil.example/b", false),
        (eu, "/b?q", false),
        (eu, "/b c", false),
        (eu, &long, false),
        ("http://api-eu.cloud.com", "/b", false),
        ("https://api-eu.cloud.com:444", "/b", false),
        ("https://evil.example", "/b", false),
    ] {
        assert_eq!(
            known.url(origin, path).is_some(),
            accepted,
            "{origin} {path}"
        );
    }
}
