//! Step 4: turns the admitted request into the one that is sent, except for the token.
//!
//! Only this step creates an [`UpstreamRequest`], so no request is sent to which its rules were not
//! applied: target rebased, hop-by-hop fields and the caller's credentials removed, Citrix's fields
//! added, body reframed.

use std::time::Duration;

use http::header::{ACCEPT, COOKIE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use http_body::Body;

use super::admit::{Admitted, Policy};
use super::pick_route::Picked;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::limit::collapse::Followers;
use crate::state::addressing::{RouteMatch, too_many_readings};
use crate::state::{Customer, Route};
use crate::upstream::request_head::RequestHead;
use crate::upstream::share::SharedResponse;
use citrix_wire::citrix::accept::wants_json;
use citrix_wire::citrix::batch::{BatchPath, BatchTemplate};
use citrix_wire::citrix::cvad::needs_instance_id;
use citrix_wire::citrix::headers::{
    CITRIX_CUSTOMER_ID, CITRIX_INSTANCE_ID, CITRIX_TRANSACTION_ID, customer_in_service_path,
    remove_empty,
};
use citrix_wire::citrix::login::token_endpoint;
use citrix_wire::field_list::FieldList;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::path_readings::PathReadings;
use citrix_wire::{coding, hop_by_hop, link_rewrite, path};

/// Fields that are added here and by `send`, without those of a route.
const ADDED_FIELDS: usize = 8;
/// The caller's fields that are not forwarded.
const NOT_FORWARDED: KnownFields = KnownFields::HOP_BY_HOP
    .and(KnownFields::GATEWAY_ONLY)
    .and(KnownFields::CONTENT_LENGTH);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request ready to be sent, except for the token (interface §4.1).
pub struct UpstreamRequest<'s> {
    pub(super) head: RequestHead,
    pub(super) body: CallerBody,
    pub(super) customer: &'s Customer,
    /// Authority by which the caller addressed the gateway; HTTP/1.0 may have none.
    pub(super) caller_authority: Option<HeaderValue>,
    pub(super) expects_continue: bool,
    /// `true` if the service requires a site id that is not known yet.
    pub(super) needs_site: bool,
    /// `true` if the body is a batch, whose items contain tokens.
    pub(super) is_batch: bool,
    /// The batch, once it is read.
    pub(super) batch: Option<Box<BatchTemplate>>,
    /// The caller's rules, if they apply to the body.
    pub(super) policy: Option<Policy<'s>>,
    /// The rest of the route's `queue_timeout` after `queue`, if Citrix limits the customer there.
    pub(super) queue_left: Option<Duration>,
    /// The requests that share the response, once this one has its permit.
    pub(super) followers: Option<Followers<SharedResponse>>,
    /// The response of another request, once that is received.
    pub(super) shared: Option<Box<SharedResponse>>,
}

/// Prepares an admitted request. Boxed, because it lives as long as the request's future.
///
/// # Errors
/// `bad_request` if the rebased path is invalid, `customer_forbidden` if it names another customer,
/// or the rejection of a batch whose items cannot be evaluated.
pub fn prepare<'s>(
    admitted: Admitted<'s>,
    picked: &Picked<'_>,
    exchange: &mut Exchange,
) -> Result<Box<UpstreamRequest<'s>>, Failure> {
    let Admitted {
        head,
        route_match,
        fields,
        mut body,
        customer,
        host,
        expects_continue,
        mut policy,
    } = admitted;
    let prefix = stripped_prefix(picked.route);
    let target = path::rebase(&route_match.target, prefix, &picked.destination.base_path).map_err(
        |error| Failure::new(Reason::BadRequest, "the path cannot be forwarded").with_source(error),
    )?;
    let forms = PathForms::of(&route_match, &target, picked)?;
    reject_other_customer(&customer.id, forms.read())?;
    if !picked.destination.base_path.is_empty() {
        reject_login(forms.read())?;
    }
    let headers = &mut head.headers;
    if fields.has(KnownFields::HOP_BY_HOP) && hop_by_hop::remove_nominated(headers) {
        body.drop_trailers();
    }
    let names_site = adapt_caller_fields(headers, fields, picked.route);
    let sends_json = wants_json(headers, forms.paths());
    let mut list = forwarded_fields(headers, &picked.destination.host);
    let needs_site = !names_site && add_site(&mut list, customer, forms.read());
    list.set(CITRIX_CUSTOMER_ID, customer.id.clone());
    let transaction_id = exchange.transaction_id().clone();
    if fields.has(KnownFields::TRANSACTION_ID) {
        list.set(CITRIX_TRANSACTION_ID, transaction_id);
    } else {
        list.push(CITRIX_TRANSACTION_ID, transaction_id);
    }
    if sends_json {
        list.set(ACCEPT, JSON);
    }
    add_default_fields(&mut list, picked.route);
    exchange.set_upload(body.progress());
    let has_body = !body.is_end_stream();
    let is_batch =
        has_body && expect_batch(forms.batch(), policy.as_mut(), target.path(), exchange)?;
    let mut head = RequestHead {
        method: std::mem::take(&mut head.method),
        target,
        fields: list,
        spare: std::mem::take(headers),
    };
    head.frame(&body);
    Ok(Box::new(UpstreamRequest {
        is_batch,
        head,
        body,
        customer,
        caller_authority: host,
        expects_continue,
        needs_site,
        batch: None,
        policy,
        queue_left: None,
        followers: None,
        shared: None,
    }))
}

/// The path without and with the base path of the upstream, and the readings of both.
struct PathForms<'p> {
    paths: [&'p str; 2],
    readings: [PathReadings; 2],
    /// Number of forms to skip: 1 if both are the same.
    same: usize,
}

impl<'p> PathForms<'p> {
    fn of(
        route_match: &'p RouteMatch,
        target: &'p PathAndQuery,
        picked: &Picked<'_>,
    ) -> Result<Self, Failure> {
        let (path, prefix) = (route_match.target.path(), stripped_prefix(picked.route));
        let paths = [path.get(prefix.len()..).unwrap_or_default(), target.path()];
        let is_plain = route_match.readings.is_empty();
        let readings = |path| match is_plain {
            true => Ok(PathReadings::default()),
            false => PathReadings::of(path).map_err(too_many_readings),
        };
        let is_rebased = !prefix.is_empty() || !picked.destination.base_path.is_empty();
        Ok(Self {
            paths,
            readings: [readings(paths[0])?, readings(paths[1])?],
            same: usize::from(!is_rebased),
        })
    }

    fn paths(&self) -> &[&'p str] {
        &self.paths[self.same..]
    }

    /// Returns the readings of both forms.
    fn read(&self) -> impl Iterator<Item = &str> {
        let forms = self.paths().iter().zip(&self.readings[self.same..]);
        forms.flat_map(|(path, readings)| readings.all(path))
    }

    /// Classifies the path.
    fn batch(&self) -> BatchPath {
        let [without, with] =
            [0, 1].map(|form| BatchPath::of(self.paths[form], &self.readings[form]));
        match (without, with) {
            (BatchPath::Lookalike, _) | (_, BatchPath::Lookalike) => BatchPath::Lookalike,
            (BatchPath::Api, _) | (_, BatchPath::Api) => BatchPath::Api,
            (BatchPath::Other, BatchPath::Other) => BatchPath::Other,
        }
    }
}

/// Returns the prefix that is not forwarded.
fn stripped_prefix(route: &Route) -> &str {
    if route.config.strip_prefix {
        &route.config.prefix
    } else {
        ""
    }
}

/// Returns `Host` and the caller's fields that are forwarded.
fn forwarded_fields(headers: &mut HeaderMap, host: &HeaderValue) -> FieldList {
    let mut list = FieldList::with_capacity(headers.len() + ADDED_FIELDS);
    list.push(HOST, host.clone());
    list.take(headers, |name| {
        *name != HOST && !KnownFields::of_name(name).has(NOT_FORWARDED)
    });
    list
}

/// Adds the fields that a route has for requests without them.
fn add_default_fields(list: &mut FieldList, route: &Route) {
    for (name, value) in &route.default_headers {
        if !list.contains(name) {
            list.push(name.clone(), value.clone());
        }
    }
}

/// Applies the rules for several fields or for values: joins cookies, and restricts what the route's
/// link rewriting limits. Returns `true` if the caller names a site.
fn adapt_caller_fields(headers: &mut HeaderMap, fields: KnownFields, route: &Route) -> bool {
    if fields.has(KnownFields::COOKIE) {
        join_cookies(headers);
    }
    if route.config.rewrite_links {
        coding::retain_decodable(headers);
        link_rewrite::add_strong_tags(headers);
    }
    fields.has(KnownFields::SITE) && remove_empty(headers, &CITRIX_INSTANCE_ID)
}

/// Rejects a path that names another customer: a route's base path may add a segment that the
/// caller's path had not.
fn reject_other_customer<'p>(
    customer: &HeaderValue,
    mut readings: impl Iterator<Item = &'p str>,
) -> Result<(), Failure> {
    let is_other = |reading| {
        customer_in_service_path(reading)
            .is_some_and(|named| !named.as_bytes().eq_ignore_ascii_case(customer.as_bytes()))
    };
    if readings.any(is_other) {
        let detail = "the path names another customer than the request";
        return Err(Failure::new(Reason::CustomerForbidden, detail));
    }
    Ok(())
}

/// Rejects a path that a route's base path turns into that of a login (interface §4.5).
fn reject_login<'p>(mut readings: impl Iterator<Item = &'p str>) -> Result<(), Failure> {
    if readings.any(|reading| token_endpoint(reading).is_some()) {
        let detail = "the route leads to a token endpoint, to which no login is forwarded";
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    Ok(())
}

/// Returns `true` if the body is a batch, whose items are read.
///
/// # Errors
/// If the path only resembles that of a batch, or the caller's rules cannot be applied to the items.
fn expect_batch(
    batch_path: BatchPath,
    policy: Option<&mut Policy<'_>>,
    path: &str,
    exchange: &mut Exchange,
) -> Result<bool, Failure> {
    let is_api = batch_path == BatchPath::Api;
    if let Some(policy) = policy {
        policy.expect_items(path, is_api, exchange)?;
    }
    if batch_path == BatchPath::Lookalike {
        let detail = "the path resembles that of a $batch, whose items would keep the caller's tokens; write \
                      /cvad/manage/$batch";
        return Err(Failure::new(Reason::BadRequest, detail));
    }
    Ok(is_api)
}

/// Adds the configured or discovered `Citrix-InstanceId` if the service behind one of the readings
/// requires it. Returns `true` if the site is still to be discovered.
fn add_site<'p>(
    fields: &mut FieldList,
    customer: &Customer,
    mut readings: impl Iterator<Item = &'p str>,
) -> bool {
    if !readings.any(needs_instance_id) {
        return false;
    }
    if let Some(site) = customer.instance_id() {
        fields.set(CITRIX_INSTANCE_ID, site.clone());
        return false;
    }
    customer.must_find_site()
}

/// Joins `Cookie` fields: HTTP/2 may split them, HTTP/1.1 requires one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).iter();
    if let (Some(_), Some(_)) = (fields.next(), fields.next()) {
        let all: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}
