//! `demo`: an emulated Citrix Cloud over TLS, the gateway in front of it, and commands to try.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use uuid::Uuid;

use super::run::{Signals, Supervisor, on_a_runtime, serve};
use super::{DemoArgs, FAILURE, USAGE, eprint_error, print};
use crate::app::{Addresses, App, StartError};
use crate::config::{self, Config, ConfigProblem, LogFormat, LogSettings};
use crate::observe::telemetry::{LogHandle, Telemetry};
use crate::system::clock::Clock;
use crate::system::descriptors;
use crate::system::hardening::Hardening;
use citrix_emulator::{Emulator, EmulatorError, Options, Tls};

/// The default of `admin.address`.
const ADMIN: &str = "127.0.0.1:9090";

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("failed to start the emulator: {0}")]
    Emulator(#[from] EmulatorError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", ConfigProblem::lines(.0))]
    Config(Vec<ConfigProblem>),
    #[error("{0}")]
    Gateway(#[from] StartError),
}

/// Runs until a signal stops it.
pub fn demo(args: &DemoArgs, hardening: &Hardening) -> ExitCode {
    let log = LogSettings {
        format: Some(LogFormat::Text),
        level: LevelFilter::INFO,
    };
    // The default limits need more than the usual 1024.
    let _ = descriptors::raise_limit();
    // A test may have installed a logger already.
    let telemetry = Telemetry::start(log).ok();
    hardening.log();
    ExitCode::from(on_a_runtime(async {
        match start(args, telemetry.as_ref().map(Telemetry::handle)).await {
            Ok(code) => code,
            Err(error) => {
                eprint_error(&error);
                if matches!(error, DemoError::Config(_)) {
                    USAGE
                } else {
                    FAILURE
                }
            }
        }
    }))
}

async fn start(args: &DemoArgs, log: Option<LogHandle>) -> Result<u8, DemoError> {
    let mut signals = Signals::new()?;
    let emulator = citrix_emulator::start(Options {
        tls: Tls::SelfSigned,
        ..Options::default()
    })
    .await?;
    let folder = PrivateFolder::new_in(&std::env::temp_dir())?;
    let ca_file = folder.write("ca.pem", emulator.ca_pem().unwrap_or_default())?;
    let app = start_gateway(args, &emulator, &ca_file, log).await?;
    print(guide(app.addresses(), &emulator).as_bytes());
    let code = serve(app, &mut signals, None, &Supervisor::none()).await;
    emulator.stop().await;
    Ok(code)
}

/// Starts the gateway with its status page at [`ADMIN`], or at any port if that one is in use.
async fn start_gateway(
    args: &DemoArgs,
    emulator: &Emulator,
    ca_file: &Path,
    log: Option<LogHandle>,
) -> Result<App, DemoError> {
    let config = |admin| configure(args, admin, emulator, ca_file).map_err(DemoError::Config);
    if args.listen != ADMIN {
        match App::start(config(ADMIN)?, Clock::SYSTEM, log.clone()).await {
            Err(StartError::Admin(_, error)) if error.kind() == io::ErrorKind::AddrInUse => {}
            started => return Ok(started?),
        }
    }
    Ok(App::start(config("127.0.0.1:0")?, Clock::SYSTEM, log).await?)
}

fn configure(
    args: &DemoArgs,
    admin: &str,
    emulator: &Emulator,
    ca_file: &Path,
) -> Result<Config, Vec<ConfigProblem>> {
    let customer = emulator.customer_id();
    let text = format!(
        "[citrix]\ncustomer_id = {customer:?}\nclient_id = {:?}\napi_url = {:?}\ntoken_url = {:?}\n\
         [listen]\naddress = {:?}\n[admin]\naddress = {admin:?}\n[upstream]\nca_file = {:?}\n\
         [lifecycle]\ndrain_timeout = \"5s\"\n\
         [log]\nformat = \"text\"\naccess = false\n",
        emulator.client_id(),
        emulator.base_url(),
        emulator.token_url(customer),
        args.listen,
        ca_file,
    );
    let secret = (
        "CITRIX_CLIENT_SECRET".to_owned(),
        emulator.client_secret().to_owned(),
    );
    config::from_toml(&text, [secret])
}

/// A folder that only this user can enter; removed on drop.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Creates a folder with a random name.
    ///
    /// # Errors
    /// If the folder cannot be created, or something has its name already, a symbolic link
    /// included.
    fn new_in(parent: &Path) -> io::Result<Self> {
        Self::create(parent.join(format!("citrix-auth-proxy-demo-{}", Uuid::new_v4())))
    }

    fn create(path: PathBuf) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("failed to create {}: {error}", path.display()),
            )),
        }
    }

    /// Creates a file that only this user can read.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&path)?.write_all(content.as_ref())?;
        Ok(path)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // It holds nothing secret.
        let _ = fs::remove_dir_all(&self.0);
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
         Try these in another terminal. None of them logs in; the gateway does.\n\
         The status page shows what became of them.\n\
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
         Ctrl-C stops both.\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn private_folder_is_closed_to_others_and_removed_with_its_files() {
        let parent = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::new_in(parent.path()).unwrap();
        let file = folder.write("ca.pem", "certificate").unwrap();
        let path = file.parent().unwrap().to_owned();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&file).unwrap(), "certificate");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn private_folder_follows_no_link() {
        let parent = tempfile::tempdir().unwrap();
        let (target, link) = (parent.path().join("target"), parent.path().join("link"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        for existing in [&target, &link] {
            let error = PrivateFolder::create(existing.clone()).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn private_folder_overwrites_no_file() {
        let parent = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::new_in(parent.path()).unwrap();
        folder.write("ca.pem", "first").unwrap();
        assert!(folder.write("ca.pem", "second").is_err());
    }
}
