//! `healthcheck`: queries `/readyz`, for containers without a shell and curl.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::run::on_a_runtime;
use super::{FAILURE, HealthcheckArgs, SUCCESS, admin_client, eprint};

/// Time between two queries with `--wait`.
const INTERVAL: Duration = Duration::from_millis(250);

/// Exits with 0 if `/readyz` returns 200, with `--wait` also if it does so in time.
pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let (admin, wait) = (args.admin.admin, args.wait.unwrap_or_default());
    ExitCode::from(on_a_runtime(async move {
        match ready(admin, wait).await {
            Ok(()) => SUCCESS,
            Err(problem) => {
                eprint(&problem);
                FAILURE
            }
        }
    }))
}

/// Queries until the gateway is ready or `wait` has passed. Returns the last problem.
async fn ready(admin: SocketAddr, wait: Duration) -> Result<(), String> {
    if wait.is_zero() {
        return query(admin).await;
    }
    let deadline = Instant::now() + wait;
    let mut problem = format!("no response from the admin listener at {admin}");
    loop {
        match timeout_at(deadline, query(admin)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(again)) => problem = again,
            // The previous problem stands.
            Err(_) => {
                let wait = humantime::format_duration(wait);
                return Err(format!("{problem} (after {wait})"));
            }
        }
        sleep_until(deadline.min(Instant::now() + INTERVAL)).await;
    }
}

async fn query(admin: SocketAddr) -> Result<(), String> {
    match admin_client::get(admin, "/readyz", None).await {
        Ok(response) if response.status == StatusCode::OK => Ok(()),
        Ok(response) => Err(format!("not ready: {}", response.body.trim_end())),
        Err(unreachable) => Err(unreachable.to_string()),
    }
}
