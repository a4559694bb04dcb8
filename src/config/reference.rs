//! The reference of all keys: the file `config.toml.example`, whose tests compare it with the keys
//! that exist and their defaults.

use toml::{Table, Value};

use super::key::below;

const REFERENCE: &str = include_str!("../../config.toml.example");

/// Keys without a default value: what stands in the reference is an example.
const EXAMPLES: [&str; 49] = [
    "caller.client_certificate",
    "caller.customers",
    "caller.methods",
    "caller.name",
    "caller.networks",
    "caller.paths",
    "caller.secret_sha256",
    "citrix.api_url",
    "citrix.client_id",
    "citrix.client_secret",
    "citrix.client_secret_next",
    "citrix.customer_id",
    "citrix.token_dialect",
    "citrix.token_url",
    "admin.secret_sha256",
    "fleet.key",
    "fleet.key_previous",
    "fleet.password",
    "fleet.replica",
    "fleet.replicas",
    "fleet.sentinel_master",
    "fleet.sentinel_password",
    "fleet.sentinels",
    "fleet.tls.ca_file",
    "fleet.tls.certificate",
    "fleet.tls.key",
    "fleet.url",
    "intercept.address",
    "intercept.ca.certificate",
    "intercept.ca.key",
    "intercept.tunnel",
    "listen.hosts",
    "listen.proxy_protocol",
    "listen.public_url",
    "listen.tls.address",
    "listen.tls.certificate",
    "listen.tls.client_ca",
    "listen.tls.key",
    "listen.trusted_forwarders",
    "log.format",
    "login.signing_key",
    "route.max_concurrent",
    "route.prefix",
    "route.upstream",
    "token.cache_file",
    "token.cache_key",
    "upstream.ca_file",
    "upstream.proxy_url",
    "upstream.resolve",
];

/// A key in the reference.
pub(super) struct ReferenceKey {
    /// The path; those of blocks have no number.
    pub(super) path: String,
    /// The comment above it.
    #[cfg_attr(not(test), expect(dead_code, reason = "config.schema.json has it"))]
    pub(super) description: String,
    /// The default, or an example.
    pub(super) value: Value,
    pub(super) has_default: bool,
}

/// Returns all keys, in the order of the reference.
pub(super) fn keys() -> Vec<ReferenceKey> {
    let mut keys = Vec::new();
    let (mut table, mut comment) = (String::new(), Vec::new());
    // One comment may be that of several keys.
    let mut is_used = false;
    for line in REFERENCE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let header = bare.trim_matches(['[', ']']);
        let is_header = bare.len() > header.len() && bare.starts_with('[') && is_path(header);
        if is_header {
            header.clone_into(&mut table);
        }
        let setting = bare.split_once(" = ").filter(|(key, _)| is_path(key));
        let value = setting.and_then(|(key, _)| Some((key, parse(bare)?.remove(key)?)));
        if let Some((key, value)) = value {
            let path = below(&table, key);
            keys.push(ReferenceKey {
                // A block has the keys of `[citrix]`.
                has_default: !EXAMPLES.contains(&&*path.replacen("customer.", "citrix.", 1))
                    && path != "customer.default",
                description: comment.join(" "),
                value,
                path,
            });
        }
        if setting.is_some() {
            is_used = true;
            continue;
        }
        if is_header || line.is_empty() || std::mem::take(&mut is_used) {
            comment.clear();
        }
        if !is_header && !line.is_empty() {
            comment.push(bare);
        }
    }
    keys
}

fn is_path(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    text.chars().all(is_part)
}

fn parse(line: &str) -> Option<Table> {
    line.parse().ok()
}
