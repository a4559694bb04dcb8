//! Cost of rewriting the links of a page of machines, compared with copying it three times through
//! a channel.
//!
//! `cargo bench --bench link_rewrite`. Reports the fastest of several rounds, which other processes
//! disturb least.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

use std::error::Error;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use citrix_wire::coding::{ContentCoding, ContentDecoder};
use citrix_wire::link_rewrite::{BodyRewriter, LinkMap, LinkRewriter, LinkRoute};
use tokio::sync::mpsc;
use tokio::time::Instant;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Bytes per read of a connection.
const CHUNK: usize = 16 * 1024;
const ROUNDS: u32 = 15;

fn main() -> Fallible<()> {
    // `cargo test --benches` also runs this.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        1
    };
    let page = page()?;
    let size = page.len();
    println!("page of {size} bytes in pieces of {CHUNK}, fastest of {rounds} rounds\n");
    println!("{:<44} {:>8} {:>8} {:>8}", "", "ms", "MB/s", "µs/KB");

    let plain = pieces(&page);
    report(
        "copied three times through a channel",
        size,
        fastest(rounds, || copy_three_times(&plain))?,
    );
    report(
        "links rewritten",
        size,
        fastest(rounds, || rewrite(None, &plain))?,
    );
    for (name, coding, encoded) in encoded(&page)? {
        println!("\n{name}: {} bytes", encoded.len());
        let encoded = pieces(&encoded);
        report(
            &format!("{name}: decoded"),
            size,
            fastest(rounds, || decode(coding, &encoded))?,
        );
        report(
            &format!("{name}: decoded, rewritten, encoded"),
            size,
            fastest(rounds, || rewrite(Some(coding), &encoded))?,
        );
    }
    Ok(())
}

fn report(name: &str, size: usize, (elapsed, out): (Duration, usize)) {
    let (seconds, size) = (
        elapsed.as_secs_f64(),
        f64::from(u32::try_from(size).unwrap_or(u32::MAX)),
    );
    let rate = size / seconds / 1e6;
    let per_kib = seconds * 1e6 / (size / 1024.0);
    println!(
        "{name:<44} {:>8.2} {rate:>8.0} {per_kib:>8.3}   {out} bytes out",
        seconds * 1e3
    );
}

fn fastest(rounds: u32, mut run: impl FnMut() -> Fallible<usize>) -> Fallible<(Duration, usize)> {
    let mut fastest = (Duration::MAX, 0);
    for _ in 0..rounds {
        let start = Instant::now();
        let out = run()?;
        fastest = fastest.min((start.elapsed(), out));
    }
    Ok(fastest)
}

fn rewrite(coding: Option<ContentCoding>, pieces: &[Bytes]) -> Fallible<usize> {
    let upstream = "api.cloud.com";
    let routes = ["", "/monitorodata", "/cvad/manage"].map(|prefix| LinkRoute {
        prefix,
        strip_prefix: false,
        upstream,
        base_path: "",
    });
    let links = LinkRewriter::new(
        Rc::new(LinkMap::new(routes, [])),
        "https://gw.example.net",
        upstream,
    );
    let mut rewriter = BodyRewriter::new(links, coding);
    let mut out = 0;
    for piece in pieces {
        rewriter.push(piece.clone());
        while let Some(piece) = rewriter.pull()? {
            out += std::hint::black_box(piece).len();
        }
    }
    rewriter.finish();
    while let Some(piece) = rewriter.pull()? {
        out += std::hint::black_box(piece).len();
    }
    if rewriter.counts().rewritten == 2 {
        Ok(out)
    } else {
        Err("the page has two links".into())
    }
}

fn decode(coding: ContentCoding, pieces: &[Bytes]) -> Fallible<usize> {
    let first = pieces
        .first()
        .and_then(|piece| piece.first())
        .copied()
        .unwrap_or_default();
    let mut decoder = ContentDecoder::new(coding.format(first));
    let mut out = 0;
    for piece in pieces {
        decoder.push(piece.clone());
        while let Some(slice) = decoder.pull()? {
            out += std::hint::black_box(slice).len();
        }
    }
    Ok(out)
}

fn copy_three_times(pieces: &[Bytes]) -> Fallible<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let pieces = pieces.to_vec();
    Ok(runtime.block_on(async move {
        let (sender, mut receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            for piece in pieces {
                if sender.send(Bytes::copy_from_slice(&piece)).await.is_err() {
                    return;
                }
            }
        });
        for _ in 0..2 {
            let (sender, next) = mpsc::channel(4);
            let mut previous = std::mem::replace(&mut receiver, next);
            tokio::spawn(async move {
                while let Some(piece) = previous.recv().await {
                    if sender.send(Bytes::copy_from_slice(&piece)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let mut out = 0;
        while let Some(piece) = receiver.recv().await {
            out += std::hint::black_box(piece).len();
        }
        out
    }))
}

fn pieces(body: &[u8]) -> Vec<Bytes> {
    body.chunks(CHUNK).map(Bytes::copy_from_slice).collect()
}

/// Returns the page in the codings of servers: level 6 of zlib, quality 4 of brotli.
fn encoded(page: &[u8]) -> Fallible<[(&'static str, ContentCoding, Vec<u8>); 3]> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(page)?;
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    deflate.write_all(page)?;
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), CHUNK, 4, 22);
    brotli.write_all(page)?;
    Ok([
        ("gzip", ContentCoding::Gzip, gzip.finish()?),
        ("deflate", ContentCoding::Deflate, deflate.finish()?),
        ("br", ContentCoding::Brotli, brotli.into_inner()),
    ])
}

/// Returns a page of 7 MB like `/cvad/manage/Machines?limit=1000` (contract §4).
fn page() -> Fallible<Vec<u8>> {
    let mut page = Vec::new();
    let start =
        r#"{"@odata.context":"https://api.cloud.com/monitorodata/$metadata#Machines","Items":["#;
    page.write_all(start.as_bytes())?;
    let mut number = 1_u64;
    while page.len() < 7_200_000 {
        // Distinct ids, so that the page does not compress unrealistically well.
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        write_machine(&mut page, number)?;
    }
    write!(
        page,
        r#"{{}}],"@odata.nextLink":"https://api.cloud.com/monitorodata/Machines?$skip=1000"}}"#
    )?;
    Ok(page)
}

/// Appends a machine whose ids derive from `number`, and a comma.
fn write_machine(page: &mut Vec<u8>, number: u64) -> std::io::Result<()> {
    let (a, b) = (number >> 32, number >> 16 & 0xffff);
    write!(
        page,
        r#"{{"Id":"{a:08x}-{b:04x}-4a5b-9c8d-0123{a:08x}","Uid":{b},"Name":"CORP\\VDA{b:05}","#,
    )?;
    write!(
        page,
        r#""DnsName":"vda{b:05}.corp.example.net","AllocationType":"Random","AgentVersion":"#
    )?;
    write!(
        page,
        r#""2402.0.0.1","AssignedClientName":null,"AssignedUsers":[],"AssociatedUsers":["#
    )?;
    write!(
        page,
        r#"{{"SamName":"user{b}","Sid":"S-1-5-21-{a}-{b}","PrincipalName":null}}],"#
    )?;
    write!(
        page,
        r#""Capabilities":["CBP1_5","MultiSession"],"Created":"2024-05-06T07:08:09.123Z","#
    )?;
    write!(
        page,
        r#""DeliveryGroup":{{"Id":"{b:08x}","Uid":3,"Name":"Office Desktops"}},"#
    )?;
    write!(
        page,
        r#""DeliveryType":"DesktopsAndApps","FaultState":"None","FunctionalLevel":"L7_25","#
    )?;
    write!(
        page,
        r#""InMaintenanceMode":false,"IPAddress":"10.1.{}.{}","IsAssigned":true,"#,
        b % 256,
        a % 256
    )?;
    write!(
        page,
        r#""LastConnectionFailure":"None","LastDeregistrationReason":"AgentShutdown","#
    )?;
    write!(
        page,
        r#""MachineCatalog":{{"Id":"{a:08x}","Name":"Win11 Pool","Uid":9}},"#
    )?;
    write!(
        page,
        r#""OSType":"Windows 2022","PowerState":"On","ProvisioningType":"MCS","#
    )?;
    write!(
        page,
        r#""RegistrationState":"Registered","SessionCount":{},"SummaryState":"InUse","#,
        b % 9
    )?;
    write!(
        page,
        r#""SupportedPowerActions":["TurnOn","Shutdown","Reset"],"Tags":[],"#
    )?;
    write!(page, r#""Zone":{{"Id":"1","Name":"Primary","Uid":1}}}},"#)
}
