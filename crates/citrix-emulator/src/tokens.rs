//! Issued tokens.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use uuid::Uuid;

use super::bearer_status::BearerStatus;
use super::tenants::{Identity, Tenant};
use crate::clock;

/// Maximum number of stored tokens; the one that expires first is dropped.
const CAPACITY: usize = 4096;
/// Time for which an expired token is stored, so that it is distinguishable from an unknown one.
const RETENTION: Duration = Duration::from_secs(60 * 60);

/// Issued tokens; several can be valid at once (contract §1.4).
pub(super) struct TokenStore {
    lifetime: Duration,
    issued: Mutex<HashMap<String, StoredToken>>,
}

struct StoredToken {
    owner: Identity,
    expires: SystemTime,
    revoked: bool,
}

impl TokenStore {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            issued: Mutex::default(),
        }
    }

    /// Returns the lifetime of new tokens.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Issues a token; `cloud_time` is the time in its claims.
    pub(super) fn issue(&self, owner: Identity, cloud_time: SystemTime) -> String {
        let now = clock::now();
        let expires = now + self.lifetime;
        let token = jwt(
            &owner.client_id,
            owner.tenant.id(),
            cloud_time,
            cloud_time + self.lifetime,
        );
        let mut issued = self.lock();
        if issued.len() >= CAPACITY {
            evict(&mut issued, now);
        }
        issued.insert(
            token.clone(),
            StoredToken {
                owner,
                expires,
                revoked: false,
            },
        );
        token
    }

    /// Returns the status of a token, and its owner if it was ever issued.
    pub(super) fn status(&self, token: &str) -> (BearerStatus, Option<Identity>) {
        let issued = self.lock();
        let Some(issued) = issued.get(token) else {
            return (BearerStatus::Unknown, None);
        };
        let status = if issued.revoked {
            BearerStatus::Revoked
        } else if issued.expires <= clock::now() {
            BearerStatus::Expired
        } else {
            BearerStatus::Valid
        };
        (status, Some(issued.owner.clone()))
    }

    /// Revokes the tokens of one customer or of all. Returns the number of tokens that were valid.
    pub(super) fn revoke(&self, of: Option<&Tenant>) -> usize {
        self.invalidate(of, |issued, _| issued.revoked = true)
    }

    /// Expires the tokens of one customer or of all. Returns the number of tokens that were valid.
    pub(super) fn expire(&self, of: Option<&Tenant>) -> usize {
        self.invalidate(of, |issued, now| issued.expires = now)
    }

    fn invalidate(&self, of: Option<&Tenant>, end: impl Fn(&mut StoredToken, SystemTime)) -> usize {
        let now = clock::now();
        let mut issued = self.lock();
        let belongs = |token: &StoredToken| {
            of.is_none_or(|tenant| std::ptr::eq(&*token.owner.tenant, tenant))
        };
        let usable = issued
            .values_mut()
            .filter(|token| !token.revoked && token.expires > now && belongs(token));
        usable.map(|token| end(token, now)).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StoredToken>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops tokens that expired before [`RETENTION`]; if there are none, drops the one that expires
/// first.
fn evict(issued: &mut HashMap<String, StoredToken>, now: SystemTime) {
    issued.retain(|_, token| token.expires + RETENTION > now);
    if issued.len() >= CAPACITY
        && let Some(first) = issued
            .iter()
            .min_by_key(|(_, token)| token.expires)
            .map(|(token, _)| token.clone())
    {
        issued.remove(&first);
    }
}

/// Returns a JWT with the claims and the size of a real one, about 1.7 kB. The signature is random.
fn jwt(client_id: &str, customer_id: &str, now: SystemTime, expires: SystemTime) -> String {
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "emulator" });
    let claims = json!({
        "sub": client_id,
        "user_id": client_id,
        "displayname": format!("{client_id} (emulator)"),
        "name": client_id,
        "iss": "cws",
        "customer": customer_id,
        "jti": Uuid::new_v4().to_string(),
        "iat": seconds(now),
        "nbf": seconds(now),
        "exp": seconds(expires),
        "refresh_expiration": seconds(expires),
        "access_token_scope": "",
        "permissions": (0..20).map(|_| Uuid::new_v4().to_string()).collect::<Vec<_>>(),
    });
    let signature: Vec<u8> = (0..16).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let (header, claims) = (
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes()),
    );
    format!("{header}.{claims}.{}", encode(&signature))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::customers::EmulatedCustomer;
    use super::*;

    fn identity(customer: &str) -> Identity {
        Identity {
            tenant: Arc::new(Tenant::new(EmulatedCustomer::new(customer))),
            client_id: "id".into(),
        }
    }

    #[test]
    fn full_store_drops_tokens() {
        let store = TokenStore::new(Duration::from_secs(60));
        let acme = identity("acme");
        let issue = || store.issue(acme.clone(), clock::now());
        let first = issue();
        for _ in 0..CAPACITY {
            issue();
        }
        assert_eq!(store.status(&first).0, BearerStatus::Unknown);
        assert_eq!(store.lock().len(), CAPACITY);
        assert_eq!(store.expire(None), CAPACITY);
        assert_eq!(store.revoke(None), 0);
    }

    #[test]
    fn revoking_tokens_of_one_customer_keeps_others_valid() {
        let store = TokenStore::new(Duration::from_secs(60));
        let (acme, contoso) = (identity("acme"), identity("contoso"));
        let [first, second] = [&acme, &contoso].map(|to| store.issue(to.clone(), clock::now()));
        assert_eq!(store.revoke(Some(&contoso.tenant)), 1);
        assert_eq!(store.status(&first).0, BearerStatus::Valid);
        assert_eq!(store.status(&second).0, BearerStatus::Revoked);
    }
}
