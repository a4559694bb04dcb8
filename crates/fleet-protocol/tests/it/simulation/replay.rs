//! The load of a large fleet on a real server.

use std::time::Duration;

use fleet_protocol::reply::Value;
use fleet_protocol::{Command, Keys};
use testkit::store::StoreServer;

use super::SATURATED;
use super::world::{Scenario, World};
use crate::scripts::{CLOCK_ARGUMENT, TIMING};
use crate::server::{Client, load, words};

/// Returns a number of `INFO`.
fn info(client: &mut Client, key: &str) -> f64 {
    let Ok(Value::Bytes(text)) = client.call(&["INFO"]) else {
        panic!("no INFO");
    };
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == key).unwrap();
    value.trim().parse().unwrap()
}

/// Returns the processor time of a server in seconds.
fn processor_time(client: &mut Client) -> f64 {
    info(client, "used_cpu_sys") + info(client, "used_cpu_user")
}

/// Runs the commands of a simulated fleet one after another, each on the connection of its replica;
/// prints the processor time that a second of the fleet takes. Each replica has a second connection
/// for its channels.
fn replay(server: &StoreServer, name: &str, scenario: Scenario) {
    let (_, trace) = World::new(scenario).record();
    let keys = Keys::new("test");
    let mut clients: Vec<_> = (0..scenario.machines)
        .map(|_| Client::new(server))
        .collect();
    let mut subscribed = Vec::new();
    let hashes = load(&mut clients[0], |script| {
        script.source_with_clock(CLOCK_ARGUMENT)
    });
    let start = trace[0].0 + u64::try_from(scenario.warm_up.as_micros()).unwrap();
    let (mut before, mut count) = (0.0, 0_u32);
    for (micros, machine, command) in trace {
        if let Command::Beat(beat) = &command
            && beat.joins
        {
            let mut pushes = Client::new(server);
            let channels = [keys.channel(beat.replica), keys.channel_to_all()];
            pushes
                .call(&["SUBSCRIBE", &channels[0], &channels[1]])
                .unwrap();
            subscribed.push(pushes);
        }
        if count == 0 && micros >= start {
            before = processor_time(&mut clients[0]);
        }
        count += u32::from(micros >= start);
        let mut words = words(command.call(&keys, &TIMING), &hashes);
        words.push(micros.to_string().into());
        clients[machine].call(&words).unwrap();
    }
    let used = processor_time(&mut clients[0]) - before;
    let seconds = (scenario.length - scenario.warm_up).as_secs_f64();
    let memory = info(&mut clients[0], "used_memory_dataset") / 1e6;
    eprintln!(
        "{name}: {:.0} commands a second, {:.1} us each, {:.0} % of a core, {memory:.1} MB of data",
        f64::from(count) / seconds,
        used / f64::from(count) * 1e6,
        used / seconds * 100.0
    );
}

/// A minute of processor time: `cargo test --release -p fleet-protocol -- --ignored --nocapture real_server`.
#[test]
#[ignore = "a measurement; run in a release build"]
fn load_of_a_thousand_replicas_on_a_real_server() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let scenario = Scenario {
        rates: 0,
        identities: 0,
        length: Duration::from_secs(20),
        warm_up: Duration::from_secs(10),
        ..SATURATED
    };
    replay(
        &server,
        "idle",
        Scenario {
            pollers: 0,
            ..scenario
        },
    );
    replay(&server, "queries of 1 s", scenario);
    let short = Scenario {
        query: Duration::from_millis(200),
        ..scenario
    };
    replay(&server, "queries of 0.2 s", short);
    let all = Scenario {
        rates: 1000,
        ..short
    };
    replay(&server, "queries of 0.2 s and rates", all);
}
