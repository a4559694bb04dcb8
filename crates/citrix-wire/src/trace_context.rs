//! The trace of a request (W3C Trace Context, Recommendation of 2021, section 3.2).

use std::fmt;

use http::{HeaderMap, HeaderName};

use crate::hex;

/// Field with the trace and the parent span.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Field with vendor-specific data; meaningless without [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of version, trace, span and flags with their dashes; later versions may append a dash and
/// more.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

/// The id of a trace; never 0. Displayed as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// The id of a span; never 0. Displayed as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

/// The value of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace of the request.
    pub trace_id: TraceId,
    /// The sender's span, parent of the receiver's.
    pub span_id: SpanId,
    /// The sender records its spans.
    pub sampled: bool,
}

impl TraceId {
    /// Returns `None` for 0, which is invalid.
    pub const fn new(id: u128) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// Returns the id as a number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl SpanId {
    /// Returns `None` for 0, which is invalid.
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// Returns the id as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TraceParent {
    /// Parses `traceparent`; `None` if it is absent, repeated or invalid.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            None
        } else {
            Self::parse(value.as_bytes())
        }
    }

    /// Parses a field value. Of a later version it parses the part that version 00 defines.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let version = u8::try_from(number(&known[..2])?).ok()?;
        let complete = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => matches!(more.first(), None | Some(b'-')),
        };
        let dashed = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        if !complete || !dashed {
            return None;
        }
        let flags = u8::try_from(number(&known[53..])?).ok()?;
        Some(Self {
            trace_id: TraceId::new(number(&known[3..35])?)?,
            span_id: SpanId::new(u64::try_from(number(&known[36..52])?).ok()?)?,
            sampled: flags & SAMPLED != 0,
        })
    }
}

/// Parses hex digits. Upper-case digits are invalid in this field.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = hex::digit(*digit).filter(|_| !digit.is_ascii_uppercase())?;
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
    fn example_of_the_recommendation_round_trips() {
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
    fn only_the_sampled_flag_is_evaluated() {
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
    fn later_versions_are_parsed_as_version_00() {
        for value in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-"),
            format!("fe-{TRACE}-{SPAN}-01-fields of a later version"),
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
    fn malformed_value_is_none() {
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
    fn absent_or_repeated_field_is_none() {
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
        fn displayed_value_is_parsed_again(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let (trace_id, span_id) = (TraceId::new(trace).unwrap(), SpanId::new(span).unwrap());
            let parent = TraceParent { trace_id, span_id, sampled };
            prop_assert_eq!(parse(&parent.to_string()), Some(parent));
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            TraceParent::parse(&value);
        }
    }
}
