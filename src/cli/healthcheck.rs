//! `healthcheck`: queries `/readyz`, for containers without a shell and curl.

use std::process::ExitCode;

use http::StatusCode;

use super::run::on_a_runtime;
use super::{AdminArgs, FAILURE, SUCCESS, admin_client, eprint};

/// Exits with 0 if `/readyz` returns 200.
pub fn healthcheck(args: &AdminArgs) -> ExitCode {
    let admin = args.admin;
    ExitCode::from(on_a_runtime(async move {
        match admin_client::get(admin, "/readyz", None).await {
            Ok(response) if response.status == StatusCode::OK => SUCCESS,
            Ok(response) => {
                eprint(&format!("not ready: {}", response.body.trim_end()));
                FAILURE
            }
            Err(unreachable) => {
                eprint(&unreachable.to_string());
                FAILURE
            }
        }
    }))
}
