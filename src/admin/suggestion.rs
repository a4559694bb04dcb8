//! `GET /callers/{name}/suggestion`: rules that permit the requests of an observed caller.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, FullResponse, json, text};
use crate::config::Mode;

/// Suggested rules. The response contains no secrets.
#[derive(Debug, Deserialize, Serialize)]
pub struct Suggestion {
    pub(crate) caller: String,
    /// Observed requests, including items of batches.
    pub(crate) requests: u64,
    /// Requests that the block does not cover because the record was full.
    pub(crate) left_out: u64,
    /// A `[[caller]]` block in TOML.
    pub(crate) block: String,
}

/// Returns the caller if the path is one of this endpoint.
pub(super) fn caller_of(path: &str) -> Option<&str> {
    let caller = path
        .strip_prefix("/callers/")?
        .strip_suffix("/suggestion")?;
    (!caller.is_empty() && !caller.contains('/')).then_some(caller)
}

pub(super) fn respond(admin: &Admin, name: &str) -> FullResponse {
    let published = admin.shared.published.load();
    let mut callers = published.callers.iter();
    let Some(caller) = callers.find(|caller| caller.config.name == name) else {
        return text(StatusCode::NOT_FOUND, "no caller of this name\n");
    };
    if caller.config.mode != Mode::Observe {
        let problem = "the caller is not observed; set mode = \"observe\" in its block\n";
        return text(StatusCode::CONFLICT, problem);
    }
    let observations = &caller.state.observations;
    let suggestion = Suggestion {
        caller: name.to_owned(),
        requests: observations.requests(),
        left_out: observations.overflow(),
        block: observations.suggest(name),
    };
    if suggestion.requests == 0 {
        let problem = "no requests observed yet; run the caller's usual requests first\n";
        return text(StatusCode::CONFLICT, problem);
    }
    json(StatusCode::OK, &suggestion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_names_one_caller() {
        for (path, caller) in [
            ("/callers/splunk/suggestion", Some("splunk")),
            ("/callers/a.b@c-1/suggestion", Some("a.b@c-1")),
            ("/callers//suggestion", None),
            ("/callers/suggestion", None),
            ("/callers/a/b/suggestion", None),
            ("/callers/a", None),
        ] {
            assert_eq!(caller_of(path), caller, "{path}");
        }
    }
}
