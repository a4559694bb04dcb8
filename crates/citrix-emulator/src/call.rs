//! A request with its context, as services receive it.

use std::sync::Arc;

use http::Method;
use http::header::HOST;
use http::request::Parts;
use hyper::body::Incoming;

use super::options::LinkBase;
use super::query::Query;
use super::state::State;
use super::tenants::{Identity, Tenant};

/// The listener that received a request.
#[derive(Clone)]
pub(super) struct ListenerOrigin {
    /// Base URL as clients reach it.
    pub(super) url: Arc<str>,
    /// `true` for the listener of the other region.
    pub(super) other_region: bool,
}

/// A request for a service.
pub(super) struct Call<'a> {
    pub(super) state: &'a State,
    pub(super) origin: &'a ListenerOrigin,
    pub(super) parts: &'a Parts,
    /// The customer in the path.
    pub(super) customer: Option<&'a str>,
    /// Raw path segments after the service's own.
    pub(super) rest: Vec<&'a str>,
    /// Owner of the token; `None` for services without access checks.
    pub(super) caller: Option<Identity>,
    pub(super) body: Incoming,
}

impl<'a> Call<'a> {
    pub(super) fn query(&self) -> Query<'a> {
        Query::new(&self.parts.uri)
    }

    /// Returns the customer of the token, or the first customer for services without access checks.
    pub(super) fn tenant(&self) -> &Arc<Tenant> {
        self.caller
            .as_ref()
            .map_or(self.state.first(), |caller| &caller.tenant)
    }

    /// Returns the client that the token was issued to.
    pub(super) fn client_id(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| &caller.client_id)
    }

    /// Returns `true` for GET and HEAD.
    pub(super) fn is_get(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.parts.method)
    }

    pub(super) fn is_post(&self) -> bool {
        self.parts.method == Method::POST
    }

    /// Returns the service's own part of the path in the case of the request, which links preserve.
    pub(super) fn prefix(&self) -> &'a str {
        let path = self.parts.uri.path();
        let behind: usize = self.rest.iter().map(|segment| segment.len() + 1).sum();
        path.get(..path.len().saturating_sub(behind))
            .unwrap_or(path)
    }

    /// Returns the base URL of absolute links into this service, without a trailing slash.
    pub(super) fn link_base(&self) -> String {
        let origin = match &self.state.links.base {
            LinkBase::Own => self.origin.url.to_string(),
            LinkBase::Origin(origin) => origin.clone(),
            LinkBase::Called => {
                let scheme = self
                    .origin
                    .url
                    .split_once("://")
                    .map_or("http", |(scheme, _)| scheme);
                let in_header = self
                    .parts
                    .headers
                    .get(HOST)
                    .and_then(|host| host.to_str().ok());
                let called = self
                    .parts
                    .uri
                    .authority()
                    .map(http::uri::Authority::as_str)
                    .or(in_header);
                called.map_or(self.origin.url.to_string(), |host| {
                    format!("{scheme}://{host}")
                })
            }
        };
        origin + self.prefix()
    }
}
