//! The configuration as written: all keys that exist, with values of any type.
//!
//! A derive would stop at the first problem. So tables are read from TOML values by a macro: each
//! key keeps its value as written ([`Leaf`]), and unknown keys are reported. [`super::check`]
//! validates the values.

mod unknown;

use serde::Deserialize as _;
use toml::de::{DeTable, Deserializer};
use toml::{Table, Value};

use super::key::below;
use super::report::{ConfigProblem, Report};
use super::value::{self, Leaf};
use unknown::report_unknown;

/// Parses the text of a configuration file.
///
/// # Errors
/// The position and kind of a syntax error, without text of the file, which may be a secret.
pub(super) fn parse(text: &str) -> Result<Table, ConfigProblem> {
    let problem = |error: &toml::de::Error, kind: &str| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        ConfigProblem::new(format!("line {line}, column {column}"), kind)
    };
    let document = DeTable::parse(text).map_err(|error| problem(&error, error.message()))?;
    // The error for an integer that is too large quotes it.
    Table::deserialize(Deserializer::from(document))
        .map_err(|error| problem(&error, "number out of range"))
}

/// Returns line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start_of_line = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before[start_of_line..].chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// A type that can be read from the value of a key.
pub(super) trait FromValue: Sized {
    /// Reads the value at `path`, if any.
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self;

    /// Adds the paths of all keys that hold a single value.
    fn leaves(path: &str, found: &mut Vec<String>);

    /// Passes all keys that hold a single value to `visit`, with their numbers in blocks.
    fn visit(&self, visit: &mut dyn FnMut(&Leaf));
}

impl FromValue for Leaf {
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
        let from_variable = value.is_some() && report.variable(path).is_some();
        Self {
            path: path.to_owned(),
            value,
            from_variable,
        }
    }

    fn leaves(path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
    }

    fn visit(&self, visit: &mut dyn FnMut(&Leaf)) {
        visit(self);
    }
}

/// A table whose absence has a meaning.
impl<T: FromValue> FromValue for Option<T> {
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
        value.map(|value| T::read(Some(value), path, report))
    }

    fn leaves(path: &str, found: &mut Vec<String>) {
        T::leaves(path, found);
    }

    fn visit(&self, visit: &mut dyn FnMut(&Leaf)) {
        self.iter().for_each(|table| table.visit(visit));
    }
}

/// An array of tables.
impl<T: FromValue> FromValue for Vec<T> {
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
        let blocks = match value {
            None => Vec::new(),
            Some(Value::Array(blocks)) => blocks,
            Some(_) => {
                report.excuse(path);
                report.add(path, format!("must be an array of tables: [[{path}]]"));
                Vec::new()
            }
        };
        let numbered = blocks.into_iter().enumerate();
        numbered
            .map(|(n, block)| T::read(Some(block), &format!("{path}[{n}]"), report))
            .collect()
    }

    fn leaves(path: &str, found: &mut Vec<String>) {
        T::leaves(path, found);
    }

    fn visit(&self, visit: &mut dyn FnMut(&Leaf)) {
        self.iter().for_each(|table| table.visit(visit));
    }
}

/// Defines a table with its keys, in the order of the documentation.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $key: $kind,)*
        }

        impl FromValue for $name {
            fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
                let mut table = table_of(value, path, report);
                let read = Self {
                    $($key: FromValue::read(
                        table.remove(stringify!($key)),
                        &below(path, stringify!($key)),
                        report,
                    ),)*
                };
                let unknown = table.into_iter().map(|(key, _)| key);
                report_unknown(unknown, path, &[$(stringify!($key)),*], report);
                read
            }

            fn leaves(path: &str, found: &mut Vec<String>) {
                $(<$kind as FromValue>::leaves(&below(path, stringify!($key)), found);)*
            }

            fn visit(&self, visit: &mut dyn FnMut(&Leaf)) {
                $(self.$key.visit(visit);)*
            }
        }
    };
}

table! {
    RawConfig {
        citrix: Option<RawCitrix>,
        customer: Vec<RawCustomer>,
        listen: RawListen,
        admin: RawAdmin,
        upstream: RawUpstream,
        token: RawToken,
        limits: RawLimits,
        route: Vec<RawRoute>,
        caller: Vec<RawCaller>,
        login: RawLogin,
        intercept: Option<RawIntercept>,
        fleet: Option<RawFleet>,
        lifecycle: RawLifecycle,
        log: RawLog,
        insecure: RawInsecure,
    }
}

table! {
    /// `[citrix]`
    RawCitrix {
        cloud: Leaf,
        customer_id: Leaf,
        client_id: Leaf,
        client_secret: Leaf,
        client_secret_next: Leaf,
        instance_id: Leaf,
        api_url: Leaf,
        token_url: Leaf,
        token_dialect: Leaf,
        authorization: Leaf,
    }
}

table! {
    /// `[[customer]]`: the keys of `[citrix]`, and whether it is the default.
    RawCustomer {
        cloud: Leaf,
        customer_id: Leaf,
        client_id: Leaf,
        client_secret: Leaf,
        client_secret_next: Leaf,
        instance_id: Leaf,
        api_url: Leaf,
        token_url: Leaf,
        token_dialect: Leaf,
        authorization: Leaf,
        default: Leaf,
    }
}

impl RawCustomer {
    /// Splits the block into the keys of `[citrix]` and `default`.
    pub(super) fn into_parts(self) -> (RawCitrix, Leaf) {
        let citrix = RawCitrix {
            cloud: self.cloud,
            customer_id: self.customer_id,
            client_id: self.client_id,
            client_secret: self.client_secret,
            client_secret_next: self.client_secret_next,
            instance_id: self.instance_id,
            api_url: self.api_url,
            token_url: self.token_url,
            token_dialect: self.token_dialect,
            authorization: self.authorization,
        };
        (citrix, self.default)
    }
}

table! {
    /// `[listen]`
    RawListen {
        address: Leaf,
        public_url: Leaf,
        tls: Option<RawTls>,
        unix_mode: Leaf,
        proxy_protocol: Leaf,
        trusted_forwarders: Leaf,
        hosts: Leaf,
        workers: Leaf,
    }
}

table! {
    /// `listen.tls`
    RawTls {
        certificate: Leaf,
        key: Leaf,
        address: Leaf,
        client_ca: Leaf,
        client_auth: Leaf,
    }
}

table! {
    /// `[admin]`
    RawAdmin {
        address: Leaf,
        secret_sha256: Leaf,
    }
}

table! {
    /// `[upstream]`
    RawUpstream {
        ca_file: Leaf,
        proxy_url: Leaf,
        resolve: Leaf,
        http2: Leaf,
        connect_timeout: Leaf,
        response_timeout: Leaf,
        idle_timeout: Leaf,
        pool_idle_timeout: Leaf,
        max_connection_age: Leaf,
        retry_budget: Leaf,
    }
}

table! {
    /// `[token]`
    RawToken {
        refresh_at: Leaf,
        startup_wait: Leaf,
        request_timeout: Leaf,
        min_forced_interval: Leaf,
        cache_file: Leaf,
        cache_key: Leaf,
    }
}

table! {
    /// `[limits]`
    RawLimits {
        max_connections: Leaf,
        max_connections_per_address: Leaf,
        max_in_flight: Leaf,
        max_queued: Leaf,
        header_read_timeout: Leaf,
        body_idle_timeout: Leaf,
        keep_alive_timeout: Leaf,
        max_header_bytes: Leaf,
        max_body_bytes: Leaf,
        replay_buffer_bytes: Leaf,
    }
}

table! {
    /// `[[route]]`
    RawRoute {
        prefix: Leaf,
        upstream: Leaf,
        strip_prefix: Leaf,
        authorization: Leaf,
        max_concurrent: Leaf,
        queue_timeout: Leaf,
        rewrite_links: Leaf,
        collapse: Leaf,
    }
}

table! {
    /// `[[caller]]`
    RawCaller {
        name: Leaf,
        secret_sha256: Leaf,
        networks: Leaf,
        client_certificate: Leaf,
        methods: Leaf,
        paths: Leaf,
        customers: Leaf,
        max_concurrent: Leaf,
        max_per_second: Leaf,
        mode: Leaf,
    }
}

table! {
    /// `[login]`
    RawLogin {
        signing_key: Leaf,
        token_lifetime: Leaf,
    }
}

table! {
    /// `[intercept]`
    RawIntercept {
        address: Leaf,
        ca: RawAuthority,
        tunnel: Leaf,
    }
}

table! {
    /// `intercept.ca`
    RawAuthority {
        certificate: Leaf,
        key: Leaf,
    }
}

table! {
    /// `[fleet]`
    RawFleet {
        url: Leaf,
        password: Leaf,
        key: Leaf,
        key_previous: Leaf,
        name: Leaf,
        sentinels: Leaf,
        sentinel_master: Leaf,
        sentinel_password: Leaf,
        tls: Option<RawFleetTls>,
        tokens: Leaf,
        limits: Leaf,
        timeout: Leaf,
        lease: Leaf,
        replicas: Leaf,
        replica: Leaf,
    }
}

table! {
    /// `fleet.tls`
    RawFleetTls {
        ca_file: Leaf,
        certificate: Leaf,
        key: Leaf,
    }
}

table! {
    /// `[lifecycle]`
    RawLifecycle {
        drain_delay: Leaf,
        drain_timeout: Leaf,
    }
}

table! {
    /// `[log]`
    RawLog {
        format: Leaf,
        level: Leaf,
        access: Leaf,
    }
}

table! {
    /// `[insecure]`
    RawInsecure {
        allow_anonymous: Leaf,
        plain_fleet: Leaf,
    }
}

/// Returns the paths of all keys that hold a single value; blocks have no number.
pub(super) fn leaves() -> Vec<String> {
    let mut found = Vec::new();
    RawConfig::leaves("", &mut found);
    found
}

/// Returns the table at `path`. A value of another type is reported without the value, which may be
/// a secret.
fn table_of(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Table {
    let table = match value {
        None => Some(Table::new()),
        Some(Value::Table(table)) => Some(table),
        Some(Value::String(text)) if report.variable(path).is_some() => value::parse_table(&text),
        Some(_) => None,
    };
    table.unwrap_or_else(|| {
        report.excuse(path);
        report.add(path, "must be a table");
        Table::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNTAX_ERRORS: [(&str, &str); 10] = [
        ("[a]\nx = \"1\ny = 2", "line 2, column 7"),
        ("[a]\nx 1\ny = 2", "line 2, column 3"),
        ("[a]\nx: 1\ny = 2", "line 2, column 4"),
        ("[a]\nx = 1 2\r\ny = 2\r\n", "line 2, column 5"),
        ("[a]\nx = 1\n[b\ny = 2\n", "line 3, column 3"),
        ("[a]\nx = 1\n[a]\ny = 2\n", "line 3, column 2"),
        ("[a]\nx = 1\nx = 2", "line 3, column 1"),
        ("[a]\nx = [\n'p'\n'q'\n]\n", "line 4, column 1"),
        ("ä = \"ö\" ü", "line 1, column 9"),
        ("x = 99999999999999999999\n", "line 1, column 5"),
    ];

    #[test]
    fn syntax_error_has_line_and_column() {
        for (text, place) in SYNTAX_ERRORS {
            let problem = parse(text).expect_err(text);
            assert_eq!(problem.key, place, "{text}: {problem}");
        }
    }

    #[test]
    fn number_out_of_range_is_not_quoted() {
        for number in ["99999999999999999999", "0xffffffffffffffffff", "1e999"] {
            let problem = parse(&format!("x = {number}")).unwrap_err().to_string();
            assert!(
                !problem.contains("99") && !problem.contains("46"),
                "{problem}"
            );
        }
    }

    #[test]
    fn garbage_and_deep_nesting_are_syntax_errors() {
        for text in [
            "no toml\n".repeat(1000),
            "[".repeat(100_000),
            "x = [".repeat(10_000),
        ] {
            assert!(parse(&text).is_err());
        }
    }
}
