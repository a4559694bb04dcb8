//! `GET /callers/{name}/suggestion`: rules that would allow what a caller was seen to do.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Admin, Answer, text};
use crate::config::Mode;

/// What an operator is told; nothing of it is secret.
#[derive(Debug, Deserialize, Serialize)]
pub struct Suggestion {
    /// The caller's name.
    pub caller: String,
    /// How many of its requests were seen, items of batches included.
    pub requests: u64,
    /// How many of them are not in the block, since there were too many kinds.
    pub left_out: u64,
    /// A `[[caller]]` block in TOML.
    pub block: String,
}

/// The caller in the path, if it is one of this endpoint's.
pub(super) fn caller_of(path: &str) -> Option<&str> {
    let caller = path
        .strip_prefix("/callers/")?
        .strip_suffix("/suggestion")?;
    (!caller.is_empty() && !caller.contains('/')).then_some(caller)
}

/// What was seen of the caller, as a block.
pub(super) fn answer(admin: &Admin, name: &str) -> Answer {
    let published = admin.shared.published.load();
    let mut callers = published.callers.iter();
    let Some(caller) = callers.find(|caller| caller.config.name == name) else {
        return text(
            StatusCode::NOT_FOUND,
            "the gateway has no caller of this name\n",
        );
    };
    if caller.config.mode != Mode::Observe {
        let what = "the caller is not observed; its block needs mode = \"observe\"\n";
        return text(StatusCode::CONFLICT, what);
    }
    let observations = &caller.state.observations;
    let suggestion = Suggestion {
        caller: name.to_owned(),
        requests: observations.requests(),
        left_out: observations.overflow(),
        block: observations.suggest(name),
    };
    if suggestion.requests == 0 {
        let what = "nothing was seen of the caller yet; let it do what it has to do\n";
        return text(StatusCode::CONFLICT, what);
    }
    // A struct of strings and numbers always serializes.
    let mut body = serde_json::to_vec(&suggestion).unwrap_or_default();
    body.push(b'\n');
    let mut answer = text(StatusCode::OK, Bytes::from(body));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_one_caller() {
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
