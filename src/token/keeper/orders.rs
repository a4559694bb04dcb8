//! What a reload changes under a keeper that goes on.

use std::future::pending;

use tokio::sync::watch;

use super::look::Sources;
use super::recall::Memory;
use super::{Issuer, Keeper};
use crate::config::{self, Credential};
use crate::token::cache::Cache;

/// What a keeper goes by, as far as it may change without another token: see [`Credential::has_token_of`].
#[derive(Clone, Debug)]
pub struct Orders {
    pub(super) settings: config::Token,
    pub(super) cache: Option<Cache>,
    pub(super) sources: Sources,
}

impl Orders {
    /// Those of a configuration for one credential.
    pub fn new(credential: &Credential, settings: config::Token, cache: Option<Cache>) -> Self {
        Self {
            settings,
            cache,
            sources: Sources::of(credential),
        }
    }
}

impl Sources {
    pub(super) fn of(credential: &Credential) -> Self {
        Self {
            current: credential.client_secret.clone(),
            next: credential.client_secret_next.clone(),
        }
    }
}

impl<I: Issuer> Keeper<I> {
    /// Comes back when there are new orders.
    pub(super) async fn ordered(orders: &mut watch::Receiver<Orders>) {
        if orders.changed().await.is_err() {
            // Nobody gives any more.
            pending().await
        }
    }

    /// Takes over the newest orders. A secret that comes from elsewhere leads to a login if it is another one.
    pub(super) fn obey(&mut self) {
        let Orders {
            settings,
            cache,
            sources,
        } = self.orders.borrow_and_update().clone();
        self.settings = settings;
        self.memory = cache.map(|cache| Memory::new(cache, &self.credential));
        if *self.secrets.sources() != sources {
            self.secrets.come_from(sources);
            self.reader.forget();
        }
    }
}
