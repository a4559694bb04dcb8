//! `/_emulator`: what a test may see and do, without a token.

use http::StatusCode;
use serde_json::json;

use super::answers::{self, Response};
use super::routes::Call;

/// `GET stats`, `POST revoke`, `POST expire`.
pub(super) fn answer(call: &Call<'_>) -> Response {
    let state = call.state;
    match call.rest[..] {
        ["stats"] if call.is_get() => answers::json(StatusCode::OK, &state.counters.snapshot()),
        ["stats"] => answers::method_not_allowed("GET, HEAD"),
        ["revoke"] if call.is_post() => answers::ok(&json!({ "revoked": state.tokens.revoke_all() })),
        ["expire"] if call.is_post() => answers::ok(&json!({ "expired": state.tokens.expire_all() })),
        ["revoke" | "expire"] => answers::method_not_allowed("POST"),
        _ => answers::not_found(),
    }
}
