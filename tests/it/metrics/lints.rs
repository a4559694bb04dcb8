//! Prometheus naming rules for every metric. `just promtool` checks the rules of `promtool check
//! metrics`.

use std::collections::BTreeSet;

use super::exposition::{Exposition, Family, Kind};
use super::{PREFIX, after_traffic};

#[tokio::test]
async fn metrics_after_traffic_follow_the_naming_rules() {
    let (gateway, ..) = after_traffic().await;
    let text = gateway.metrics().await;
    let exposition = Exposition::parse(&text);
    let mut all = BTreeSet::new();
    for (name, family) in &exposition.families {
        assert!(
            name.starts_with(PREFIX) || name.starts_with("process_"),
            "{name}"
        );
        lint(name, family);
        for series in &family.series {
            let value: f64 = series.value.parse().unwrap();
            assert!(!value.is_nan(), "{}", series.name);
            assert!(
                all.insert((series.name.clone(), series.labels.clone())),
                "duplicate series: {}",
                series.name
            );
        }
    }
}

fn lint(name: &str, family: &Family) {
    let Family { kind, help, series } = family;
    let is_valid_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    assert!(is_valid_name(name) && !name.contains("__"), "{name}");
    assert!(help.len() > 10 && help.ends_with('.'), "{name}: {help}");
    assert!(!series.is_empty(), "{name}");
    assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
    for suffix in ["_count", "_sum", "_bucket"] {
        assert!(!name.ends_with(suffix), "{name}");
    }
    for word in name.split('_') {
        let other_units = [
            "ms",
            "milliseconds",
            "minutes",
            "hours",
            "kilobytes",
            "megabytes",
            "percent",
        ];
        assert!(
            !other_units.contains(&word),
            "{name}: unit is not seconds, bytes or a ratio"
        );
        let types = ["counter", "gauge", "histogram", "summary"];
        assert!(!types.contains(&word), "{name}: contains a metric type");
    }
    if *kind == Kind::Histogram {
        assert!(name.ends_with("_seconds"), "{name}");
    }
    for label in series.iter().flat_map(|series| series.labels.keys()) {
        assert!(is_valid_name(label), "{name}: {label}");
        assert!(
            *kind == Kind::Histogram || (label != "le" && label != "quantile"),
            "{name}: {label}"
        );
    }
}
