//! What goes wrong on purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Faults, each off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How the token endpoints misbehave.
    pub token: Option<TokenFault>,
    /// How long every service takes before it answers an admitted request. Monitor takes it with its only slot
    /// occupied, so that a second request meets the limit.
    pub latency: Duration,
    /// The same for Monitor alone, on top.
    pub monitor_latency: Duration,
    /// No answer carries a transaction id.
    pub no_transaction_ids: bool,
    /// What befalls some paths. The first that matches and is not used up is the one.
    pub paths: Vec<PathFault>,
    /// Where Secure Private Access sends everybody, as if the customer's data were in another region.
    pub region_redirect: Option<RedirectTarget>,
    /// By how many seconds the cloud's clock is ahead, in `Date` and in tokens.
    pub clock_skew: i64,
}

/// What the token endpoints do instead of (or besides) issuing a good token (contract §1.3, §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenFault {
    /// 429 with `Retry-After: 1`, as the API gateway writes it.
    RateLimited,
    /// 429 whose hint is only the body's `retryDelay`.
    RateLimitedBody,
    /// 500 from the API gateway.
    ServerError,
    /// 200 with a web page, as a captive portal gives.
    Html,
    /// 200 with nothing in it.
    Empty,
    /// 200 with JSON that ends in the middle of the token.
    Truncated,
    /// 200 with `error` and `error_description` in it.
    #[value(name = "error-in-200")]
    ErrorIn200,
    /// A good answer, twenty seconds late.
    Slow,
    /// The lifetime in the other type: a number from the form endpoint, a string from the JSON one.
    ExpiresInNumber,
    /// No lifetime.
    ExpiresInMissing,
    /// A lifetime of 0.
    ExpiresInZero,
}

/// Where a region redirect leads (contract §1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// To the second listener, or to the same one when there is none.
    Other,
    /// To this base URL; the rest of the path is put behind it.
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

/// What befalls the requests to a path; written `PATH=TROUBLE[:SECONDS][*TIMES]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFault {
    /// The beginning of the path, in whole segments and any letter case; `/` is every path.
    pub path: String,
    /// What happens.
    pub fault: Fault,
    /// The hint of those that give one, in seconds.
    pub seconds: u32,
    /// How many requests it befalls; all when none.
    pub times: Option<u32>,
}

/// What happens to a request instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429, with a hint (contract §4).
    RateLimited(Hint),
    /// 503, with a hint.
    Unavailable(Hint),
    /// 502 of the API gateway, without a transaction id.
    BadGateway,
    /// 500 of the API gateway.
    ServerError,
    /// 401, though the token is good.
    Unauthorized,
    /// 403 in the words that a wrong region gets (contract §1.6).
    WrongRegion,
    /// The good answer, cut off in the middle of its body.
    Truncated,
}

/// How an answer says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// `Retry-After` in seconds.
    Seconds,
    /// `Retry-After` as an HTTP date.
    Date,
    /// `Retry-After` as an RFC 3339 date, which HTTP does not know.
    Rfc3339,
    /// `retryDelay` in the body alone.
    Body,
    /// Not at all.
    None,
}

impl Fault {
    /// Every fault under its name.
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

/// The text is not `PATH=TROUBLE[:SECONDS][*TIMES]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFaultError;

impl std::error::Error for PathFaultError {}

impl fmt::Display for PathFaultError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        write!(
            formatter,
            "a fault is written PATH=TROUBLE[:SECONDS][*TIMES], with one of {names}"
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
    /// What befalls a request to `path`, if anything, and its hint in seconds. It is used up by one.
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
    fn a_path_fault_is_written_in_one_word() {
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
    fn a_path_fault_befalls_so_many_requests_below_its_path() {
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
