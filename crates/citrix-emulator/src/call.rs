//! A request on its way to the service that answers it.

use std::sync::Arc;

use http::Method;
use http::header::HOST;
use http::request::Parts;
use hyper::body::Incoming;

use super::options::LinkBase;
use super::query::Query;
use super::state::State;
use super::tenants::{Identity, Tenant};

/// The listener that a request came to.
#[derive(Clone)]
pub(super) struct ListenerOrigin {
    /// Its scheme, address and port as callers reach it.
    pub(super) url: Arc<str>,
    /// Whether it plays the other region.
    pub(super) other_region: bool,
}

/// A request on its way to the one who answers it.
pub(super) struct Call<'a> {
    pub(super) state: &'a State,
    pub(super) origin: &'a ListenerOrigin,
    pub(super) parts: &'a Parts,
    /// The customer in the path.
    pub(super) customer: Option<&'a str>,
    /// The path's segments behind the service's own, as they came.
    pub(super) rest: Vec<&'a str>,
    /// Whose token it carries, where the service asks for one.
    pub(super) caller: Option<Identity>,
    pub(super) body: Incoming,
}

impl<'a> Call<'a> {
    pub(super) fn query(&self) -> Query<'a> {
        Query::new(&self.parts.uri)
    }

    /// The customer of the token; of the services that ask for none, the first there is.
    pub(super) fn tenant(&self) -> &Arc<Tenant> {
        self.caller
            .as_ref()
            .map_or(self.state.first(), |caller| &caller.tenant)
    }

    /// The client that the token was issued to.
    pub(super) fn client_id(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| &caller.client_id)
    }

    /// Whether it only reads.
    pub(super) fn is_get(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.parts.method)
    }

    pub(super) fn is_post(&self) -> bool {
        self.parts.method == Method::POST
    }

    /// The service's own part of the path, as the caller wrote it; links keep to it.
    pub(super) fn prefix(&self) -> &'a str {
        let path = self.parts.uri.path();
        let behind: usize = self.rest.iter().map(|segment| segment.len() + 1).sum();
        path.get(..path.len().saturating_sub(behind))
            .unwrap_or(path)
    }

    /// What absolute links into this service begin with, without a slash at the end.
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
