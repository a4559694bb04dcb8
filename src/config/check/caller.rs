//! `[[caller]]` and `[insecure]`: who may come in.

use std::num::{NonZeroU32, NonZeroUsize};

use http::Method;

use super::{COUNT, Report, file, network, secret};
use crate::config::value::{Checked, Leaf, shown};
use crate::config::{Caller, CertificateName, Credential, Mode, check_name};
use crate::system::digest::Sha256;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{RULE_METHODS, Rules};

/// The most callers of one gateway. Each has series of its own in the metrics, and the secret of each is compared
/// with what a request shows.
const MOST: usize = 1000;
const NAME: &str = "\"splunk\"";
const HASH: &str = "\"<64 hex digits>\", as citrix-auth-proxy caller new NAME prints them";
const NETWORKS: &str = "[\"10.0.0.0/8\"]";
const CERTIFICATE: &str = "\"CN=splunk\"";
const METHODS: &str = "[\"GET\"]";
const PATHS: &str = "[\"/systemlog/**\"]";
const CUSTOMERS: &str = "[\"acme\"]";
/// Who comes in at an address, as far as it matters which address and under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Callers who show a secret or a certificate.
    Shown,
    /// Callers, some of them for where they come from alone.
    Known,
    /// Whoever reaches it; on addresses of other machines only if `anywhere`.
    Open { anywhere: bool },
}

/// All callers. Mistaken ones are left out, which is on the report then.
pub(super) fn check(
    written: &[file::Caller],
    known: &[Credential],
    report: &mut Report<'_>,
) -> Vec<Caller> {
    if written.len() > MOST {
        report.add(
            "caller",
            format!("{} blocks are too many; {MOST} are the most", written.len()),
            None,
        );
    }
    let mut callers: Vec<(usize, Caller)> = Vec::new();
    for (index, block) in written.iter().take(MOST).enumerate() {
        let Some(caller) = check_one(block, known, report) else {
            continue;
        };
        refuse_twin(block, &caller, &callers, report);
        callers.push((index, caller));
    }
    callers.into_iter().map(|(_, caller)| caller).collect()
}

/// What the callers and `[insecure]` mean for listening.
pub(super) fn check_door(
    written: &[file::Caller],
    callers: &[Caller],
    insecure: &file::Insecure,
    report: &mut Report<'_>,
) -> Door {
    let anonymous = report.switch(&insecure.allow_anonymous, false);
    // Blocks that cannot be read are meant to keep somebody out all the same.
    let configured = !written.is_empty() || report.is_excused("caller");
    if anonymous {
        report.warn(if configured {
            "insecure.allow_anonymous does nothing: [[caller]] blocks say who may come in".to_owned()
        } else {
            "insecure.allow_anonymous: whoever reaches the gateway acts with the API client's rights"
                .to_owned()
        });
    }
    if !configured {
        return Door::Open {
            anywhere: anonymous,
        };
    }
    if callers.iter().any(Caller::is_network_only) {
        Door::Known
    } else {
        Door::Shown
    }
}

fn check_one(
    block: &file::Caller,
    known: &[Credential],
    report: &mut Report<'_>,
) -> Option<Caller> {
    if block.name.value.is_none() {
        report.missing(
            &block.name,
            "missing: what the caller is called in logs and metrics",
            NAME,
        );
    }
    let proofs = [
        &block.secret_sha256,
        &block.networks,
        &block.client_certificate,
    ];
    if proofs.iter().all(|leaf| leaf.value.is_none()) {
        let what = "missing: nothing tells who this caller is; give it a secret, networks or a client certificate";
        report.missing(&block.secret_sha256, what, HASH);
    }
    let name = report.read(&block.name, NAME, name);
    let secret = report.read(&block.secret_sha256, HASH, hash);
    let networks = each(&block.networks, NETWORKS, report, network::network);
    let certificate = report.read(&block.client_certificate, CERTIFICATE, certificate);
    let rules = rules(block, known, report);
    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let caller = Caller {
        name: name?,
        secret,
        networks,
        certificate,
        rules,
        max_concurrent: NonZeroUsize::new(report.whole(&block.max_concurrent, 0, 0..=*COUNT.end())),
        max_per_second: NonZeroU32::new(report.whole(&block.max_per_second, 0, 0..=u32::MAX)),
        mode: report.choice(&block.mode, &modes).unwrap_or(Mode::Enforce),
    };
    if caller.mode == Mode::Observe {
        let what = "observe: what this caller's rules and limits do not allow is logged, counted and let through";
        report.warn(format!("{}: {what}", block.mode.path));
    }
    // A proof that was given and cannot be read is on the report; without it the caller would be another.
    let proven =
        caller.secret.is_some() || caller.certificate.is_some() || !caller.networks.is_empty();
    proven.then_some(caller)
}

/// A certificate can only be shown where one is asked for.
pub(super) fn check_certificates(
    written: &[file::Caller],
    tls: Option<&file::Tls>,
    report: &mut Report<'_>,
) {
    const CA: &str = "client_ca = \"/etc/citrix-auth-proxy/client-ca.pem\"";
    let asked = tls.is_some_and(|tls| tls.client_ca.value.is_some());
    let needed = written
        .iter()
        .find(|block| block.client_certificate.value.is_some());
    if let Some(block) = needed.filter(|_| !asked) {
        let what =
            format!("can never be shown: listen.tls has no client_ca to vouch for it ({CA})");
        report.wrong(&block.client_certificate, what, CERTIFICATE);
    }
}

/// Nobody may be taken for somebody else. `before` are those of earlier blocks, each with its place in the file.
fn refuse_twin(
    block: &file::Caller,
    new: &Caller,
    before: &[(usize, Caller)],
    report: &mut Report<'_>,
) {
    for (index, other) in before {
        if other.name == new.name {
            let what = format!(
                "{} is the name of caller[{index}] already",
                block.name.shown()
            );
            report.wrong(&block.name, what, NAME);
        }
        if new.secret.is_some() && other.secret == new.secret {
            let what = format!("is that of caller[{index}] already; nobody could tell them apart");
            report.wrong(&block.secret_sha256, what, HASH);
        }
        if new.secret.is_none() && other.secret.is_none() && other.certificate == new.certificate {
            let common = new
                .networks
                .iter()
                .find(|network| other.networks.contains(network));
            if let Some(network) = common {
                let what = format!(
                    "{network} is of caller[{index}] already; nobody could tell them apart"
                );
                report.wrong(&block.networks, what, NETWORKS);
            } else if new.networks.is_empty() && other.networks.is_empty() {
                let what =
                    format!("is that of caller[{index}] already; nobody could tell them apart");
                report.wrong(&block.client_certificate, what, CERTIFICATE);
            }
        }
    }
}

fn name(leaf: &Leaf) -> Checked<String> {
    let text = leaf.text()?;
    check_name(text).map_err(|why| format!("{} {why}", leaf.shown()))?;
    Ok(text.to_owned())
}

fn hash(leaf: &Leaf) -> Checked<Sha256> {
    let hash = secret::sha256(leaf)?;
    if hash == Sha256::of(b"") {
        return Err("is the SHA-256 of nothing, so the caller would have no secret".to_owned());
    }
    Ok(hash)
}

fn certificate(leaf: &Leaf) -> Checked<CertificateName> {
    let text = leaf.text()?;
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(CertificateName::new(text))
}

/// What the caller may do. Mistaken elements are left out, which is on the report then.
fn rules(block: &file::Caller, known: &[Credential], report: &mut Report<'_>) -> Rules {
    let methods = each(&block.methods, METHODS, report, method);
    let patterns = each(&block.paths, PATHS, report, |text| {
        let wrong = |(_, why)| format!("{} is no pattern of paths: {why}", shown(text));
        PathRules::new([text])
            .map(|_| text.to_owned())
            .map_err(wrong)
    });
    let customers = each(&block.customers, CUSTOMERS, report, |text| {
        customer(text, known)
    });
    // Each of them was read above.
    let paths = PathRules::new(patterns.iter().map(String::as_str)).unwrap_or_default();
    Rules::new(methods, paths, customers)
}

/// The elements of a list, each judged by itself, so that all mistakes are told.
fn each<T>(
    leaf: &Leaf,
    example: &str,
    report: &mut Report<'_>,
    parse: impl Fn(&str) -> Checked<T>,
) -> Vec<T> {
    let texts = report
        .read(leaf, example, |leaf| some(leaf.text_or_texts()?))
        .unwrap_or_default();
    let parsed = texts.iter().filter_map(|text| {
        parse(text)
            .map_err(|what| report.wrong(leaf, what, example))
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
        format!(
            "{} is none of the methods that are forwarded: {names}",
            shown(text)
        )
    })
}

fn customer(text: &str, known: &[Credential]) -> Checked<Box<str>> {
    // Without any, their own mistakes are on the report.
    if known.is_empty()
        || known
            .iter()
            .any(|one| one.customer().eq_ignore_ascii_case(text))
    {
        Ok(text.into())
    } else {
        Err(format!("{} is no customer of this gateway", shown(text)))
    }
}

/// A list with something in it: an empty one would be taken for "all" by one reader and for "none" by another.
fn some(list: Vec<String>) -> Checked<Vec<String>> {
    if list.is_empty() {
        Err("is an empty list; leave it out where anything will do".to_owned())
    } else {
        Ok(list)
    }
}
