//! The hardening of the process against other processes of its user, and against core dumps.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::gateway::{addresses, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;

/// Any user but root, which may read everything.
const OTHER_USER: u32 = 65534;

#[tokio::test]
async fn memory_and_environment_are_closed_to_other_processes_and_core_dumps() {
    let logins = TokenEndpoint::granting().await;
    let url = logins.url();
    let variables = environment("http://127.0.0.1:9", &url);
    let built = PathBuf::from(env!("CARGO_BIN_EXE_citrix-auth-proxy"));
    let is_root = rustix::process::geteuid().is_root();
    // The other user may not be able to reach the build folder.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let (binary, user) = if is_root {
        let copy = folder.path().join("gateway");
        fs::copy(built, &copy).unwrap();
        (copy, Some(OTHER_USER))
    } else {
        (built, None)
    };
    let mut program = Program::start_with_core_dumps(&binary, user, &variables);
    addresses(&mut program).await;

    let file = |name: &str| format!("/proc/{}/{name}", program.id());
    let limits = fs::read_to_string(file("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[..6], ["Max", "core", "file", "size", "0", "0"]);
    let own = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let status = fs::read_to_string(file("status")).unwrap();
    assert!(status.contains(&format!("\nUid:\t{own}\t")), "{status}");
    for name in ["environ", "mem", "maps", "fd"] {
        // Those of a dumpable process belong to its user.
        assert_ne!(fs::metadata(file(name)).unwrap().uid(), own, "{name}");
    }
    for name in ["environ", "mem", "maps"] {
        let mut cat = Command::new("cat");
        cat.arg(file(name))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user) = user {
            cat.uid(user).gid(user);
        }
        assert!(!cat.status().unwrap().success(), "{name}");
    }

    program.signal("ABRT");
    let exit = program.wait().await;
    assert_eq!((exit.code, exit.core_dumped), (None, false));
}

#[tokio::test]
async fn each_step_of_hardening_is_logged_once_at_debug() {
    let logins = TokenEndpoint::granting().await;
    let url = logins.url();
    let mut variables = environment("http://127.0.0.1:9", &url);
    variables.push(("CITRIX_AUTH_PROXY_LOG__LEVEL", "debug"));
    let mut program = Program::start(&["run"], &variables);
    addresses(&mut program).await;
    program.signal("TERM");
    let log = program.wait().await.log();
    let steps: Vec<_> = log
        .iter()
        .filter(|line| line["message"] == "process hardened")
        .map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["step"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = ["not_dumpable", "no_core_dumps", "private_files"];
    assert_eq!(steps, expected.map(|step| ("DEBUG", step)));
}

#[tokio::test]
async fn emulator_is_hardened_as_well() {
    let mut emulator = Command::new(env!("CARGO_BIN_EXE_citrix-auth-proxy"))
        .args(["emulator", "--client-secret", "c4nary"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(emulator.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", emulator.id())).unwrap();
    emulator.kill().unwrap();
    emulator.wait().unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
}
