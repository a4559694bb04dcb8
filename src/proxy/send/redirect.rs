//! After a 307: the request is sent to another region, and later ones directly (interface §4.4).

use std::sync::Arc;

use http::header::LOCATION;
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use super::{Next, Resend, SendContext, Sent};
use crate::error::{Failure, Reason};
use crate::proxy::admit::Policy;
use crate::site::regions::{OriginPath, Relocation};
use crate::state::{Customer, Destination};
use crate::upstream::origin::Origin;
use crate::upstream::request_head::RequestHead;
use citrix_wire::citrix::redirect::may_replace;

/// The redirect of a request to the gateway of another region.
pub(super) struct RegionRedirect {
    /// The other gateway; `None` once the request is sent to the route's upstream again.
    destination: Option<Destination>,
    /// The target by the route.
    original: PathAndQuery,
    /// The known relocation that was applied; `None` for a 307 to this very request.
    applied: Option<Arc<Relocation>>,
    /// A relocation that led to a 404 and may be wrong for this path.
    unconfirmed: Option<Arc<Relocation>>,
    /// `true` once a 307 was followed: another one is not.
    followed: bool,
}

impl RegionRedirect {
    fn new(original: PathAndQuery) -> Self {
        Self {
            destination: None,
            original,
            applied: None,
            unconfirmed: None,
            followed: false,
        }
    }

    /// Returns the other gateway, if the request was last sent there.
    pub(super) fn into_gateway(self) -> Option<Arc<Origin>> {
        self.destination.map(|destination| destination.origin)
    }
}

impl<'a> SendContext<'a> {
    /// Applies a known relocation of the customer's data to the target.
    pub(super) fn known_redirect(
        &self,
        head: &mut RequestHead,
        customer: &Customer,
        policy: Option<&Policy<'_>>,
    ) -> Option<Box<RegionRedirect>> {
        let old = OriginPath {
            origin: &self.destination.origin,
            path: head.target.path(),
        };
        let relocation = self.shared.regions.find(&customer.id, old)?;
        let target = relocation.target(&head.target).ok()?;
        // A reload may have removed the gateway, and another caller may have other rules.
        let gateway = self.gateway_for(head.target.path(), target.path(), customer, |gateway| {
            gateway.matches(&relocation.to)
        })?;
        if !self.is_permitted(policy, &head.method, gateway, target.path(), customer) {
            return None;
        }
        let original = std::mem::replace(&mut head.target, target);
        Some(Box::new(RegionRedirect {
            destination: Some(self.destination.moved_to(gateway)),
            applied: Some(relocation),
            ..RegionRedirect::new(original)
        }))
    }

    /// Returns the context with the destination of the redirect, if there is one. Boxed, because few
    /// requests are redirected.
    pub(super) fn redirected<'b>(
        &'b self,
        redirect: &'b Option<Box<RegionRedirect>>,
    ) -> Option<Box<SendContext<'b>>>
    where
        'a: 'b,
    {
        let destination = redirect.as_ref()?.destination.as_ref()?;
        Some(Box::new(SendContext {
            destination,
            ..*self
        }))
    }

    /// Forgets the applied relocation if its gateway cannot be reached: the next request uses the
    /// route's upstream.
    pub(super) fn redirect_failed(
        &self,
        redirect: &Option<Box<RegionRedirect>>,
        failure: &Failure,
    ) {
        if failure.reason() == Reason::UpstreamConnect
            && let Some(relocation) = redirect
                .as_ref()
                .and_then(|redirect| redirect.applied.as_ref())
        {
            self.shared.regions.remove(relocation);
        }
    }

    /// Returns the request with the target of a 307, or with its original target after a 404. The
    /// relocation is learnt even if the request cannot be sent again.
    pub(super) async fn redirect(
        &self,
        sent: Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        policy: Option<&Policy<'_>>,
    ) -> Next {
        let target = if sent.response.status() == StatusCode::TEMPORARY_REDIRECT {
            self.follow(&sent, resend, customer, policy)
        } else {
            self.revert(&mut resend.redirect)
        };
        let (Some(target), Some(again)) = (target, resend.outgoing.body_again()) else {
            return Next::Done(sent);
        };
        sent.response.discard().await;
        resend.outgoing.head.target = target;
        Next::Again(again)
    }

    /// Returns the target of a 307. `None` if it is not followed: by another upstream than Citrix's, the
    /// same or an unknown gateway, another path behind the service, a login, a batch, another customer, a target outside the
    /// caller's rules, or a second 307.
    fn follow(
        &self,
        sent: &Sent,
        resend: &mut Resend<'_>,
        customer: &Customer,
        policy: Option<&Policy<'_>>,
    ) -> Option<PathAndQuery> {
        if !self.leads_to_citrix(customer) {
            return None;
        }
        let location = location(sent)?;
        let path = location.path();
        let original = match &resend.redirect {
            Some(redirect) => redirect.original.clone(),
            None => resend.outgoing.head.target.clone(),
        };
        let gateway = self.gateway_for(original.path(), path, customer, |gateway| {
            gateway.is_at(&location)
        })?;
        let redirected = resend
            .redirect
            .as_ref()
            .and_then(|redirect| redirect.destination.as_ref());
        let current = &redirected.unwrap_or(self.destination).origin;
        // The route's own gateway, if another one responded: the data was moved back.
        let is_back = Arc::ptr_eq(gateway, &self.destination.origin);
        if Arc::ptr_eq(gateway, current)
            || is_back && path != original.path()
            || !self.is_permitted(
                policy,
                &resend.outgoing.head.method,
                gateway,
                path,
                customer,
            )
        {
            return None;
        }
        let target = with_query(&location, &original).ok()?;
        let redirect = resend
            .redirect
            .get_or_insert_with(|| Box::new(RegionRedirect::new(original)));
        let is_first = !std::mem::replace(&mut redirect.followed, true);
        if let Some(outdated) = redirect.applied.take() {
            self.shared.regions.remove(&outdated);
        }
        if !is_first {
            return None;
        }
        if !is_back {
            self.learn(redirect, customer, gateway, path);
        }
        redirect.destination = Some(self.destination.moved_to(gateway));
        Some(target)
    }

    /// Returns the gateway that `is_meant`, if `new` is the same resource there as `old` at the
    /// route's upstream.
    fn gateway_for<'b>(
        &'b self,
        old: &str,
        new: &str,
        customer: &'b Customer,
        is_meant: impl Fn(&Origin) -> bool,
    ) -> Option<&'b Arc<Origin>> {
        let old = (old, &*self.destination.base_path);
        let mut gateways = self.snapshot.gateways(customer);
        let found = gateways.find(|(origin, base)| {
            is_meant(origin) && may_replace(old, (new, base), customer.name())
        });
        found.map(|(origin, _)| origin)
    }

    /// Returns `true` if the caller's rules permit `path` of a gateway.
    fn is_permitted(
        &self,
        policy: Option<&Policy<'_>>,
        method: &Method,
        gateway: &Origin,
        path: &str,
        customer: &Customer,
    ) -> bool {
        policy.is_none_or(|policy| policy.permits(self.snapshot, method, (gateway, path), customer))
    }

    fn learn(&self, redirect: &RegionRedirect, customer: &Customer, gateway: &Origin, path: &str) {
        let old = OriginPath {
            origin: &self.destination.origin,
            path: redirect.original.path(),
        };
        let new = OriginPath {
            origin: gateway,
            path,
        };
        let fixed = self.destination.base_path.len();
        let Some(mut relocation) =
            Relocation::from_redirect(&customer.id, old, fixed, new, Instant::now())
        else {
            return;
        };
        relocation.confirmed = redirect
            .unconfirmed
            .as_ref()
            .is_some_and(|unconfirmed| unconfirmed.same_as(&relocation));
        info!(
            customer = customer.name(),
            from = %relocation.from,
            to = %relocation.to,
            "customer data in another region; requests sent there for an hour"
        );
        self.shared.regions.learn(relocation);
    }

    /// Returns the original target after a 404 under an unconfirmed relocation, which was derived
    /// from another path and may be wrong for this one.
    fn revert(&self, redirect: &mut Option<Box<RegionRedirect>>) -> Option<PathAndQuery> {
        let redirect = redirect.as_mut()?;
        let relocation = redirect
            .applied
            .take_if(|relocation| !relocation.confirmed)?;
        self.shared.regions.remove(&relocation);
        redirect.unconfirmed = Some(relocation);
        redirect.destination = None;
        Some(redirect.original.clone())
    }
}

/// Returns `true` for a 307, and for a 404 under an unconfirmed relocation.
pub(super) fn may_redirect(status: StatusCode, redirect: &Option<Box<RegionRedirect>>) -> bool {
    let is_unconfirmed = || {
        let applied = redirect
            .as_ref()
            .and_then(|redirect| redirect.applied.as_ref());
        applied.is_some_and(|relocation| !relocation.confirmed)
    };
    status == StatusCode::TEMPORARY_REDIRECT || status == StatusCode::NOT_FOUND && is_unconfirmed()
}

/// Returns the single `Location` of a response, if it is an absolute URL.
fn location(sent: &Sent) -> Option<Uri> {
    let mut locations = sent
        .response
        .message
        .headers()
        .get_all(LOCATION)
        .iter()
        .map(HeaderValue::to_str);
    let (Some(Ok(only)), None) = (locations.next(), locations.next()) else {
        return None;
    };
    let location: Uri = only.parse().ok()?;
    let path = location.path_and_query()?;
    // The path of `https://host?query` is empty.
    (location.authority().is_some() && path.as_str().starts_with('/')).then_some(location)
}

/// Returns the path of `location` with the request's own query, byte for byte: paging tokens must
/// not change.
fn with_query(location: &Uri, original: &PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
    match original.query().or_else(|| location.query()) {
        Some(query) => PathAndQuery::try_from(format!("{}?{query}", location.path())),
        None => PathAndQuery::try_from(location.path()),
    }
}
