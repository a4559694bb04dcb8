//! `caller`: secrets and rules for those who may use the gateway.

use std::process::ExitCode;

use http::{HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use super::admin_client::{self, Answer};
use super::run::on_a_runtime;
use super::{CallerCommand, DONE, FAILED, SuggestArgs, USAGE, complain, say};
use crate::admin::Suggestion;
use crate::callers::secret;
use crate::config::check_name;
use crate::system::digest::Sha256;

/// Does what is asked.
pub fn caller(command: &CallerCommand) -> ExitCode {
    match command {
        CallerCommand::New { name } => new(name),
        CallerCommand::Suggest(args) => suggest(args),
    }
}

/// A name that a caller may have.
///
/// # Errors
/// With what a name may be.
pub(super) fn name(text: &str) -> Result<String, String> {
    check_name(text)
        .map(|()| text.to_owned())
        .map_err(|why| format!("it {why}"))
}

/// Makes a secret and prints it, this once, with the block that lets its caller in.
fn new(name: &str) -> ExitCode {
    let Ok(secret) = secret::generate() else {
        complain("the system has no randomness to make a secret of");
        return ExitCode::from(FAILED);
    };
    let secret = secret.expose_secret();
    let hash = Sha256::of(secret.as_bytes()).to_hex();
    let text = format!(
        "The secret of {name}, which is kept nowhere:\n\n{secret}\n\n\
         The caller sends it by HTTP Basic with the name {name}, in X-Api-Key, or as a bearer token.\n\
         For the configuration:\n\n\
         [[caller]]\nname = \"{name}\"\nsecret_sha256 = \"{hash}\"\n"
    );
    say(text.as_bytes())
}

/// Prints a block that allows what the caller was seen to do.
fn suggest(args: &SuggestArgs) -> ExitCode {
    let secret = match admin_secret(args) {
        Ok(secret) => secret,
        Err(problem) => {
            complain(&problem);
            return ExitCode::from(USAGE);
        }
    };
    let (admin, path) = (
        args.admin.admin,
        format!("/callers/{}/suggestion", args.name),
    );
    let mut asked = None;
    on_a_runtime(async {
        asked = Some(admin_client::get(admin, &path, secret.as_ref()).await);
        DONE
    });
    match asked {
        Some(Ok(answer)) => print_suggestion(&answer),
        Some(Err(none)) => {
            complain(&none.to_string());
            ExitCode::from(FAILED)
        }
        // What kept the runtime from starting was told.
        None => ExitCode::from(FAILED),
    }
}

fn print_suggestion(answer: &Answer) -> ExitCode {
    let told = (answer.status == StatusCode::OK)
        .then(|| serde_json::from_str::<Suggestion>(&answer.body).ok());
    match (told.flatten(), answer.status) {
        (Some(suggestion), _) => {
            let printed = say(suggestion.block.as_bytes());
            if suggestion.left_out == 0 {
                return printed;
            }
            complain(&format!(
                "the block does not allow all that {} does: {} of {} requests were of more kinds than are kept",
                suggestion.caller, suggestion.left_out, suggestion.requests
            ));
        }
        (None, StatusCode::UNAUTHORIZED) => {
            complain("the admin listener wants its secret: --secret-file, or CITRIX_ADMIN_SECRET");
        }
        (None, StatusCode::NOT_FOUND | StatusCode::CONFLICT) => complain(answer.body.trim_end()),
        (None, _) => complain("what answers there is no admin listener of this version"),
    }
    ExitCode::from(FAILED)
}

/// What is to be shown to the admin listener, from the file or the variable.
fn admin_secret(args: &SuggestArgs) -> Result<Option<HeaderValue>, String> {
    let secret = match &args.secret_file {
        Some(file) => {
            let read = std::fs::read_to_string(file);
            Zeroizing::new(
                read.map_err(|error| format!("{} cannot be read: {error}", file.display()))?,
            )
        }
        None => match std::env::var("CITRIX_ADMIN_SECRET") {
            Ok(secret) => Zeroizing::new(secret),
            Err(_) => return Ok(None),
        },
    };
    let value = HeaderValue::from_str(secret.trim_end_matches(['\r', '\n']));
    let mut value =
        value.map_err(|_| "the admin secret is none that a header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}
