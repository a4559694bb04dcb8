//! File descriptors: the limit of open files, and shortages.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to the maximum that the system permits this process.
///
/// # Errors
/// When the system refuses.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Returns the maximum number of open files.
pub fn limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

/// Returns `true` if `error` is the lack of a file descriptor, in this process or the system.
pub fn is_shortage(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errno == Errno::MFILE || errno == Errno::NFILE)
}

/// Returns `true` if no file can be opened for lack of file descriptors.
pub fn are_exhausted() -> bool {
    File::open("/dev/null").is_err_and(|error| is_shortage(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lack_of_descriptors_is_a_shortage() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(is_shortage(&errno.into()));
        }
        assert!(!is_shortage(&Errno::NOENT.into()));
        assert!(!is_shortage(&io::Error::other("no error of the system")));
        assert!(!are_exhausted());
    }

    #[test]
    fn limit_is_raised_to_the_maximum() {
        raise_limit().unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
