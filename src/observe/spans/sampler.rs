//! The sampler of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, as the SDK reads them.

use citrix_wire::trace_context::{TraceId, TraceParent};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, trace};
use opentelemetry_sdk::trace::{Config, SamplingDecision, ShouldSample};

/// Samplers that the SDK implements.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Decides by the caller's sampled flag or by the trace id, so that all services with one ratio
/// sample the same traces.
#[derive(Debug)]
pub(super) struct Sampler(Box<dyn ShouldSample>);

impl Sampler {
    /// Returns the sampler that the environment names.
    pub(super) fn from_env() -> Self {
        Self(Config::default().sampler)
    }

    /// Returns the trace of an exchange if the exchange is sampled.
    pub(super) fn sample(&self, caller: Option<TraceParent>) -> Option<TraceId> {
        let trace_id = caller.map_or_else(random_trace_id, |caller| caller.trace_id);
        let parent = caller.map(context);
        let result = self.0.should_sample(
            parent.as_ref(),
            trace::TraceId::from(trace_id.get()),
            "",
            &SpanKind::Server,
            &[],
            &[],
        );
        (result.decision == SamplingDecision::RecordAndSample).then_some(trace_id)
    }
}

/// Logs values that the SDK replaces silently.
pub(super) fn log_replaced(name: Option<&str>, argument: Option<&str>) {
    if let Some((variable, value, default)) = replaced(name, argument) {
        tracing::warn!(
            variable,
            value,
            default,
            "environment variable invalid; using the default"
        );
    }
}

/// Returns the variable that the SDK replaces, its value and the replacement.
fn replaced<'a>(
    name: Option<&'a str>,
    argument: Option<&'a str>,
) -> Option<(&'static str, &'a str, &'static str)> {
    let name = name?;
    if !SAMPLERS.contains(&name) {
        return Some(("OTEL_TRACES_SAMPLER", name, "parentbased_always_on"));
    }
    let argument = argument.filter(|_| name.ends_with("traceidratio"))?;
    let ratio = argument.parse::<f64>();
    let is_valid = ratio.is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
    (!is_valid).then_some(("OTEL_TRACES_SAMPLER_ARG", argument, "1.0"))
}

fn context(caller: TraceParent) -> Context {
    let flags = if caller.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    Context::new().with_remote_span_context(SpanContext::new(
        trace::TraceId::from(caller.trace_id.get()),
        trace::SpanId::from(caller.span_id.get()),
        flags,
        true,
        TraceState::NONE,
    ))
}

fn random_trace_id() -> TraceId {
    loop {
        if let Some(id) = TraceId::new(fastrand::u128(..)) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use citrix_wire::trace_context::SpanId;
    use opentelemetry_sdk::trace::Sampler as Sdk;

    use super::*;

    fn caller(trace_id: u128, sampled: bool) -> Option<TraceParent> {
        Some(TraceParent {
            trace_id: TraceId::new(trace_id).unwrap(),
            span_id: SpanId::new(9).unwrap(),
            sampled,
        })
    }

    fn parent_based(root: Sdk) -> Sdk {
        Sdk::ParentBased(Box::new(root))
    }

    #[test]
    fn parent_based_sampler_follows_the_flag_of_the_caller() {
        let cases = [
            // Without a caller's trace, with the sampled flag, with the flag unset.
            (Sdk::AlwaysOn, [true, true, true]),
            (Sdk::AlwaysOff, [false, false, false]),
            (Sdk::TraceIdRatioBased(1.0), [true, true, true]),
            (Sdk::TraceIdRatioBased(0.0), [false, false, false]),
            (parent_based(Sdk::AlwaysOn), [true, true, false]),
            (parent_based(Sdk::AlwaysOff), [false, true, false]),
            (
                parent_based(Sdk::TraceIdRatioBased(0.0)),
                [false, true, false],
            ),
        ];
        for (sampler, expected) in cases {
            let sampler = Sampler(Box::new(sampler));
            let callers = [None, caller(5, true), caller(5, false)];
            let sampled = callers.map(|caller| sampler.sample(caller).is_some());
            assert_eq!(sampled, expected, "{sampler:?}");
        }
    }

    #[test]
    fn sampled_trace_keeps_the_id_of_the_caller() {
        let sampler = Sampler(Box::new(Sdk::AlwaysOn));
        assert_eq!(sampler.sample(caller(5, false)), TraceId::new(5));
    }

    #[test]
    fn ratio_compares_the_second_half_of_the_trace_id() {
        let half = Sampler(Box::new(Sdk::TraceIdRatioBased(0.5)));
        for (id, expected) in [
            (1, true),
            (0x7fff_ffff_ffff_ffff, true),
            (0x8000_0000_0000_0000, false),
        ] {
            let sampled = half.sample(caller((3 << 64) | id, false)).is_some();
            assert_eq!(sampled, expected, "{id:x}");
        }
    }

    #[test]
    fn ratio_samples_about_that_share_of_new_traces() {
        let quarter = Sampler(Box::new(Sdk::TraceIdRatioBased(0.25)));
        let sampled = (0..10_000)
            .filter(|_| quarter.sample(None).is_some())
            .count();
        assert!((2_000..3_000).contains(&sampled), "{sampled}");
    }

    #[test]
    fn unknown_sampler_or_ratio_is_replaced() {
        let cases = [
            (None, None, false),
            (None, Some("half"), false),
            (Some("parentbased_traceidratio"), Some("0.5"), false),
            (Some("always_on"), Some("half"), false),
            (Some("jaeger_remote"), None, true),
            (Some("traceidratio"), Some("2"), true),
            (Some("traceidratio"), Some("half"), true),
        ];
        for (name, argument, expected) in cases {
            let replaced = replaced(name, argument);
            assert_eq!(replaced.is_some(), expected, "{name:?} {argument:?}");
        }
    }
}
