//! From what was written to a [`Config`]: the only way there.
//!
//! Each section has a function that takes what was written and gives what it means. A mistake is put on the
//! report and the default stands in for it, so that one run finds all of them.

mod admin;
mod built_in;
mod caller;
mod citrix;
mod customers;
mod egress;
mod gateways;
mod limits;
mod listen;
mod login;
mod network;
mod process;
mod route;
mod secret;
mod token;
mod upstream;
mod url;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Value;

use super::environment::{self, Environment};
use super::file::{self, Field as _, File};
use super::report::{ConfigProblem, Report};
use super::{Boot, Config, ConfigFingerprint, Live, syntax};
use built_in::BuiltIn;

/// What a timeout may be: not zero, which would let nothing pass, and not so long that it is none.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
/// What a wait may be: none at all, too.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const DAY: Duration = Duration::from_hours(24);
/// How long a request waits for its turn where Citrix lets few in.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a count may be. The end is what every counter and semaphore can hold.
const COUNT: RangeInclusive<usize> = 1..=u32::MAX as usize;

/// Reads a configuration from a file, if one is given, and the environment, which wins over it. Reads every
/// secret and looks for every file once, so that what is missing is told at start.
///
/// # Errors
/// Every problem there is, at once, in no particular order; never none.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    let Some(path) = file else {
        return from_toml("", env);
    };
    from_bytes(path, std::fs::read(path), env)
}

/// As [`load`], with what reading the file at `path` gave.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(
    path: &Path,
    read: io::Result<Vec<u8>>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    let unreadable = |what: String| {
        vec![ConfigProblem {
            key: path.display().to_string(),
            variable: None,
            what,
            example: None,
        }]
    };
    let bytes = read.map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8 text".to_owned()))?;
    from_toml(&text, env)
}

/// As [`load`], with the file's text.
///
/// # Errors
/// As [`load`].
pub fn from_toml(
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    let environment = Environment::new(env);
    let mut report = Report::new(&environment);
    let mut table = syntax::parse(text, &mut report);
    environment::overlay(&mut table, &mut report);
    let fingerprint = ConfigFingerprint::of(&table);
    let file = File::read(Some(Value::Table(table)), "", &mut report);
    let config = check_file(file, &mut report);
    let fingerprint = fingerprint.with(report.take_contents());
    report
        .finish(config)
        .map(|((boot, live), warnings)| Config {
            boot,
            live: Arc::new(live),
            warnings,
            fingerprint,
        })
}

/// The whole configuration; `None` when there is no credential, which is on the report then.
fn check_file(file: File, report: &mut Report<'_>) -> Option<(Boot, Live)> {
    let customers = customers::check(file.citrix, file.customer, report);
    let known = customers
        .as_ref()
        .map_or(&[][..], |customers| &customers.credentials);
    let callers = caller::check(&file.caller, known, report);
    caller::check_certificates(&file.caller, file.listen.tls.as_ref(), report);
    let door = caller::check_door(&file.caller, &callers, &file.insecure, report);
    let listen = listen::check(&file.listen, door, report);
    let admin = admin::check(&file.admin, &listen.listeners, report);
    let log = process::check_log(&file.log, report);
    let upstream = upstream::check(&file.upstream, report);
    let token = token::check(&file.token, report);
    let token_cache = token::check_cache(&file.token, report);
    let limits = limits::check(&file.limits, report);
    let login = login::check(&file.login, report);
    let routes = route::check(&file.route, BuiltIn::new(known), report);
    let (drain_delay, drain_timeout) = process::check_lifecycle(&file.lifecycle, report);
    let access_log = report.switch(&file.log.access, true);
    let boot = Boot {
        listeners: listen.listeners,
        certificate: listen.certificate,
        unix_mode: listen.unix_mode,
        workers: listen.workers,
        admin,
        log,
    };
    let customers::Customers {
        credentials,
        default,
    } = customers?;
    let live = Live {
        gateways: gateways::known(&credentials, &routes),
        credentials: shared(credentials),
        default_customer: default,
        routes: shared(routes),
        callers: shared(callers),
        allow_anonymous: door == (caller::Door::Open { anywhere: true }),
        hosts: listen.hosts,
        proxy_protocol: listen.proxy_protocol,
        trusted_forwarders: listen.trusted_forwarders,
        public_url: listen.public_url,
        upstream,
        token,
        token_cache,
        limits,
        login,
        access_log,
        drain_delay,
        drain_timeout,
    };
    Some((boot, live))
}

fn shared<T>(values: Vec<T>) -> Vec<Arc<T>> {
    values.into_iter().map(Arc::new).collect()
}
