//! `demo`: an emulated Citrix Cloud on TLS and the gateway in front of it, with something to try.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;

use super::run::{Signals, on_a_runtime, serve};
use super::{DemoArgs, FAILED, USAGE, complain_of, say};
use crate::app::{Addresses, App};
use crate::config::{self, Config, ConfigProblem, LogFormat, LogSettings};
use crate::observe::telemetry::{LogHandle, Telemetry};
use crate::system::clock::Clock;
use citrix_emulator::{Emulator, EmulatorError, Options, Tls};

/// Why there is no demonstration.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the emulator does not start: {0}")]
    Emulator(#[from] EmulatorError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", list(.0))]
    Config(Vec<ConfigProblem>),
    #[error("{0}")]
    Gateway(#[from] crate::app::StartError),
}

fn list(problems: &[ConfigProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs until it is told to stop.
pub fn demo(args: &DemoArgs) -> ExitCode {
    let log = LogSettings {
        format: LogFormat::Text,
        level: LevelFilter::INFO,
    };
    // Something else in the process may log already.
    let telemetry = Telemetry::start(log).ok();
    ExitCode::from(on_a_runtime(async {
        match show(args, telemetry.as_ref().map(Telemetry::handle)).await {
            Ok(code) => code,
            Err(error) => {
                complain_of(&error);
                if matches!(error, DemoError::Config(_)) {
                    USAGE
                } else {
                    FAILED
                }
            }
        }
    }))
}

async fn show(args: &DemoArgs, log: Option<LogHandle>) -> Result<u8, DemoError> {
    let mut signals = Signals::new()?;
    let emulator = citrix_emulator::start(Options {
        tls: Tls::SelfSigned,
        ..Options::default()
    })
    .await?;
    let certificate = CaFile::write(&emulator)?;
    let config = configure(args, &emulator, &certificate).map_err(DemoError::Config)?;
    let app = App::start(config, Clock::SYSTEM, log).await?;
    say(guide(app.addresses(), &emulator).as_bytes());
    let code = serve(app, &mut signals, None).await;
    emulator.stop().await;
    Ok(code)
}

fn configure(
    args: &DemoArgs,
    emulator: &Emulator,
    certificate: &CaFile,
) -> Result<Config, Vec<ConfigProblem>> {
    let customer = emulator.customer_id();
    let text = format!(
        "[citrix]\ncustomer_id = {customer:?}\nclient_id = {:?}\napi_url = {:?}\ntoken_url = {:?}\n\
         [listen]\naddress = {:?}\n[admin]\naddress = \"127.0.0.1:0\"\n[upstream]\nca_file = {:?}\n\
         [lifecycle]\ndrain_timeout = \"5s\"\n[log]\nformat = \"text\"\n",
        emulator.client_id(),
        emulator.base_url(),
        emulator.token_url(customer),
        args.listen,
        certificate.0,
    );
    let secret = (
        "CITRIX_CLIENT_SECRET".to_owned(),
        emulator.client_secret().to_owned(),
    );
    config::from_toml(&text, [secret])
}

/// The emulator's CA as a file, because that is how a gateway is told; gone when the demonstration ends.
struct CaFile(PathBuf);

impl CaFile {
    fn write(emulator: &Emulator) -> io::Result<Self> {
        let name = format!("citrix-auth-proxy-demo-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, emulator.ca_pem().unwrap_or_default())?;
        Ok(Self(path))
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        // Left in the temporary folder it does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn guide(addresses: &Addresses, emulator: &Emulator) -> String {
    let gateway = addresses
        .listeners
        .first()
        .map(|(address, _)| address.to_string())
        .unwrap_or_default();
    let (admin, cloud, customer) = (addresses.admin, emulator.base_url(), emulator.customer_id());
    format!(
        "An emulated Citrix Cloud runs at  {cloud}  (TLS, customer {customer})\n\
         The gateway in front of it at     http://{gateway}\n\
         Its status page at                http://{admin}/\n\
         \n\
         Try in another terminal; none of these logs in, the gateway does:\n\
         \n\
         curl -i http://{gateway}/cvad/manage/me\n\
         curl -i 'http://{gateway}/cvad/manage/Machines?limit=2'\n\
         curl -i http://{gateway}/resourcelocations\n\
         curl -i http://{gateway}/{customer}/resourcelocations\n\
         curl -i 'http://{gateway}/monitorodata/Machines?$top=2'\n\
         curl -i 'http://{gateway}/systemlog/records?Limit=2'\n\
         curl -i --http2-prior-knowledge http://{gateway}/cvad/manage/me\n\
         curl -i -H 'Authorization: CwsAuth Bearer=stale' http://{gateway}/echo\n\
         curl -s http://{admin}/readyz\n\
         curl -s http://{admin}/metrics\n\
         \n\
         Ctrl-C ends it.\n"
    )
}
