//! What is in effect: egress, roots, HTTP versions, connections and the last reload.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::admin::Admin;
use crate::admin::times::rfc3339;
use crate::config::Http2Mode;
use crate::state::published::Published;

/// Certificates of `upstream.ca_file` that are listed.
const MAX_CERTIFICATES: usize = 20;

#[derive(Serialize)]
pub(super) struct InEffect {
    /// `None` if connections are direct.
    egress_proxy: Option<String>,
    roots: RootsView,
    /// `auto` or `never`, of `upstream.http2`.
    http2: &'static str,
    /// Connections of all workers in use by a request.
    connections_active: i64,
    /// Origins with connections.
    connections: Vec<ConnectionsView>,
    last_reload: Option<ReloadView>,
}

#[derive(Serialize)]
struct RootsView {
    /// Number of the system's.
    system: usize,
    ca_file: Option<String>,
    /// The certificates in it that expire first.
    certificates: Vec<RootView>,
}

#[derive(Serialize)]
struct RootView {
    subject: String,
    expires_at: String,
}

#[derive(Serialize)]
struct ConnectionsView {
    origin: String,
    /// `HTTP/1.1` or `HTTP/2`.
    version: &'static str,
    http1_idle: usize,
    http2: usize,
}

#[derive(Serialize)]
struct ReloadView {
    at: String,
    outcome: &'static str,
}

impl InEffect {
    pub(super) fn new(admin: &Admin, published: &Published) -> Self {
        let dial_config = published.dial_config();
        let metrics = &admin.shared.metrics;
        let origins = published.origins().iter().filter_map(|origin| {
            let connections = admin.shared.upstream_connections.of(origin.id)?;
            Some(ConnectionsView {
                origin: origin.url.to_string(),
                version: if connections.chose_http1 {
                    "HTTP/1.1"
                } else {
                    "HTTP/2"
                },
                http1_idle: connections.http1_idle,
                http2: connections.http2,
            })
        });
        Self {
            egress_proxy: dial_config.egress().proxy().map(|proxy| proxy.to_string()),
            roots: RootsView::new(published),
            http2: match published.live.upstream.http2 {
                Http2Mode::Auto => "auto",
                Http2Mode::Never => "never",
            },
            connections_active: metrics.upstream_active(),
            connections: origins.collect(),
            last_reload: metrics.reloads.last().map(|(outcome, at)| ReloadView {
                at: rfc3339(at),
                outcome: outcome.label(),
            }),
        }
    }
}

impl RootsView {
    fn new(published: &Published) -> Self {
        let trusted = &published.dial_config().tls().trusted;
        let mut certificates: Vec<_> = trusted.certificates.iter().collect();
        certificates.sort_by_key(|(_, end)| *end);
        let first = certificates.into_iter().take(MAX_CERTIFICATES);
        Self {
            system: trusted.system,
            ca_file: trusted.file.as_ref().map(|path| path.display().to_string()),
            certificates: first
                .map(|(subject, end)| RootView {
                    subject: subject.clone(),
                    expires_at: rfc3339(UNIX_EPOCH + *end),
                })
                .collect(),
        }
    }
}
