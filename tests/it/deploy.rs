//! Alerts, dashboard and documents use names that exist.

use std::fs;
use std::path::Path;

use citrix_auth_proxy::config;
use serde_json::Value;

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yaml");
const ALERT_TESTS: &str = include_str!("../../deploy/prometheus/alerts.test.yaml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboard.json");
const METRICS: &str = include_str!("../../docs/metrics.md");
const CHART_VALUES: &str = include_str!("../../deploy/helm/citrix-auth-proxy/values.yaml");
const DEPLOYMENT: &str = include_str!("../../deploy/kubernetes/deployment.yaml");
const CHART_POD: &str = include_str!("../../deploy/helm/citrix-auth-proxy/templates/_pod.tpl");
const CHART_README: &str = include_str!("../../deploy/helm/citrix-auth-proxy/README.md");
const COMPOSE: &str = include_str!("../../deploy/compose.yaml");
const FLEET_COMPONENT: &str = include_str!("../../deploy/kubernetes/fleet/kustomization.yaml");
const RUNBOOKS: &str = include_str!("../../docs/runbooks.md");

const PREFIX: &str = "citrix_auth_proxy_";

/// Metric names in a text, as `docs/metrics.md` writes them.
fn names(text: &str) -> Vec<&str> {
    text.match_indices(PREFIX)
        .map(|(at, _)| {
            let rest = &text[at + PREFIX.len()..];
            let end = rest
                .find(|next: char| !next.is_ascii_lowercase() && next != '_')
                .unwrap_or(rest.len());
            let name = &rest[..end];
            let series = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            series.unwrap_or(name)
        })
        .collect()
}

/// Values of `key` at the beginning of a line or of a list item.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches("- "));
    lines
        .filter_map(|line| line.strip_prefix(key))
        .map(str::trim)
        .collect()
}

#[test]
fn alerts_and_dashboard_use_documented_metrics() {
    for (file, text) in [("alerts", ALERTS), ("dashboard", DASHBOARD)] {
        let names = names(text);
        assert!(names.len() > 10, "{file}: {names:?}");
        for name in names {
            assert!(
                METRICS.contains(&format!("\n| `{name}` |")),
                "{file}: {PREFIX}{name}"
            );
        }
    }
}

/// Returns the text of all sources below a folder.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let text = entries.map(|path| match path.extension() {
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ if path.is_dir() => sources(&path),
        _ => String::new(),
    });
    text.collect()
}

#[test]
fn documented_metrics_match_registered_metrics() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let tables = METRICS.split("\n| metric |").skip(1);
    let rows = tables.flat_map(|table| table.split("\n\n").next().unwrap().lines().skip(2));
    let names: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let registered = [format!("\"{name}\""), format!("\"{PREFIX}{name}\"")];
        assert!(
            registered.iter().any(|literal| sources.contains(literal)),
            "{name}"
        );
    }
}

#[test]
fn every_alert_has_severity_runbook_and_test() {
    let alerts = values(ALERTS, "alert:");
    let severities = values(ALERTS, "severity:");
    let runbooks = values(ALERTS, "runbook_url:");
    assert_eq!(
        (alerts.len(), alerts.len()),
        (severities.len(), runbooks.len()),
        "{alerts:?}"
    );
    for ((alert, severity), runbook) in alerts.into_iter().zip(severities).zip(runbooks) {
        assert!(
            ["page", "ticket"].contains(&severity),
            "{alert}: {severity}"
        );
        assert_eq!(
            runbook,
            format!("docs/runbooks.md#{}", alert.to_lowercase())
        );
        let section = format!("\n## {alert}\n\n**{severity}.**");
        assert!(RUNBOOKS.contains(&section), "{section}");
        assert!(
            ALERT_TESTS.contains(&format!("alertname: {alert}")),
            "{alert} has no test"
        );
    }
}

#[test]
fn dashboard_panels_have_unique_ids_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let position =
        |panel: &Value| ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
    for (index, panel) in panels.iter().enumerate() {
        let ([x, y, w, h], title) = (position(panel), &panel["title"]);
        assert!(x + w <= 24, "{title}");
        for other in &panels[index + 1..] {
            assert_ne!(panel["id"], other["id"], "{title}");
            let [ox, oy, ow, oh] = position(other);
            let apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
            assert!(apart, "{title} and {}", other["title"]);
        }
    }
}

/// Returns the number that follows `before` for the last time.
fn number_after(text: &str, before: &str) -> usize {
    let (_, rest) = text.rsplit_once(before).unwrap();
    let digits = rest.trim_start_matches([' ', '"']);
    let end = digits.find(|next: char| !next.is_ascii_digit()).unwrap();
    digits[..end].parse().unwrap()
}

/// Returns each value of the chart whose default is on its own line of `values.yaml`, with that.
fn chart_values() -> Vec<(String, &'static str)> {
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut values = Vec::new();
    for line in CHART_VALUES.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some((name, default)) = trimmed.split_once(':') else {
            continue;
        };
        if !name
            .chars()
            .all(|next| next.is_ascii_alphanumeric() || next == '_')
        {
            continue;
        }
        parents.retain(|(depth, _)| *depth < indent);
        let path = parents.iter().map(|(_, name)| *name);
        let path = path.chain([name]).collect::<Vec<_>>().join(".");
        match default.trim() {
            "" => parents.push((indent, name)),
            default => values.push((path, default.trim_matches('"'))),
        }
    }
    values
}

#[test]
fn readme_of_the_chart_has_every_value_with_its_default() {
    let values = chart_values();
    assert!(values.len() > 60, "{values:?}");
    for (path, default) in values {
        let default = match default {
            "" | "[]" | "{}" => "| |".to_owned(),
            "|" => "| see values.yaml |".to_owned(),
            default => format!("| `{default}` |"),
        };
        let row = format!("\n| `{path}` {default} ");
        assert!(CHART_README.contains(&row), "{row}");
    }
}

/// The formula of docs/sizing.md.
#[test]
fn memory_limits_are_enough_for_the_permitted_connections() {
    let connections = "LIMITS__MAX_CONNECTIONS, value:";
    for (name, memory, connections) in [
        (
            "chart",
            number_after(CHART_VALUES, "memory:"),
            number_after(CHART_VALUES, "maxConnections:"),
        ),
        (
            "kustomize",
            number_after(DEPLOYMENT, "limits: { memory:"),
            number_after(DEPLOYMENT, connections),
        ),
    ] {
        let needed = 192 * 1024 + 48 * connections;
        assert!(
            needed <= memory * 1024,
            "{name}: {connections} in {memory} MiB"
        );
    }
}

/// Variables of the gateway that a text names.
fn variables(text: &str) -> Vec<&str> {
    let starts = text.match_indices("CITRIX_AUTH_PROXY_");
    let variable = |at: usize| {
        let rest = &text[at..];
        let is_part =
            |next: char| next.is_ascii_uppercase() || next.is_ascii_digit() || next == '_';
        let end = rest.find(|next: char| !is_part(next));
        &rest[..end.unwrap_or(rest.len())]
    };
    starts.map(|(at, _)| variable(at)).collect()
}

#[test]
fn variables_in_deployment_files_are_configuration_keys() {
    for (file, text) in [
        ("chart", CHART_POD),
        ("kustomize", DEPLOYMENT),
        ("kustomize with a store", FLEET_COMPONENT),
        ("compose", COMPOSE),
    ] {
        let variables = variables(text);
        assert!(!variables.is_empty(), "{file}");
        for name in variables {
            let named = [(name.to_owned(), "1".to_owned())];
            let problems = config::from_toml("", named).err().unwrap_or_default();
            let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let unknown = texts.iter().any(|text| text.contains("unknown"));
            assert!(!unknown, "{file}: {name}: {texts:?}");
        }
    }
}
