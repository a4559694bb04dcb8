use std::process::Command;

use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::reader::PendingRead;
use super::*;

struct PollerScene {
    folder: TempDir,
    registry: Registry,
    reader: FileReader,
    poller: Poller,
}

impl PollerScene {
    /// Polls the files `a` and `b`, which hold their names.
    fn new(kind: FileKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let paths = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        });
        let known = FileSnapshot::read(&paths, kind).digests;
        let reader = FileReader::register(&registry).unwrap();
        let poller = Poller::new(kind, known, &reader);
        Self {
            folder,
            registry,
            reader,
            poller,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Returns the next update, if there is one after at most this many intervals. Time passes only
    /// while no file is read.
    async fn next(&mut self, intervals: u32) -> Option<Update> {
        let limit = READ_INTERVAL * intervals + Duration::from_millis(500);
        timeout(limit, self.poller.next()).await.ok()
    }

    /// Returns all counted failures.
    fn failures(&self) -> f64 {
        let families = self.registry.gather();
        let counters = families[0].get_metric().iter();
        counters
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

fn texts(update: Update) -> Vec<String> {
    let contents = update.snapshot.into_contents().into_iter();
    contents
        .map(|content| content.map_or_else(|error| error.to_string(), |bytes| text(&bytes)))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(start_paused = true)]
async fn change_is_reported_once_after_two_equal_reads() {
    let mut scene = PollerScene::new(FileKind::Certificate);
    assert!(scene.next(10).await.is_none(), "nothing changed");
    scene.write("b", "half");
    assert!(scene.next(1).await.is_none(), "one read");
    scene.write("b", "whole");
    assert!(scene.next(1).await.is_none(), "the reads differ");
    let update = scene.next(1).await.unwrap();
    assert!(update.changed && !update.requested);
    assert_eq!(texts(update), ["a", "whole"]);
    assert!(scene.next(10).await.is_none(), "already reported");
}

#[tokio::test(start_paused = true)]
async fn secret_is_reported_after_one_read() {
    let mut scene = PollerScene::new(FileKind::ClientSecret);
    scene.write("a", "new");
    assert_eq!(texts(scene.next(1).await.unwrap()), ["new", "b"]);
}

#[tokio::test(start_paused = true)]
async fn request_reports_after_one_read_whether_or_not_content_changed() {
    let mut scene = PollerScene::new(FileKind::Configuration);
    scene.poller.trigger().request();
    let update = scene.next(0).await.unwrap();
    assert!(update.requested && !update.changed);
    scene.write("a", "new");
    scene.poller.trigger().request();
    let update = scene.next(0).await.unwrap();
    assert!(update.requested && update.changed);
    assert!(scene.next(10).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn unread_file_is_reported_by_the_first_read() {
    let mut scene = PollerScene::new(FileKind::EgressProxy);
    scene.poller = Poller::unread(FileKind::EgressProxy, [scene.path("a")], &scene.reader);
    assert_eq!(texts(scene.next(1).await.unwrap()), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn poller_without_files_waits_for_requests() {
    let mut scene = PollerScene::new(FileKind::Configuration);
    scene.poller = Poller::new(FileKind::Configuration, Vec::new(), &scene.reader);
    assert!(scene.next(10).await.is_none());
    scene.poller.trigger().request();
    assert!(scene.next(0).await.unwrap().requested);
}

#[tokio::test(start_paused = true)]
async fn failed_reads_are_counted_and_reported_as_changes() {
    let mut scene = PollerScene::new(FileKind::Certificate);
    fs::remove_file(scene.path("a")).unwrap();
    let update = scene.next(2).await.unwrap();
    assert!(!update.snapshot.is_complete());
    assert_eq!(scene.failures(), 2.0);
    scene.write("a", "a");
    assert!(scene.next(2).await.unwrap().snapshot.is_complete());
    assert_eq!(scene.failures(), 2.0);
}

#[tokio::test(start_paused = true)]
async fn hung_file_holds_one_thread_and_loses_no_request() {
    let mut scene = PollerScene::new(FileKind::Configuration);
    let start = Instant::now();
    let (_hung, result) = oneshot::channel();
    scene.poller.files[0].pending = Some(PendingRead::in_progress(result));
    for _ in 0..100 {
        let contents = scene.poller.read().await.into_contents();
        assert!(matches!(contents[..], [Err(ReadError::TimedOut), Ok(_)]));
    }
    assert_eq!(start.elapsed(), READ_TIMEOUT);
    scene.poller.trigger().request();
    assert!(scene.next(10).await.is_none());
    scene.poller.files[0].pending = None;
    assert!(scene.next(1).await.unwrap().requested);
}

#[tokio::test(start_paused = true)]
async fn change_of_a_file_is_reported_while_another_hangs() {
    let mut scene = PollerScene::new(FileKind::ClientSecret);
    let (_hung, result) = oneshot::channel();
    scene.poller.files[0].pending = Some(PendingRead::in_progress(result));
    let hung = "read timed out after 2s";
    assert_eq!(texts(scene.next(2).await.unwrap()), [hung, "b"]);
    scene.write("b", "new");
    assert_eq!(texts(scene.next(1).await.unwrap()), [hung, "new"]);
}

#[tokio::test(start_paused = true)]
async fn late_read_is_used() {
    let mut scene = PollerScene::new(FileKind::ClientSecret);
    let (late, result) = oneshot::channel();
    tokio::spawn(async {
        sleep(READ_TIMEOUT * 2).await;
        late.send((Ok(Zeroizing::new(b"late".to_vec())), None))
    });
    scene.poller.files[0].pending = Some(PendingRead::in_progress(result));
    assert!(scene.next(1).await.unwrap().changed, "timed out");
    assert_eq!(texts(scene.next(2).await.unwrap()), ["late", "b"]);
}

#[test]
fn irregular_and_large_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let error = |path: &Path| read(path, FileKind::Certificate).unwrap_err().to_string();
    assert!(
        Command::new("mkfifo")
            .arg(at("fifo"))
            .status()
            .unwrap()
            .success()
    );
    for path in [&at("fifo"), folder.path(), Path::new("/dev/zero")] {
        assert_eq!(error(path), "not a regular file");
    }
    let max = FileKind::Certificate.max_bytes();
    fs::write(at("file"), vec![b'x'; max + 1]).unwrap();
    assert_eq!(error(&at("file")), "larger than 1048576 bytes");
    fs::write(at("file"), vec![b'x'; max]).unwrap();
    assert_eq!(read(&at("file"), FileKind::Certificate).unwrap().len(), max);
    assert!(error(&at("none")).contains("No such file"));
}

#[test]
fn digest_depends_on_content_and_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let of = |path: &Path| FileDigest::of(path, FileKind::Configuration);
    let absent = of(&path);
    assert_eq!(absent, of(&path));
    fs::write(&path, "c4nary").unwrap();
    let first = of(&path);
    assert_ne!(first, absent);
    fs::write(&path, "other").unwrap();
    assert_ne!(first, of(&path));
    fs::write(&path, "c4nary").unwrap();
    assert_eq!(first, of(&path));
    assert_eq!(format!("{first:?}"), format!("{path:?}"));
}
