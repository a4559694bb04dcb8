//! `check`: is the configuration right, and is Citrix to be had with it?

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::run::on_a_runtime;
use super::{CheckArgs, DONE, FAILED, Format, USAGE, complain, say};
use crate::cli::doctor::{self, Check, State};
use crate::config::{self, Caller, Config, ConfigProblem, Route, RouteTarget};
use crate::inbound::tls::server_config;
use crate::system::clock::Clock;
use crate::upstream::tls::upstream_config;

/// What is printed with `--format json`. The shape is a contract (docs/doctor.md).
#[derive(Serialize)]
struct Told {
    /// Whether the exit code is 0.
    ok: bool,
    /// What is wrong with the configuration.
    problems: Vec<String>,
    /// What is right and deserves a thought.
    warnings: Vec<String>,
    /// What `--online` found.
    checks: Vec<Check>,
}

/// Checks the configuration, every problem at once, and with `--online` what it needs of the world.
pub fn check(args: &CheckArgs) -> ExitCode {
    let config = match config::load(args.config.as_deref(), config::process_environment()) {
        Ok(config) => config,
        Err(problems) => {
            return wrong(
                args,
                problems.iter().map(ConfigProblem::to_string).collect(),
                Vec::new(),
            );
        }
    };
    // What only a look into the files tells.
    let files = config
        .boot
        .certificate
        .as_ref()
        .map(server_config)
        .transpose();
    let upstream = upstream_config(&config.live.upstream);
    let problems: Vec<String> = [files.err(), upstream.err()]
        .into_iter()
        .flatten()
        .map(|error| error.to_string())
        .collect();
    if !problems.is_empty() {
        return wrong(args, problems, config.warnings);
    }
    match args.format {
        Format::Text => in_text(args, &config),
        Format::Json => in_json(args, config),
    }
}

/// Tells what is wrong with the configuration.
fn wrong(args: &CheckArgs, problems: Vec<String>, warnings: Vec<String>) -> ExitCode {
    if args.format == Format::Json {
        say_json(&Told {
            ok: false,
            problems,
            warnings,
            checks: Vec::new(),
        });
        return ExitCode::from(USAGE);
    }
    for problem in &problems {
        complain(problem);
    }
    let plural = if problems.len() == 1 {
        "problem"
    } else {
        "problems"
    };
    complain(&format!("{} {plural} found", problems.len()));
    ExitCode::from(USAGE)
}

fn in_text(args: &CheckArgs, config: &Config) -> ExitCode {
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    let said = say(summary(config).as_bytes());
    if !args.online {
        return said;
    }
    // Each as it is found: a host that does not answer takes its time.
    let code = online(config, &mut |check| {
        let _ = say(format!("{check}\n").as_bytes());
    });
    ExitCode::from(code)
}

fn in_json(args: &CheckArgs, config: Config) -> ExitCode {
    let mut checks = Vec::new();
    let code = if args.online {
        online(&config, &mut |check| checks.push(check))
    } else {
        DONE
    };
    say_json(&Told {
        ok: code == DONE,
        problems: Vec::new(),
        warnings: config.warnings,
        checks,
    });
    ExitCode::from(code)
}

fn say_json(told: &Told) {
    match serde_json::to_string_pretty(told) {
        Ok(text) => {
            let _ = say(format!("{text}\n").as_bytes());
        }
        Err(error) => complain(&error.to_string()),
    }
}

/// Examines everything; 1 when something does not work.
fn online(config: &Config, tell: &mut dyn FnMut(Check)) -> u8 {
    let mut code = DONE;
    let mut judge = |check: Check| {
        if check.state == State::Failed {
            code = FAILED;
        }
        tell(check);
    };
    let examined = on_a_runtime(async {
        match doctor::examine(&config.live, Clock::SYSTEM, &mut judge).await {
            Ok(()) => DONE,
            Err(error) => {
                complain(&error.to_string());
                FAILED
            }
        }
    });
    code.max(examined)
}

fn summary(config: &Config) -> String {
    let mut text = String::from("the configuration is right\n");
    for listener in &config.boot.listeners {
        let scheme = if listener.tls { "https" } else { "http" };
        let _ = writeln!(text, "callers    {} ({scheme})", listener.address);
    }
    let _ = writeln!(text, "operators  {} (http)", config.boot.admin.address);
    if let Some(proxy) = config.live.upstream.egress.proxy() {
        let _ = writeln!(text, "leaves     through the egress proxy {proxy}");
    }
    if config.live.callers.is_empty() {
        text.push_str("admits     whoever reaches it\n");
    }
    for caller in &config.live.callers {
        let _ = writeln!(text, "admits     {}{}", caller.name, conditions(caller));
    }
    let customers = &config.live.credentials;
    for (index, one) in customers.iter().enumerate() {
        let is_default = customers.len() > 1 && config.live.default_customer == Some(index);
        let default = if is_default {
            ", and is meant when a request names none"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "customer   {} logs in at {}{default}",
            one.customer(),
            one.token_url
        );
    }
    let shown = |route: &Route| !route.built_in || route.prefix.is_empty();
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
    let _ = writeln!(text, "           and {others} built in (docs/services.md)");
    text
}

/// What a caller has to show, and from where.
fn conditions(caller: &Caller) -> String {
    let mut text = String::new();
    if caller.secret.is_some() {
        text.push_str(", by its secret");
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
