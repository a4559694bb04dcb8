//! Files that change. Time passes only while no file is read.

use prometheus::Registry;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

/// The longest time after which a change takes effect (interface §3.2).
const SOON: Duration = Duration::from_secs(10);

struct ReloadScene {
    folder: TempDir,
    expiry: Gauge,
    reloader: CertificateReloader,
}

/// Returns a new certificate that expires at the beginning of `year`, and its key.
fn issue(year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Returns the beginning of a year in Unix time.
fn beginning_of(year: i32) -> f64 {
    rcgen::date_time_ymd(year, 1, 1).unix_timestamp() as f64
}

impl ReloadScene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let files = CertificateFiles {
            certificate: at("tls.crt"),
            key: at("tls.key"),
            clients: Some(ClientCertificates {
                ca_file: at("ca.pem"),
                required: false,
            }),
        };
        let (certificate, key) = issue(2100);
        std::fs::write(at("tls.crt"), certificate).unwrap();
        std::fs::write(at("tls.key"), key).unwrap();
        std::fs::write(at("ca.pem"), issue(2100).0).unwrap();
        let expiry = Gauge::new("expiry", "expiry").unwrap();
        let reader = FileReader::register(&Registry::new()).unwrap();
        let reloader =
            CertificateReloader::new(files, expiry.clone(), &reader, Clock::SYSTEM).unwrap();
        Self {
            folder,
            expiry,
            reloader,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Returns the reason why the present files cannot be used.
    fn rejection(&mut self) -> String {
        let snapshot = read(&self.reloader.files);
        self.reloader.load(snapshot).unwrap_err().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn change_takes_effect_within_10_seconds_and_half_a_change_does_not() {
    let ReloadScene {
        folder,
        expiry,
        reloader,
    } = ReloadScene::new();
    let tls = reloader.tls();
    let mut tasks = JoinSet::new();
    tasks.spawn(reloader.run());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let before = tls.current.load_full();
    sleep(SOON * 10).await;
    assert!(Arc::ptr_eq(&before, &tls.current.load()), "nothing changed");

    let (certificate, key) = issue(2101);
    write("tls.crt", &certificate);
    sleep(SOON * 10).await;
    assert!(
        Arc::ptr_eq(&before, &tls.current.load()),
        "the key is that of the previous certificate"
    );
    assert_eq!(expiry.get(), beginning_of(2100));
    write("tls.key", &key);
    sleep(SOON).await;
    assert_eq!(expiry.get(), beginning_of(2101));
    let after = tls.current.load_full();
    assert!(!Arc::ptr_eq(&before, &after));

    std::fs::remove_file(folder.path().join("tls.crt")).unwrap();
    sleep(SOON).await;
    assert!(Arc::ptr_eq(&after, &tls.current.load()));
    write("tls.crt", &certificate);
    sleep(SOON).await;
    assert_eq!(expiry.get(), beginning_of(2101));
}

#[test]
fn rejection_names_the_file_and_the_reason() {
    let mut scene = ReloadScene::new();
    let before = scene.reloader.tls.current.load_full();
    let (certificate, key) = issue(2101);
    scene.write("tls.crt", &certificate);
    let rejection = scene.rejection();
    assert!(
        rejection.starts_with("listen.tls.key: ")
            && rejection.contains("tls.key: the key does not belong to the certificate in ")
            && rejection.contains("tls.crt"),
        "{rejection}"
    );
    scene.write("tls.key", "no key\n");
    let rejection = scene.rejection();
    assert!(
        rejection.contains("tls.key: contains no PEM block"),
        "{rejection}"
    );
    scene.write("tls.key", &key);
    scene.write("ca.pem", "");
    let rejection = scene.rejection();
    assert!(
        rejection.starts_with("listen.tls.client_ca: ")
            && rejection.contains("ca.pem: the file is empty"),
        "{rejection}"
    );
    scene.write("ca.pem", &"x".repeat((1 << 20) + 1));
    let rejection = scene.rejection();
    assert!(
        rejection.contains("ca.pem: larger than 1048576 bytes"),
        "{rejection}"
    );
    std::fs::remove_file(scene.folder.path().join("ca.pem")).unwrap();
    let rejection = scene.rejection();
    assert!(
        rejection.contains("ca.pem: ") && rejection.contains("No such file"),
        "{rejection}"
    );
    assert!(Arc::ptr_eq(&before, &scene.reloader.tls.current.load()));
}

#[test]
fn sessions_survive_a_new_certificate_but_not_a_new_authority() {
    let mut scene = ReloadScene::new();
    let mut load = |name: &str, text: &str| {
        std::fs::write(scene.folder.path().join(name), text).unwrap();
        let before = scene.reloader.tls.current.load_full();
        let snapshot = read(&scene.reloader.files);
        let loaded = scene.reloader.load(snapshot);
        let after = scene.reloader.tls.current.load_full();
        loaded.is_ok().then(|| {
            Arc::ptr_eq(&before.ticketer, &after.ticketer)
                && Arc::ptr_eq(&before.session_storage, &after.session_storage)
        })
    };
    let (certificate, key) = issue(2101);
    assert_eq!(load("tls.crt", &certificate), None);
    assert_eq!(load("tls.key", &key), Some(true));
    assert_eq!(load("ca.pem", &issue(2101).0), Some(false));
}
