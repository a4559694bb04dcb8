//! Which of the configured callers a request is from: what it shows, and where it comes from, against what each of
//! them must show (interface §3.1, §4.1).
//!
//! The hash of what is shown is compared with that of every caller, each time in constant time and never stopping at
//! the one that fits. Finding it in a map would be faster with a thousand callers, but its time would tell how far a
//! hash that the sender knows agrees with one of ours; for a secret that can be guessed that is enough to guess it.

pub mod browser_guard;
pub mod caller_state;
mod certificate;
pub mod credentials;
pub mod gateway_token;
pub mod head;
pub mod login;
pub mod observations;
pub mod secret;
pub mod throttle;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Caller;
use crate::inbound::tls::CallerCertificate;
use crate::system::clock::Clock;
use crate::system::digest::Sha256;
use credentials::PresentedCredentials;
use gateway_token::{Claims, Signer, Verification};

/// Everybody who may come in; nobody in particular when there is none.
#[derive(Debug)]
pub struct Callers {
    all: Vec<Caller>,
    any_secret: bool,
}

/// Where a request comes from, as its connection tells.
#[derive(Clone, Copy, Debug)]
pub struct PeerIdentity<'c> {
    /// The peer's address; none on a unix socket, which is in no network.
    pub address: Option<IpAddr>,
    /// The certificate it showed.
    pub certificate: Option<&'c CallerCertificate>,
}

/// Why a request is nobody's. For the log: who asks is not told which part was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCaller<'c> {
    /// It shows nothing, and nobody is known by where it comes from.
    NoCredentials,
    /// What it shows is no caller's.
    WrongSecret,
    /// It shows this caller's secret by HTTP Basic under another name.
    NameMismatch(&'c str),
    /// It shows this caller's secret or token, but its network or certificate is not that caller's.
    WrongPeer(&'c str),
    /// It shows a gateway token that expired, or whose caller is gone or has another secret by now.
    StaleToken,
}

impl fmt::Display for UnknownCaller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => {
                f.write_str("no credential was shown, and no caller is known by this network or certificate")
            }
            Self::WrongSecret => f.write_str("the credential that was shown is no caller's"),
            Self::NameMismatch(name) => write!(f, "the secret of {name} was shown under another name"),
            Self::WrongPeer(name) => {
                write!(
                    f,
                    "the secret of {name} was shown, but not from its networks or without its certificate"
                )
            }
            Self::StaleToken => f.write_str(
                "the gateway token that was shown expired, or its caller is gone or has another secret by now",
            ),
        }
    }
}

impl Callers {
    /// Those of a configuration.
    pub fn new(all: Vec<Caller>) -> Self {
        Self {
            any_secret: all.iter().any(|caller| caller.secret.is_some()),
            all,
        }
    }

    /// Whether nobody is configured, so that nobody has to show who he is.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a secret could have helped somebody in.
    pub fn have_secrets(&self) -> bool {
        self.any_secret
    }

    /// Whether a request that is nobody's may have tried a secret. What looks like a token, an old one of ours or of
    /// Citrix's, is none that anybody has.
    pub fn is_bad_secret(
        &self,
        unknown: UnknownCaller<'_>,
        shown: &PresentedCredentials<'_>,
    ) -> bool {
        let tried = match unknown {
            UnknownCaller::NoCredentials | UnknownCaller::StaleToken => false,
            UnknownCaller::WrongSecret
            | UnknownCaller::NameMismatch(_)
            | UnknownCaller::WrongPeer(_) => true,
        };
        let token = matches!(shown, PresentedCredentials::Bearer(bytes) if gateway_token::looks_like_jwt(bytes));
        tried && !token && self.have_secrets()
    }

    /// The caller at this place of the configuration.
    pub fn get(&self, number: usize) -> Option<&Caller> {
        self.all.get(number)
    }

    /// The place in the configuration of the caller that is called so.
    pub fn named(&self, name: &[u8]) -> Option<usize> {
        self.all
            .iter()
            .position(|caller| caller.name.as_bytes() == name)
    }

    /// As [`Self::identify`], where a gateway token names its caller as well.
    ///
    /// # Errors
    /// As [`Self::identify`], and when it is a token of ours that admits nobody any more.
    pub fn admit(
        &self,
        shown: &PresentedCredentials<'_>,
        origin: PeerIdentity<'_>,
        signer: &Signer,
        clock: Clock,
    ) -> Result<usize, UnknownCaller<'_>> {
        if let PresentedCredentials::Bearer(token) = shown {
            match signer.verify(token, clock.now()) {
                Verification::Foreign => {}
                Verification::Expired => return Err(UnknownCaller::StaleToken),
                Verification::Valid(claims) => return self.of_token(&claims, origin, signer),
            }
        }
        self.identify(shown, origin)
    }

    fn of_token(
        &self,
        claims: &Claims,
        origin: PeerIdentity<'_>,
        signer: &Signer,
    ) -> Result<usize, UnknownCaller<'_>> {
        let number = claims.caller().and_then(|name| self.named(name.as_bytes()));
        let known = number.and_then(|number| Some((number, self.get(number)?)));
        let (number, caller) = known
            .filter(|(_, caller)| signer.is_current(claims, caller))
            .ok_or(UnknownCaller::StaleToken)?;
        let here =
            origin.narrowest(&caller.networks).is_some() && origin.has_certificate_of(caller);
        if here {
            Ok(number)
        } else {
            Err(UnknownCaller::WrongPeer(&caller.name))
        }
    }

    /// The place in the configuration of the caller that a request is from.
    ///
    /// A secret names its caller. Without one it is the caller with the right certificate, then the one with the
    /// smallest network around the address.
    ///
    /// # Errors
    /// When it is nobody's, with what the log may say of it.
    pub fn identify(
        &self,
        shown: &PresentedCredentials<'_>,
        origin: PeerIdentity<'_>,
    ) -> Result<usize, UnknownCaller<'_>> {
        let hash = shown.secret().map(Sha256::of);
        let (mut found, mut found_holds) = (0, 0);
        let mut by_place: Option<(bool, u8, usize)> = None;
        for (number, caller) in self.all.iter().enumerate() {
            let network = origin.narrowest(&caller.networks);
            let holds = network.is_some() && origin.has_certificate_of(caller);
            if let Some(expected) = &caller.secret {
                // By arithmetic: a branch that is seldom taken tells by its time that it was.
                let fits = usize::from(hash.as_ref().is_some_and(|hash| expected.matches(hash)));
                found |= fits * (number + 1);
                found_holds |= fits * usize::from(holds);
            } else if holds {
                let (certificate, narrowness) =
                    (caller.certificate.is_some(), network.unwrap_or(0));
                // The first of equals stays.
                if by_place.is_none_or(|(c, n, _)| (certificate, narrowness) > (c, n)) {
                    by_place = Some((certificate, narrowness, number));
                }
            }
        }
        if let Some((number, caller)) = found
            .checked_sub(1)
            .and_then(|number| Some((number, self.get(number)?)))
        {
            return match shown.name() {
                Some(name) if name != caller.name.as_bytes() => {
                    Err(UnknownCaller::NameMismatch(&caller.name))
                }
                _ if found_holds == 0 => Err(UnknownCaller::WrongPeer(&caller.name)),
                _ => Ok(number),
            };
        }
        match by_place {
            Some((_, _, number)) if !shown.decides() => Ok(number),
            _ if matches!(shown, PresentedCredentials::Absent) => Err(UnknownCaller::NoCredentials),
            _ => Err(UnknownCaller::WrongSecret),
        }
    }
}

impl PeerIdentity<'_> {
    /// How long the prefix is of the smallest of `networks` around the address; 0 when any address will do, `None`
    /// when this one will not.
    fn narrowest(&self, networks: &[IpNet]) -> Option<u8> {
        if networks.is_empty() {
            return Some(0);
        }
        let address = self.address?.to_canonical();
        networks
            .iter()
            .filter(|network| network.contains(&address))
            .map(IpNet::prefix_len)
            .max()
    }

    fn has_certificate_of(&self, caller: &Caller) -> bool {
        caller.certificate.as_ref().is_none_or(|name| {
            self.certificate
                .is_some_and(|shown| certificate::is_of(shown, name))
        })
    }
}

#[cfg(test)]
mod tests;
