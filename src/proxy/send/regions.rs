//! What follows a 307 of Citrix to another region: the request goes there, and later ones at once (design 4.4).

use std::sync::Arc;

use http::header::LOCATION;
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderValue, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use super::outgoing::{Outgoing, ReplayCopy};
use super::{Sent, Upstream};
use crate::error::{Failure, Reason};
use crate::site::regions::{OriginPath, Relocation};
use crate::state::snapshot::{Customer, Destination};
use crate::upstream::origin::Origin;
use citrix_wire::citrix::headers::customer_in_service_path;

/// Where a request goes instead of where its route leads. Nearly none has one.
pub(super) type Detour = Option<Box<RegionRedirect>>;

/// A request that is on its way, or was, to another place than its route leads to.
pub(super) struct RegionRedirect {
    /// The other gateway; `None` when it was sent back to where the route leads.
    destination: Option<Destination>,
    /// The target it had by its route.
    original: PathAndQuery,
    /// The move that it was sent there by, unless a redirect of its own did.
    remembered: Option<Arc<Relocation>>,
    /// The move that led to a 404.
    doubted: Option<Arc<Relocation>>,
    /// It followed a redirect, and follows no other.
    followed: bool,
}

impl RegionRedirect {
    fn new(original: PathAndQuery) -> Self {
        Self {
            destination: None,
            original,
            remembered: None,
            doubted: None,
            followed: false,
        }
    }

    /// The other gateway, at the end of it all.
    pub(super) fn into_origin(self) -> Option<Arc<Origin>> {
        self.destination.map(|destination| destination.origin)
    }
}

impl<'a> Upstream<'a> {
    /// Leads a request to where Citrix said before that its customer's data is.
    pub(super) fn known_detour(&self, outgoing: &mut Outgoing, customer: &Customer) -> Detour {
        let place = OriginPath {
            origin: &self.destination.origin,
            path: outgoing.target.path(),
        };
        let moved = self.shared.regions.find(&customer.id, place)?;
        // After a reload the gateway may be no known one any more.
        let gateway = self
            .gateways
            .iter()
            .find(|gateway| gateway.is_of(&moved.to))?;
        let target = moved.target(&outgoing.target).ok()?;
        let original = std::mem::replace(&mut outgoing.target, target);
        let destination = Some(self.destination.moved_to(gateway));
        Some(Box::new(RegionRedirect {
            destination,
            remembered: Some(moved),
            ..RegionRedirect::new(original)
        }))
    }

    /// The upstream as a detour makes it.
    pub(super) fn with_redirect<'b>(&'b self, detour: &'b Detour) -> Upstream<'b>
    where
        'a: 'b,
    {
        let elsewhere = detour
            .as_ref()
            .and_then(|elsewhere| elsewhere.destination.as_ref());
        Upstream {
            destination: elsewhere.unwrap_or(self.destination),
            ..*self
        }
    }

    /// Forgets a detour at whose end nobody answers: the next request asks the old address again.
    pub(super) fn detour_failed(&self, detour: &Detour, failure: &Failure) {
        if failure.reason() == Reason::UpstreamConnect
            && let Some(moved) = detour
                .as_ref()
                .and_then(|elsewhere| elsewhere.remembered.as_ref())
        {
            self.shared.regions.forget(moved);
        }
    }

    /// The request once more, at another place, after a 307 or a 404. The redirect is remembered even where the
    /// request itself cannot be sent again.
    ///
    /// # Errors
    /// With the answer when it is the caller's.
    pub(super) async fn detour(
        &self,
        answer: Sent,
        detour: &mut Detour,
        spare: &mut ReplayCopy,
        customer: &Customer,
    ) -> Result<Outgoing, Sent> {
        let target = if answer.response.status() == StatusCode::TEMPORARY_REDIRECT {
            self.follow(&answer, detour, spare, customer)
        } else {
            self.go_back(detour)
        };
        let (Some(target), Some(again)) = (target, spare.again()) else {
            return Err(answer);
        };
        answer.response.into_body().discard().await;
        spare.redirect(target.clone());
        Ok(Outgoing { target, ..again })
    }

    /// The new target of a request that Citrix sends to another region; `None` when that is not for us to follow:
    /// to an unknown host, for the second time, or in a circle.
    fn follow(
        &self,
        answer: &Sent,
        detour: &mut Detour,
        spare: &ReplayCopy,
        customer: &Customer,
    ) -> Option<PathAndQuery> {
        let location = location(answer)?;
        let gateway = self
            .gateways
            .iter()
            .find(|gateway| gateway.is_at(&location))?;
        let path = location.path();
        if customer_in_service_path(path).is_some_and(|named| {
            !customer
                .id
                .as_bytes()
                .eq_ignore_ascii_case(named.as_bytes())
        }) {
            return None;
        }
        let here = &self.with_redirect(detour).destination.origin;
        if Arc::ptr_eq(here, gateway) && path == spare.path() {
            return None;
        }
        let mut elsewhere = detour
            .take()
            .unwrap_or_else(|| Box::new(RegionRedirect::new(spare.target().clone())));
        let to_follow = !std::mem::replace(&mut elsewhere.followed, true);
        if let Some(outdated) = elsewhere.remembered.take() {
            self.shared.regions.forget(&outdated);
        }
        let target = to_follow
            .then(|| with_query(&location, &elsewhere.original).ok())
            .flatten();
        if target.is_some() {
            self.learn(&elsewhere, customer, gateway, path);
            elsewhere.destination = Some(self.destination.moved_to(gateway));
        }
        *detour = Some(elsewhere);
        target
    }

    fn learn(&self, elsewhere: &RegionRedirect, customer: &Customer, gateway: &Origin, path: &str) {
        let old = OriginPath {
            origin: &self.destination.origin,
            path: elsewhere.original.path(),
        };
        let new = OriginPath {
            origin: gateway,
            path,
        };
        let fixed = self.destination.base_path.len();
        let Some(mut moved) =
            Relocation::from_redirect(&customer.id, old, fixed, new, Instant::now())
        else {
            return;
        };
        moved.confirmed = elsewhere
            .doubted
            .as_ref()
            .is_some_and(|doubted| doubted.same_as(&moved));
        info!(
            customer = customer.id.to_str().unwrap_or_default(),
            from = %moved.from,
            to = %moved.to,
            "Citrix has this customer's data in another region; requests go there for an hour"
        );
        self.shared.regions.learn(moved);
    }

    /// The old target of a request that met a 404 where a remembered move led it. What was concluded from another
    /// path may be wrong for this one: only the old address can tell.
    fn go_back(&self, detour: &mut Detour) -> Option<PathAndQuery> {
        let elsewhere = detour.as_mut()?;
        let moved = elsewhere.remembered.take_if(|moved| !moved.confirmed)?;
        self.shared.regions.forget(&moved);
        elsewhere.doubted = Some(moved);
        elsewhere.destination = None;
        Some(elsewhere.original.clone())
    }
}

/// Whether an answer with this status may lead a request elsewhere: a redirect, or a 404 where a detour that was only
/// concluded led.
pub(super) fn may_lead_elsewhere(status: StatusCode, detour: &Detour) -> bool {
    let doubtful = || {
        let remembered = detour
            .as_ref()
            .and_then(|elsewhere| elsewhere.remembered.as_ref());
        remembered.is_some_and(|moved| !moved.confirmed)
    };
    status == StatusCode::TEMPORARY_REDIRECT || status == StatusCode::NOT_FOUND && doubtful()
}

/// The one `Location` of an answer, if it is a whole URL.
fn location(answer: &Sent) -> Option<Uri> {
    let mut locations = answer
        .response
        .headers()
        .get_all(LOCATION)
        .iter()
        .map(HeaderValue::to_str);
    let (Some(Ok(only)), None) = (locations.next(), locations.next()) else {
        return None;
    };
    let location: Uri = only.parse().ok()?;
    let path = location.path_and_query()?;
    // Of `https://host?query` the path is empty.
    (location.authority().is_some() && path.as_str().starts_with('/')).then_some(location)
}

/// Where `location` leads, with the query that the request has: Citrix's tokens for paging break at the least change.
fn with_query(location: &Uri, original: &PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
    let query = original.query().or_else(|| location.query());
    match query {
        Some(query) => PathAndQuery::try_from(format!("{}?{query}", location.path())),
        None => PathAndQuery::try_from(location.path()),
    }
}
