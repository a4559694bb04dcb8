//! `caller`: secrets for those who may use the gateway.

use std::process::ExitCode;

use secrecy::ExposeSecret as _;

use super::{CallerCommand, FAILED, complain, say};
use crate::callers::secret;
use crate::config::{SecretHash, check_name};

/// Does what is asked.
pub fn caller(command: &CallerCommand) -> ExitCode {
    match command {
        CallerCommand::New { name } => new(name),
    }
}

/// A name that a caller may have.
///
/// # Errors
/// With what a name may be.
pub(super) fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|why| format!("it {why}"))
}

/// Makes a secret and prints it, this once, with the block that lets its caller in.
fn new(name: &str) -> ExitCode {
    let Ok(secret) = secret::generate() else {
        complain("the system has no randomness to make a secret of");
        return ExitCode::from(FAILED);
    };
    let secret = secret.expose_secret();
    let hash = SecretHash::of(secret.as_bytes()).to_hex();
    let text = format!(
        "The secret of {name}, which is kept nowhere:\n\n{secret}\n\n\
         The caller sends it by HTTP Basic with the name {name}, in X-Api-Key, or as a bearer token.\n\
         For the configuration:\n\n\
         [[caller]]\nname = \"{name}\"\nsecret_sha256 = \"{hash}\"\n"
    );
    say(text.as_bytes())
}
