//! The cause of a store's failure in plain words, and what an operator can do about it. The log and
//! `check --online` state the same.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::error::{Step, StoreError};
use crate::error::chain;
use crate::tls::fault::{TlsFault, certificate_problem};

/// A failure for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause as a clause, without a secret.
    pub cause: String,
    /// The first thing to do.
    pub advice: &'static str,
}

const CHECK_ADDRESS: &str = "check host and port of fleet.url, firewalls and network policies";
const CHECK_RIGHTS: &str = "permit it in the ACL of the store's user (docs/fleet.md)";
const WAIT: &str = "wait, or check the store's log; the connection is retried";

impl StoreError {
    /// Returns the cause and advice.
    pub fn diagnosis(&self) -> Diagnosis {
        let (cause, advice) = match self {
            Self::Password(error) => (
                format!("fleet.password: {}", with_source(error)),
                "check that it exists and is readable",
            ),
            Self::Tls(error) => (error.to_string(), "correct the file"),
            Self::Resolve(error) => (
                format!("host name not resolved: {}", chain::innermost(error)),
                "check the host name in fleet.url and the resolver",
            ),
            Self::Connect(error) => {
                let cause = format!("no connection: {}", chain::innermost(error));
                (cause, CHECK_ADDRESS)
            }
            Self::Handshake(error) => of_handshake(error),
            Self::Store(error) => of_redis(error),
            Self::NotPrimary => (
                "the server is a replica, not the primary".to_owned(),
                "set fleet.url to the primary, or fleet.sentinels",
            ),
            Self::NoPrimary(reasons) => (
                format!("no sentinel names a primary: {reasons}"),
                "check fleet.sentinels, fleet.sentinel_master and fleet.sentinel_password",
            ),
            Self::Malformed => (
                "a reply is not in the expected format".to_owned(),
                "Redis 6.2 or Valkey 7.2 or newer is required",
            ),
            Self::Timeout(step) => of_timeout(*step),
        };
        Diagnosis { cause, advice }
    }
}

fn with_source(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = chain::sources(error).map(chain::text).collect();
    texts.join(": ")
}

fn of_timeout(step: Step) -> (String, &'static str) {
    let (cause, advice) = match step {
        Step::Read => ("timed out while files were read", "check the disk"),
        Step::Resolve => ("timed out during the DNS lookup", "check the resolver"),
        Step::Connect => ("timed out during the TCP connection", CHECK_ADDRESS),
        Step::Handshake => (
            "timed out during the TLS handshake",
            "check that the port of fleet.url speaks TLS",
        ),
        Step::Login => (
            "timed out during the login",
            "check that the port of fleet.url is the store's; if it requires TLS, use rediss",
        ),
        Step::Command => ("timed out after the login", WAIT),
    };
    (cause.to_owned(), advice)
}

fn of_handshake(error: &io::Error) -> (String, &'static str) {
    let fault = TlsFault::of(error);
    let advice = match fault {
        TlsFault::UnknownIssuer => {
            "set fleet.tls.ca_file to the certificate (PEM) of the CA that signed the store's"
        }
        TlsFault::ClientCertificate => "set fleet.tls.certificate and fleet.tls.key",
        TlsFault::NotTls => {
            "use the store's port for TLS; without TLS, redis:// is for loopback only"
        }
        TlsFault::OtherHost => "use a host name in fleet.url that the certificate contains",
        fault => fault.advice(),
    };
    let cause = match fault {
        TlsFault::ClientCertificate => "the store requires a client certificate".to_owned(),
        TlsFault::NotTls => "the server does not speak TLS at this port".to_owned(),
        TlsFault::InvalidCertificate => {
            let problem = certificate_problem(error).unwrap_or_else(|| chain::innermost(error));
            format!("the certificate is invalid: {problem}")
        }
        TlsFault::Broken => format!("{} ({})", fault.reason(), chain::innermost(error)),
        fault => fault.reason().to_owned(),
    };
    (cause, advice)
}

fn of_redis(error: &RedisError) -> (String, &'static str) {
    let detail = error.detail().unwrap_or_default();
    match (error.code(), error.kind()) {
        (_, ErrorKind::Parse) => (
            "the server does not speak the Redis protocol".to_owned(),
            "check the port of fleet.url; if it requires TLS, use rediss",
        ),
        (_, ErrorKind::RESP3NotSupported) => old_server(),
        (_, ErrorKind::AuthenticationFailed) => wrong_password(),
        (None, _) => of_stream(error),
        (Some(code), _) => of_reply(code, detail),
    }
}

/// Describes a connection that ended. With TLS 1.3 a missing client certificate ends it here.
fn of_stream(error: &RedisError) -> (String, &'static str) {
    // The crate shares its sources.
    let shared = error
        .source()
        .and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let fault = shared
        .and_then(|source| source.downcast_ref::<io::Error>())
        .filter(|error| TlsFault::of(error) != TlsFault::Broken);
    fault.map_or_else(
        || {
            (
                format!(
                    "the server ended the connection: {}",
                    chain::innermost(error)
                ),
                "check that the port of fleet.url is the store's; if it requires TLS, use rediss",
            )
        },
        of_handshake,
    )
}

fn old_server() -> (String, &'static str) {
    (
        "the server does not support RESP3".to_owned(),
        "Redis 6.2 or Valkey 7.2 or newer is required",
    )
}

fn wrong_password() -> (String, &'static str) {
    (
        "the store rejects the user or the password (WRONGPASS)".to_owned(),
        "check fleet.password and the user in fleet.url",
    )
}

fn of_reply(code: &str, detail: &str) -> (String, &'static str) {
    let has = |text: &str| detail.contains(text);
    let (cause, advice) = match code {
        "WRONGPASS" => return wrong_password(),
        "NOPROTO" => return old_server(),
        "NOAUTH" => (
            "the store requires a password (NOAUTH)",
            "set fleet.password, and the user in fleet.url unless it is the default user",
        ),
        "NOPERM" => return of_permission(detail),
        "ERR" if has("can't run this command") || has("ACL failure") => {
            return (
                format!("the user may not run what the scripts use: {detail}"),
                CHECK_RIGHTS,
            );
        }
        "ERR" if has("no password is set") || has("without any password") => (
            "the store has no password, but fleet.password is set",
            "remove fleet.password, or set a password in the store",
        ),
        "ERR" if has("DB index") => (
            "the store does not have the database of fleet.url",
            "correct the number at the end of fleet.url; a cluster has database 0 only",
        ),
        "ERR" if has("max number of clients") => (
            "the store has as many connections as it permits",
            "raise maxclients of the store",
        ),
        "DENIED" => (
            "the store is in protected mode and accepts loopback only (DENIED)",
            "set a password in the store, or protected-mode no in a network of its own",
        ),
        "READONLY" => return StoreError::NotPrimary.into_pair(),
        "LOADING" => ("the store is loading its data (LOADING)", WAIT),
        "MASTERDOWN" => (
            "the server is a replica without its primary (MASTERDOWN)",
            WAIT,
        ),
        "CLUSTERDOWN" => ("the cluster is down (CLUSTERDOWN)", WAIT),
        "MOVED" => (
            "another node of the cluster has the fleet's keys (MOVED)",
            "set fleet.url to that node",
        ),
        "OOM" => (
            "the store is out of memory (OOM)",
            "raise maxmemory of the store, or give the fleet a store of its own",
        ),
        "MISCONF" => (
            "the store accepts no writes because it cannot save its data (MISCONF)",
            "free its disk, or turn persistence off: a fleet needs none",
        ),
        code => return (format!("the store returned {code}: {detail}"), WAIT),
    };
    (cause.to_owned(), advice)
}

/// Describes what the ACL does not permit; servers differ in the words around the name.
fn of_permission(detail: &str) -> (String, &'static str) {
    if detail.contains("keys") || detail.contains("a key") {
        let cause = "the user may not access the fleet's keys (NOPERM)".to_owned();
        return (
            cause,
            "permit the keys cap:1:{NAME}:* to the store's user, with fleet.name",
        );
    }
    if detail.contains("channel") {
        let cause = "the user may not access the fleet's channels (NOPERM)".to_owned();
        return (
            cause,
            "permit the channels cap:1:{NAME}:* to the store's user, with fleet.name",
        );
    }
    let cause = match detail.split('\'').nth(1) {
        Some(command) => format!("the user may not run the command {command} (NOPERM)"),
        None => format!("the user lacks a permission (NOPERM): {detail}"),
    };
    (cause, CHECK_RIGHTS)
}

impl StoreError {
    fn into_pair(self) -> (String, &'static str) {
        let Diagnosis { cause, advice } = self.diagnosis();
        (cause, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, detail and a part of the cause.
    const REPLIES: &[(&str, &str, &str)] = &[
        (
            "WRONGPASS",
            "invalid username-password pair",
            "rejects the user or the password",
        ),
        ("NOAUTH", "Authentication required.", "requires a password"),
        (
            "NOPERM",
            "this user has no permissions to run the 'zcount' command",
            "may not run the command zcount",
        ),
        (
            "NOPERM",
            "User cap has no permissions to run the 'script|load' command",
            "may not run the command script|load",
        ),
        (
            "NOPERM",
            "this user has no permissions to access one of the keys used as arguments",
            "may not access the fleet's keys",
        ),
        (
            "NOPERM",
            "No permissions to access a key",
            "may not access the fleet's keys",
        ),
        (
            "NOPERM",
            "this user has no permissions to access one of the channels used as arguments",
            "may not access the fleet's channels",
        ),
        (
            "ERR",
            "The user executing the script can't run this command or subcommand",
            "may not run what the scripts use",
        ),
        (
            "ERR",
            "AUTH <password> called without any password configured for the default user.",
            "has no password",
        ),
        (
            "ERR",
            "DB index is out of range",
            "does not have the database",
        ),
        (
            "ERR",
            "max number of clients reached",
            "as many connections",
        ),
        (
            "DENIED",
            "Redis is running in protected mode",
            "protected mode",
        ),
        (
            "READONLY",
            "You can't write against a read only replica.",
            "is a replica",
        ),
        ("LOADING", "", "loading"),
        (
            "OOM",
            "command not allowed when used memory > 'maxmemory'.",
            "out of memory",
        ),
        ("MISCONF", "", "cannot save"),
        ("NOPROTO", "unsupported protocol version", "RESP3"),
        ("BUSY", "x", "BUSY: x"),
    ];

    #[test]
    fn each_reply_of_a_store_has_its_cause() {
        for (code, detail, cause) in REPLIES {
            let (found, advice) = of_reply(code, detail);
            assert!(found.contains(cause), "{code} {detail}: {found}");
            assert!(!advice.is_empty());
        }
    }

    #[test]
    fn tls_faults_name_keys_of_the_fleet() {
        use rustls::{AlertDescription, CertificateError, Error};
        let of = |error: Error| of_handshake(&io::Error::other(error));
        let (_, advice) = of(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(advice.contains("fleet.tls.ca_file"), "{advice}");
        let (_, advice) = of(Error::AlertReceived(AlertDescription::CertificateRequired));
        assert!(advice.contains("fleet.tls.certificate"), "{advice}");
        let ended = RedisError::from(io::Error::other(Error::AlertReceived(
            AlertDescription::CertificateRequired,
        )));
        let (cause, _) = of_redis(&ended);
        assert_eq!(cause, "the store requires a client certificate");
    }
}
