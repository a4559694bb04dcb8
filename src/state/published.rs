//! What is published for all workers, and what of it passes to the next.

use std::sync::Arc;

use tokio::time::Instant;

use super::limits::Limits;
use crate::callers::caller_state::CallerState;
use crate::config::{Credential, Live, RouteTarget, UpstreamUrl};
use crate::site;
use crate::token::slot::TokenSlot;
use crate::upstream::dial::DialConfig;
use crate::upstream::origin::{BadHost, Origin};

/// The live configuration and the tokens that go with it. A reload publishes another one.
pub struct Published {
    /// The settings as they were checked.
    pub live: Arc<Live>,
    /// The slots of its credentials, in order.
    pub slots: Vec<Arc<TokenSlot>>,
    /// What is known of its customers' sites, in order.
    pub sites: Vec<Arc<site::slot::SiteSlot>>,
    /// Where a redirect may lead.
    pub gateways: Vec<Arc<Origin>>,
    origins: Origins,
    /// Where the customers' API gateways are, in order.
    pub(super) apis: Vec<Arc<Origin>>,
    /// The hosts that the routes lead to by themselves, in order.
    pub(super) hosts: Vec<Vec<Arc<Origin>>>,
    pub(super) limits: Limits,
    /// What is kept of its callers, in order.
    pub usage: Vec<CallerState>,
    /// When it was put together.
    pub loaded: Instant,
}

impl Published {
    /// The first, with nothing in its slots.
    ///
    /// # Errors
    /// When an upstream's host is none a certificate could be for.
    pub fn first(live: Arc<Live>, dial_config: &DialConfig) -> Result<Self, BadHost> {
        Self::new(live, dial_config, None)
    }

    /// What a reload puts in the place of this one. The one place where state passes from one configuration to the
    /// next: tokens, sites, limits with those who wait there, what callers use, and connections, where what they belong to is the same
    /// as before. (What is known of regions, gates and refused tokens is in `Shared`, and stays there.)
    ///
    /// # Errors
    /// When an upstream's host is none a certificate could be for.
    pub fn succeed(&self, live: Arc<Live>, dial_config: &DialConfig) -> Result<Self, BadHost> {
        Self::new(live, dial_config, Some(self))
    }

    fn new(
        live: Arc<Live>,
        dial_config: &DialConfig,
        before: Option<&Self>,
    ) -> Result<Self, BadHost> {
        let mut origins = Origins::after(before.map(|before| &before.origins), dial_config);
        let (slots, sites) = slots(&live, before);
        let apis = live
            .credentials
            .iter()
            .map(|credential| origins.of(&credential.api.url));
        let apis = apis.collect::<Result<_, _>>()?;
        let hosts = live.routes.iter().map(|route| match &route.target {
            RouteTarget::CustomerApi => Ok(Vec::new()),
            RouteTarget::ByCloud(urls) => urls.iter().map(|(_, url)| origins.of(url)).collect(),
            RouteTarget::Fixed(destination) => Ok(vec![origins.of(&destination.url)?]),
        });
        let hosts = hosts.collect::<Result<_, _>>()?;
        let gateways = live
            .gateways
            .iter()
            .map(|url| origins.of(url))
            .collect::<Result<_, _>>()?;
        origins.forget_before();
        let limits = Limits::new(&live, before.map(|before| (&*before.live, &before.limits)));
        let usage = CallerState::of(&live.callers, before.map_or(&[], |before| &before.usage));
        Ok(Self {
            limits,
            usage,
            live,
            slots,
            sites,
            gateways,
            origins,
            apis,
            hosts,
            loaded: Instant::now(),
        })
    }

    /// Whether requests may go to the origin of this id.
    pub(super) fn knows_origin(&self, id: u64) -> bool {
        self.origins.all.iter().any(|origin| origin.id == id)
    }
}

type Slots = (Vec<Arc<TokenSlot>>, Vec<Arc<site::slot::SiteSlot>>);

/// The slots of the credentials: those they had before, where the token, or the site, is the same thing still.
fn slots(live: &Live, before: Option<&Published>) -> Slots {
    let old = |is_same: &dyn Fn(&Credential) -> bool| {
        let before = before?;
        let index = before.live.credentials.iter().position(is_same)?;
        Some((before.slots.get(index)?, before.sites.get(index)?))
    };
    let slot = |credential: &Credential| {
        let same = old(&|other| credential.shares_token_with(other));
        same.map_or_else(|| Arc::new(TokenSlot::new()), |(slot, _)| Arc::clone(slot))
    };
    let site = |credential: &Credential| {
        let same = old(&|other| credential.shares_site_with(other));
        same.map_or_else(Arc::default, |(_, site)| Arc::clone(site))
    };
    (
        live.credentials.iter().map(slot).collect(),
        live.credentials.iter().map(site).collect(),
    )
}

/// Each origin once.
struct Origins {
    all: Vec<Arc<Origin>>,
    /// Those of the configuration before this one, while this one is made.
    before: Vec<Arc<Origin>>,
    next_id: u64,
    dial_config: DialConfig,
}

impl Origins {
    fn after(before: Option<&Self>, dial_config: &DialConfig) -> Self {
        Self {
            all: Vec::new(),
            before: before.map(|before| before.all.clone()).unwrap_or_default(),
            next_id: before.map_or(0, |before| before.next_id),
            dial_config: dial_config.clone(),
        }
    }

    /// The origin of a URL: the same as before, unless it is reached in another way now.
    fn of(&mut self, url: &UpstreamUrl) -> Result<Arc<Origin>, BadHost> {
        if let Some(known) = self.all.iter().find(|origin| origin.is_of(url)) {
            return Ok(Arc::clone(known));
        }
        let same = |origin: &&Arc<Origin>| {
            origin.is_of(url) && origin.dial_config.same_as(&self.dial_config)
        };
        let origin = match self.before.iter().find(same) {
            Some(same) => Arc::clone(same),
            None => {
                let new = Origin::new(self.next_id, url, &self.dial_config)?;
                self.next_id += 1;
                Arc::new(new)
            }
        };
        self.all.push(Arc::clone(&origin));
        Ok(origin)
    }

    fn forget_before(&mut self) {
        self.before = Vec::new();
    }
}
