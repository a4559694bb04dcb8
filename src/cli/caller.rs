//! `caller`: secrets and rules of callers.

use std::process::ExitCode;

use http::{HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use serde::de::DeserializeOwned;

use super::admin_client::{self, AdminResponse};
use super::run::on_a_runtime;
use super::{CallerCommand, FAILURE, OperatorArgs, SUCCESS, SuggestArgs, USAGE, eprint, print};
use crate::admin::{CallerList, Suggestion};
use crate::callers::secret;
use crate::config::check_name;
use crate::system::digest::Sha256;

/// Runs a subcommand of `caller`.
pub fn caller(command: &CallerCommand) -> ExitCode {
    match command {
        CallerCommand::New { name } => new(name),
        CallerCommand::Suggest(args) => suggest(args),
        CallerCommand::List(args) => list(args),
    }
}

/// Parses the name of a caller.
///
/// # Errors
/// If the name is invalid, with the rule it violates.
pub(super) fn name(text: &str) -> Result<String, String> {
    check_name(text)
        .map(|()| text.to_owned())
        .map_err(|rule| rule.trim_start_matches("is ").to_owned())
}

/// Generates a secret and prints it once, with the block that admits its caller.
fn new(name: &str) -> ExitCode {
    let Ok(secret) = secret::generate() else {
        eprint("failed to generate a secret: no randomness from the system");
        return ExitCode::from(FAILURE);
    };
    let secret = secret.expose_secret();
    let hash = Sha256::of(secret.as_bytes()).to_hex();
    let text = format!(
        "The secret of {name}; it is not stored anywhere:\n\n{secret}\n\n\
         The caller sends it with HTTP Basic as the password of {name}, in X-Api-Key, or as a bearer token.\n\
         Add this block to the configuration:\n\n\
         [[caller]]\nname = \"{name}\"\nsecret_sha256 = \"{hash}\"\n"
    );
    print(text.as_bytes())
}

/// Prints a block that permits the caller's observed requests.
fn suggest(args: &SuggestArgs) -> ExitCode {
    let path = format!("/callers/{}/suggestion", args.name);
    let response = match get(&args.operator, &path) {
        Ok(response) => response,
        Err(code) => return code,
    };
    if matches!(
        response.status,
        StatusCode::NOT_FOUND | StatusCode::CONFLICT
    ) {
        eprint(response.body.trim_end());
        return ExitCode::from(FAILURE);
    }
    let Some(suggestion) = parse::<Suggestion>(&response) else {
        return ExitCode::from(FAILURE);
    };
    let printed = print(suggestion.block.as_bytes());
    if suggestion.left_out == 0 {
        return printed;
    }
    eprint(&format!(
        "the block does not permit everything {} does: {} of {} requests exceeded the number of kinds that are kept",
        suggestion.caller, suggestion.left_out, suggestion.requests
    ));
    ExitCode::from(FAILURE)
}

/// Prints a line per caller, and per secret of a caller that has several.
fn list(args: &OperatorArgs) -> ExitCode {
    let response = match get(args, "/callers") {
        Ok(response) => response,
        Err(code) => return code,
    };
    let Some(list) = parse::<CallerList>(&response) else {
        return ExitCode::from(FAILURE);
    };
    let never = || "never".to_owned();
    let mut rows = vec![["CALLER", "LAST SEEN", "SECRET", "LAST USED"].map(str::to_owned)];
    for caller in list.callers {
        let mut names = [caller.name, caller.last_seen_at.unwrap_or_else(never)];
        if caller.secrets.is_empty() {
            let [name, seen] = names;
            rows.push([name, seen, "-".to_owned(), "-".to_owned()]);
            continue;
        }
        for (index, secret) in caller.secrets.into_iter().enumerate() {
            let [name, seen] = std::mem::take(&mut names);
            let number = format!("{} ({}…)", index + 1, secret.sha256);
            rows.push([
                name,
                seen,
                number,
                secret.last_used_at.unwrap_or_else(never),
            ]);
        }
    }
    print(aligned(&rows).as_bytes())
}

/// Returns the rows as text with aligned columns.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Sends a request to the admin listener. Prints a failure and returns its exit code.
fn get(args: &OperatorArgs, path: &str) -> Result<AdminResponse, ExitCode> {
    let secret = admin_secret(args).map_err(|problem| {
        eprint(&problem);
        ExitCode::from(USAGE)
    })?;
    let mut received = None;
    on_a_runtime(async {
        received = Some(admin_client::get(args.admin.admin, path, secret.as_ref()).await);
        SUCCESS
    });
    match received {
        Some(Ok(response)) => Ok(response),
        Some(Err(unreachable)) => {
            eprint(&unreachable.to_string());
            Err(ExitCode::from(FAILURE))
        }
        // The runtime did not start, and printed why.
        None => Err(ExitCode::from(FAILURE)),
    }
}

/// Parses a response, or prints why it is none.
fn parse<T: DeserializeOwned>(response: &AdminResponse) -> Option<T> {
    let parsed = (response.status == StatusCode::OK)
        .then(|| serde_json::from_str(&response.body).ok())
        .flatten();
    if parsed.is_none() {
        eprint(match response.status {
            StatusCode::UNAUTHORIZED => {
                "the admin listener requires its secret: --secret-file or CITRIX_ADMIN_SECRET"
            }
            _ => "the server at this address is not an admin listener of this version",
        });
    }
    parsed
}

/// Reads the admin secret from the file or the variable.
fn admin_secret(args: &OperatorArgs) -> Result<Option<HeaderValue>, String> {
    let secret = match &args.secret_file {
        Some(file) => {
            let read = std::fs::read_to_string(file);
            Zeroizing::new(
                read.map_err(|error| format!("failed to read {}: {error}", file.display()))?,
            )
        }
        None => match std::env::var("CITRIX_ADMIN_SECRET") {
            Ok(secret) => Zeroizing::new(secret),
            Err(_) => return Ok(None),
        },
    };
    let value = HeaderValue::from_str(secret.trim_end_matches(['\r', '\n']));
    let mut value = value.map_err(|_| {
        "the admin secret contains characters that a header field cannot carry".to_owned()
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}
