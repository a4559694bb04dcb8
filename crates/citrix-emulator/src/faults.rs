//! Faults that the emulator injects.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Injected faults, off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Fault of the token endpoints.
    pub token: Option<TokenFault>,
    /// Latency of every service. Monitor's only slot is in use meanwhile, so that a second request
    /// exceeds its limit.
    pub latency: Duration,
    /// Additional latency of Monitor.
    pub monitor_latency: Duration,
    /// Responses have no transaction id.
    pub no_transaction_ids: bool,
    /// Faults of paths; the first that matches and is not used up applies.
    pub paths: Vec<PathFault>,
    /// Redirect of all Secure Private Access requests, as if the customer's data were in another
    /// region.
    pub region_redirect: Option<RedirectTarget>,
    /// Seconds by which the cloud's clock is ahead, in `Date` and in tokens.
    pub clock_skew: i64,
}

/// A fault of the token endpoints (contract §1.3, §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenFault {
    /// 429 of the API gateway with `Retry-After: 1`.
    RateLimited,
    /// 429 with the delay only in the body, as `retryDelay`.
    RateLimitedBody,
    /// 500 of the API gateway.
    ServerError,
    /// 200 with a web page, like a captive portal.
    Html,
    /// 200 with an empty body.
    Empty,
    /// 200 with JSON that ends in the middle of the token.
    Truncated,
    /// 200 with `error` and `error_description`.
    #[value(name = "error-in-200")]
    ErrorIn200,
    /// The token after 20 seconds.
    Slow,
    /// A lifetime of the wrong type: a number from the form endpoint, a string from the JSON
    /// endpoint.
    ExpiresInNumber,
    /// No lifetime.
    ExpiresInMissing,
    /// A lifetime of 0.
    ExpiresInZero,
}

/// The target of region redirects (contract §1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// The listener of the other region, or the same listener if there is none.
    Other,
    /// A base URL, to which the rest of the path is appended.
    To(String),
}

impl FromStr for RedirectTarget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "other" => Ok(Self::Other),
            _ if text.starts_with("https://") || text.starts_with("http://") => {
                Ok(Self::To(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("other, or a URL"),
        }
    }
}

/// A fault of the requests below a path, written `PATH=FAULT[:SECONDS][*TIMES]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFault {
    /// First segments of the path, case-insensitive; `/` matches every path.
    pub path: String,
    pub fault: Fault,
    /// Retry delay in seconds, for faults with a hint.
    pub seconds: u32,
    /// Number of affected requests; `None` for all.
    pub times: Option<u32>,
}

/// A fault that replaces a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 (contract §4).
    RateLimited(Hint),
    /// 503.
    Unavailable(Hint),
    /// 502 without a transaction id.
    BadGateway,
    /// 500 of the API gateway.
    ServerError,
    /// 401, although the token is valid.
    Unauthorized,
    /// 403 with the error of a wrong region (contract §1.6).
    WrongRegion,
    /// The service's response, truncated in the middle of the body.
    Truncated,
}

/// The format of a retry delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// `Retry-After` in seconds.
    Seconds,
    /// `Retry-After` as an HTTP date.
    Date,
    /// `Retry-After` as an RFC 3339 date, which RFC 9110 does not permit.
    Rfc3339,
    /// `retryDelay` in the body only.
    Body,
    None,
}

impl Fault {
    /// All faults with their names.
    pub const ALL: [(&'static str, Self); 15] = [
        ("429", Self::RateLimited(Hint::Seconds)),
        ("429-date", Self::RateLimited(Hint::Date)),
        ("429-rfc3339", Self::RateLimited(Hint::Rfc3339)),
        ("429-body", Self::RateLimited(Hint::Body)),
        ("429-silent", Self::RateLimited(Hint::None)),
        ("503", Self::Unavailable(Hint::Seconds)),
        ("503-date", Self::Unavailable(Hint::Date)),
        ("503-rfc3339", Self::Unavailable(Hint::Rfc3339)),
        ("503-body", Self::Unavailable(Hint::Body)),
        ("503-silent", Self::Unavailable(Hint::None)),
        ("502", Self::BadGateway),
        ("500", Self::ServerError),
        ("401", Self::Unauthorized),
        ("403-region", Self::WrongRegion),
        ("cut-off", Self::Truncated),
    ];
}

/// The text is not `PATH=FAULT[:SECONDS][*TIMES]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFaultError;

impl std::error::Error for PathFaultError {}

impl fmt::Display for PathFaultError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        write!(
            formatter,
            "a fault is written PATH=FAULT[:SECONDS][*TIMES], with one of {names}"
        )
    }
}

impl FromStr for PathFault {
    type Err = PathFaultError;

    fn from_str(text: &str) -> Result<Self, PathFaultError> {
        let (path, rest) = text.rsplit_once('=').ok_or(PathFaultError)?;
        let (rest, times) = match rest.split_once('*') {
            Some((rest, times)) => (rest, Some(times.parse().map_err(|_| PathFaultError)?)),
            None => (rest, None),
        };
        let (name, seconds) = match rest.split_once(':') {
            Some((name, seconds)) => (name, seconds.parse().map_err(|_| PathFaultError)?),
            None => (rest, 1),
        };
        let (_, fault) = *Fault::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or(PathFaultError)?;
        if path.starts_with('/') {
            Ok(Self {
                path: path.to_owned(),
                fault,
                seconds,
                times,
            })
        } else {
            Err(PathFaultError)
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Fault::ALL
            .iter()
            .find(|(_, fault)| *fault == self.fault)
            .map_or("", |(name, _)| name);
        write!(formatter, "{}={name}:{}", self.path, self.seconds)?;
        self.times
            .map_or(Ok(()), |times| write!(formatter, "*{times}"))
    }
}

impl PathFault {
    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/').skip(1);
        let mut wanted = self.path.split('/').filter(|segment| !segment.is_empty());
        wanted.all(|wanted| {
            segments
                .next()
                .is_some_and(|segment| segment.eq_ignore_ascii_case(wanted))
        })
    }
}

impl Faults {
    /// Returns the fault of a request to `path`, with its delay in seconds, and counts it as used
    /// once.
    pub(super) fn inject(&mut self, path: &str) -> Option<(Fault, u32)> {
        let ready = |fault: &&mut PathFault| fault.times != Some(0) && fault.matches(path);
        let fault = self.paths.iter_mut().find(ready)?;
        fault.times = fault.times.map(|times| times - 1);
        Some((fault.fault, fault.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_fault_round_trips_through_text() {
        for (text, seconds, times) in [
            ("/monitorodata=429-date:5*3", 5, Some(3)),
            ("/=502", 1, None),
            ("/a/$batch=503-rfc3339:7", 7, None),
            ("/a=b=cut-off*1", 1, Some(1)),
        ] {
            let fault: PathFault = text.parse().unwrap();
            assert_eq!((fault.seconds, fault.times), (seconds, times), "{text}");
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for text in ["", "/a", "/a=", "/a=404", "a=502", "/a=502*x", "/a=429:x"] {
            assert_eq!(text.parse::<PathFault>(), Err(PathFaultError), "{text}");
        }
    }

    #[test]
    fn path_fault_affects_limited_number_of_requests_below_its_path() {
        let paths = vec![
            "/cvad/manage=502*2".parse().unwrap(),
            "/cvad=401*1".parse().unwrap(),
        ];
        let mut faults = Faults {
            paths,
            ..Faults::default()
        };
        assert_eq!(
            faults.inject("/cvad/managed"),
            Some((Fault::Unauthorized, 1))
        );
        assert_eq!(faults.inject("/echo"), None);
        assert_eq!(
            faults.inject("/CVAD/manage/me"),
            Some((Fault::BadGateway, 1))
        );
        assert_eq!(faults.inject("/cvad/manage"), Some((Fault::BadGateway, 1)));
        assert_eq!(faults.inject("/cvad/manage"), None);
    }
}
