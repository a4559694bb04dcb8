//! Files that change, on a clock that stands still unless a test sleeps.

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

/// What interface §3.2 allows.
const SOON: Duration = Duration::from_secs(10);

struct Scene {
    folder: TempDir,
    expiry: Gauge,
    reloader: Reloader,
}

/// A fresh certificate, which ends in this year, and its key.
fn issue(year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The start of a year in Unix time.
fn beginning_of(year: i32) -> f64 {
    rcgen::date_time_ymd(year, 1, 1).unix_timestamp() as f64
}

impl Scene {
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
        let reloader = Reloader::new(files, expiry.clone(), Clock::SYSTEM).unwrap();
        Self {
            folder,
            expiry,
            reloader,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Why the files as they are now would not be taken.
    fn refusal(&mut self) -> String {
        let reading = Reading::of(&self.reloader.files);
        self.reloader.take(reading).unwrap_err().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_within_10_seconds_and_half_of_one_does_not() {
    let Scene {
        folder,
        expiry,
        reloader,
    } = Scene::new();
    let tls = reloader.tls();
    let mut tasks = JoinSet::new();
    tasks.spawn(reloader.keep());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let before = tls.current.load_full();
    sleep(SOON * 10).await;
    assert!(Arc::ptr_eq(&before, &tls.current.load()), "nothing changed");

    let (certificate, key) = issue(2101);
    write("tls.crt", &certificate);
    // Longer than any two files are written apart.
    sleep(SOON * 10).await;
    assert!(
        Arc::ptr_eq(&before, &tls.current.load()),
        "the key is still the old one's"
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
    // What comes back is taken, though it is what was in force before.
    write("tls.crt", &certificate);
    sleep(SOON).await;
    assert_eq!(expiry.get(), beginning_of(2101));
}

#[test]
fn what_changes_between_two_looks_is_looked_at_once_more() {
    let mut scene = Scene::new();
    for (year, at_once, taken) in [(2101, false, 2100), (2102, false, 2100), (2103, true, 2103)] {
        let (certificate, key) = issue(year);
        scene.write("tls.crt", &certificate);
        scene.write("tls.key", &key);
        let reading = Reading::of(&scene.reloader.files);
        scene.reloader.consider(reading, at_once);
        assert_eq!(scene.expiry.get(), beginning_of(taken), "{year}");
    }
}

#[test]
fn a_refusal_names_the_file_and_what_is_wrong_with_it() {
    let mut scene = Scene::new();
    let before = scene.reloader.tls.current.load_full();
    let (certificate, key) = issue(2101);
    scene.write("tls.crt", &certificate);
    let refusal = scene.refusal();
    assert!(
        refusal.contains("tls.crt and ") && refusal.contains("KeyMismatch"),
        "{refusal}"
    );
    scene.write("tls.key", "no key\n");
    let refusal = scene.refusal();
    assert!(
        refusal.contains("tls.key holds no private key"),
        "{refusal}"
    );
    scene.write("tls.key", &key);
    scene.write("ca.pem", "");
    let refusal = scene.refusal();
    assert!(refusal.contains("ca.pem holds no certificate"), "{refusal}");
    scene.write("ca.pem", &"x".repeat((1 << 20) + 1));
    let refusal = scene.refusal();
    assert!(
        refusal.contains("ca.pem is larger than 1048576 bytes"),
        "{refusal}"
    );
    std::fs::remove_file(scene.folder.path().join("ca.pem")).unwrap();
    let refusal = scene.refusal();
    assert!(
        refusal.contains("ca.pem: ") && refusal.contains("No such file"),
        "{refusal}"
    );
    assert!(Arc::ptr_eq(&before, &scene.reloader.tls.current.load()));
}

#[test]
fn sessions_outlive_a_certificate_but_not_an_authority() {
    let mut scene = Scene::new();
    let mut take = |name: &str, text: &str| {
        std::fs::write(scene.folder.path().join(name), text).unwrap();
        let before = scene.reloader.tls.current.load_full();
        let reading = Reading::of(&scene.reloader.files);
        let taken = scene.reloader.take(reading);
        let after = scene.reloader.tls.current.load_full();
        taken.is_ok().then(|| {
            Arc::ptr_eq(&before.ticketer, &after.ticketer)
                && Arc::ptr_eq(&before.session_storage, &after.session_storage)
        })
    };
    let (certificate, key) = issue(2101);
    assert_eq!(take("tls.crt", &certificate), None);
    assert_eq!(take("tls.key", &key), Some(true));
    assert_eq!(take("ca.pem", &issue(2101).0), Some(false));
}
