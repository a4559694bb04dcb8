//! The primary as sentinels name it.

use fleet_protocol::reply::Value;
use tokio::time::Instant;

use super::connection::Session;
use super::dial::Address;
use super::error::{Step, StoreError, within};
use super::target::Target;
use crate::config::HostPort;

/// Returns the address of the primary from the first sentinel that knows one. Each failed attempt
/// to reach a primary begins with the next sentinel, since one that is cut off names a lost primary.
///
/// # Errors
/// If none does, each within the timeout of `target`.
pub(super) async fn primary(
    sentinels: &[HostPort],
    master: &str,
    target: &Target,
    failures: u32,
) -> Result<Address, StoreError> {
    let first = failures as usize % sentinels.len().max(1);
    let (last, first) = sentinels.split_at(first);
    let mut reasons = Vec::new();
    for sentinel in first.iter().chain(last) {
        let address = Address::Tcp(sentinel.clone());
        let deadline = Instant::now() + target.timeout;
        let query = async {
            let session = Session::open(&address, target, None, deadline).await?;
            within(deadline, Step::Command, query(&session, master)).await
        };
        let reason = match query.await {
            Ok(Some(address)) => return Ok(Address::Tcp(address)),
            Ok(None) => format!("does not know {master}"),
            Err(error) => error.diagnosis().cause,
        };
        reasons.push(format!("{sentinel}: {reason}"));
    }
    Err(StoreError::NoPrimary(reasons.join("; ")))
}

/// Returns the primary as a sentinel names it; `None` if it does not know it.
pub(super) async fn query(session: &Session, master: &str) -> Result<Option<HostPort>, StoreError> {
    let words = ["SENTINEL", "get-master-addr-by-name", master];
    let Value::Array(parts) = session.call(&words).await? else {
        return Ok(None);
    };
    let [Value::Bytes(host), Value::Bytes(port)] = &parts[..] else {
        return Err(StoreError::Malformed);
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Malformed);
    Ok(Some(HostPort {
        host: text(host)?,
        port: text(port)?.parse().map_err(|_| StoreError::Malformed)?,
    }))
}
