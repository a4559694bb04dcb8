//! Which trace a request is part of (W3C Trace Context, Recommendation of 2021, section 3.2).

use std::fmt;

use http::{HeaderMap, HeaderName};

/// Which trace, and below which span of it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems say to each other besides; nothing without a [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Version, trace, span and flags with the dashes between them; later versions may go on after another dash.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

/// The id of a trace; never 0. Written as 32 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// The id of a span; never 0. Written as 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

/// The value of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace.
    pub trace_id: TraceId,
    /// The span of whoever sends it.
    pub span_id: SpanId,
    /// Whether the sender records its spans.
    pub sampled: bool,
}

impl TraceId {
    /// Unless it is 0, which means none.
    pub const fn new(id: u128) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl SpanId {
    /// Unless it is 0, which means none.
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TraceParent {
    /// What a request says, if it says one thing and that is valid.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            None
        } else {
            Self::parse(value.as_bytes())
        }
    }

    /// Reads a value. Of a version to come it takes the part that is as in version 00.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let version = u8::try_from(hex(&known[..2])?).ok()?;
        let whole = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => matches!(more.first(), None | Some(b'-')),
        };
        let dashed = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        if !whole || !dashed {
            return None;
        }
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        Some(Self {
            trace_id: TraceId::new(hex(&known[3..35])?)?,
            span_id: SpanId::new(u64::try_from(hex(&known[36..52])?).ok()?)?,
            sampled: flags & SAMPLED != 0,
        })
    }
}

/// Lower-case digits only: the Recommendation has others ignored.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// In version 00. Flags it does not define are 0.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parse(value: &str) -> Option<TraceParent> {
        TraceParent::parse(value.as_bytes())
    }

    #[test]
    fn the_recommendations_example_is_read_and_written_as_it_was() {
        let value = format!("00-{TRACE}-{SPAN}-01");
        let parent = parse(&value).unwrap();
        assert_eq!(
            (parent.trace_id.to_string(), parent.span_id.to_string()),
            (TRACE.into(), SPAN.into())
        );
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), value);
    }

    #[test]
    fn only_the_flag_that_is_known_counts() {
        for (flags, sampled) in [
            ("00", false),
            ("01", true),
            ("02", false),
            ("03", true),
            ("ff", true),
        ] {
            assert_eq!(
                parse(&format!("00-{TRACE}-{SPAN}-{flags}"))
                    .unwrap()
                    .sampled,
                sampled,
                "{flags}"
            );
        }
    }

    #[test]
    fn versions_to_come_are_read_as_far_as_they_are_known() {
        for value in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-"),
            format!("fe-{TRACE}-{SPAN}-01-what the future will be like"),
        ] {
            let parent = parse(&value).unwrap_or_else(|| panic!("{value}"));
            assert_eq!(parent.to_string(), format!("00-{TRACE}-{SPAN}-01"));
        }
        for value in [
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("cc-{TRACE}-{SPAN}-011"),
        ] {
            assert_eq!(parse(&value), None, "{value}");
        }
    }

    #[test]
    fn what_is_not_exactly_so_is_nothing() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            "00".to_owned(),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("0A-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}g-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(parse(&value), None, "{value}");
        }
    }

    #[test]
    fn two_fields_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::from_headers(&headers), None);
        headers.append(
            TRACEPARENT,
            format!("00-{TRACE}-{SPAN}-01").parse().unwrap(),
        );
        assert!(TraceParent::from_headers(&headers).is_some());
        headers.append(
            TRACEPARENT,
            format!("00-{TRACE}-{SPAN}-01").parse().unwrap(),
        );
        assert_eq!(TraceParent::from_headers(&headers), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let (trace_id, span_id) = (TraceId::new(trace).unwrap(), SpanId::new(span).unwrap());
            let parent = TraceParent { trace_id, span_id, sampled };
            prop_assert_eq!(parse(&parent.to_string()), Some(parent));
        }

        #[test]
        fn nothing_that_is_sent_is_too_odd(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            TraceParent::parse(&value);
        }
    }
}
