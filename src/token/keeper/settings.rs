//! What a reload changes under a keeper that goes on.

use std::future::pending;

use tokio::sync::watch;

use super::cached::CacheHandle;
use super::reader::SecretSources;
use super::{Issuer, Keeper};
use crate::config::{self, Credential};
use crate::token::cache::Cache;

/// What a keeper goes by, as far as it may change without another token: see [`Credential::shares_token_with`].
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    pub(super) settings: config::TokenSettings,
    pub(super) cache: Option<Cache>,
    pub(super) sources: SecretSources,
}

impl KeeperSettings {
    /// Those of a configuration for one credential.
    pub fn new(
        credential: &Credential,
        settings: config::TokenSettings,
        cache: Option<Cache>,
    ) -> Self {
        Self {
            settings,
            cache,
            sources: SecretSources::of(credential),
        }
    }
}

impl SecretSources {
    pub(super) fn of(credential: &Credential) -> Self {
        Self {
            current: credential.client_secret.clone(),
            next: credential.client_secret_next.clone(),
        }
    }
}

impl<I: Issuer> Keeper<I> {
    /// Comes back when there are new orders.
    pub(super) async fn settings_changed(orders: &mut watch::Receiver<KeeperSettings>) {
        if orders.changed().await.is_err() {
            // Nobody gives any more.
            pending().await
        }
    }

    /// Takes over the newest orders. A secret that comes from elsewhere leads to a login if it is another one.
    pub(super) fn apply_settings(&mut self) {
        let KeeperSettings {
            settings,
            cache,
            sources,
        } = self.orders.borrow_and_update().clone();
        self.settings = settings;
        self.memory = cache.map(|cache| CacheHandle::new(cache, &self.credential));
        if *self.secrets.sources() != sources {
            self.secrets.come_from(sources);
            self.reader.forget();
        }
    }
}
