//! The data directory, and the lock that keeps a second server out of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;

/// The lock file. It stays empty, and is never removed: the lock of a removed file would keep nobody out.
const LOCK_FILE: &str = "uproar.lock";

/// Why a data directory cannot be used.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It does not exist.
    #[error("there is no directory {}; create it, or name another one with --data", path.display())]
    Absent { path: PathBuf },
    /// No file can be written in it.
    #[error(
        "the directory {} cannot be written: {source}; the user that runs uproar must own it, or name another \
         one with --data",
        path.display()
    )]
    Unwritable { path: PathBuf, source: io::Error },
    /// Another server uses it.
    #[error(
        "the directory {} is used by another uproar; stop that one, or name another directory with --data",
        path.display()
    )]
    Taken { path: PathBuf },
}

/// A locked data directory. The lock is released when this is dropped or the process ends (flock(2)). `uproar user`
/// does not need it: SQLite's own locks are enough.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Locks the directory.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: it does not exist, cannot be written, or another server uses it.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        let path = path.to_owned();
        if !path.is_dir() {
            return Err(DirectoryError::Absent { path });
        }
        let mut options = OpenOptions::new();
        let opened = options.create(true).write(true).truncate(false).mode(0o600).open(path.join(LOCK_FILE));
        let lock = match opened {
            Ok(lock) => lock,
            Err(source) => return Err(DirectoryError::Unwritable { path, source }),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(DirectoryError::Taken { path }),
            Err(error) => Err(DirectoryError::Unwritable { path, source: error.into() }),
        }
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_server_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::lock(directory.path()).unwrap();
        assert_eq!(first.path(), directory.path());
        let refused = DataDirectory::lock(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("used by another uproar"), "{refused}");
        assert!(refused.contains(directory.path().to_str().unwrap()), "{refused}");
        drop(first);
        DataDirectory::lock(directory.path()).unwrap();
    }

    #[test]
    fn what_is_no_directory_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file, directory.path().join("absent")] {
            let refused = DataDirectory::lock(&path).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("there is no directory {}", path.display())), "{refused}");
        }
        // A directory in the lock's place cannot be opened for writing, whoever we are.
        std::fs::create_dir(directory.path().join(LOCK_FILE)).unwrap();
        let refused = DataDirectory::lock(directory.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::Unwritable { .. }), "{refused}");
    }
}
