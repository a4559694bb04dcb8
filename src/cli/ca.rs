//! `ca`: the certificate authority of `[intercept]`.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CaCommand, FAILURE, NewCaArgs, USAGE, eprint, print};
use crate::system::clock::Clock;
use crate::tls::authority::{self, NewAuthority};
use citrix_wire::citrix::services;
use citrix_wire::connect_target::dns_name;

/// The issuing authority and the root, which the gateway reads.
const CHAIN: &str = "ca.pem";
/// The key of the issuing authority.
const KEY: &str = "ca.key";
/// The root alone, which clients trust.
const ROOT: &str = "ca-root.pem";

/// Runs a subcommand of `ca`.
pub fn ca(command: &CaCommand) -> ExitCode {
    match command {
        CaCommand::New(args) => new(args),
    }
}

/// Parses a domain, into lower case.
///
/// # Errors
/// If it is not the name of a domain.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let invalid = |_| "not a domain name; expected, for example, reports.example.net".to_owned();
    dns_name(text).map_err(invalid)
}

/// Creates an authority and prints how to use it. Never overwrites a file: clients trust the
/// authority that it may contain.
fn new(args: &NewCaArgs) -> ExitCode {
    let folder = args.out.as_path();
    let domains: BTreeSet<String> = services::domains()
        .into_iter()
        .chain(args.domains.iter().cloned())
        .collect();
    let domains: Vec<String> = domains.into_iter().collect();
    if let Some(existing) = [CHAIN, KEY, ROOT]
        .map(|name| folder.join(name))
        .iter()
        .find(|path| path.symlink_metadata().is_ok())
    {
        eprint(&format!(
            "{} exists and is not overwritten; choose another folder with --out, or remove it",
            existing.display()
        ));
        return ExitCode::from(USAGE);
    }
    let new = match authority::create(&domains, Clock::SYSTEM.now()) {
        Ok(new) => new,
        Err(error) => {
            eprint(&format!("failed to create an authority: {error}"));
            return ExitCode::from(FAILURE);
        }
    };
    if let Err((path, error)) = write(folder, &new) {
        eprint(&format!("failed to write {}: {error}", path.display()));
        return ExitCode::from(FAILURE);
    }
    print(instructions(folder, &new, &domains).as_bytes())
}

/// Writes the files. Removes those that it has created if one cannot be written.
fn write(folder: &Path, new: &NewAuthority) -> Result<(), (PathBuf, io::Error)> {
    let files = [
        (KEY, new.key.as_str(), 0o600),
        (CHAIN, &new.chain, 0o644),
        (ROOT, &new.root, 0o644),
    ];
    let mut created = Vec::new();
    for (name, content, mode) in files {
        let path = folder.join(name);
        if let Err(error) = write_new(&path, content, mode) {
            // The error to report is the first.
            created
                .iter()
                .for_each(|path| drop(std::fs::remove_file(path)));
            return Err((path, error));
        }
        created.push(path);
    }
    Ok(())
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| {
        // Independent of the umask.
        file.set_permissions(PermissionsExt::from_mode(mode))?;
        file.sync_all()
    });
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

fn instructions(folder: &Path, new: &NewAuthority, domains: &[String]) -> String {
    let file = |name: &str| {
        let path = folder.join(name);
        path.canonicalize().unwrap_or(path).display().to_string()
    };
    let (chain, key, root) = (file(CHAIN), file(KEY), file(ROOT));
    format!(
        "A certificate authority for hosts of these domains, and for no IP address:\n\n  {domains}\n\n\
         {chain}       the authority, for the gateway\n\
         {key}       its private key, for the gateway alone (mode 0600)\n\
         {root}  its root, for the clients' lists of trusted authorities\n\n\
         SHA-256 of the root: {fingerprint}\n\
         Valid until:         {until}\n\n\
         Add this block to the configuration:\n\n\
         [intercept]\naddress = \"127.0.0.1:8081\"\nca = {{ certificate = {chain:?}, key = {key:?} }}\n\n\
         Clients trust {ROOT} after:\n\n\
         Windows     certutil -addstore -f Root {ROOT}   (as administrator)\n\
         Debian      cp {ROOT} /usr/local/share/ca-certificates/citrix-auth-proxy.crt && update-ca-certificates\n\
         Java        keytool -importcert -noprompt -cacerts -storepass changeit -alias citrix-auth-proxy -file {ROOT}\n\
         Python      REQUESTS_CA_BUNDLE={root} (requests), SSL_CERT_FILE={root} (urllib, httpx)\n\
         Node        NODE_EXTRA_CA_CERTS={root}\n\
         curl        curl --cacert {root}\n",
        domains = domains.join("\n  "),
        fingerprint = new.fingerprint,
        until = humantime::format_rfc3339_seconds(new.not_after),
    )
}
