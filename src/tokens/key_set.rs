//! The keys in use: read from their files at the start and on SIGHUP, and what checks tokens with them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::claims::{self, Expected};
use super::error::{TokenError, TokenKeyError};
use super::jwk::{JwkKey, JwkKeys};
use super::key::{CheckingKey, SigningKey};
use crate::accounts::Identity;
use crate::config::Config;

/// The longest token in bytes: as long as a request head is by default.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The longest file of keys: a set of hundreds.
const FILE_BYTES_MAX: u64 = 1 << 20;

const KEY_FLAG: &str = "--token-key";
const SET_FLAG: &str = "--token-jwks";

/// The files of keys, and what tokens must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFiles {
    /// A key each.
    pub keys: Vec<PathBuf>,
    /// A JWK set.
    pub jwks: Option<PathBuf>,
    /// The issuer that tokens must have.
    pub issuer: Option<String>,
    /// The audience that tokens must be for.
    pub audience: Option<String>,
}

impl TokenFiles {
    /// The files of a configuration, if it has any.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        config.has_token_keys().then(|| Self {
            keys: config.token_keys.clone(),
            jwks: config.token_jwks.clone(),
            issuer: config.token_issuer.clone(),
            audience: config.token_audience.clone(),
        })
    }

    /// Reads all files.
    ///
    /// # Errors
    ///
    /// A [`TokenKeyError`], which names the flag and says what to change.
    pub fn load(&self) -> Result<KeySet, TokenKeyError> {
        let mut set = KeySet {
            keys: Vec::new(),
            left_out: Vec::new(),
            expected: Expected { issuer: self.issuer.clone(), audience: self.audience.clone() },
        };
        for path in &self.keys {
            let key = CheckingKey::read(&read(KEY_FLAG, path)?)
                .map_err(|problem| TokenKeyError::Unusable { flag: KEY_FLAG, path: path.clone(), problem })?;
            set.keys.push(Key::new(None, key, None));
        }
        if let Some(path) = &self.jwks {
            let jwks = JwkKeys::read(&read(SET_FLAG, path)?)
                .map_err(|error| TokenKeyError::no_set(path.clone(), &error))?;
            let keys = jwks.keys.into_iter();
            set.keys.extend(keys.map(|JwkKey { kid, key, algorithm }| Key::new(Some(kid), key, algorithm)));
            set.left_out = jwks.left_out;
        }
        Ok(set)
    }

    /// The first of the key files, to sign with.
    pub(super) fn signing_key(&self) -> Option<Result<SigningKey, TokenKeyError>> {
        let path = self.keys.first()?;
        Some(read(KEY_FLAG, path).and_then(|bytes| {
            let unusable = |problem| TokenKeyError::Unusable { flag: KEY_FLAG, path: path.clone(), problem };
            SigningKey::read(&bytes).map_err(unusable)
        }))
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TokenKeyError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| TokenKeyError::Read { flag, path: path.to_owned(), source })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let problem = "it is longer than 1 MiB; name a file of keys";
        return Err(TokenKeyError::Unusable { flag, path: path.to_owned(), problem });
    }
    Ok(bytes)
}

/// The keys that tokens are checked with.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// The keys of the JWK set that cannot be used, and why.
    left_out: Vec<(String, &'static str)>,
    expected: Expected,
}

#[derive(Debug)]
struct Key {
    /// The tokens that it is for; `None` for a key file, which is for tokens with and without a `kid`.
    kid: Option<String>,
    key: CheckingKey,
    /// What jsonwebtoken checks: the algorithm and the signature. The claims are checked in `claims`.
    validation: Validation,
}

impl Key {
    fn new(kid: Option<String>, key: CheckingKey, algorithm: Option<Algorithm>) -> Self {
        let mut validation = Validation::new(key.algorithms[0]);
        validation.algorithms = algorithm.map_or_else(|| key.algorithms.to_vec(), |only| vec![only]);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { kid, key, validation }
    }

    fn fits(&self, header: &Header) -> bool {
        self.validation.algorithms.contains(&header.alg) && (self.kid.is_none() || self.kid == header.kid)
    }
}

impl KeySet {
    /// The number of keys.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// A warning for each key that cannot be used, and when there is none at all.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let left_out =
            |(name, problem): &(String, &str)| format!("{SET_FLAG}: key {name:?} is not used: {problem}");
        let mut remarks: Vec<String> = self.left_out.iter().map(left_out).collect();
        if self.keys.is_empty() {
            remarks.push(format!("{SET_FLAG}: the set has no usable key; every token is refused"));
        }
        remarks
    }

    /// Checks a token at a time, in Unix seconds.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    pub fn check(&self, token: &str, now_unix: u64) -> Result<Identity, TokenError> {
        self.check_counting(token, now_unix, &mut 0)
    }

    /// As [`KeySet::check`]. Adds the number of keys that the token was checked with.
    fn check_counting(
        &self,
        token: &str,
        now_unix: u64,
        keys_tried: &mut u64,
    ) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        let mut outcome = Err(TokenError::NoKey);
        for key in self.keys.iter().filter(|key| key.fits(&header)) {
            *keys_tried += 1;
            match decode::<Map<String, Value>>(token, &key.key.key, &key.validation) {
                Ok(token) => return claims::identity(&token.claims, &self.expected, now_unix),
                Err(error) => {
                    outcome = Err(match error.kind() {
                        ErrorKind::InvalidSignature => TokenError::Signature,
                        // The signature is right: it is checked before the claims are read.
                        ErrorKind::Json(_) | ErrorKind::Utf8(_) => return Err(TokenError::NoClaims),
                        _ => return Err(TokenError::Malformed),
                    });
                }
            }
        }
        outcome
    }
}

/// The keys in use, for which each [`TokenChecker`] looks.
#[derive(Debug)]
pub struct TokenKeys {
    files: TokenFiles,
    in_use: watch::Sender<Arc<KeySet>>,
}

impl TokenKeys {
    /// Reads the files, and logs a warning for keys that cannot be used.
    ///
    /// # Errors
    ///
    /// As [`TokenFiles::load`].
    pub fn open(files: TokenFiles) -> Result<(Self, TokenChecker), TokenKeyError> {
        let set = files.load()?;
        warn_of(&set);
        let (in_use, keys) = watch::channel(Arc::new(set));
        Ok((Self { files, in_use }, TokenChecker { keys: Some(keys) }))
    }

    /// Reads the files again. Clients that are connected stay.
    pub fn reload(&self) {
        match self.files.load() {
            Ok(set) => {
                info!(keys = set.count(), "new tokens are checked with the keys that were read again");
                warn_of(&set);
                self.in_use.send_replace(Arc::new(set));
            }
            Err(error) => error!("the keys for tokens stay as they are: {error}; then send SIGHUP again"),
        }
    }
}

fn warn_of(set: &KeySet) {
    for remark in set.remarks() {
        warn!("{remark}");
    }
}

/// Checks tokens with the keys in use. Every thread has its own.
#[derive(Clone, Debug, Default)]
pub struct TokenChecker {
    /// `None` where no keys are configured.
    keys: Option<watch::Receiver<Arc<KeySet>>>,
}

impl TokenChecker {
    /// Whether keys are configured.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Checks a token at a time, in Unix seconds.
    ///
    /// # Errors
    ///
    /// The first check that fails; without keys every token has none that fits.
    pub fn check(&self, token: &str, now_unix: u64) -> Result<Identity, TokenError> {
        self.check_counting(token, now_unix, &mut 0)
    }

    /// As [`TokenChecker::check`]. Adds the number of keys that the token was checked with: what the check has cost.
    ///
    /// # Errors
    ///
    /// As for [`TokenChecker::check`].
    pub fn check_counting(
        &self,
        token: &str,
        now_unix: u64,
        keys_tried: &mut u64,
    ) -> Result<Identity, TokenError> {
        let keys = self.keys.as_ref().ok_or(TokenError::NoKey)?;
        let set = Arc::clone(&keys.borrow());
        set.check_counting(token, now_unix, keys_tried)
    }
}
