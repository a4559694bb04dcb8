//! Spans: what a tracing system is told of exchanges. One for each, and one for each attempt to have it answered
//! by Citrix; made of the record's timings when that is closed, and sent by a thread of its own.
//!
//! Nothing is recorded unless the environment names an endpoint.

mod client;
mod export;
mod recording;
mod sampler;
mod span;

pub use self::export::Spans;
pub use self::recording::Recording;

/// Variables that ask for spans.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// A variable of the process. An empty one counts as unset, as OpenTelemetry has it.
fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// Whether an endpoint is named, and no other variable says that nothing be exported.
fn asked_for(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is =
        |name, value| variable(name).is_some_and(|said| said.trim().eq_ignore_ascii_case(value));
    ENDPOINTS.iter().any(|name| variable(name).is_some())
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_asks_for_spans_unless_something_else_forbids_them() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")],
                true,
            ),
            (
                &[(
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                    "http://collector:4318/v1/traces",
                )],
                true,
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_SDK_DISABLED", "TRUE"),
                ],
                false,
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_SDK_DISABLED", "yes"),
                ],
                true,
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_TRACES_EXPORTER", "none"),
                ],
                false,
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_TRACES_EXPORTER", "otlp"),
                ],
                true,
            ),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], false),
        ];
        for (environment, expected) in cases {
            let variable = |name: &str| {
                environment
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(asked_for(variable), *expected, "{environment:?}");
        }
    }
}
