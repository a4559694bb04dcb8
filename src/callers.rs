//! Identifies the caller of a request by its credentials and its peer (interface §3.1, §4.1).

pub mod browser_guard;
pub mod caller_state;
mod certificate;
pub mod credentials;
pub mod gateway_token;
pub mod head;
pub mod login;
pub mod observations;
pub mod secret;
mod secret_index;
pub mod throttle;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Caller, MAX_SECRETS};
use crate::error::{Failure, Reason};
use crate::inbound::intercepted::TunnelCaller;
use crate::inbound::tls::CallerCertificate;
use crate::system::clock::Clock;
use crate::system::digest::Sha256;
use credentials::PresentedCredentials;
use gateway_token::{Claims, Signer, Verification};
use secret_index::SecretIndex;

/// The configured callers. If there is none, requests are anonymous.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Caller>,
    by_name: HashMap<String, usize>,
    secrets: SecretIndex,
    /// The indices of those that only their peer identifies.
    without_secret: Vec<usize>,
}

/// The identity of a connection's peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerIdentity<'c> {
    /// The peer's address; `None` on a Unix socket, which matches no network.
    pub address: Option<IpAddr>,
    /// The peer's client certificate.
    pub certificate: Option<&'c CallerCertificate>,
}

/// The caller of a request, and the credential that identified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The index of the caller.
    pub caller: usize,
    /// The index in [`Caller::secrets`]; `None` for a caller without a secret.
    pub secret: Option<usize>,
}

impl Identity {
    const fn without_secret(caller: usize) -> Self {
        Self {
            caller,
            secret: None,
        }
    }
}

/// The reason that a request has no caller, for the log: the response does not name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCaller<'c> {
    /// No credentials, and no caller without a secret matches the peer.
    NoCredentials,
    /// The credentials match no caller.
    WrongSecret,
    /// This caller's secret with another user-id (HTTP Basic).
    NameMismatch(&'c str),
    /// This caller's secret or token from a peer that does not match.
    WrongPeer(&'c str),
    /// A gateway token that expired, or whose caller is gone or has another secret.
    StaleToken,
}

impl fmt::Display for UnknownCaller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => {
                f.write_str("no credentials, and no caller matches the network or certificate")
            }
            Self::WrongSecret => f.write_str("the credentials match no caller"),
            Self::NameMismatch(name) => write!(f, "the secret of {name} with another name"),
            Self::WrongPeer(name) => {
                write!(
                    f,
                    "the secret of {name} from another network or without its certificate"
                )
            }
            Self::StaleToken => f.write_str(
                "gateway token expired, or its caller was removed or has another secret",
            ),
        }
    }
}

impl Callers {
    /// Creates the callers of a configuration.
    pub fn new(all: Vec<Caller>) -> Self {
        let indices = 0..all.len();
        let by_name = all.iter().map(|caller| caller.name.clone());
        Self {
            by_name: by_name.zip(indices.clone()).collect(),
            secrets: SecretIndex::new(&all),
            without_secret: indices.filter(|&index| !all[index].has_secret()).collect(),
            all,
        }
    }

    /// Returns `true` if no caller is configured, so that requests are anonymous.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns `true` if a caller has a secret.
    pub fn have_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Returns `true` if a rejected request may have tried to guess a secret. A JWT is none: it is
    /// an old token of the gateway or of Citrix.
    pub fn is_bad_secret(
        &self,
        unknown: UnknownCaller<'_>,
        presented: &PresentedCredentials<'_>,
    ) -> bool {
        let tried = match unknown {
            UnknownCaller::NoCredentials | UnknownCaller::StaleToken => false,
            UnknownCaller::WrongSecret
            | UnknownCaller::NameMismatch(_)
            | UnknownCaller::WrongPeer(_) => true,
        };
        let is_jwt = matches!(presented, PresentedCredentials::Bearer(bytes) if gateway_token::looks_like_jwt(bytes));
        tried && !is_jwt && self.have_secrets()
    }

    /// Returns the caller with this index.
    pub fn get(&self, index: usize) -> Option<&Caller> {
        self.all.get(index)
    }

    /// Returns the index of the caller with this name.
    pub fn index_of(&self, name: &[u8]) -> Option<usize> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(name).copied()
    }

    /// Returns the caller of a tunnel, for [`Self::identify_tunnel`].
    pub fn tunnel_caller(&self, identity: Identity) -> Option<TunnelCaller> {
        let caller = self.get(identity.caller)?;
        Some(TunnelCaller {
            name: caller.name.as_str().into(),
            secret: identity
                .secret
                .and_then(|index| caller.secrets.get(index).copied()),
        })
    }

    /// Identifies the caller of a request inside a tunnel. The caller may have changed since.
    ///
    /// # Errors
    /// `caller_forbidden` if it has no longer this secret or does not match the peer.
    pub fn identify_tunnel(
        &self,
        tunnel: Option<&TunnelCaller>,
        peer: PeerIdentity<'_>,
    ) -> Result<Identity, Failure> {
        let identified = tunnel.and_then(|tunnel| {
            let index = self.index_of(tunnel.name.as_bytes())?;
            let caller = self.get(index).filter(|it| peer.matches(it).is_some())?;
            let identity = Identity::without_secret(index);
            match &tunnel.secret {
                None => (!caller.has_secret()).then_some(identity),
                Some(hash) => {
                    let secret = caller.secrets.iter().position(|secret| secret == hash)?;
                    let secret = Some(secret);
                    Some(Identity { secret, ..identity })
                }
            }
        });
        identified.ok_or_else(|| {
            let detail = "the caller of the tunnel has changed; connect again";
            Failure::new(Reason::CallerForbidden, detail)
        })
    }

    /// Returns the failure of a request without a caller: one for every cause, so that a response
    /// does not confirm a secret presented from the wrong network. `to_proxy` if the credentials
    /// belong in `Proxy-Authorization`.
    pub fn unknown_caller(&self, unknown: UnknownCaller<'_>, to_proxy: bool) -> Failure {
        // A stale gateway token can be replaced by a login, even if no caller has a secret.
        let failure = if !self.have_secrets() && unknown != UnknownCaller::StaleToken {
            let detail = "no caller is configured for this network or client certificate";
            Failure::new(Reason::CallerForbidden, detail)
        } else if to_proxy {
            let detail = "no valid credentials; send a caller's name and secret in Proxy-Authorization (HTTP Basic), \
                          from a network of that caller";
            Failure::new(Reason::CallerUnknown, detail).of_proxy()
        } else {
            let detail = "no valid credentials; send a caller's name and secret by HTTP Basic, or its secret in \
                          X-Api-Key or as a bearer token, from a network of that caller";
            Failure::new(Reason::CallerUnknown, detail)
        };
        failure.with_source(unknown.to_string())
    }

    /// Identifies the caller by a gateway token, else as [`Self::identify`].
    ///
    /// # Errors
    /// As [`Self::identify`], and if the gateway token is no longer valid.
    pub fn admit(
        &self,
        presented: &PresentedCredentials<'_>,
        peer: PeerIdentity<'_>,
        signer: &Signer,
        clock: Clock,
    ) -> Result<Identity, UnknownCaller<'_>> {
        if let PresentedCredentials::Bearer(token) = presented {
            match signer.verify(token, clock.now()) {
                Verification::Foreign => {}
                Verification::Expired => return Err(UnknownCaller::StaleToken),
                Verification::Valid(claims) => {
                    return self.identify_by_token(&claims, peer, signer);
                }
            }
        }
        self.identify(presented, peer)
    }

    fn identify_by_token(
        &self,
        claims: &Claims,
        peer: PeerIdentity<'_>,
        signer: &Signer,
    ) -> Result<Identity, UnknownCaller<'_>> {
        let index = claims
            .caller()
            .and_then(|name| self.index_of(name.as_bytes()));
        let known = index.and_then(|index| Some((index, self.get(index)?)));
        let (index, caller) = known.ok_or(UnknownCaller::StaleToken)?;
        let identity = if caller.has_secret() {
            let secret = caller
                .secrets
                .iter()
                .position(|secret| signer.is_bound_to(claims, Some(secret)));
            secret.map(|secret| Identity {
                caller: index,
                secret: Some(secret),
            })
        } else {
            signer
                .is_bound_to(claims, None)
                .then_some(Identity::without_secret(index))
        };
        let identity = identity.ok_or(UnknownCaller::StaleToken)?;
        if peer.matches(caller).is_some() {
            Ok(identity)
        } else {
            Err(UnknownCaller::WrongPeer(&caller.name))
        }
    }

    /// Returns the caller that the credentials and the peer identify.
    ///
    /// A secret identifies its caller. Without one it is a caller without a secret whose
    /// certificate and networks match the peer: one with a certificate before one without, then the
    /// one with the narrowest network.
    ///
    /// # Errors
    /// If no caller matches.
    pub fn identify(
        &self,
        presented: &PresentedCredentials<'_>,
        peer: PeerIdentity<'_>,
    ) -> Result<Identity, UnknownCaller<'_>> {
        let hash = presented.secret().map(Sha256::of);
        // 1 + the number of this secret, 0 if there is none; and 1 if the peer matches its caller.
        let (mut found, mut found_matches) = (0, 0);
        for entry in hash.iter().flat_map(|hash| self.secrets.bucket(hash)) {
            // The peer of each entry, and arithmetic instead of a branch: the time of a rarely taken
            // branch reveals the match.
            let matches = peer.matches(&self.all[entry.caller]).is_some();
            let equal = hash
                .as_ref()
                .is_some_and(|hash| entry.expected.matches(hash));
            found |= usize::from(equal) * (entry.caller * MAX_SECRETS + entry.secret + 1);
            found_matches |= usize::from(equal & matches);
        }
        let mut by_peer: Option<((bool, u8), usize)> = None;
        for &index in &self.without_secret {
            let caller = &self.all[index];
            if let Some(network) = peer.matches(caller) {
                let rank = (caller.certificate.is_some(), network);
                // The first of equal rank wins.
                if by_peer.is_none_or(|(best, _)| rank > best) {
                    by_peer = Some((rank, index));
                }
            }
        }
        let identity = found.checked_sub(1).map(|number| Identity {
            caller: number / MAX_SECRETS,
            secret: Some(number % MAX_SECRETS),
        });
        if let Some((identity, caller)) =
            identity.and_then(|identity| Some((identity, self.get(identity.caller)?)))
        {
            return match presented.name() {
                Some(name) if name != caller.name.as_bytes() => {
                    Err(UnknownCaller::NameMismatch(&caller.name))
                }
                _ if found_matches == 0 => Err(UnknownCaller::WrongPeer(&caller.name)),
                _ => Ok(identity),
            };
        }
        match by_peer {
            Some((_, index)) if !presented.is_for_gateway() => Ok(Identity::without_secret(index)),
            _ if matches!(presented, PresentedCredentials::Absent) => {
                Err(UnknownCaller::NoCredentials)
            }
            _ => Err(UnknownCaller::WrongSecret),
        }
    }
}

impl PeerIdentity<'_> {
    /// Returns the prefix length of the network if the peer has the caller's network and certificate.
    fn matches(&self, caller: &Caller) -> Option<u8> {
        let network = self.network_of(caller);
        network.filter(|_| self.has_certificate_of(caller))
    }

    /// Returns the prefix length of the narrowest of the caller's networks that contains the
    /// address; 0 if the caller has no networks, `None` if none contains it.
    fn network_of(&self, caller: &Caller) -> Option<u8> {
        if caller.networks.is_empty() {
            return Some(0);
        }
        let address = self.address?.to_canonical();
        caller
            .networks
            .iter()
            .filter(|network| network.contains(&address))
            .map(IpNet::prefix_len)
            .max()
    }

    fn has_certificate_of(&self, caller: &Caller) -> bool {
        caller.certificate.as_ref().is_none_or(|name| {
            self.certificate
                .is_some_and(|presented| certificate::has_name(presented, name))
        })
    }
}

#[cfg(test)]
mod tests;
