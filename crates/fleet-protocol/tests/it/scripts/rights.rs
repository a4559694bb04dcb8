//! The rights of the store's user that docs/fleet.md documents.

use fleet_protocol::command::{Mark, Set};

use super::*;

const DOCUMENT: &str = include_str!("../../../../../docs/fleet.md");
/// Rights without which replicas notice a failover later.
const OPTIONAL: [&str; 2] = ["+info", "+role"];

/// Returns the documented rules, for the keys of the tests.
fn documented_rules() -> Vec<String> {
    let (_, rules) = DOCUMENT.split_once("ACL SETUSER gateway ").unwrap();
    let (rules, _) = rules.split_once("redis-cli").unwrap();
    let words = rules.split_whitespace().filter(|word| *word != "\\");
    let unquoted = words.map(|word| word.trim_matches('\'').replace("{default}", "{test}"));
    unquoted.collect()
}

/// All that a replica sends, and the keys of a database.
fn everything(now: u64) -> Vec<Command> {
    let lifetime = Duration::from_secs(60);
    let lock = LockName {
        replica: Replica(1),
        number: 1,
    };
    let (identity, secret) = (name(9), name(8));
    let finish = |result| {
        Command::Finish(Finish {
            identity,
            lock,
            result,
        })
    };
    let mut commands = one_of_each(now);
    let Command::Beat(joining) = &commands[0] else {
        panic!("the first command is a heartbeat");
    };
    let mut beat = joining.clone();
    beat.joins = false;
    // Unknown to the store.
    beat.queues[0].held.push(ticket(1, 9));
    commands.extend([
        Command::Beat(beat),
        finish(LoginResult::Token {
            record: vec![1],
            lifetime,
            secret,
        }),
        Command::Publish(Publish {
            identity,
            known: Some(vec![1]),
            record: vec![2],
            lifetime,
        }),
        Command::Members(Members {
            queues: vec![name(1)],
        }),
        Command::Get(Fact::Token(identity)),
        Command::Set(Set {
            fact: Fact::Member(Replica(1)),
            value: vec![1],
            lifetime,
        }),
        Command::Mark(Mark {
            fact: Fact::Activation(identity),
            lifetime,
        }),
    ]);
    commands
}

/// Connects as a user with these rules, as a replica does, and sends everything.
///
/// # Errors
/// With the server's first error.
fn use_as(server: &StoreServer, rules: &[String]) -> Result<(), String> {
    let (mut admin, mut client) = (Client::new(server), Client::new(server));
    admin.call(&["FLUSHALL"])?;
    admin.call(&["SCRIPT", "FLUSH"])?;
    let user = ["ACL", "SETUSER", "gateway", "reset"].map(str::to_owned);
    admin.call(&[&user[..], rules].concat())?;
    client.call(&["AUTH", "gateway", "PASSWORD"])?;
    let keys = Keys::new("test");
    let mut hashes = Hashes::new();
    for script in Script::ALL {
        let source = script.source();
        let Value::Bytes(hash) = client.call(&["SCRIPT", "LOAD", &source])? else {
            panic!("no hash");
        };
        hashes.insert(script, hash);
    }
    let mut pushes = Client::new(server);
    pushes.call(&["AUTH", "gateway", "PASSWORD"])?;
    pushes.call(&["SUBSCRIBE", &keys.channel(Replica(1))])?;
    client.call(&["TIME"])?;
    // Where a script is missing.
    client.call(&["EVAL", &Script::Gates.source(), "1", "cap:1:{test}:g", "1"])?;
    let now = server_time(&mut admin);
    // Another replica was heard: no grace period.
    let (beat, run) = (format!("{}beat", keys.prefix()), "01".repeat(20));
    admin.call(&["HSET", &beat, "last", &now.to_string(), "run", &run])?;
    for command in everything(now) {
        client.call(&words(command.call(&keys, &TIMING), &hashes))?;
    }
    Ok(())
}

#[test]
fn documented_rights_are_enough_and_each_is_necessary() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let rules = documented_rules();
    use_as(&server, &rules).unwrap();
    let permits = |rule: &&String| rule.starts_with('+') && !OPTIONAL.contains(&rule.as_str());
    for denied in rules.iter().filter(permits) {
        let others: Vec<_> = rules
            .iter()
            .filter(|rule| *rule != denied)
            .cloned()
            .collect();
        let error = use_as(&server, &others).expect_err(denied);
        let refused = ["permission", "NOPERM", "can't run this command"];
        assert!(
            refused.iter().any(|text| error.contains(text)),
            "{denied}: {error}"
        );
    }
}

#[test]
fn documented_rights_name_the_commands_of_scripts_and_of_connections() {
    let rules = documented_rules();
    let permitted: std::collections::BTreeSet<_> = rules
        .iter()
        .filter_map(|rule| rule.strip_prefix('+'))
        .collect();
    let of_connections = [
        "script|load",
        "evalsha",
        "eval",
        "subscribe",
        "info",
        "role",
    ];
    let expected = COMMANDS.into_iter().chain(of_connections).collect();
    assert_eq!(permitted, expected);
}

#[test]
fn documented_rights_permit_no_other_key_channel_or_command() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    use_as(&server, &documented_rules()).unwrap();
    let mut client = Client::new(&server);
    client.call(&["AUTH", "gateway", "PASSWORD"]).unwrap();
    for denied in [
        &["GET", "other"][..],
        &["GET", "cap:1:{other}:t:1"],
        &["PUBLISH", "other", ""],
        &["SUBSCRIBE", "cap:1:{other}:all"],
        &["KEYS", "*"],
        &["CONFIG", "GET", "*"],
        &["FLUSHALL"],
    ] {
        let error = client.call(denied).unwrap_err();
        assert!(error.starts_with("NOPERM"), "{error}");
    }
}
