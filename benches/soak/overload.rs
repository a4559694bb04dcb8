//! Beyond the capacity of a gateway: what it still serves, what rejections cost, and what noisy
//! callers take from quiet ones.
//!
//! `-- overload` measures it in about three minutes, on a machine that does nothing else. The
//! gateway has a processor of its own, or a part of one, and this program the others.

mod confined;
mod load;
mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::Fallible;
use crate::configuration::sha256;
use crate::gateway::Gateway;
use crate::options::Options;
use crate::tokens::Tokens;
use confined::{Quota, on_one_processor, processor_time};
use load::{Callers, Load, Summary, Way};

/// Time of each measurement.
const TIME: Duration = Duration::from_secs(5);
/// Requests that the gateway forwards at the same time, fewer where each needs a handshake.
const MAX_IN_FLIGHT: usize = 32;
const MAX_IN_FLIGHT_TLS: usize = 6;
/// The time that each takes at the upstream.
const TARGET: &str = "/work?ms=50";
const RESPONSE_SECONDS: f64 = 0.05;
/// Names of callers that share the load: one alone has at most 10/11 of a limit.
const CALLERS: [&str; 6] = ["first", "second", "third", "fourth", "quiet", "limited"];
const SECRET: &str = "client-secret-of-the-overload";
/// Permitted loss of goodput.
const LOSS: f64 = 0.9;
const LIMIT_CONNECTIONS: usize = 64;
/// Requests in flight of which a noisy caller leaves a quiet one its share, about five.
const SHARED_IN_FLIGHT: usize = 64;

/// A line of the table.
struct Row {
    case: String,
    measured: String,
    target: String,
    is_met: bool,
}

impl Row {
    fn new(case: impl Into<String>, measured: String, target: &str, is_met: bool) -> Self {
        let (case, target) = (case.into(), target.to_owned());
        Self {
            case,
            measured,
            target,
            is_met,
        }
    }
}

/// Settings that all gateways here have in common.
struct Place<'a> {
    options: &'a Options,
    tokens: Arc<Tokens>,
    upstream: SocketAddr,
}

/// Measures everything and prints a table.
pub(crate) async fn run(options: &Options) -> Fallible<ExitCode> {
    let place = Place {
        options,
        tokens: Tokens::start(SECRET).await?,
        upstream: work::start().await?,
    };
    let (_, confined) = on_one_processor();
    println!("The gateway is {confined}.\n");
    println!("| case | measured | target | met |\n|---|---|---|---|");
    let mut is_met = true;
    for way in [Way::Http1Kept, Way::Http1New, Way::Http1TlsNew, Way::Http2] {
        is_met &= print(&place.beyond_the_limit(way).await?);
    }
    for (way, percent) in [
        (Way::Http1Kept, 5),
        (Way::Http1New, 5),
        (Way::Http1TlsNew, 20),
        (Way::Http2, 5),
    ] {
        let rows = place.beyond_the_processor(way, percent).await;
        is_met &= print(&rows.unwrap_or_else(|error| {
            let case = format!("{way:?} with {percent} % of a processor");
            vec![Row::new(case, format!("not measured: {error}"), "–", true)]
        }));
    }
    is_met &= print(&place.rejections().await?);
    is_met &= print(&place.neighbours().await?);
    Ok(if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(rows: &[Row]) -> bool {
    for row in rows {
        let met = if row.is_met { "yes" } else { "**no**" };
        let Row {
            case,
            measured,
            target,
            ..
        } = row;
        println!("| {case} | {measured} | {target} | {met} |");
    }
    rows.iter().all(|row| row.is_met)
}

fn secrets(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| secret(name)).collect()
}

fn secret(name: &str) -> String {
    format!("a-secret-of-the-caller-{name}")
}

fn callers(way: Way, target: &str) -> Callers {
    Callers {
        way,
        secrets: secrets(&CALLERS[..4]),
        target: target.to_owned(),
        from: Ipv4Addr::LOCALHOST,
    }
}

fn describe(summary: &Summary) -> String {
    let Summary {
        rejected,
        without_response,
        other,
        unsent,
        ..
    } = summary;
    let mut text = format!(
        "{:.0} offered/s, {:.0} served/s (p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms), {rejected} × 503",
        summary.offered(),
        summary.goodput(),
        summary.milliseconds(500),
        summary.milliseconds(990),
        summary.milliseconds(1000),
    );
    for (count, what) in [
        (without_response, "without a response"),
        (other, "other statuses"),
        (unsent, "not sent"),
    ] {
        if *count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

impl Place<'_> {
    async fn gateway(&self, limits: &str, has_callers: bool) -> Fallible<Gateway> {
        let (command, _) = on_one_processor();
        let log = self.options.output.join("overload.log");
        Gateway::start(command, log, |folder| {
            let listeners = folder.tls.toml("address = '127.0.0.1:0'\n");
            let (upstream, tokens) = (self.upstream, self.tokens.address);
            let mut toml = format!(
                "[citrix]\ncustomer_id = 'acme'\nclient_id = 'overload'\nclient_secret = '{SECRET}'\n\
                 instance_id = ''\napi_url = 'http://{upstream}'\ntoken_url = 'http://{tokens}/token'\n\
                 [listen]\naddress = '127.0.0.1:0'\nworkers = 1\nhosts = ['*']\n{listeners}\n\
                 [admin]\naddress = '127.0.0.1:0'\n[limits]\n{limits}\n\
                 [[route]]\nprefix = '/gated'\nupstream = 'http://{upstream}'\nmax_concurrent = 4\nqueue_timeout = '30s'\n"
            );
            for name in CALLERS.iter().filter(|_| has_callers) {
                let hash = sha256(&secret(name));
                toml += &format!("[[caller]]\nname = '{name}'\nsecret_sha256 = '{hash}'\n");
                if *name == "limited" {
                    toml += "max_per_second = 1\n";
                }
            }
            Ok(toml)
        })
        .await
    }

    /// Measures a gateway whose limit of requests in flight is its capacity.
    async fn beyond_the_limit(&self, way: Way) -> Fallible<Vec<Row>> {
        let permits = match way {
            Way::Http1TlsNew => MAX_IN_FLIGHT_TLS,
            _ => MAX_IN_FLIGHT,
        };
        let capacity = permits as f64 / RESPONSE_SECONDS;
        let limits = format!("max_in_flight = {permits}\nmax_connections = 5000");
        let gateway = self.gateway(&limits, true).await?;
        let load = Load::new(&gateway, callers(way, TARGET));
        let once = load.at_rate(capacity, TIME).await;
        load.ended().await;
        load.at_rate(1.0, Duration::ZERO).await;
        let thrice = load.at_rate(3.0 * capacity, TIME).await;
        let case = format!("{way:?}, {permits} in flight");
        Ok(compare(&case, capacity, &once, &thrice))
    }

    /// Measures a gateway whose capacity is a part of a processor.
    async fn beyond_the_processor(&self, way: Way, percent: u64) -> Fallible<Vec<Row>> {
        let gateway = self
            .gateway("max_in_flight = 256\nmax_connections = 300", true)
            .await?;
        let _quota = Quota::of(&gateway, percent)?;
        let load = Load::new(&gateway, callers(way, "/work?ms=0"));
        let best = load.in_turn(16, TIME).await;
        load.ended().await;
        let once = load.at_rate(best.goodput(), TIME).await;
        load.ended().await;
        load.at_rate(1.0, Duration::ZERO).await;
        let thrice = load.at_rate(3.0 * best.goodput(), TIME).await;
        let case = format!("{way:?}, {percent} % of a processor");
        let mut rows = vec![Row::new(
            format!("{case}, 16 callers in turn"),
            describe(&best),
            "–",
            true,
        )];
        rows.extend(compare(&case, best.goodput(), &once, &thrice));
        Ok(rows)
    }

    /// Measures the processor time of a rejection.
    async fn rejections(&self) -> Fallible<Vec<Row>> {
        let mut rows = Vec::new();
        let gateway = self.gateway("max_in_flight = 256", true).await?;
        for way in [Way::Http1Kept, Way::Http1New, Way::Http1TlsNew, Way::Http2] {
            let mut callers = callers(way, "/work?ms=0");
            callers.secrets = secrets(&["limited"]);
            let load = Load::new(&gateway, callers);
            rows.push(rejection(&gateway, &load, &format!("{way:?}: the caller's rate")).await?);
        }
        let limits = format!("max_in_flight = {MAX_IN_FLIGHT}");
        let gateway = self.gateway(&limits, true).await?;
        let _busy = occupy(&gateway, 2 * MAX_IN_FLIGHT).await;
        let load = Load::new(&gateway, callers(Way::Http1Kept, TARGET));
        rows.push(rejection(&gateway, &load, "Http1Kept: requests in flight").await?);
        let limits = format!("max_connections = {LIMIT_CONNECTIONS}");
        let gateway = self.gateway(&limits, true).await?;
        let _busy = occupy(&gateway, 2 * LIMIT_CONNECTIONS).await;
        for way in [Way::Http1New, Way::Http1TlsNew] {
            let load = Load::new(&gateway, callers(way, TARGET));
            rows.push(rejection(&gateway, &load, &format!("{way:?}: connections")).await?);
        }
        Ok(rows)
    }

    /// Measures a quiet caller beside a noisy one.
    async fn neighbours(&self) -> Fallible<Vec<Row>> {
        let mut rows = Vec::new();
        let limits = format!("max_in_flight = {SHARED_IN_FLIGHT}\nmax_connections = 1000");
        for is_named in [true, false] {
            for target in [TARGET, "/gated/work?ms=50"] {
                for way in [Way::Http1Kept, Way::Http2] {
                    let gateway = self.gateway(&limits, is_named).await?;
                    let row = neighbours(&gateway, is_named, way, target).await;
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }
}

fn compare(case: &str, rate: f64, once: &Summary, thrice: &Summary) -> Vec<Row> {
    let part = thrice.goodput() / once.goodput().max(1.0);
    // Requests without an end yet were offered as well.
    let is_offered = thrice.is_behind() || thrice.offered() >= LOSS * 3.0 * rate;
    let note = if is_offered {
        ""
    } else {
        "; not measured: this program is too slow here"
    };
    let measured = format!("{}; {:.0} % of 1×{note}", describe(thrice), 100.0 * part);
    vec![
        Row::new(format!("{case}, 1×"), describe(once), "–", true),
        Row::new(
            format!("{case}, 3×"),
            measured,
            "≥ 90 %",
            part >= LOSS || !is_offered,
        ),
    ]
}

/// Occupies requests in flight, and so connections, for longer than a measurement.
async fn occupy(gateway: &Gateway, count: usize) -> Arc<Load> {
    let load = Load::new(gateway, callers(Way::Http1Kept, "/work?ms=60000"));
    for _ in 0..count {
        let load = Arc::clone(&load);
        tokio::spawn(async move { load.in_turn(1, Duration::from_millis(1)).await });
    }
    sleep(Duration::from_secs(1)).await;
    load
}

/// Measures requests that are all rejected.
async fn rejection(gateway: &Gateway, load: &Arc<Load>, case: &str) -> Fallible<Row> {
    let before = processor_time(gateway)?;
    let summary = load.in_turn(8, TIME / 2).await;
    let used = processor_time(gateway)?.saturating_sub(before);
    let rejections = summary.failed().max(1);
    let microseconds = used.as_secs_f64() * 1e6 / rejections as f64;
    Ok(Row::new(
        format!("rejection, {case}"),
        format!(
            "{microseconds:.0} µs each; {} × 503, {} closed without a response, {} served",
            summary.rejected, summary.without_response, summary.served
        ),
        "< 1000 µs",
        microseconds < 1000.0 && summary.served < 20,
    ))
}

/// Measures a caller with 20 requests a second while another sends as many as it can.
async fn neighbours(gateway: &Gateway, is_named: bool, way: Way, target: &str) -> Row {
    let mut noisy = callers(way, target);
    noisy.secrets = secrets(if is_named { &["first"] } else { &[] });
    let mut quiet = noisy.clone();
    quiet.secrets = secrets(if is_named { &["quiet"] } else { &[] });
    quiet.from = Ipv4Addr::new(127, 0, 0, 2);
    if is_named {
        // Only names tell them apart.
        quiet.from = noisy.from;
    }
    let noisy = Load::new(gateway, noisy);
    let quiet = Load::new(gateway, quiet);
    let noise = noisy.in_turn(192, TIME + Duration::from_secs(1));
    let measured = async {
        sleep(Duration::from_millis(500)).await;
        let summary = quiet.at_rate(20.0, TIME).await;
        quiet.ended().await;
        summary
    };
    let (noise, quiet) = tokio::join!(noise, measured);
    let by = if is_named { "name" } else { "address" };
    Row::new(
        format!("a quiet caller beside a noisy one, {way:?}, {target}, by {by}"),
        format!(
            "quiet: {} of about 100 served (p50 {:.0} ms, p99 {:.0} ms), {} failed; noisy: {:.0} served/s, {} failed",
            quiet.served,
            quiet.milliseconds(500),
            quiet.milliseconds(990),
            quiet.failed(),
            noise.goodput(),
            noise.failed()
        ),
        "0 failed",
        quiet.failed() == 0 && quiet.served > 90,
    )
}
