//! Secrets in files: absent, unreadable or badly written ones, and relative paths.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::gateway::{EPHEMERAL_PORTS, Gateway, get};
use crate::program::{Exit, Program};
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

/// A folder with a configuration that names its secret by a relative path, and its servers.
struct Scene {
    folder: TempDir,
    _servers: (Upstream, TokenEndpoint),
}

impl Scene {
    async fn new(more: &str) -> Self {
        let servers = (
            Upstream::responding(OK).await,
            TokenEndpoint::granting().await,
        );
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = {{ file = 'secrets/citrix.txt' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n{more}",
            servers.0.url(),
            servers.1.url(),
        );
        fs::create_dir(folder.path().join("secrets")).unwrap();
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let scene = Self {
            folder,
            _servers: servers,
        };
        scene.write(b"c4nary==\n");
        scene
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn secret(&self) -> String {
        self.at("secrets/citrix.txt")
    }

    fn write(&self, secret: &[u8]) {
        fs::write(self.secret(), secret).unwrap();
        fs::set_permissions(self.secret(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn start(&self) -> Gateway {
        Gateway::start(&["--config", &self.at("gateway.toml")], &EPHEMERAL_PORTS).await
    }

    async fn check(&self) -> Exit {
        Program::run(&["check", "--config", &self.at("gateway.toml")], &[]).await
    }
}

/// Returns the first token of `/status.json`, and the kinds of its alerts.
async fn status(gateway: &Gateway) -> (Value, Vec<Value>) {
    let response = get(gateway.admin, "/status.json").await;
    let status: Value = serde_json::from_slice(&response.body).unwrap();
    let alerts = status["alerts"].as_array().unwrap();
    let kinds = alerts.iter().map(|alert| alert["kind"].clone());
    (status["tokens"][0].clone(), kinds.collect())
}

#[tokio::test]
async fn unusable_secret_is_reported_while_the_token_is_valid_and_so_is_its_recovery() {
    let scene = Scene::new("").await;
    let mut gateway = scene.start().await;
    let path = scene.secret();
    let spoil: [(&dyn Fn(), &str); 4] = [
        (&|| fs::remove_file(&path).unwrap(), "No such file"),
        (&|| scene.write(b"\r\n"), "the secret is empty"),
        (&|| scene.write(b"\xff\xfec\x004\x00"), "UTF-16"),
        (
            &|| {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            },
            "not a regular file",
        ),
    ];
    for (spoil, reason) in spoil {
        spoil();
        let line = gateway.program.logged("client secret unreadable").await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(&path) && error.contains(reason), "{error}");
        assert_eq!(
            (&line["customer"], &line["secret"]),
            (&Value::from("acme"), &Value::from("client_secret"))
        );
        let (token, alerts) = status(&gateway).await;
        assert!(token["secret_problem"].as_str().unwrap().contains(reason));
        assert!(
            alerts.contains(&Value::from("secret_unreadable")),
            "{alerts:?}"
        );
        if Path::new(&path).is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        scene.write(b"c4nary==");
        gateway.program.logged("client secret readable again").await;
        let (token, alerts) = status(&gateway).await;
        assert!(
            token["secret_problem"].is_null() && alerts.is_empty(),
            "{alerts:?}"
        );
    }
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert!(!exit.stderr.contains("c4nary"), "{}", exit.stderr);
}

#[tokio::test]
async fn check_names_the_file_of_an_unusable_secret_and_the_reason() {
    let scene = Scene::new("").await;
    assert_eq!(scene.check().await.code, Some(0));
    for (secret, reason) in [
        (&b"\n"[..], "the secret is empty"),
        (b"\xff\xfec\x00", "Set-Content -Encoding ascii -NoNewline"),
        (b"\xff", "not valid UTF-8"),
    ] {
        scene.write(secret);
        let exit = scene.check().await;
        assert_eq!(exit.code, Some(64));
        assert!(exit.stderr.contains(&scene.secret()), "{}", exit.stderr);
        assert!(exit.stderr.contains(reason), "{}", exit.stderr);
    }
    fs::remove_file(scene.secret()).unwrap();
    let missing = format!("cannot read {}: No such file", scene.secret());
    let exit = scene.check().await;
    assert!(exit.stderr.contains(&missing), "{}", exit.stderr);
    let exit = Program::run(&["--config", &scene.at("gateway.toml")], &[]).await;
    assert_eq!(exit.code, Some(64));
    assert!(exit.stderr.contains(&missing), "{}", exit.stderr);
}

#[tokio::test]
async fn check_warns_of_likely_mistakes_and_of_a_file_that_all_users_can_read() {
    let scene = Scene::new("").await;
    let exit = scene.check().await;
    assert!(!exit.stderr.contains("warning"), "{}", exit.stderr);
    let space = "begins or ends with white space";
    for (secret, mistake) in [
        (&b"c4nary== "[..], space),
        (b" c4nary==", space),
        (b"c4nary==\t\r\n", space),
        (b"c4nary==\nc4nary-old==\n", "has several lines"),
        (b"\"c4nary==\"\n", "is in quotes"),
        (b"'c4nary=='", "is in quotes"),
    ] {
        scene.write(secret);
        let exit = scene.check().await;
        assert_eq!(exit.code, Some(0));
        assert!(exit.stderr.contains(mistake), "{}", exit.stderr);
        assert!(!exit.stderr.contains("c4nary"), "{}", exit.stderr);
    }
    scene.write(b"c4nary==");
    for (mode, warns) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        fs::set_permissions(scene.secret(), fs::Permissions::from_mode(mode)).unwrap();
        let exit = scene.check().await;
        let found =
            exit.stderr.contains("readable by all users") && exit.stderr.contains(&scene.secret());
        assert_eq!(found, warns, "{mode:o} {}", exit.stderr);
    }
}

#[tokio::test]
async fn paths_are_relative_to_the_folder_of_the_configuration() {
    let cached = "[token]\ncache_file = 'secrets/cache'\ncache_key = { file = 'key' }\n\
                  [login]\nsigning_key = { file = 'key' }\n[upstream]\nca_file = 'roots.pem'\n\
                  [listen.tls]\ncertificate = 'tls.pem'\nkey = 'tls.key'\nclient_ca = 'roots.pem'\n\
                  address = '127.0.0.1:0'\n";
    let scene = Scene::new(cached).await;
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(scene.at("key"), "k".repeat(32)).unwrap();
    fs::write(scene.at("tls.pem"), key.cert.pem()).unwrap();
    fs::write(scene.at("roots.pem"), key.cert.pem()).unwrap();
    fs::write(scene.at("tls.key"), key.signing_key.serialize_pem()).unwrap();
    let gateway = scene.start().await;
    gateway.program.signal("TERM");
    assert_eq!(gateway.wait().await.code, Some(0));
    assert!(
        Path::new(&scene.at("secrets")).read_dir().unwrap().count() > 1,
        "a token cache"
    );
    fs::remove_file(scene.at("roots.pem")).unwrap();
    let exit = scene.check().await;
    let roots = scene.at("roots.pem");
    for key in ["upstream.ca_file", "listen.tls.client_ca"] {
        let problem = format!("{key}: cannot read \"{roots}\": No such file");
        assert!(exit.stderr.contains(&problem), "{}", exit.stderr);
    }
}
