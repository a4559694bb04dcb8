//! Files whose content is part of the configuration, as a key or roots of certificates are that are read when it is
//! checked. (Client secrets, `proxy_url` and certificates for callers are read anew by those who use them.)

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use secrecy::zeroize::Zeroizing;

/// How much of a file is looked at, in bytes; no key and no list of roots is as long.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What a file held, as a hash, since that may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct FileDigest {
    path: PathBuf,
    /// SHA-256; the same as long as nothing changes, and so is the lack of a file.
    hash: [u8; 32],
}

impl fmt::Debug for FileDigest {
    /// Without the hash: a weak secret can be guessed from one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl FileDigest {
    /// What is at `path` now. Blocks for as long as the disk does.
    pub(super) fn of(path: &Path) -> Self {
        let mut context = Context::new(&SHA256);
        if let Err(error) = read(path, &mut context) {
            context.update(error.to_string().as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self {
            path: path.to_owned(),
            hash,
        }
    }

    /// What is there now. Blocks for as long as the disk does.
    #[must_use]
    pub fn reread(&self) -> Self {
        Self::of(&self.path)
    }
}

fn read(path: &Path, into: &mut Context) -> io::Result<()> {
    // Asked before opening: opening a pipe would wait for somebody to write into it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?.take(LONGEST);
    let mut piece = Zeroizing::new([0; 4096]);
    loop {
        match file.read(piece.as_mut_slice())? {
            0 => return Ok(()),
            length => into.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_differs_while_the_file_holds_something_else_or_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let none = FileDigest::of(&path);
        assert_eq!(none, none.reread());
        fs::write(&path, "c4nary").unwrap();
        let first = none.reread();
        assert_ne!(first, none);
        fs::write(&path, "another").unwrap();
        assert_ne!(first.reread(), first);
        fs::write(&path, "c4nary").unwrap();
        assert_eq!(first.reread(), first);
        assert_ne!(FileDigest::of(folder.path()), none);
        assert_eq!(format!("{first:?}"), format!("{path:?}"));
    }
}
