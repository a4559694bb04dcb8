//! Validation: from what is written to a [`Config`].
//!
//! Each section has a `check_*` function. It reports every problem and continues with the default,
//! so that one run reports all of them.

mod admin;
mod built_in;
mod caller;
mod citrix;
mod customers;
mod egress;
mod fleet;
mod gateways;
mod intercept;
mod limits;
mod listen;
mod login;
mod network;
mod process;
mod route;
mod secret;
mod store_url;
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

use super::environment::Environment;
use super::overrides::apply_overrides;
use super::raw::{self, FromValue as _, RawConfig};
use super::report::{ConfigProblem, Report};
use super::value::Leaf;
use super::{Boot, Config, ConfigFingerprint, Live};
use admin::check_admin;
use built_in::BuiltInRoutes;
use caller::{check_access, check_callers, check_client_certificates};
use customers::{CustomerList, check_customers};
use fleet::check_fleet;
use gateways::known_gateways;
use intercept::check_intercept;
use limits::check_limits;
use listen::check_listen;
use login::check_login;
use process::{check_lifecycle, check_log};
use route::check_routes;
use token::{check_token, check_token_cache};
use upstream::check_upstream;

/// The range of a timeout: zero would always expire, and more than a day is a mistake.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
/// The range of a wait, which may be zero.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const DAY: Duration = Duration::from_hours(24);
/// The default of `queue_timeout`.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);
/// The range of a count, up to the capacity of all counters and semaphores.
const COUNT: RangeInclusive<usize> = 1..=MAX_COUNT;
const MAX_COUNT: usize = u32::MAX as usize;

/// Reads a configuration from `file`, if any, and the environment, which overrides it. Reads every
/// secret and file that it names once, so that missing ones are reported.
///
/// # Errors
/// The syntax error of the file, or all other problems; at least one.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    load_with(file, env, |_, _| ())
}

/// Reads a configuration like [`load`], and passes each key with the variable that sets it, if any,
/// to `visit`.
///
/// # Errors
/// As [`load`].
pub(super) fn load_with(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    visit: impl FnMut(&Leaf, Option<&str>),
) -> Result<Config, Vec<ConfigProblem>> {
    let Some(path) = file else {
        return from_text("", None, env, visit);
    };
    let text = text_of(path, std::fs::read(path))?;
    from_text(&text, Some(path), env, visit)
}

/// Reads a configuration like [`load`], from the result of reading the file at `path`.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(
    path: &Path,
    read: io::Result<Vec<u8>>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    from_text(&text_of(path, read)?, Some(path), env, |_, _| ())
}

/// Returns the text of the file at `path`.
fn text_of(path: &Path, read: io::Result<Vec<u8>>) -> Result<String, Vec<ConfigProblem>> {
    let unreadable =
        |problem: String| vec![ConfigProblem::new(path.display().to_string(), problem)];
    let bytes = read.map_err(|error| unreadable(format!("cannot read the file: {error}")))?;
    String::from_utf8(bytes).map_err(|error| unreadable(not_utf8(error.as_bytes())))
}

/// Returns the folder that relative paths in the file at `path` start from: the one that contains
/// it, or the working directory for a pipe.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|_| path.is_file())
        .unwrap_or(Path::new(""))
}

/// Describes text that is not UTF-8. Windows PowerShell's `>` and `Out-File` write UTF-16.
fn not_utf8(bytes: &[u8]) -> String {
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let encoding = if utf16 {
        "is UTF-16, not UTF-8; in PowerShell, write it with Set-Content -Encoding utf8"
    } else {
        "not valid UTF-8"
    };
    encoding.to_owned()
}

/// Reads a configuration like [`load`], from the text of the file. Relative paths start from the
/// working directory.
///
/// # Errors
/// As [`load`].
pub fn from_toml(
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigProblem>> {
    from_text(text, None, env, |_, _| ())
}

/// Reads the text of a file, if it is one.
fn from_text(
    text: &str,
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    mut visit: impl FnMut(&Leaf, Option<&str>),
) -> Result<Config, Vec<ConfigProblem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut table = raw::parse(text).map_err(|mut problem| {
        if let Some(file) = file {
            problem.key = format!("{}, {}", file.display(), problem.key);
        }
        vec![problem]
    })?;
    let environment = Environment::new(env);
    let folder = file.map_or(Path::new(""), folder_of);
    let mut report = Report::new(&environment, folder);
    apply_overrides(&mut table, &mut report);
    let fingerprint = ConfigFingerprint::of(&table);
    let raw = RawConfig::read(Some(Value::Table(table)), "", &mut report);
    raw.visit(&mut |leaf| {
        visit(
            leaf,
            report.variable(&leaf.path).filter(|_| leaf.from_variable),
        );
    });
    let config = check_config(raw, &mut report);
    let fingerprint = fingerprint.with_files(report.take_files());
    let ((boot, live), warnings) = report.finish(config)?;
    Ok(Config {
        boot,
        live: Arc::new(live),
        warnings,
        fingerprint,
    })
}

/// Returns `None` if there is no valid customer, which is then reported.
fn check_config(raw: RawConfig, report: &mut Report<'_>) -> Option<(Boot, Live)> {
    let customers = check_customers(raw.citrix, raw.customer, report);
    let known = customers
        .as_ref()
        .map_or(&[][..], |customers| &customers.credentials);
    let callers = check_callers(&raw.caller, known, report);
    check_client_certificates(&raw.caller, raw.listen.tls.as_ref(), report);
    let access = check_access(&raw.caller, &callers, &raw.insecure, report);
    let mut listen = check_listen(&raw.listen, access, report);
    let own = listen.listeners.len();
    let intercept = raw.intercept.as_ref();
    let intercept = intercept.map(|it| check_intercept(it, &mut listen.listeners, access, report));
    let admin = check_admin(&raw.admin, &listen.listeners, report);
    listen.listeners.truncate(own);
    let (intercept, tunnels) = intercept.unzip();
    let log = check_log(&raw.log, report);
    let upstream = check_upstream(&raw.upstream, report);
    let token = check_token(&raw.token, report);
    let token_cache = check_token_cache(&raw.token, report);
    let limits = check_limits(&raw.limits, report);
    let login = check_login(&raw.login, report);
    let fleet = check_fleet(raw.fleet.as_ref(), &raw.insecure, report);
    let routes = check_routes(&raw.route, BuiltInRoutes::new(known), report);
    let (drain_delay, drain_timeout) = check_lifecycle(&raw.lifecycle, report);
    let access_log = report.boolean(&raw.log.access, true);
    let boot = Boot {
        listeners: listen.listeners,
        certificate: listen.certificate,
        intercept,
        unix_mode: listen.unix_mode,
        workers: listen.workers,
        admin,
        log,
        replica: fleet.replica,
        fleet_store: fleet.store,
    };
    let CustomerList {
        credentials,
        default,
    } = customers?;
    let live = Live {
        gateways: known_gateways(&credentials, &routes),
        credentials: shared(credentials),
        default_customer: default,
        routes: shared(routes),
        callers: shared(callers),
        allow_anonymous: access.allows_remote_anonymous(),
        hosts: listen.hosts,
        proxy_protocol: listen.proxy_protocol,
        trusted_forwarders: listen.trusted_forwarders,
        public_url: listen.public_url,
        upstream,
        token,
        token_cache,
        limits,
        login,
        tunnels: tunnels.unwrap_or_default(),
        fleet: fleet.live,
        access_log,
        drain_delay,
        drain_timeout,
    };
    Some((boot, live))
}

fn shared<T>(values: Vec<T>) -> Vec<Arc<T>> {
    values.into_iter().map(Arc::new).collect()
}
