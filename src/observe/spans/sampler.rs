//! Which exchanges are recorded: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` of OpenTelemetry's
//! specification ("Environment Variable Specification", "Sampling").

use citrix_wire::trace_context::{TraceId, TraceParent};

/// One more than the largest number that is compared: 63 bits of a trace's id.
const ALL: u64 = 1 << 63;

/// Decides by what a caller said, or else by a trace's id, so that all who use the same share record the same traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampler {
    /// Where a caller says whether its span is recorded, ours is if it is.
    parent_based: bool,
    /// Traces whose number is below are recorded.
    bound: u64,
}

impl Sampler {
    /// What is used unless another one is asked for: `parentbased_always_on`.
    const DEFAULT: Self = Self {
        parent_based: true,
        bound: ALL,
    };

    /// The sampler of this name, with its argument. What is neither is told, and the next best is used.
    pub(super) fn named(name: Option<&str>, argument: Option<&str>) -> (Self, Option<String>) {
        let name = name.map_or("parentbased_always_on", str::trim);
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let (bound, problem) = match root {
            "always_on" => (ALL, None),
            "always_off" => (0, None),
            "traceidratio" => share(argument),
            _ => {
                let problem =
                    format!("OTEL_TRACES_SAMPLER: {name} is not known here; expected for example");
                return (Self::DEFAULT, Some(problem + " parentbased_traceidratio"));
            }
        };
        (
            Self {
                parent_based,
                bound,
            },
            problem,
        )
    }

    /// The trace of an exchange, if it is to be recorded.
    pub(super) fn recorded(self, caller: Option<TraceParent>) -> Option<TraceId> {
        let trace = caller.map_or_else(fresh, |caller| caller.trace_id);
        let recorded = match caller {
            Some(caller) if self.parent_based => caller.sampled,
            _ => self.covers(trace),
        };
        recorded.then_some(trace)
    }

    fn covers(self, trace: TraceId) -> bool {
        // As libraries of OpenTelemetry do it: the second half of the id, less its last bit.
        let [.., a, b, c, d, e, f, g, h] = trace.get().to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
    }
}

/// How many traces of 2^63 a ratio between 0 and 1 means.
fn share(argument: Option<&str>) -> (u64, Option<String>) {
    let Some(argument) = argument else {
        return (ALL, None);
    };
    match argument.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => {
            #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 2^63")]
            let bound = (ratio * 2_f64.powi(63)) as u64;
            (bound, None)
        }
        _ => (
            ALL,
            Some(format!(
                "OTEL_TRACES_SAMPLER_ARG: {argument} is no number from 0 to 1; all are recorded"
            )),
        ),
    }
}

fn fresh() -> TraceId {
    loop {
        if let Some(id) = TraceId::new(fastrand::u128(..)) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use citrix_wire::trace_context::SpanId;

    fn caller(sampled: bool) -> Option<TraceParent> {
        let (trace_id, span_id) = (TraceId::new(7 << 64 | 5).unwrap(), SpanId::new(9).unwrap());
        Some(TraceParent {
            trace_id,
            span_id,
            sampled,
        })
    }

    fn sampler(name: &str, argument: Option<&str>) -> Sampler {
        let (sampler, problem) = Sampler::named(Some(name), argument);
        assert_eq!(problem, None);
        sampler
    }

    #[test]
    fn a_caller_decides_where_the_sampler_is_based_on_it() {
        let cases = [
            // The sampler, its argument, without a caller's word, with one for it, with one against it.
            ("always_on", None, [true, true, true]),
            ("always_off", None, [false, false, false]),
            ("traceidratio", Some("1"), [true, true, true]),
            ("traceidratio", Some("0"), [false, false, false]),
            ("traceidratio", None, [true, true, true]),
            ("parentbased_always_on", None, [true, true, false]),
            ("parentbased_always_off", None, [false, true, false]),
            (
                "parentbased_traceidratio",
                Some("0.0"),
                [false, true, false],
            ),
            (
                "parentbased_traceidratio",
                Some(" 1.0 "),
                [true, true, false],
            ),
        ];
        for (name, argument, expected) in cases {
            let sampler = sampler(name, argument);
            let decided =
                [None, caller(true), caller(false)].map(|said| sampler.recorded(said).is_some());
            assert_eq!(decided, expected, "{name} {argument:?}");
        }
        assert_eq!(Sampler::named(None, None), (Sampler::DEFAULT, None));
    }

    #[test]
    fn a_share_of_the_traces_is_about_that_share() {
        let sampler = sampler("traceidratio", Some("0.25"));
        let recorded = (0..10_000)
            .filter(|_| sampler.recorded(None).is_some())
            .count();
        assert!((2_000..3_000).contains(&recorded), "{recorded}");
    }

    #[test]
    fn the_same_traces_are_recorded_as_by_others_with_the_same_share() {
        let half = sampler("traceidratio", Some("0.5"));
        for (id, covered) in [
            (1, true),
            (0x7fff_ffff_ffff_ffff, true),
            (0x8000_0000_0000_0000, false),
        ] {
            assert_eq!(
                half.covers(TraceId::new((3 << 64) | id).unwrap()),
                covered,
                "{id:x}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_told_and_all_is_recorded() {
        for (name, argument) in [
            ("jaeger_remote", None),
            ("traceidratio", Some("2")),
            ("traceidratio", Some("half")),
        ] {
            let (sampler, problem) = Sampler::named(Some(name), argument);
            assert!(
                problem.is_some() && sampler.recorded(None).is_some(),
                "{name}"
            );
        }
    }
}
