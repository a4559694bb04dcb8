//! A strict parser of the Prometheus text format 0.0.4.

use std::collections::BTreeMap;

/// The metrics of one scrape.
pub struct Exposition {
    /// Metric families by name.
    pub families: BTreeMap<String, Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All series of a name.
pub struct Family {
    pub kind: Kind,
    pub help: String,
    pub series: Vec<Series>,
}

/// A sample line. A histogram has several for each series.
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: String,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    fn of(name: &str) -> Self {
        let known = [Self::Counter, Self::Gauge, Self::Histogram];
        known
            .into_iter()
            .find(|kind| kind.name() == name)
            .unwrap_or_else(|| panic!("invalid type: {name}"))
    }
}

impl Exposition {
    /// Requires that families are contiguous and begin with HELP and TYPE.
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no line feed");
        let mut families = BTreeMap::new();
        let mut helps = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("no help: {line}"));
                let twice = helps.insert(name.to_owned(), help.to_owned());
                assert!(twice.is_none(), "repeated family: {line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let help = helps
                    .get(name)
                    .unwrap_or_else(|| panic!("no help for {name}"))
                    .clone();
                let family = Family {
                    kind: Kind::of(kind),
                    help,
                    series: Vec::new(),
                };
                assert!(
                    families.insert(name.to_owned(), family).is_none(),
                    "repeated family: {line}"
                );
                name.clone_into(&mut current);
            } else {
                let series = Series::parse(line);
                let family = families
                    .get_mut(&current)
                    .unwrap_or_else(|| panic!("no type: {line}"));
                let rest = series
                    .name
                    .strip_prefix(&current)
                    .unwrap_or_else(|| panic!("unexpected line in {current}: {line}"));
                let parts: &[&str] = if family.kind == Kind::Histogram {
                    &["_bucket", "_sum", "_count"]
                } else {
                    &[""]
                };
                assert!(
                    parts.contains(&rest),
                    "unexpected line in {current}: {line}"
                );
                family.series.push(series);
            }
        }
        Self { families }
    }
}

impl Series {
    /// Label values must not contain quotation marks.
    fn parse(line: &str) -> Self {
        let (series, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let mut parts = labels.split('"');
        let mut read = BTreeMap::new();
        while let (Some(label), Some(value)) = (parts.next(), parts.next()) {
            let label = label.trim_start_matches(',').strip_suffix('=').unwrap();
            assert!(
                read.insert(label.to_owned(), value.to_owned()).is_none(),
                "repeated label: {line}"
            );
        }
        Self {
            name: name.to_owned(),
            labels: read,
            value: value.to_owned(),
        }
    }
}
