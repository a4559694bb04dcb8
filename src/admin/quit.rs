//! `POST /quitquitquit`: stops the gateway as SIGTERM does. A Kubernetes Job whose main container has
//! finished ends its sidecar this way.

use std::net::SocketAddr;

use http::{Method, StatusCode};

use super::{Admin, FullResponse, method_not_allowed, text};

/// Requests the stop. Without an admin secret, only clients on this host may do so.
pub(super) fn respond(admin: &Admin, method: &Method, peer: SocketAddr) -> FullResponse {
    if method != Method::POST {
        return method_not_allowed("POST");
    }
    if !may_stop(admin.settings.secret_sha256.is_some(), peer) {
        return text(
            StatusCode::FORBIDDEN,
            "permitted from loopback only unless admin.secret_sha256 is set\n",
        );
    }
    admin.lifecycle.request_stop();
    text(StatusCode::OK, "draining\n")
}

/// With a secret, every request was authenticated before.
fn may_stop(has_secret: bool, peer: SocketAddr) -> bool {
    has_secret || peer.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_on_this_host_may_stop_the_gateway_without_a_secret() {
        for (peer, without_secret) in [
            ("127.0.0.1:1", true),
            ("127.1.2.3:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fe80::1]:1", false),
        ] {
            let peer = peer.parse().unwrap();
            assert_eq!(may_stop(false, peer), without_secret, "{peer}");
            assert!(may_stop(true, peer));
        }
    }
}
