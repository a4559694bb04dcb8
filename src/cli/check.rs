//! `check`: is the configuration right, and does Citrix accept the credential?

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use http::HeaderValue;

use super::run::on_a_runtime;
use super::{CheckArgs, DONE, FAILED, USAGE, complain, say};
use crate::clock::Clock;
use crate::config::{self, Caller, Config, Credential, Route, SecretSource, Target};
use crate::dial::Way;
use crate::http_client::Client;
use crate::tls;
use crate::token::issuer::{HttpIssuer, Issuer, Login};

/// Checks the configuration, every problem at once.
pub fn check(args: &CheckArgs) -> ExitCode {
    let config = match config::load(args.config.as_deref(), config::process_environment()) {
        Ok(config) => config,
        Err(problems) => {
            for problem in &problems {
                complain(&problem.to_string());
            }
            let plural = if problems.len() == 1 { "problem" } else { "problems" };
            complain(&format!("{} {plural} found", problems.len()));
            return ExitCode::from(USAGE);
        }
    };
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    // What only a look into the files tells.
    let files = config.boot.certificate.as_ref().map(tls::server_config).transpose();
    let upstream = tls::upstream_config(&config.live.upstream);
    let tls = match (files, upstream) {
        (Ok(_), Ok(tls)) => tls,
        (files, upstream) => {
            for error in [files.err(), upstream.err()].into_iter().flatten() {
                complain(&error.to_string());
            }
            return ExitCode::from(USAGE);
        }
    };
    let said = say(summary(&config).as_bytes());
    if !args.online {
        return said;
    }
    ExitCode::from(on_a_runtime(log_in(&config, tls)))
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
        let default = if is_default { ", and is meant when a request names none" } else { "" };
        let _ = writeln!(text, "customer   {} logs in at {}{default}", one.customer(), one.token_url);
    }
    let shown = |route: &&Route| !route.built_in || route.prefix.is_empty();
    for route in config.live.routes.iter().filter(shown) {
        if let Target::Fixed(destination) = &route.target {
            let _ = writeln!(text, "route      {} -> {}", route.name(), destination.url);
            continue;
        }
        for one in customers {
            let whose = if customers.len() > 1 { format!(" of {}", one.customer()) } else { String::new() };
            let _ = writeln!(text, "route      {}{whose} -> {}", route.name(), one.api.url);
        }
    }
    let others = config.live.routes.iter().filter(|route| !shown(route)).count();
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

async fn log_in(config: &Config, tls: Arc<rustls::ClientConfig>) -> u8 {
    let way = Way::new(tls, config.live.upstream.egress.clone());
    let issuer = HttpIssuer::new(Client::new(way, config.live.token.request_timeout), Clock::SYSTEM);
    let mut code = DONE;
    for credential in &config.live.credentials {
        let secrets = [
            ("client_secret", Some(&credential.client_secret)),
            ("client_secret_next", credential.client_secret_next.as_ref()),
        ];
        for (name, secret) in secrets {
            match secret.map(|secret| log_in_once(&issuer, credential, name, secret)) {
                None => {}
                Some(login) => match login.await {
                    Ok(line) => drop(say(line.as_bytes())),
                    Err(line) => {
                        complain(&line);
                        code = FAILED;
                    }
                },
            }
        }
    }
    code
}

/// One login with one secret, each of a rotation by itself: both shall work before one is taken away.
async fn log_in_once(
    issuer: &HttpIssuer,
    credential: &Credential,
    name: &str,
    secret: &SecretSource,
) -> Result<String, String> {
    let customer = credential.customer();
    let secret = secret.read().map_err(|error| format!("login      {customer}, {name}: {error}"))?;
    let login = Login {
        url: &credential.token_url,
        dialect: credential.token_dialect,
        client_id: &credential.client_id,
        client_secret: &secret,
    };
    let id = |id: Option<&HeaderValue>| {
        id.and_then(|id| id.to_str().ok()).map(|id| format!(" (transaction {id})")).unwrap_or_default()
    };
    match issuer.log_in(login).await {
        Ok(issued) => {
            let skew = issued.skew.map(|skew| format!(", our clock is {:+.1} s off", skew.seconds()));
            let skew = skew.unwrap_or_default();
            Ok(format!(
                "login      {customer}, {name}: Citrix gave a token{skew}{}\n",
                id(issued.transaction_id.as_ref())
            ))
        }
        Err(failure) => {
            let advice = failure.outcome.advice();
            Err(format!("login      {customer}, {name}: {advice}{}", id(failure.transaction_id.as_ref())))
        }
    }
}
