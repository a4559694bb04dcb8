//! `[fleet]`.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;

use super::{Report, secret, store_url};
use crate::config::SecretSource;
use crate::config::fleet::{Fleet, FleetSecrets, FleetStore, Sentinels, StoreAddress, StoreTls};
use crate::config::raw::{RawFleet, RawFleetTls, RawInsecure};
use crate::config::value::{Checked, Leaf, shown};
use store_url::StoreUrl;

const URL: &str = "\"rediss://gateway@redis.example.net:6380/0\"";
const PASSWORD: &str = "{ file = \"/run/secrets/fleet-password\" }";
const KEY: &str = "{ file = \"/run/secrets/fleet-key\" }";
const REPLICAS: &str = "3";
/// The range of `replicas`; 0 is unknown.
const REPLICA_COUNT: RangeInclusive<u32> = 0..=10_000;
const COMMAND_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(10);
const LEASE: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_mins(1);
/// A lease outlasts this many late commands, so that a slow store costs no permit.
const TIMEOUTS_PER_LEASE: u32 = 6;
const MAX_NAME: usize = 32;
/// The maximum length of `replica`: that of a pod's name.
const MAX_REPLICA: usize = 253;

/// `[fleet]`, whose parts take effect at different times.
pub(super) struct CheckedFleet {
    pub(super) live: Option<Fleet>,
    pub(super) store: Option<FleetStore>,
    pub(super) replica: String,
}

pub(super) fn check_fleet(
    fleet: Option<&RawFleet>,
    insecure: &RawInsecure,
    report: &mut Report<'_>,
) -> CheckedFleet {
    let replica = check_replica(fleet.map(|fleet| &fleet.replica), report);
    let plain = check_plain(insecure, report);
    let Some(fleet) = fleet else {
        return CheckedFleet {
            live: None,
            store: None,
            replica,
        };
    };
    let replicas = report.integer(&fleet.replicas, 0, REPLICA_COUNT);
    let timeout = report.duration(&fleet.timeout, Duration::from_millis(500), COMMAND_TIMEOUT);
    let store = check_store(fleet, plain, timeout, report);
    let secrets = check_secrets(fleet, report);
    if fleet.url.value.is_none() {
        require_url(fleet, report);
        let is_unknown = fleet.replicas.value.is_none() || fleet.replicas.integer() == Ok(0);
        if is_unknown && !report.is_excused("fleet") {
            let problem = "missing: the number of replicas";
            report.invalid(&fleet.replicas, problem, REPLICAS);
        }
    }
    CheckedFleet {
        live: Some(Fleet {
            replicas: NonZeroU32::new(replicas),
            timeout,
            secrets,
        }),
        store,
        replica,
    }
}

/// Returns the name of this replica: as configured, else that of the pod or host.
fn check_replica(leaf: Option<&Leaf>, report: &mut Report<'_>) -> String {
    let configured = leaf.and_then(|leaf| {
        report.read(leaf, "\"gateway-0\"", |leaf| {
            let text = leaf.text()?;
            let problem = || {
                format!(
                    "invalid name {}: use 1 to 253 visible ASCII characters",
                    shown(text)
                )
            };
            is_replica_name(text)
                .then(|| text.to_owned())
                .ok_or_else(problem)
        })
    });
    let from_environment = || {
        let names = ["POD_NAME", "HOSTNAME"].into_iter();
        let mut names = names.filter_map(|name| report.environment.get(name));
        names.find(|name| is_replica_name(name)).map(str::to_owned)
    };
    configured.or_else(from_environment).unwrap_or_default()
}

fn is_replica_name(text: &str) -> bool {
    (1..=MAX_REPLICA).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_plain(insecure: &RawInsecure, report: &mut Report<'_>) -> bool {
    let plain = report.boolean(&insecure.plain_fleet, false);
    if plain {
        report.warn(format!(
            "{}: connections to the fleet's store may be unencrypted",
            insecure.plain_fleet.path
        ));
    }
    plain
}

/// Reports `url` as missing if a key needs it.
fn require_url(fleet: &RawFleet, report: &mut Report<'_>) {
    let leaves = [
        &fleet.password,
        &fleet.key,
        &fleet.key_previous,
        &fleet.sentinels,
        &fleet.sentinel_master,
        &fleet.sentinel_password,
    ];
    let set = leaves.into_iter().filter(|leaf| leaf.value.is_some());
    let paths: Vec<&str> = set
        .map(|leaf| leaf.path.as_str())
        .chain(fleet.tls.as_ref().map(|_| "fleet.tls"))
        .filter_map(|path| path.strip_prefix("fleet."))
        .collect();
    if !paths.is_empty() {
        let purpose = format!("required by {}", paths.join(", "));
        report.require(&fleet.url, &purpose, URL);
    }
}

/// Returns the store, if `url` is set and valid.
fn check_store(
    fleet: &RawFleet,
    plain: bool,
    timeout: Duration,
    report: &mut Report<'_>,
) -> Option<FleetStore> {
    let name = report.read(&fleet.name, "\"default\"", fleet_name);
    let tokens = report.boolean(&fleet.tokens, true);
    let limits = report.boolean(&fleet.limits, true);
    let lease = check_lease(fleet, timeout, report);
    let tls = fleet.tls.as_ref().map(|tls| check_tls(tls, report));
    let sentinels = check_sentinels(fleet, plain, report);
    let url = report.read(&fleet.url, URL, |leaf| {
        let url = store_url::parse(leaf.text().map_err(|_| "must be a string".to_owned())?)?;
        url.check(plain, fleet.sentinels.value.is_some())?;
        Ok(url)
    })?;
    if tls.is_some() && !url.tls {
        report.add("fleet.tls", "requires a url with the scheme rediss");
    }
    let StoreUrl {
        address,
        user,
        database,
        tls: is_tls,
    } = url;
    Some(FleetStore {
        name: name.unwrap_or_else(|| "default".to_owned()),
        address,
        user,
        database,
        tls: is_tls.then(|| tls.unwrap_or_default()),
        sentinels,
        tokens,
        limits,
        lease,
    })
}

fn fleet_name(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text()?;
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "invalid name {}: use 1 to {MAX_NAME} lower-case letters, digits and hyphens",
        leaf.shown()
    ))
}

fn check_lease(fleet: &RawFleet, timeout: Duration, report: &mut Report<'_>) -> Duration {
    let lease = report.duration(&fleet.lease, Duration::from_secs(5), LEASE);
    let minimum = timeout * TIMEOUTS_PER_LEASE;
    if lease < minimum {
        let [lease, minimum] = [lease, minimum].map(humantime::format_duration);
        let problem = format!("{lease} is less than {TIMEOUTS_PER_LEASE} times fleet.timeout");
        report.invalid(&fleet.lease, problem, &format!("\"{minimum}\""));
    }
    lease
}

fn check_tls(tls: &RawFleetTls, report: &mut Report<'_>) -> StoreTls {
    let certificate = "\"/etc/citrix-auth-proxy/fleet.crt\"";
    let key = "\"/etc/citrix-auth-proxy/fleet.key\"";
    if tls.key.value.is_some() {
        report.require(&tls.certificate, "required by key", certificate);
    }
    if tls.certificate.value.is_some() {
        report.require(&tls.key, "required by certificate", key);
    }
    let ca_file = report.file(&tls.ca_file, "\"/etc/citrix-auth-proxy/fleet-ca.pem\"");
    let identity = report
        .file(&tls.certificate, certificate)
        .zip(report.file(&tls.key, key));
    if let Some((_, key)) = &identity {
        report.check_mode(&tls.key, key);
    }
    StoreTls { ca_file, identity }
}

fn check_sentinels(fleet: &RawFleet, plain: bool, report: &mut Report<'_>) -> Option<Sentinels> {
    const ADDRESSES: &str = "[\"s1.example.net:26379\", \"s2.example.net:26379\"]";
    let is_set = fleet.sentinels.value.is_some();
    for leaf in [&fleet.sentinel_master, &fleet.sentinel_password] {
        if leaf.value.is_some() {
            let key = leaf.path.rsplit('.').next().unwrap_or_default();
            report.require(&fleet.sentinels, &format!("required by {key}"), ADDRESSES);
        }
    }
    if is_set {
        let purpose = "the primary's name at the sentinels";
        report.require(&fleet.sentinel_master, purpose, "\"mymaster\"");
    }
    let password = secret::check_secret(&fleet.sentinel_password, None, PASSWORD, report);
    let texts = report.read(&fleet.sentinels, ADDRESSES, Leaf::texts)?;
    if texts.is_empty() {
        report.invalid(&fleet.sentinels, "must not be an empty list", ADDRESSES);
    }
    let mut addresses = Vec::with_capacity(texts.len());
    for text in &texts {
        match store_url::sentinel(text, plain || is_tls(fleet)) {
            Ok(address) => addresses.push(address),
            Err(problem) => report.invalid(&fleet.sentinels, problem, ADDRESSES),
        }
    }
    let master = report.read(&fleet.sentinel_master, "\"mymaster\"", |leaf| {
        match leaf.text()? {
            "" => Err("must not be empty".to_owned()),
            text => Ok(text.to_owned()),
        }
    });
    Some(Sentinels {
        addresses,
        master: master?,
        password,
    })
}

fn is_tls(fleet: &RawFleet) -> bool {
    fleet.url.text().is_ok_and(|url| url.starts_with("rediss:"))
}

/// Returns the secrets for the store, if `key` is set and valid.
fn check_secrets(fleet: &RawFleet, report: &mut Report<'_>) -> Option<FleetSecrets> {
    let has_url = fleet.url.value.is_some();
    // Files of the service manager count only if they are needed.
    let mut check = |leaf: &Leaf, name: Option<&str>, example: &str| {
        let name = name.filter(|_| has_url);
        secret::check_secret(leaf, name, example, report)
    };
    let password = check(&fleet.password, Some("fleet_password"), PASSWORD);
    let key = check(&fleet.key, Some("fleet_key"), KEY);
    let key_previous = check(&fleet.key_previous, Some("fleet_key_previous"), KEY);
    if has_url && key.is_none() {
        let purpose = "the key that seals what replicas share, the same on each";
        report.require(&fleet.key, purpose, KEY);
    }
    let key = key.and_then(|source| followed_key(&fleet.key, &source, report));
    let key_previous =
        key_previous.and_then(|source| followed_key(&fleet.key_previous, &source, report));
    Some(FleetSecrets {
        password,
        key: key?,
        key_previous,
    })
}

/// Reads a key. A change of its file reloads the configuration.
fn followed_key(
    leaf: &Leaf,
    source: &SecretSource,
    report: &mut Report<'_>,
) -> Option<SecretString> {
    if let Some(path) = source.path() {
        report.add_file(leaf, path);
    }
    secret::check_key(leaf, source, KEY, report)
}

impl StoreUrl {
    /// Checks the rules that depend on other keys.
    fn check(&self, plain: bool, has_sentinels: bool) -> Checked<()> {
        match &self.address {
            StoreAddress::Unix(_) if has_sentinels => {
                Err("the scheme redis+unix excludes sentinels".to_owned())
            }
            // Sentinels replace the address.
            StoreAddress::Tcp(address) if !has_sentinels && !self.tls && !plain => {
                store_url::require_loopback(address)
            }
            _ => Ok(()),
        }
    }
}
