//! Stores that a gateway reaches, or does not, by TLS and as a user.

use testkit::pki::{TestCa, TlsFiles};

use super::*;
use crate::harness::{OK, Upstream};

struct TlsStore {
    server: StoreServer,
    ca: TestCa,
    files: TlsFiles,
}

impl TlsStore {
    fn start() -> Option<Self> {
        let ca = TestCa::new("store");
        let server = StoreServer::with_tls(&ca, &ca.issue("store", &["localhost"]))?;
        let files = TlsFiles::new(&ca.issue("gateway", &[]));
        files.write("ca.pem", &ca.pem());
        Some(Self { server, ca, files })
    }

    fn settings(&self, tls: &str) -> String {
        format!(
            "[fleet]\nurl = 'rediss://localhost:{}'\n{TIMES}\n{tls}",
            self.server.tls_port()
        )
    }

    fn file(&self, name: &str) -> String {
        self.files.path(name).display().to_string()
    }
}

async fn start(settings: &str) -> (Cloud, Gateway) {
    let cloud = Cloud::start().await;
    let gateway = sharing(Gateway::in_front_of_cloud(&cloud), settings);
    let gateway = gateway.start().await;
    (cloud, gateway)
}

/// Checks that a gateway with a store that it cannot use acts alone.
async fn serves_alone(settings: &str) {
    let (_cloud, gateway) = start(settings).await;
    await_state(&gateway, "alone").await;
    for path in [GATED, UNGATED] {
        assert_eq!(gateway.raw(get(path)).await.status(), 200, "{settings}");
    }
    assert_eq!(state(&gateway).await, "alone");
}

#[tokio::test]
async fn store_is_reached_by_tls_with_a_client_certificate() {
    let Some(store) = TlsStore::start() else {
        return;
    };
    assert_eq!(store.server.run("CONFIG SET tls-auth-clients yes"), "+OK");
    let [ca, certificate, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| store.file(name));
    let tls = format!("tls = {{ ca_file = '{ca}', certificate = '{certificate}', key = '{key}' }}");
    let (_cloud, gateway) = start(&store.settings(&tls)).await;
    await_state(&gateway, "joined").await;
    assert_eq!(gateway.raw(get(GATED)).await.status(), 200);
}

#[tokio::test]
async fn gateway_serves_alone_without_trust_in_the_store() {
    let Some(store) = TlsStore::start() else {
        return;
    };
    store.files.write("other.pem", &TestCa::new("other").pem());
    let tls = format!("tls = {{ ca_file = '{}' }}", store.file("other.pem"));
    serves_alone(&store.settings(&tls)).await;
    // Not verified names are not trusted either.
    let wrong = store.settings(&format!("tls = {{ ca_file = '{}' }}", store.file("ca.pem")));
    serves_alone(&wrong.replace("localhost", "127.0.0.1")).await;
    let plain = wrong.replace("rediss", "redis");
    let (plain, _) = plain.split_once("tls =").unwrap();
    serves_alone(plain).await;
    assert_eq!(
        store.ca.pem(),
        std::fs::read_to_string(store.file("ca.pem")).unwrap()
    );
}

#[tokio::test]
async fn gateway_serves_alone_with_a_store_that_rejects_it_or_is_none() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let web = Upstream::responding(OK).await;
    let all = "on allkeys allchannels +@all";
    for rule in [
        format!("short >right {all} -zadd"),
        format!("wrong >right {all}"),
    ] {
        assert_eq!(server.run(&format!("ACL SETUSER {rule}")), "+OK");
    }
    let url = server.url();
    let settings = |url: &str, password: &str| {
        format!("[fleet]\nurl = '{url}'\n{TIMES}\npassword = '{password}'")
    };
    let as_user = |user: &str| url.replace("unix://", &format!("unix://{user}@"));
    let cases = [
        settings(&as_user("short"), "right"),
        settings(&as_user("wrong"), "else"),
        settings(&format!("redis://{}", web.host()), "right"),
        settings("rediss://store.invalid", "right"),
    ];
    join_all(cases.iter().map(|settings| serves_alone(settings))).await;
    let right = start(&settings(&as_user("wrong"), "right")).await;
    await_state(&right.1, "joined").await;
    assert_eq!(server.run("REPLICAOF 127.0.0.1 1"), "+OK");
    await_state(&right.1, "alone").await;
    assert_eq!(right.1.raw(get(GATED)).await.status(), 200);
}
