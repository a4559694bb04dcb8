//! Who may use the gateway, and for what.

use std::num::{NonZeroU32, NonZeroUsize};

use ipnet::IpNet;

use crate::system::digest::Sha256;
use citrix_wire::policy::Rules;

/// One who may use the gateway. What there is of secret, networks and certificate must all hold; one of them there
/// always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name in metrics and logs, and in HTTP Basic.
    pub name: String,
    /// What it has to know.
    pub secret: Option<Sha256>,
    /// Where its connections come from; from anywhere when there are none.
    pub networks: Vec<IpNet>,
    /// The client certificate it has to show.
    pub certificate: Option<CertificateName>,
    /// The methods, paths and customers that it may use.
    pub rules: Rules,
    /// How many of its requests are answered at a time; `None`: no limit of its own.
    pub max_concurrent: Option<NonZeroUsize>,
    /// How many of its requests may begin in a second; `None`: no limit.
    pub max_per_second: Option<NonZeroU32>,
    /// What is done with what it may not.
    pub mode: Mode,
}

impl Caller {
    /// Whether it is known by where its connections come from, and by nothing it shows.
    pub fn is_network_only(&self) -> bool {
        self.secret.is_none() && self.certificate.is_none()
    }
}

/// What is done with a request that a caller's rules do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It is logged and counted, and let through.
    Observe,
}

/// How a client certificate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// By its whole subject, part by part (`CN=splunk`).
    Subject(Vec<String>),
    /// By a DNS name in it.
    Dns(String),
}

impl CertificateName {
    /// A subject if there is `=` in it, which no DNS name has.
    pub fn new(text: &str) -> Self {
        if text.contains('=') {
            Self::Subject(Self::subject_parts(text))
        } else {
            Self::Dns(text.to_owned())
        }
    }

    /// The parts of a subject as RFC 4514 writes it: without the blanks around them, their types in upper case.
    pub fn subject_parts(subject: &str) -> Vec<String> {
        let mut escaped = false;
        let separates = |c: char| {
            let separates = c == ',' && !escaped;
            escaped = c == '\\' && !escaped;
            separates
        };
        let part = |part: &str| match part.trim().split_once('=') {
            Some((name, value)) => format!(
                "{}={}",
                name.trim_end().to_ascii_uppercase(),
                value.trim_start()
            ),
            None => part.trim().to_owned(),
        };
        subject.split(separates).map(part).collect()
    }
}

/// Whether a caller may be called so.
///
/// # Errors
/// With what a name may be.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    const LONGEST: usize = 64;
    if ["anonymous", "none"].contains(&name) {
        return Err("is what metrics call those who have no name");
    }
    let may_be_in =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(may_be_in) {
        return Err("is not a caller's name, which is up to 64 letters, digits and - _ . @");
    }
    Ok(())
}
