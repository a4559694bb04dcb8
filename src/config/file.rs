//! The mirror of the configuration file: every key there is, and nothing checked but that it is known.
//!
//! The tables below are read from TOML values by hand rather than by a derive, which would stop at the first
//! mistake: a table keeps each value as it was written ([`Leaf`]), and an unknown key is reported and passed
//! over. Whether a value is right is for [`super::check`] to say.

use toml::{Table, Value};

use super::report::Report;
use super::syntax;
use super::value::Leaf;

/// Something that may stand behind a key.
pub(super) trait Field: Sized {
    /// Takes what was written at `path`, or notes that nothing was.
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self;

    /// Adds the paths of all values in it.
    fn leaves(path: &str, found: &mut Vec<String>);
}

impl Field for Leaf {
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
}

/// A table whose absence means something.
impl<T: Field> Field for Option<T> {
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
        value.map(|value| T::read(Some(value), path, report))
    }

    fn leaves(path: &str, found: &mut Vec<String>) {
        T::leaves(path, found);
    }
}

/// `[[blocks]]`.
impl<T: Field> Field for Vec<T> {
    fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
        let blocks = match value {
            None => Vec::new(),
            Some(Value::Array(blocks)) => blocks,
            Some(_) => {
                report.excuse(path);
                report.add(
                    path,
                    format!("must be a list of blocks, each below a line [[{path}]]"),
                    None,
                );
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
}

/// A table of the file, with its keys in the order of the documentation.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $key: $kind,)*
        }

        impl Field for $name {
            fn read(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Self {
                let mut table = table_of(value, path, report);
                let read = Self {
                    $($key: Field::read(
                        table.remove(stringify!($key)),
                        &below(path, stringify!($key)),
                        report,
                    ),)*
                };
                report.unknown(table.into_iter().map(|(key, _)| key), path, &[$(stringify!($key)),*]);
                read
            }

            fn leaves(path: &str, found: &mut Vec<String>) {
                $(<$kind as Field>::leaves(&below(path, stringify!($key)), found);)*
            }
        }
    };
}

table! {
    /// The whole file.
    File {
        citrix: Option<Citrix>,
        customer: Vec<Customer>,
        listen: Listen,
        admin: Admin,
        upstream: Upstream,
        token: Token,
        limits: Limits,
        route: Vec<Route>,
        caller: Vec<Caller>,
        login: Login,
        lifecycle: Lifecycle,
        log: Log,
        insecure: Insecure,
    }
}

table! {
    /// `[citrix]`
    Citrix {
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
    Customer {
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

impl Customer {
    /// What it shares with `[citrix]`, and `default`.
    pub(super) fn into_parts(self) -> (Citrix, Leaf) {
        let citrix = Citrix {
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
    Listen {
        address: Leaf,
        public_url: Leaf,
        tls: Option<Tls>,
        unix_mode: Leaf,
        proxy_protocol: Leaf,
        trusted_forwarders: Leaf,
        hosts: Leaf,
        workers: Leaf,
    }
}

table! {
    /// `listen.tls`
    Tls {
        certificate: Leaf,
        key: Leaf,
        address: Leaf,
        client_ca: Leaf,
        client_auth: Leaf,
    }
}

table! {
    /// `[admin]`
    Admin {
        address: Leaf,
        secret_sha256: Leaf,
    }
}

table! {
    /// `[upstream]`
    Upstream {
        ca_file: Leaf,
        proxy_url: Leaf,
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
    Token {
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
    Limits {
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
    Route {
        prefix: Leaf,
        upstream: Leaf,
        strip_prefix: Leaf,
        authorization: Leaf,
        max_concurrent: Leaf,
        queue_timeout: Leaf,
        rewrite_links: Leaf,
    }
}

table! {
    /// `[[caller]]`
    Caller {
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
    Login {
        signing_key: Leaf,
        token_lifetime: Leaf,
    }
}

table! {
    /// `[lifecycle]`
    Lifecycle {
        drain_delay: Leaf,
        drain_timeout: Leaf,
    }
}

table! {
    /// `[log]`
    Log {
        format: Leaf,
        level: Leaf,
        access: Leaf,
    }
}

table! {
    /// `[insecure]`
    Insecure {
        allow_anonymous: Leaf,
    }
}

/// The paths of all keys that hold a value, blocks without a number.
pub(super) fn leaves() -> Vec<String> {
    let mut found = Vec::new();
    File::leaves("", &mut found);
    found
}

/// The path of `key` in the table at `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The table that was written at `path`: empty if there is none, or something else (which is reported, without
/// the something, since a misplaced secret may be in it).
fn table_of(value: Option<Value>, path: &str, report: &mut Report<'_>) -> Table {
    let table = match value {
        None => Some(Table::new()),
        Some(Value::Table(table)) => Some(table),
        Some(Value::String(text)) if report.variable(path).is_some() => syntax::parse_table(&text),
        Some(_) => None,
    };
    table.unwrap_or_else(|| {
        report.excuse(path);
        report.add(path, "must be a table", None);
        Table::new()
    })
}
