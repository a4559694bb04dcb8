//! OpenTelemetry spans: one for each exchange, and one for each attempt to send its request to
//! Citrix.
//!
//! Attempts are recorded only if the environment names a collector and the sampler selects the
//! exchange. Spans are created when an exchange ends, and exported by a separate thread.

mod client;
mod export;
mod recording;
mod sampler;
mod span;

pub use self::export::Spans;
pub use self::recording::Recording;

/// Variables that enable the export.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Returns an environment variable. An empty one counts as unset, as OpenTelemetry specifies.
fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// Returns `true` if an endpoint is set and no variable disables the export.
fn is_enabled(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name, value| variable(name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
    ENDPOINTS.iter().any(|name| variable(name).is_some())
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_enables_the_export_unless_another_variable_disables_it() {
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
            assert_eq!(is_enabled(variable), *expected, "{environment:?}");
        }
    }
}
