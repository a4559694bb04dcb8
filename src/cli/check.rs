//! `check`: validates the configuration and, with `--online`, what it depends on.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::run::on_a_runtime;
use super::{CheckArgs, FAILURE, Format, SUCCESS, USAGE, eprint, print};
use crate::cli::doctor::{self, Check, CheckState};
use crate::config::{self, Caller, Config, ConfigProblem, RouteSettings, RouteTarget};
use crate::inbound;
use crate::inbound::tls::{InterceptTls, read_authority};
use crate::state;
use crate::system::clock::Clock;
use crate::tls::TlsError;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::UpstreamTls;

/// Output of `--format json`. Its names are a contract (docs/doctor.md).
#[derive(Serialize)]
struct CheckReport {
    /// `true` for exit code 0.
    ok: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
    /// Findings of `--online`.
    checks: Vec<Check>,
}

/// Prints every problem of the configuration at once, then a summary and the findings of
/// `--online`.
pub fn check(args: &CheckArgs) -> ExitCode {
    let loaded = config::load(args.config.as_deref(), config::process_environment());
    // The content of certificate files is not part of the configuration.
    let loaded = loaded.and_then(|config| {
        let files = config.boot.certificate.as_ref();
        let inbound = files.map(inbound::tls::check).transpose();
        let authority = config.boot.intercept.as_ref().map(|it| &it.authority);
        let authority = authority.map(|files| read_authority(files, Clock::SYSTEM));
        let authority = authority.transpose();
        let upstream = UpstreamTls::new(&config.live.upstream);
        let (inbound, upstream) = (TlsError::both(inbound, authority), upstream);
        match (inbound, upstream) {
            (Ok((inbound, authority)), Ok(upstream)) => {
                let mut warnings = inbound.unwrap_or_default();
                if let Some((tls, of_authority)) = authority {
                    warnings.extend(of_authority);
                    warnings.extend(outside_constraints(&config, &tls, &upstream));
                }
                Ok((config, warnings, upstream))
            }
            (inbound, upstream) => {
                let mut problems = inbound.err().unwrap_or_default();
                problems.extend(upstream.err().map(|error| error.config_problem()));
                Err(problems)
            }
        }
    });
    let (mut config, warnings, upstream) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return print_problems(args, &problems),
    };
    config
        .warnings
        .extend(warnings.into_iter().chain(upstream.warning.clone()));
    match args.format {
        Format::Text => in_text(args, &config, &upstream),
        Format::Json => in_json(args, config, &upstream),
    }
}

/// Returns a warning of hosts that the configuration serves, and whose certificates clients reject.
fn outside_constraints(config: &Config, tls: &InterceptTls, up: &UpstreamTls) -> Option<String> {
    const MAX_NAMES: usize = 3;
    let dial_config = DialConfig::of(up.configs.clone(), &config.live.upstream);
    // It fails only if a metric is registered twice, which is a bug.
    let hosts = state::known_host_names(&config.live, &dial_config).ok()?;
    let mut outside = tls.leaves().not_permitted(hosts.iter());
    if outside.is_empty() {
        return None;
    }
    outside.sort_unstable();
    let more = match outside.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    outside.truncate(MAX_NAMES);
    Some(format!(
        "intercept.ca.certificate: the authority's name constraints do not permit {}{more}; clients will reject the \
         certificates; name the domains with --domain of citrix-auth-proxy ca new",
        outside.join(", ")
    ))
}

fn print_problems(args: &CheckArgs, problems: &[ConfigProblem]) -> ExitCode {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if args.format == Format::Json {
        print_json(&CheckReport {
            ok: false,
            problems,
            warnings: Vec::new(),
            checks: Vec::new(),
        });
        return ExitCode::from(USAGE);
    }
    for problem in &problems {
        eprint(problem);
    }
    let plural = if problems.len() == 1 {
        "problem"
    } else {
        "problems"
    };
    eprint(&format!("{} {plural} found", problems.len()));
    ExitCode::from(USAGE)
}

fn in_text(args: &CheckArgs, config: &Config, tls: &UpstreamTls) -> ExitCode {
    for warning in &config.warnings {
        eprint(&format!("warning: {warning}"));
    }
    let printed = print(summary(config).as_bytes());
    if !args.online {
        return printed;
    }
    // Each as it is found: a host that does not respond takes a while.
    let code = online(config, tls, &mut |check| {
        let _ = print(format!("{check}\n").as_bytes());
    });
    ExitCode::from(code)
}

fn in_json(args: &CheckArgs, config: Config, tls: &UpstreamTls) -> ExitCode {
    let mut checks = Vec::new();
    let code = if args.online {
        online(&config, tls, &mut |check| checks.push(check))
    } else {
        SUCCESS
    };
    print_json(&CheckReport {
        ok: code == SUCCESS,
        problems: Vec::new(),
        warnings: config.warnings,
        checks,
    });
    ExitCode::from(code)
}

fn print_json(report: &CheckReport) {
    match serde_json::to_string_pretty(report) {
        Ok(text) => {
            let _ = print(format!("{text}\n").as_bytes());
        }
        Err(error) => eprint(&error.to_string()),
    }
}

/// Runs the online checks and returns the exit code.
fn online(config: &Config, tls: &UpstreamTls, on_check: &mut dyn FnMut(Check)) -> u8 {
    let mut code = SUCCESS;
    let mut record = |check: Check| {
        if check.state == CheckState::Failed {
            code = FAILURE;
        }
        on_check(check);
    };
    let examined = on_a_runtime(async {
        match doctor::examine(config, tls, Clock::SYSTEM, &mut record).await {
            Ok(()) => SUCCESS,
            Err(error) => {
                eprint(&error.to_string());
                FAILURE
            }
        }
    });
    code.max(examined)
}

fn summary(config: &Config) -> String {
    let mut text = String::from("the configuration is valid\n");
    for listener in &config.boot.listeners {
        let scheme = if listener.tls { "https" } else { "http" };
        let _ = writeln!(text, "callers    {} ({scheme})", listener.address);
    }
    for address in config.boot.intercept.iter().flat_map(|it| &it.addresses) {
        let _ = writeln!(text, "intercept  {address} (proxy, and https by name)");
    }
    let _ = writeln!(text, "operators  {} (http)", config.boot.admin.address);
    if let Some(proxy) = config.live.upstream.egress.proxy() {
        let _ = writeln!(text, "egress     through the proxy {proxy}");
    }
    if let Some(store) = &config.boot.fleet_store {
        let _ = writeln!(
            text,
            "fleet      {} in the store {}",
            store.name,
            store.location()
        );
    }
    if config.live.callers.is_empty() {
        text.push_str("admits     every client that can connect\n");
    }
    for caller in &config.live.callers {
        let _ = writeln!(text, "admits     {}{}", caller.name, conditions(caller));
    }
    let customers = &config.live.credentials;
    for (index, one) in customers.iter().enumerate() {
        let is_default = customers.len() > 1 && config.live.default_customer == Some(index);
        let default = if is_default { " (default)" } else { "" };
        let _ = writeln!(
            text,
            "customer   {} logs in at {}{default}",
            one.customer(),
            one.token_url
        );
    }
    let shown = |route: &RouteSettings| !route.built_in || route.prefix.is_empty();
    for route in config.live.routes.iter().filter(|route| shown(route)) {
        if let RouteTarget::Fixed(destination) = &route.target {
            let _ = writeln!(text, "route      {} -> {}", route.name(), destination.url);
            continue;
        }
        for one in customers {
            let whose = if customers.len() > 1 {
                format!(" of {}", one.customer())
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "route      {}{whose} -> {}",
                route.name(),
                one.api.url
            );
        }
    }
    let others = config
        .live
        .routes
        .iter()
        .filter(|route| !shown(route))
        .count();
    let _ = writeln!(
        text,
        "           and {others} built-in routes (docs/services.md)"
    );
    text
}

/// Describes how a caller authenticates, and from which networks.
fn conditions(caller: &Caller) -> String {
    let mut text = String::new();
    match caller.secrets.len() {
        0 => {}
        1 => text.push_str(", by its secret"),
        _ => text.push_str(", by one of two secrets"),
    }
    if caller.certificate.is_some() {
        text.push_str(", by its client certificate");
    }
    let networks: Vec<String> = caller.networks.iter().map(ToString::to_string).collect();
    if !networks.is_empty() {
        let _ = write!(text, ", from {}", networks.join(" or "));
    }
    text
}
