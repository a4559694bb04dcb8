//! Settings that a reload changes in a running keeper.

use std::future::pending;

use tokio::sync::watch;

use super::cached::CacheHandle;
use super::reader::SecretSources;
use super::{Issuer, Keeper};
use crate::config::{self, Credential};
use crate::token::cache::Cache;

/// The settings that may change while the token stays valid: see [`Credential::shares_token_with`].
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    pub(super) settings: config::TokenSettings,
    pub(super) cache: Option<Cache>,
    pub(super) sources: SecretSources,
}

impl KeeperSettings {
    /// Returns the settings of one credential.
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

impl<I: Issuer> Keeper<I> {
    /// Waits for new settings.
    pub(super) async fn settings_changed(settings: &mut watch::Receiver<KeeperSettings>) {
        if settings.changed().await.is_err() {
            // The sender is gone; the keeper continues with the last settings.
            pending().await
        }
    }

    /// Applies the newest settings. Returns `true` if the secrets have new sources and must be
    /// read.
    pub(super) fn apply_settings(&mut self) -> bool {
        let KeeperSettings {
            settings,
            cache,
            sources,
        } = self.new_settings.borrow_and_update().clone();
        self.settings = settings;
        self.cache = cache.map(|cache| CacheHandle::new(cache, &self.credential));
        self.reader.set_sources(sources)
    }
}
