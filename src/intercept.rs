//! Requests that tools with built-in host names send to Citrix's hosts (interface §4.6): the decision
//! on CONNECT, and the path at the gateway of an intercepted request.
//!
//! The known hosts and their paths are those of the route table. No other host is connected to,
//! except those of `intercept.tunnel`.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Uri, Version};
use tokio::net::TcpStream;

use crate::callers::browser_guard;
use crate::callers::credentials::PresentedCredentials;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::intercept_metrics::MAX_TUNNELS;
use crate::inbound::intercepted::{CallerSource, Intercepted, MappedPath, TunnelCaller};
use crate::inbound::strict;
use crate::limit::owner::OwnedPermit;
use crate::login;
use crate::state::{Customer, Shared, Snapshot};
use crate::upstream::dial;
use citrix_wire::connect_target::{self, ConnectTargetError};
use citrix_wire::host::Authority;
use citrix_wire::known_fields::KnownFields;

/// An accepted CONNECT request.
pub enum Tunnel {
    /// To a known host, which the gateway serves itself.
    Intercepted(Arc<Intercepted>),
    /// To a host of `intercept.tunnel`, over this connection.
    Blind(TcpStream, OwnedPermit),
}

/// Decides on a CONNECT request, and opens the connection of a blind tunnel. Counts and logs the
/// decision.
///
/// # Errors
/// `bad_request` for a malformed request, `caller_unknown` (407) or `caller_forbidden` without a
/// caller, `caller_forbidden` for any other target, `overloaded`, and `upstream_connect`.
pub async fn connect(
    head: &Parts,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Tunnel, Failure> {
    let metrics = &shared.intercepted;
    match decide(head, snapshot, shared, exchange).await {
        Ok(tunnel) => {
            exchange.set_admitted();
            if matches!(tunnel, Tunnel::Blind(..)) {
                metrics.tunnelled.inc();
            }
            Ok(tunnel)
        }
        Err(failure) => {
            match failure.reason() {
                Reason::CallerUnknown => metrics.unauthenticated.inc(),
                _ => metrics.refused.inc(),
            }
            exchange.audit_rejection(&failure);
            login::delay_bad_secret(shared, exchange).await;
            Err(failure)
        }
    }
}

async fn decide(
    head: &Parts,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Tunnel, Failure> {
    let fields = KnownFields::of(&head.headers);
    strict::check(head, fields)?;
    let target = check_connect(head)?;
    let host = connect_target::parse(target);
    if host == Err(ConnectTargetError::Malformed) {
        let detail = ConnectTargetError::Malformed.to_string();
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    let caller = identify(&head.headers, fields, snapshot, shared, exchange)?;
    let host = host.map_err(|error| forbidden(error.to_string()))?;
    if snapshot.known_hosts().contains(&host) {
        return Ok(Tunnel::Intercepted(Arc::new(Intercepted {
            host: host.into(),
            default_port: connect_target::PORT,
            caller: CallerSource::Tunnel(caller),
        })));
    }
    if !snapshot.live.tunnels.iter().any(|it| it.matches(&host)) {
        return Err(forbidden(format!(
            "{host} is neither a host that this gateway serves nor in intercept.tunnel"
        )));
    }
    open_blind(&host, snapshot, shared, exchange).await
}

/// Returns the target of a well-formed CONNECT request: one without a body, and with one valid `Host`
/// field.
fn check_connect(head: &Parts) -> Result<&str, Failure> {
    let bad = |detail: &'static str| Failure::new(Reason::BadRequest, detail);
    let headers = &head.headers;
    if head.version > Version::HTTP_11 {
        return Err(bad("CONNECT is supported over HTTP/1 only"));
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return Err(bad("CONNECT with a body"));
    }
    let authority = head.uri.authority().filter(|_| head.uri.scheme().is_none());
    let target = authority
        .ok_or_else(|| bad("the target of CONNECT is not a host name with a port"))?
        .as_str();
    let mut fields = headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) if head.version == Version::HTTP_11 => {
            return Err(bad("the request has no Host field"));
        }
        (_, Some(_)) => return Err(bad("the request has more than one Host field")),
        // Some clients send the name of the proxy. The target alone counts (RFC 9112 section 3.2.3).
        (Some(field), None) => {
            let field = field.to_str().ok();
            if field.is_none_or(|field| Authority::parse(field).is_err()) {
                return Err(bad("the Host field is not a host with an optional port"));
            }
        }
        (None, None) => {}
    }
    Ok(target)
}

fn forbidden(detail: String) -> Failure {
    Failure::new(Reason::CallerForbidden, detail)
}

/// Identifies the caller by `Proxy-Authorization` or by its peer; `None` in anonymous mode.
fn identify(
    headers: &HeaderMap,
    fields: KnownFields,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Option<TunnelCaller>, Failure> {
    let callers = &snapshot.callers;
    if callers.is_empty() {
        let permitted = snapshot.live.allow_anonymous || exchange.is_local();
        browser_guard::admit_anonymous(permitted, None, headers, fields)?;
        return Ok(None);
    }
    let presented = PresentedCredentials::read_proxy(headers)
        .map_err(|twice| Failure::new(Reason::BadRequest, twice.to_string()))?;
    let signer = shared.login_endpoints.signer(snapshot.signer.as_ref());
    let peer = exchange.peer_identity();
    let identity = callers.admit(&presented, peer, signer, shared.clock);
    let identity = identity.map_err(|unknown| {
        exchange.set_bad_secret(callers.is_bad_secret(unknown, &presented));
        callers.unknown_caller(unknown, true)
    })?;
    exchange.set_caller(Some(identity.caller));
    let state = snapshot.caller(identity.caller);
    if let Some((secret, (_, state))) = identity.secret.zip(state) {
        state.secret_used(secret, exchange.began());
    }
    Ok(callers.tunnel_caller(identity))
}

async fn open_blind(
    host: &str,
    snapshot: &Snapshot,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<Tunnel, Failure> {
    let counted = shared.intercepted.enter_tunnel(exchange.owner());
    let counted = counted.map_err(|exceeded| {
        Failure::overloaded(exceeded.detail(MAX_TUNNELS, "tunnels are open", "fixed limit"))
    })?;
    exchange.audit_tunnel();
    exchange.audited().await?;
    let timeout = snapshot.live.upstream.connect_timeout;
    let opened = dial::open_public(host, connect_target::PORT, snapshot.dial_config(), timeout);
    let socket = opened.await.map_err(|error| {
        let detail = format!("no tunnel to {host}: {error}");
        Failure::new(Reason::UpstreamConnect, detail).with_source(error)
    })?;
    Ok(Tunnel::Blind(socket, counted))
}

/// Replaces the path of an intercepted request with that at the gateway.
pub fn enter(head: &mut Parts, snapshot: &Snapshot, intercepted: &Intercepted) -> MappedPath {
    let path: Box<str> = head.uri.path().into();
    let mapped = map(head, snapshot, intercepted);
    MappedPath { path, mapped }
}

/// A path at Citrix's host and the one at the gateway.
pub struct EnteredPath {
    path: Box<str>,
    mapped: Box<str>,
}

impl EnteredPath {
    /// Returns the paths once their request may learn whether there is one at the gateway.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(paths: MappedPath) -> Result<Self, Failure> {
        Ok(Self {
            path: paths.path,
            mapped: paths.mapped?,
        })
    }

    /// Rejects a request for a customer in another cloud than the host.
    ///
    /// # Errors
    /// `no_route`.
    pub fn check_customer(
        &self,
        snapshot: &Snapshot,
        customer: &Customer,
        host: &str,
    ) -> Result<(), Failure> {
        let path = snapshot.path_for_customer(customer, host, &self.path);
        if path.as_deref() == Some(&*self.mapped) {
            return Ok(());
        }
        let detail = "the host is not one of the customer's cloud";
        Err(Failure::new(Reason::NoRoute, detail))
    }
}

fn map(
    head: &mut Parts,
    snapshot: &Snapshot,
    intercepted: &Intercepted,
) -> Result<Box<str>, Failure> {
    let host = &*intercepted.host;
    if host.is_empty() {
        let detail = "this address is an HTTP proxy; send CONNECT, TLS, or an absolute target";
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    if !snapshot.known_hosts().contains(host) {
        return Err(forbidden(format!(
            "{host} is not a host that this gateway serves"
        )));
    }
    let path = head.uri.path();
    if !path.starts_with('/') {
        // Rejected like in any other request.
        return Ok(path.into());
    }
    let mapped = snapshot
        .path_at_gateway(host, path)
        .ok_or_else(|| Failure::new(Reason::NoRoute, "no route leads to this path of the host"))?;
    if mapped != path {
        let target = match head.uri.query() {
            Some(query) => format!("{mapped}?{query}"),
            None => mapped.clone(),
        };
        let not_a_path = || Failure::new(Reason::BadRequest, "the request target is not a path");
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query =
            Some(PathAndQuery::try_from(target).map_err(|error| not_a_path().with_source(error))?);
        head.uri = Uri::from_parts(parts).map_err(|error| not_a_path().with_source(error))?;
    }
    Ok(mapped.into())
}

/// Returns the host of an absolute target (RFC 9112 section 3.2.2); an empty one for any other
/// target. No known host for all but a DNS name with the default port of the scheme.
pub fn of_absolute_target(uri: &Uri) -> Intercepted {
    let default_port = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => connect_target::PORT,
        _ => 80,
    };
    let host = uri.authority().map(|authority| {
        let (text, name) = (authority.as_str(), authority.host());
        let has_default = text.strip_prefix(name).is_some_and(|rest| {
            let port = rest.strip_prefix(':');
            rest.is_empty() || port == Some(&default_port.to_string())
        });
        // No known host has another port, user information, or the form of an address.
        match connect_target::dns_name(name) {
            Ok(name) if has_default => name,
            _ => text.to_owned(),
        }
    });
    Intercepted {
        host: host.unwrap_or_default().into(),
        default_port,
        caller: CallerSource::ProxyField,
    }
}
