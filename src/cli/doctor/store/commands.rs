//! One run of each command that the gateway sends, on a key that expires.

use fleet_protocol::Keys;
use fleet_protocol::reply::Value;
use fleet_protocol::script::{COMMANDS, Script};
use redis::ErrorKind;

use super::super::check::{Check, CheckKind};
use super::failure;
use crate::fleet::probe::Probe;
use crate::fleet::{Address, StoreError};

/// Lifetime of the key in milliseconds.
const LIFETIME: &str = "10000";
/// Commands that the connection needs besides [`COMMANDS`].
const OF_CONNECTION: [&str; 4] = ["script|load", "eval", "evalsha", "subscribe"];

/// Returns the words that try a command of a script.
fn trial<'a>(command: &'a str, key: &'a str, channel: &'a str) -> Vec<&'a str> {
    match command {
        "time" => vec!["TIME"],
        "publish" => vec!["PUBLISH", channel, ""],
        "set" => vec!["SET", key, "1", "PX", LIFETIME],
        "hset" => vec!["HSET", key, "field", "1"],
        "hmget" => vec!["HMGET", key, "field"],
        "zadd" => vec!["ZADD", key, "1", "member"],
        "pexpire" => vec!["PEXPIRE", key, LIFETIME],
        "zrem" => vec!["ZREM", key, "other"],
        "zscore" => vec!["ZSCORE", key, "member"],
        "zcount" | "zrangebyscore" | "zremrangebyscore" => vec![command, key, "0", "1"],
        "zrange" => vec!["ZRANGE", key, "0", "0"],
        // `get`, `del`, `zcard`.
        _ => vec![command, key],
    }
}

/// The order of trials: each finds a key of its type, and none leaves one without an expiry.
const ORDER: [&str; 18] = [
    "time",
    "publish",
    "set",
    "get",
    "pexpire",
    "del",
    "hset",
    "pexpire",
    "hmget",
    "del",
    "zadd",
    "pexpire",
    "zscore",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zrem",
];

/// Tries all commands.
///
/// # Errors
/// If one is not permitted, or fails.
pub(super) async fn examine(
    probe: &Probe,
    address: &Address,
    keys: &Keys,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    let check = match try_all(probe, keys).await {
        Ok(missing) if missing.is_empty() => {
            let count = COMMANDS.len() + OF_CONNECTION.len();
            let detail = format!("the user may run the {count} commands that the gateway needs");
            Check::ok(CheckKind::Commands, address, detail)
        }
        Ok(missing) => forbidden(address, &missing),
        Err(error) => failure(CheckKind::Commands, address, &error),
    };
    let failed = check.state == super::super::check::CheckState::Failed;
    report(check);
    if failed {
        Err(CheckKind::Commands)
    } else {
        Ok(())
    }
}

fn forbidden(address: &Address, missing: &[&'static str]) -> Check {
    let detail = format!("the user may not run {}", missing.join(", "));
    let rules: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    let advice = format!("add {} to the ACL of the store's user", rules.join(" "));
    let check = Check::failed(CheckKind::Commands, address, detail, advice);
    check.fact("missing", missing.to_vec())
}

/// Returns the commands that the user may not run.
async fn try_all(probe: &Probe, keys: &Keys) -> Result<Vec<&'static str>, StoreError> {
    let number = fastrand::u32(..);
    let key = format!("{}doctor:{number:08x}", keys.prefix());
    let channel = format!("{}r:{number:08x}", keys.prefix());
    let mut missing = Vec::new();
    of_connection(probe, &channel, &mut missing).await?;
    for command in ORDER {
        // Without both, keys would remain.
        if ["hset", "zadd"].contains(&command) && missing.contains(&"pexpire") {
            continue;
        }
        let result = probe.call(&trial(command, &key, &channel)).await;
        note(result, command, &mut missing)?;
    }
    let command = "zremrangebyscore";
    let result = probe.call(&trial(command, &key, &channel)).await;
    note(result, command, &mut missing)?;
    let _ = probe.call(&["DEL", &key]).await;
    missing.dedup();
    Ok(missing)
}

async fn of_connection(
    probe: &Probe,
    channel: &str,
    missing: &mut Vec<&'static str>,
) -> Result<(), StoreError> {
    for script in Script::ALL {
        let loaded = probe.call(&["SCRIPT", "LOAD", &script.source()]).await;
        note(loaded, "script|load", missing)?;
    }
    missing.dedup();
    let evaluated = probe.call(&["EVAL", "return 1", "0"]).await;
    note(evaluated, "eval", missing)?;
    if let Ok(Value::Bytes(hash)) = probe.call(&["SCRIPT", "LOAD", "return 1"]).await {
        let hash = String::from_utf8_lossy(&hash).into_owned();
        let evaluated = probe.call(&["EVALSHA", &hash, "0"]).await;
        note(evaluated, "evalsha", missing)?;
    }
    match probe.subscribe(channel).await {
        Err(error) if is_command(&error) => {
            missing.push("subscribe");
            Ok(())
        }
        result => result,
    }
}

/// Notes a command that is not permitted.
fn note(
    result: Result<Value, StoreError>,
    command: &'static str,
    missing: &mut Vec<&'static str>,
) -> Result<(), StoreError> {
    match result {
        Err(error) if is_command(&error) => {
            if !missing.contains(&command) {
                missing.push(command);
            }
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Returns `true` if the ACL forbids the command, rather than a key or channel.
fn is_command(error: &StoreError) -> bool {
    match error {
        StoreError::Store(error) => {
            let detail = error.detail().unwrap_or_default();
            error.kind() == ErrorKind::Server(redis::ServerErrorKind::NoPerm)
                && detail.contains("to run")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        for command in COMMANDS {
            let is_tried = ORDER.contains(&command) || command == "zremrangebyscore";
            assert!(is_tried, "{command}");
        }
    }
}
