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
    if admin.settings.secret_sha256.is_none() && !peer.ip().to_canonical().is_loopback() {
        return text(
            StatusCode::FORBIDDEN,
            "permitted from loopback only unless admin.secret_sha256 is set\n",
        );
    }
    admin.lifecycle.request_stop();
    text(StatusCode::OK, "draining\n")
}
