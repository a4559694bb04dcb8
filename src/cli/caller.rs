//! `caller`: secrets and rules of callers.

use std::process::ExitCode;

use http::{HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::admin_client::{self, AdminResponse};
use super::run::on_a_runtime;
use super::{CallerCommand, FAILURE, SUCCESS, SuggestArgs, USAGE, eprint, print};
use crate::admin::Suggestion;
use crate::callers::secret;
use crate::config::check_name;
use crate::system::digest::Sha256;

/// Runs a subcommand of `caller`.
pub fn caller(command: &CallerCommand) -> ExitCode {
    match command {
        CallerCommand::New { name } => new(name),
        CallerCommand::Suggest(args) => suggest(args),
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
    let secret = match admin_secret(args) {
        Ok(secret) => secret,
        Err(problem) => {
            eprint(&problem);
            return ExitCode::from(USAGE);
        }
    };
    let (admin, path) = (
        args.admin.admin,
        format!("/callers/{}/suggestion", args.name),
    );
    let mut received = None;
    on_a_runtime(async {
        received = Some(admin_client::get(admin, &path, secret.as_ref()).await);
        SUCCESS
    });
    match received {
        Some(Ok(response)) => print_suggestion(&response),
        Some(Err(unreachable)) => {
            eprint(&unreachable.to_string());
            ExitCode::from(FAILURE)
        }
        // The runtime did not start, and printed why.
        None => ExitCode::from(FAILURE),
    }
}

fn print_suggestion(response: &AdminResponse) -> ExitCode {
    let suggestion = (response.status == StatusCode::OK)
        .then(|| serde_json::from_str::<Suggestion>(&response.body).ok());
    match (suggestion.flatten(), response.status) {
        (Some(suggestion), _) => {
            let printed = print(suggestion.block.as_bytes());
            if suggestion.left_out == 0 {
                return printed;
            }
            eprint(&format!(
                "the block does not permit everything {} does: {} of {} requests exceeded the number of kinds that are kept",
                suggestion.caller, suggestion.left_out, suggestion.requests
            ));
        }
        (None, StatusCode::UNAUTHORIZED) => {
            eprint("the admin listener requires its secret: --secret-file or CITRIX_ADMIN_SECRET");
        }
        (None, StatusCode::NOT_FOUND | StatusCode::CONFLICT) => eprint(response.body.trim_end()),
        (None, _) => eprint("the server at this address is not an admin listener of this version"),
    }
    ExitCode::from(FAILURE)
}

/// Reads the admin secret from the file or the variable.
fn admin_secret(args: &SuggestArgs) -> Result<Option<HeaderValue>, String> {
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
