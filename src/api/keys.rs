//! The keys of the interface: a file with one line for each, read at the start and on SIGHUP.
//!
//! A key is 256 random bits, so its plain SHA-256 is enough to check it with: nobody finds the key of a hash by trying. The
//! file has only hashes, and the prefix lets scanners find keys that were published by mistake.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The prefix of every key.
const PREFIX: &str = "upk_";

/// The longest file: thousands of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most bytes of a key's name.
const NAME_BYTES_MAX: usize = 64;

/// One kind of request that a key may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Look at rooms, users and metrics.
    Read,
    /// Send messages.
    Publish,
    /// Remove messages, and act on users.
    Moderate,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Publish, Self::Moderate];

    /// The scope's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Moderate => "moderate",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| "allowed is read, publish or moderate".into())
    }
}

/// The scopes of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// All scopes.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether this scope is among them.
    #[must_use]
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Scope::ALL.into_iter().filter(|scope| self.contains(*scope)).map(Scope::as_str);
        f.write_str(&named.collect::<Vec<_>>().join(","))
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of its key, for the log.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
}

/// The keys of a file.
#[derive(Debug, Default)]
pub struct ApiKeys {
    by_hash: HashMap<[u8; 32], Caller>,
}

impl ApiKeys {
    /// The caller with this key.
    ///
    /// The look-up goes by the hash of what was sent, so its time tells nothing about the keys of others.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Caller> {
        self.by_hash.get(&hash(key))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Parses the lines of a file. Empty lines and those that begin with `#` are skipped.
    pub(super) fn parse(text: &str) -> Result<Self, ProblemInLine> {
        let mut keys = Self::default();
        let mut names = HashSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |problem| ProblemInLine { number, problem };
            let (hash, caller) = parse_line(line).map_err(at)?;
            if !names.insert(Arc::clone(&caller.name)) {
                return Err(at("its name is on another line, too; give each key a name of its own"));
            }
            if keys.by_hash.insert(hash, caller).is_some() {
                return Err(at("its key is on another line, too"));
            }
        }
        Ok(keys)
    }
}

/// An invalid line of a file. It never shows the line, which might have the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProblemInLine {
    number: usize,
    problem: &'static str,
}

fn parse_line(line: &str) -> Result<([u8; 32], Caller), &'static str> {
    let mut parts = line.split(':');
    let (Some(name), Some(scopes), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is not name:scopes:sha256; make one with: uproar api-key NAME");
    };
    check_name(name)?;
    let scopes: Option<Scopes> = scopes.split(',').map(|scope| scope.trim().parse::<Scope>().ok()).collect();
    let scopes = scopes.ok_or("its scopes are not a list of read, publish and moderate")?;
    let hash = HEXLOWER_PERMISSIVE.decode(hash.trim().as_bytes()).ok().and_then(|hash| hash.try_into().ok());
    let hash = hash.ok_or("its hash is not 64 hexadecimal digits; make one with: uproar api-key NAME")?;
    Ok((hash, Caller { name: name.into(), scopes }))
}

/// Whether a key may have this name: visible ASCII without a colon, so that it fits a line and the log.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_valid = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
        && !name.starts_with('#');
    is_valid.then_some(()).ok_or("its name is not 1 to 64 visible ASCII characters without a colon")
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A new key, and its line for the file.
#[derive(Debug)]
pub(super) struct NewKey {
    /// The key itself, to be shown once.
    pub(super) key: String,
    /// The line.
    pub(super) line: String,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// When the name cannot be a key's, or the system has no random bytes.
    pub(super) fn new(name: &str, scopes: Scopes) -> Result<Self, NewKeyError> {
        check_name(name).map_err(|problem| NewKeyError::Name { name: name.to_owned(), problem })?;
        let mut bytes = [0; 32];
        // Fewer than 257 bytes come all at once (getrandom(2)).
        getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| NewKeyError::Random(error.into()))?;
        let key = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes));
        let line = format!("{name}:{scopes}:{}", HEXLOWER.encode(&hash(&key)));
        Ok(Self { key, line })
    }
}

/// Why no key was made.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum NewKeyError {
    /// The name cannot be written into the file.
    #[error("{name:?} cannot name a key: {problem}")]
    Name { name: String, problem: &'static str },
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Why a file of keys cannot be used.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum ApiKeyError {
    /// It cannot be read.
    #[error("--api-key-file: {} cannot be read: {source}; name a file that the server may read", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is too long.
    #[error("--api-key-file: {} is longer than 1 MiB; name a file of keys", path.display())]
    TooLong { path: PathBuf },
    /// A line is invalid.
    #[error("--api-key-file: line {line} of {} cannot be used: {problem}", path.display())]
    Line { path: PathBuf, line: usize, problem: &'static str },
    /// There is no key in it.
    #[error("--api-key-file: {} has no key; make one with: uproar api-key NAME", path.display())]
    Empty { path: PathBuf },
}

/// The file of keys, and the channel to those who check them.
#[derive(Debug)]
pub struct ApiKeyFile {
    path: PathBuf,
    in_use: watch::Sender<Arc<ApiKeys>>,
}

impl ApiKeyFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`ApiKeyError`], which names the line.
    pub fn open(path: &Path) -> Result<(Self, watch::Receiver<Arc<ApiKeys>>), ApiKeyError> {
        let keys = read(path)?;
        let (in_use, seen) = watch::channel(Arc::new(keys));
        Ok((Self { path: path.to_owned(), in_use }, seen))
    }

    /// Reads the file again. If it cannot be used, that is logged, and the keys stay as they were.
    pub fn reload(&self) {
        match read(&self.path) {
            Ok(keys) => {
                info!(file = %self.path.display(), keys = keys.len(), "API keys read again");
                self.in_use.send_replace(Arc::new(keys));
            }
            Err(error) => error!("{error}; the API keys stay as they were"),
        }
    }
}

fn read(path: &Path) -> Result<ApiKeys, ApiKeyError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let path = || path.to_owned();
    read.map_err(|source| ApiKeyError::Read { path: path(), source })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ApiKeyError::TooLong { path: path() });
    }
    let keys = ApiKeys::parse(&String::from_utf8_lossy(&bytes)).map_err(
        |ProblemInLine { number: line, problem }| ApiKeyError::Line { path: path(), line, problem },
    )?;
    if keys.is_empty() {
        return Err(ApiKeyError::Empty { path: path() });
    }
    warn_if_public(&path());
    Ok(keys)
}

/// Hashes are no secrets, but whoever may write the file gives himself a key.
fn warn_if_public(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o022 != 0) {
        warn!(file = %path.display(), "others may write the file of API keys: chmod go-w");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_new_key_is_found_by_itself_alone() {
        let scopes: Scopes = [Scope::Read, Scope::Publish].into_iter().collect();
        let NewKey { key, line } = NewKey::new("billing", scopes).unwrap();
        assert!(key.starts_with("upk_") && key.len() == 4 + 43, "{key}");
        assert!(!line.contains(&key[4..]), "the file has no key");
        let keys = ApiKeys::parse(&format!("# ours\n\n{line}\n")).unwrap();
        let caller = keys.find(&key).unwrap();
        assert_eq!(&*caller.name, "billing");
        let allowed = Scope::ALL.map(|scope| caller.scopes.contains(scope));
        assert_eq!(allowed, [true, true, false]);
        assert_eq!(keys.find(&key[..key.len() - 1]), None);
        assert_eq!(keys.find(""), None);
        assert_ne!(NewKey::new("billing", scopes).unwrap().key, key);
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_by_its_number() {
        let bad = |line: &str| ApiKeys::parse(&format!("a:read:{HASH}\n{line}\n")).unwrap_err();
        for line in [
            "b",
            "b:read",
            &format!("b:read:{HASH}:more"),
            &format!(":read:{HASH}"),
            &format!("ä:read:{HASH}"),
            &format!("b c:read:{HASH}"),
            &format!("b::{HASH}"),
            &format!("b:write:{HASH}"),
            &format!("b:read,:{HASH}"),
            &format!("b:read:{}", &HASH[1..]),
            &format!("b:read:{HASH}00"),
            "b:read:upk_",
            &format!("a:read:{}", HASH.replace('9', "8")),
            &format!("b:read:{HASH}"),
        ] {
            assert_eq!(bad(line).number, 2, "{line}");
        }
    }

    #[test]
    fn names_are_short_and_visible() {
        assert!(NewKey::new(&"n".repeat(64), Scopes::all()).is_ok());
        for name in ["", "a:b", "a b", "#a", "a\n", "é", &"n".repeat(65)] {
            assert!(NewKey::new(name, Scopes::all()).is_err(), "{name:?}");
        }
    }
}
