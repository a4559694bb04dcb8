//! The primary as sentinels name it.

use fleet_protocol::reply::Value;
use tokio::time::timeout;

use super::connection::Session;
use super::dial::Address;
use super::error::StoreError;
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
    for sentinel in first.iter().chain(last) {
        let asking = query(sentinel, master, target);
        if let Ok(Ok(Some(address))) = timeout(target.timeout, asking).await {
            return Ok(Address::Tcp(address));
        }
    }
    Err(StoreError::NoPrimary)
}

async fn query(
    sentinel: &HostPort,
    master: &str,
    target: &Target,
) -> Result<Option<HostPort>, StoreError> {
    let session = Session::open(&Address::Tcp(sentinel.clone()), target, None).await?;
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
