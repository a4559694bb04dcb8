//! `[[caller]]` and `[insecure]`.

use std::num::{NonZeroU32, NonZeroUsize};

use http::Method;
use toml::Value;

use super::{MAX_COUNT, Report, network, secret};
use crate::config::raw::{RawCaller, RawInsecure, RawTls};
use crate::config::value::{Checked, Leaf, shown};
use crate::config::{Caller, CertificateName, Credential, MAX_SECRETS, Mode, check_name};
use crate::system::digest::Sha256;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{RULE_METHODS, Rules};

/// The maximum number of callers. Each has its own series in the metrics, and its secret is
/// compared with that of each request.
const MAX_CALLERS: usize = 1000;

const NAME: &str = "\"splunk\"";
const HASH: &str = "\"<64 hex digits>\" (printed by: citrix-auth-proxy caller new NAME)";
const NETWORKS: &str = "[\"10.0.0.0/8\"]";
const CERTIFICATE: &str = "\"CN=splunk\"";
const METHODS: &str = "[\"GET\"]";
const PATHS: &str = "[\"/systemlog/**\"]";
const CUSTOMERS: &str = "[\"acme\"]";

/// The credentials that the gateway requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessMode {
    /// Every caller has a secret or a certificate.
    Authenticated,
    /// Some caller is identified by its network alone.
    ByNetwork,
    /// None: requests are anonymous, from other machines only if `remote`.
    Anonymous { remote: bool },
}

impl AccessMode {
    pub(super) fn allows_remote_anonymous(self) -> bool {
        self == Self::Anonymous { remote: true }
    }
}

/// Returns the valid callers.
pub(super) fn check_callers(
    raw: &[RawCaller],
    customers: &[Credential],
    report: &mut Report<'_>,
) -> Vec<Caller> {
    if raw.len() > MAX_CALLERS {
        let problem = format!(
            "{} [[caller]] blocks; the maximum is {MAX_CALLERS}",
            raw.len()
        );
        report.add("caller", problem);
    }
    let mut callers: Vec<(usize, Caller)> = Vec::new();
    for (index, block) in raw.iter().take(MAX_CALLERS).enumerate() {
        let Some(caller) = check_caller(block, customers, report) else {
            continue;
        };
        reject_duplicate(block, &caller, &callers, report);
        callers.push((index, caller));
    }
    callers.into_iter().map(|(_, caller)| caller).collect()
}

/// Determines the required credentials from `[[caller]]` and `[insecure]`.
pub(super) fn check_access(
    raw: &[RawCaller],
    callers: &[Caller],
    insecure: &RawInsecure,
    report: &mut Report<'_>,
) -> AccessMode {
    let allow_anonymous = report.boolean(&insecure.allow_anonymous, false);
    // Invalid blocks still restrict access.
    let configured = !raw.is_empty() || report.is_excused("caller");
    if allow_anonymous {
        report.warn(if configured {
            "insecure.allow_anonymous has no effect: [[caller]] blocks are configured".to_owned()
        } else {
            "insecure.allow_anonymous: every client that can connect acts with the API client's permissions"
                .to_owned()
        });
    }
    if !configured {
        AccessMode::Anonymous {
            remote: allow_anonymous,
        }
    } else if callers.iter().any(Caller::is_network_only) {
        AccessMode::ByNetwork
    } else {
        AccessMode::Authenticated
    }
}

fn check_caller(
    block: &RawCaller,
    customers: &[Credential],
    report: &mut Report<'_>,
) -> Option<Caller> {
    report.require(&block.name, "the name in logs and metrics", NAME);
    let credentials = [
        &block.secret_sha256,
        &block.networks,
        &block.client_certificate,
    ];
    if credentials.iter().all(|leaf| leaf.value.is_none()) {
        let purpose = "a caller requires secret_sha256, networks or client_certificate";
        report.require(&block.secret_sha256, purpose, HASH);
    }
    let name = report.read(&block.name, NAME, name);
    let secrets = report.read(&block.secret_sha256, HASH, hashes);
    let networks = each(&block.networks, NETWORKS, report, network::network);
    let certificate = report.read(&block.client_certificate, CERTIFICATE, certificate);
    let rules = rules(block, customers, report);
    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let caller = Caller {
        name: name?,
        secrets: secrets.unwrap_or_default(),
        networks,
        certificate,
        rules,
        max_concurrent: NonZeroUsize::new(report.integer(&block.max_concurrent, 0, 0..=MAX_COUNT)),
        max_per_second: NonZeroU32::new(report.integer(&block.max_per_second, 0, 0..=u32::MAX)),
        mode: report.choice(&block.mode, &modes).unwrap_or(Mode::Enforce),
    };
    if caller.mode == Mode::Observe {
        report.warn(format!(
            "{}: observe: the rules and limits of this caller are not enforced, only logged and counted",
            block.mode.path
        ));
    }
    // Without its only, invalid credential the caller would match every client.
    let identified =
        caller.has_secret() || caller.certificate.is_some() || !caller.networks.is_empty();
    identified.then_some(caller)
}

/// Reports a client certificate that no client can present.
pub(super) fn check_client_certificates(
    raw: &[RawCaller],
    tls: Option<&RawTls>,
    report: &mut Report<'_>,
) {
    let requested = tls.is_some_and(|tls| tls.client_ca.value.is_some());
    let required = raw
        .iter()
        .find(|block| block.client_certificate.value.is_some());
    if let Some(block) = required.filter(|_| !requested) {
        let problem = "requires listen.tls.client_ca, without which no client presents one";
        report.add(&block.client_certificate.path, problem);
    }
}

/// Reports a caller with the name or credentials of an earlier one. `before` has the index of each
/// block.
fn reject_duplicate(
    block: &RawCaller,
    caller: &Caller,
    before: &[(usize, Caller)],
    report: &mut Report<'_>,
) {
    for (index, other) in before {
        let mut duplicate =
            |leaf: &Leaf, what: &str| report.add(&leaf.path, format!("{what} of caller[{index}]"));
        if other.name == caller.name {
            duplicate(&block.name, "duplicate name");
        }
        if caller
            .secrets
            .iter()
            .any(|secret| other.secrets.contains(secret))
        {
            duplicate(&block.secret_sha256, "duplicate secret");
        }
        if caller.has_secret() || other.has_secret() || other.certificate != caller.certificate {
            continue;
        }
        let common = caller
            .networks
            .iter()
            .find(|network| other.networks.contains(network));
        if let Some(network) = common {
            duplicate(&block.networks, &format!("duplicate network {network}"));
        } else if caller.networks.is_empty() && other.networks.is_empty() {
            duplicate(&block.client_certificate, "duplicate certificate");
        }
    }
}

fn name(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text()?;
    check_name(text).map_err(|problem| format!("{} {problem}", leaf.shown()))?;
    Ok(text.to_owned())
}

/// Parses one hash, or a list of the present and the next one.
fn hashes(leaf: &Leaf) -> Checked<Vec<Sha256>> {
    let Some(Value::Array(list)) = &leaf.value else {
        return Ok(vec![hash(leaf.value.as_ref())?]);
    };
    if !(1..=MAX_SECRETS).contains(&list.len()) {
        return Err(format!(
            "a list of {} hashes; expected one hash, or the present and the next one",
            list.len()
        ));
    }
    let hashes: Vec<_> = list
        .iter()
        .map(|one| hash(Some(one)))
        .collect::<Checked<_>>()?;
    match hashes[..] {
        [present, next] if present == next => Err("the same hash twice".to_owned()),
        _ => Ok(hashes),
    }
}

fn hash(value: Option<&Value>) -> Checked<Sha256> {
    let hash = secret::sha256(value)?;
    if hash == Sha256::of(b"") {
        return Err("SHA-256 of an empty secret".to_owned());
    }
    Ok(hash)
}

fn certificate(leaf: &Leaf) -> Checked<CertificateName> {
    let text = leaf.text()?;
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(CertificateName::new(text))
}

/// Returns the valid rules of the caller.
fn rules(block: &RawCaller, customers: &[Credential], report: &mut Report<'_>) -> Rules {
    let methods = each(&block.methods, METHODS, report, method);
    let patterns = each(&block.paths, PATHS, report, pattern);
    let customers = each(&block.customers, CUSTOMERS, report, |text| {
        customer(text, customers)
    });
    // Each pattern is valid.
    let paths = PathRules::new(patterns.iter().map(String::as_str)).unwrap_or_default();
    Rules::new(methods, paths, customers)
}

/// Parses a non-empty list item by item, and reports each invalid item.
fn each<T>(
    leaf: &Leaf,
    example: &str,
    report: &mut Report<'_>,
    parse: impl Fn(&str) -> Checked<T>,
) -> Vec<T> {
    let texts = report
        .read(leaf, example, |leaf| non_empty(leaf.text_or_texts()?))
        .unwrap_or_default();
    let parsed = texts.iter().filter_map(|text| {
        parse(text)
            .map_err(|problem| report.invalid(leaf, problem, example))
            .ok()
    });
    parsed.collect()
}

fn method(text: &str) -> Checked<Method> {
    let known = RULE_METHODS
        .iter()
        .find(|method| method.as_str() == text)
        .cloned();
    known.ok_or_else(|| {
        let names = RULE_METHODS.map(|method| method.to_string()).join(", ");
        format!("{} is not one of {names}", shown(text))
    })
}

fn pattern(text: &str) -> Checked<String> {
    PathRules::new([text])
        .map(|_| text.to_owned())
        .map_err(|(_, problem)| format!("invalid path pattern {}: {problem}", shown(text)))
}

fn customer(text: &str, customers: &[Credential]) -> Checked<Box<str>> {
    let is_known = |known: &Credential| known.customer().eq_ignore_ascii_case(text);
    // Without valid customers there are other problems to correct first.
    if customers.is_empty() || customers.iter().any(is_known) {
        Ok(text.into())
    } else {
        Err(format!("unknown customer {}", shown(text)))
    }
}

/// Rejects an empty list, which could be taken for "all" or for "none".
fn non_empty(list: Vec<String>) -> Checked<Vec<String>> {
    if list.is_empty() {
        Err("must not be an empty list; remove the key if anything is permitted".to_owned())
    } else {
        Ok(list)
    }
}
