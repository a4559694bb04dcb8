//! Manual pages, and what the `.deb` and `.rpm` packages contain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use citrix_auth_proxy::cli::Cli;
use clap::CommandFactory;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns the files of a folder by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    entries.map(file).collect()
}

#[test]
fn manual_pages_are_current() {
    let pages = root().join("deploy/man");
    let folder = tempfile::tempdir().unwrap();
    // A version in them would be outdated with each release.
    let command = <Cli as CommandFactory>::command();
    let command = command.version(None::<&str>).disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder.path()).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(&pages).unwrap();
        for name in files(&pages).keys() {
            fs::remove_file(pages.join(name)).unwrap();
        }
        for (name, text) in files(folder.path()) {
            fs::write(pages.join(name), text).unwrap();
        }
    }
    assert!(
        files(&pages) == files(folder.path()),
        "deploy/man is outdated; run UPDATE_DOCS=1 cargo test --test it packages"
    );
}

/// Returns source and destination of all assets.
fn assets(format: &str) -> Vec<(String, String)> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let assets = manifest["package"]["metadata"][format]["assets"]
        .as_array()
        .unwrap();
    let text = |value: &toml::Value| value.as_str().unwrap().trim_start_matches('/').to_owned();
    let pair = |asset: &toml::Value| match asset {
        toml::Value::Array(parts) => (text(&parts[0]), text(&parts[1])),
        table => (text(&table["source"]), text(&table["dest"])),
    };
    assets.iter().map(pair).collect()
}

#[test]
fn packages_contain_the_program_its_unit_and_a_configuration() {
    for format in ["deb", "generate-rpm"] {
        let assets = assets(format);
        for (source, _) in &assets {
            let is_built = source.starts_with("target/") || source.contains('*');
            assert!(
                is_built || root().join(source).exists(),
                "{format}: {source}"
            );
        }
        for (source, destination) in [
            ("target/packages/citrix-auth-proxy", "usr/bin/"),
            ("config.toml.example", "etc/citrix-auth-proxy/config.toml"),
            (
                "deploy/systemd/citrix-auth-proxy.service",
                "usr/lib/systemd/system/",
            ),
            ("deploy/man/*.1", "usr/share/man/man1/"),
        ] {
            let asset = (source.to_owned(), destination.to_owned());
            assert!(assets.contains(&asset), "{format}: {asset:?}");
        }
    }
}
