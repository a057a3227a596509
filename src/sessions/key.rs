//! The key that signs session tokens: in memory, or with `--data` in a file, so that tokens outlive the server.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;

/// The file's name in the data directory.
pub const SESSION_KEY_FILE: &str = "session.key";

/// The length of a key in bytes, as many as HMAC-SHA256 gives (RFC 2104, 3).
const KEY_BYTES: usize = 32;

/// A key of random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; KEY_BYTES]);

/// Why there is no key.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum SessionKeyError {
    /// The file cannot be read.
    #[error(
        "{} cannot be read: {source}; the user that runs uproar must own it. Without it, move it out of the way: uproar \
         makes another one, and clients that come back are new users once",
        path.display()
    )]
    Unreadable { path: PathBuf, source: io::Error },
    /// It does not have the length of a key.
    #[error(
        "{} is no key of sessions, which has {KEY_BYTES} bytes and not {found}; restore it from a backup, or move it out of \
         the way: uproar makes another one, and clients that come back are new users once",
        path.display()
    )]
    WrongLength { path: PathBuf, found: u64 },
    /// No file can be made.
    #[error("{} cannot be made: {source}; the directory must belong to the user that runs uproar, and the disk have room", path.display())]
    NotMade { path: PathBuf, source: io::Error },
}

impl SessionKey {
    /// A new key.
    #[must_use]
    pub fn random() -> Self {
        let mut key = [0; KEY_BYTES];
        // Fewer than 257 bytes come all at once, or none while the machine starts (getrandom(2)).
        while key == [0; KEY_BYTES] {
            let _ = getrandom(&mut key, GetRandomFlags::empty());
        }
        Self(key)
    }

    /// The key that the servers of a cluster share.
    #[must_use]
    pub fn shared(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads the key of a data directory, and makes one, readable only by its owner, if there is none.
    ///
    /// # Errors
    ///
    /// [`SessionKeyError`], which says what to do.
    pub fn open(directory: &Path) -> Result<Self, SessionKeyError> {
        let path = directory.join(SESSION_KEY_FILE);
        match read(&path) {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(found)) => Err(SessionKeyError::WrongLength { path, found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::random();
                match key.write(directory, &path) {
                    Ok(()) => Ok(key),
                    Err(source) => Err(SessionKeyError::NotMade { path, source }),
                }
            }
            Err(source) => Err(SessionKeyError::Unreadable { path, source }),
        }
    }

    /// Writes the file beside its place first, so that a crash leaves a whole key or none.
    fn write(&self, directory: &Path, path: &Path) -> io::Result<()> {
        let unfinished = directory.join("session.key.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(directory)?.sync_all()
    }
}

/// Reads a key, or the length of a file that has none.
fn read(path: &Path) -> io::Result<Result<SessionKey, u64>> {
    let file = File::open(path)?;
    let mut key = Vec::with_capacity(KEY_BYTES + 1);
    io::Read::read_to_end(&mut io::Read::take(&file, KEY_BYTES as u64 + 1), &mut key)?;
    match key.try_into() {
        Ok(key) => Ok(Ok(SessionKey(key))),
        Err(_) => Ok(Err(file.metadata()?.len())),
    }
}

impl fmt::Debug for SessionKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("session.key.new"), "left by a crash").unwrap();
        let key = SessionKey::open(directory.path()).unwrap();
        let file = fs::metadata(directory.path().join(SESSION_KEY_FILE)).unwrap();
        assert_eq!((file.mode() & 0o777, file.len()), (0o600, 32));
        assert_eq!(SessionKey::open(directory.path()).unwrap(), key);
        assert_ne!(SessionKey::random(), key);
        assert_eq!(format!("{key:?}"), "SessionKey(…)");
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SESSION_KEY_FILE);
        for length in [0, 31, 33, 100_000] {
            fs::write(&path, vec![7; length]).unwrap();
            let refused = SessionKey::open(directory.path()).unwrap_err().to_string();
            assert!(refused.contains(&format!("not {length}; restore it from a backup")), "{refused}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let refused = SessionKey::open(directory.path()).unwrap_err().to_string();
        assert!(
            refused.contains("cannot be read") && refused.contains("move it out of the way"),
            "{refused}"
        );
    }

    #[test]
    fn a_key_that_cannot_be_made_is_refused() {
        let refused = SessionKey::open(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(refused.starts_with("/nonexistent/session.key cannot be made"), "{refused}");
    }
}
