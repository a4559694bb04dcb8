//! Hardening of the process, which holds secrets in its memory and in files.

use std::io;

use rustix::fs::Mode;
#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, setrlimit, umask};

/// The steps and their results, to be logged once there is a log.
#[derive(Debug)]
pub struct Hardening(Vec<(&'static str, io::Result<()>)>);

/// Hardens this process. To be called before it reads a secret, creates a file or starts a thread.
///
/// - `not_dumpable`: no core dump, and no access of other processes of the same user to its memory
///   and environment through `/proc` or a debugger.
/// - `no_core_dumps`: also where the system's settings permit dumps of such processes.
/// - `private_files`: files are created without permissions for group and others.
pub fn harden() -> Hardening {
    let mut steps = Vec::new();
    #[cfg(target_os = "linux")]
    {
        let done = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        steps.push(("not_dumpable", done.map_err(io::Error::from)));
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let done = setrlimit(Resource::Core, none);
    steps.push(("no_core_dumps", done.map_err(io::Error::from)));
    umask(Mode::RWXG | Mode::RWXO);
    steps.push(("private_files", Ok(())));
    Hardening(steps)
}

impl Hardening {
    /// Logs each step.
    pub fn log(&self) {
        for (step, result) in &self.0 {
            match result {
                Ok(()) => tracing::debug!(step, "process hardened"),
                Err(error) => tracing::warn!(
                    step,
                    %error,
                    "failed to harden the process; its memory may be readable by other processes or in a core dump"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for LogBuffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn failed_step_is_logged_as_a_warning_with_its_cause() {
        let log = LogBuffer::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let hardening = Hardening(vec![
            ("not_dumpable", Err(refused)),
            ("private_files", Ok(())),
        ]);
        tracing::subscriber::with_default(subscriber, || hardening.log());
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let warning = text.lines().next().unwrap();
        for part in [
            "WARN",
            "failed to harden the process",
            "not_dumpable",
            "permission denied",
        ] {
            assert!(warning.contains(part), "{part} in {text}");
        }
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
