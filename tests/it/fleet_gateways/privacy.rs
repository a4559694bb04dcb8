//! The store learns no token, secret, customer, caller or path, operators no token or secret.

use super::*;
use crate::harness::{OK, SECRET, TOKEN, Upstream};

/// In all that must not be in the store.
const CANARY: &str = "c4nary";

#[tokio::test]
async fn store_contains_no_name_and_no_secret() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    for text in [KEY, SECRET, TOKEN] {
        assert!(text.contains(CANARY));
    }
    let monitor = server.monitor();
    let upstream = Upstream::scripted(|number| {
        let response = if number % 8 == 0 { LIMITED } else { OK };
        response.into()
    })
    .await;
    let settings = format!(
        "[fleet]\nurl = '{}'\nreplica = 'c4nary-replica'",
        server.url()
    );
    let start = |_| {
        let plan = Gateway::in_front_of(&upstream)
            .set("CITRIX_CUSTOMER_ID", "c4nary-customer")
            .set("CITRIX_CLIENT_ID", "c4nary-client");
        sharing(plan, &settings).start()
    };
    let replicas = join_all((0..2).map(start)).await;
    for replica in &replicas {
        await_state(replica, "joined").await;
    }
    for path in [
        "/monitorodata/c4nary-path?c4nary=query",
        "/accessSecurity/c4nary-path",
    ] {
        let load = Load::start(&replicas, 2, path);
        load.each_served(3).await;
        load.ends_without_failure().await;
    }
    for replica in &replicas {
        for path in ["/metrics", "/status.json", "/fleet"] {
            let text = replica.admin(get(path)).await.text();
            let secret = [KEY, SECRET, TOKEN]
                .into_iter()
                .find(|it| text.contains(it));
            assert_eq!(secret, None, "{path}");
        }
    }
    let commands = monitor.end(&server);
    assert!(commands.contains("EVALSHA"), "{commands}");
    assert!(!commands.contains(CANARY), "{commands}");
    let dump = server.dump();
    let text = String::from_utf8_lossy(&dump);
    assert!(text.contains("cap:1:{default}:") && !text.contains(CANARY));
}
