//! Gates that one replica closes and all wait at.

use super::*;
use crate::harness::{OK, Upstream};

/// The replica that closes a gate sends no earlier than the others once it opens.
#[tokio::test]
async fn replicas_are_served_alike_where_citrix_rejects_every_fourth_request() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let upstream = Upstream::scripted(|number| {
        let response = if number % 4 == 0 { LIMITED } else { OK };
        response.into()
    })
    .await;
    let settings = format!("[fleet]\nurl = '{}'", server.url());
    let start = |_| sharing(Gateway::in_front_of(&upstream), &settings).start();
    let replicas = join_all((0..2).map(start)).await;
    for replica in &replicas {
        await_state(replica, "joined").await;
    }
    let load = Load::start(&replicas, 2, "/accessSecurity/logs?");
    load.each_served(3).await;
    load.ends_without_failure().await;
}
