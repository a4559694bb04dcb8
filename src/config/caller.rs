//! Callers: the clients of the gateway, their credentials and their rules.

use std::num::{NonZeroU32, NonZeroUsize};

use ipnet::IpNet;

use crate::system::digest::Sha256;
use citrix_wire::policy::Rules;

/// The maximum number of a caller's secrets: the present one, and the next during a rotation.
pub const MAX_SECRETS: usize = 2;

/// A `[[caller]]`. At least one of `secrets`, `networks` and `certificate` is set, and all that are
/// set must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in metrics, logs and HTTP Basic.
    pub name: String,
    /// The hashes of its secrets, at most [`MAX_SECRETS`]; any of them matches.
    pub secrets: Vec<Sha256>,
    /// The networks it may connect from; empty: any.
    pub networks: Vec<IpNet>,
    pub certificate: Option<CertificateName>,
    /// The methods, paths and customers it may use.
    pub rules: Rules,
    /// The maximum number of its requests in flight; `None`: no limit of its own.
    pub max_concurrent: Option<NonZeroUsize>,
    /// The maximum number of its requests per second; `None`: no limit.
    pub max_per_second: Option<NonZeroU32>,
    /// Whether its rules and limits are enforced.
    pub mode: Mode,
}

impl Caller {
    /// Returns `true` if its network alone identifies the caller.
    pub fn is_network_only(&self) -> bool {
        !self.has_secret() && self.certificate.is_none()
    }

    /// Returns `true` if the caller must present a secret.
    pub fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }
}

/// The effect of a caller's rules and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A violation is rejected.
    Enforce,
    /// A violation is logged and counted, and the request forwarded.
    Observe,
}

/// The name in a client certificate that identifies a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The whole subject, attribute by attribute (`CN=splunk`).
    Subject(Vec<String>),
    Dns(String),
}

impl CertificateName {
    /// Parses `client_certificate`: a subject if it contains `=`, which no DNS name does.
    pub fn new(text: &str) -> Self {
        if text.contains('=') {
            Self::Subject(Self::subject_parts(text))
        } else {
            Self::Dns(text.to_owned())
        }
    }

    /// Splits a subject in the notation of RFC 4514 into attributes, with surrounding spaces
    /// removed and attribute types in upper case.
    pub fn subject_parts(subject: &str) -> Vec<String> {
        let mut escaped = false;
        let separates = |c: char| {
            let separates = c == ',' && !escaped;
            escaped = c == '\\' && !escaped;
            separates
        };
        let normalized = |part: &str| match part.trim().split_once('=') {
            Some((name, value)) => format!(
                "{}={}",
                name.trim_end().to_ascii_uppercase(),
                value.trim_start()
            ),
            None => part.trim().to_owned(),
        };
        subject.split(separates).map(normalized).collect()
    }
}

/// Checks the name of a caller.
///
/// # Errors
/// A clause that completes a sentence about the name.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    const MAX_LENGTH: usize = 64;
    if ["anonymous", "none"].contains(&name) {
        return Err("is reserved for requests without a caller");
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    if name.is_empty() || name.len() > MAX_LENGTH || !name.bytes().all(allowed) {
        return Err(
            "is not a valid caller name; expected 1 to 64 ASCII letters, digits and - _ . @",
        );
    }
    Ok(())
}
