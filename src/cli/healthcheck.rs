//! `healthcheck`: is the gateway ready? For container health checks, which have no shell and no curl.

use std::process::ExitCode;

use http::StatusCode;

use super::run::on_a_runtime;
use super::{AdminArgs, DONE, FAILED, admin_client, complain};

/// Asks `/readyz`.
pub fn healthcheck(args: &AdminArgs) -> ExitCode {
    let admin = args.admin;
    ExitCode::from(on_a_runtime(async move {
        match admin_client::get(admin, "/readyz", None).await {
            Ok(answer) if answer.status == StatusCode::OK => DONE,
            Ok(answer) => {
                complain(&format!("not ready: {}", answer.body.trim_end()));
                FAILED
            }
            Err(none) => {
                complain(&none.to_string());
                FAILED
            }
        }
    }))
}
