//! The server's certificate: the files of `--tls-cert` and `--tls-key`, read at the start and on SIGHUP.
//!
//! A connection uses the certificate that is in use when it is accepted. Existing connections are not affected by a new
//! one. Invalid files are logged, and the old certificate stays in use.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tracing::{error, info, warn};
use uproar_protocol::tls::ServerConfig;
use uproar_protocol::tls::config::{self, ConfigError, Validity};

use crate::config::Config;

/// A warning is logged from this time before the certificate's end. Automatic renewals happen earlier.
const RENEWAL_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {source}; {advice}")]
pub struct CertificateError {
    flag: &'static str,
    source: ConfigError,
    advice: &'static str,
}

/// The files of certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's own certificate, followed by those of its issuers.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A valid certificate.
pub struct LoadedCertificate {
    /// The TLS configuration for connections.
    pub config: Arc<ServerConfig>,
    /// Its validity period, if known.
    validity: Option<Validity>,
}

impl CertificateFiles {
    /// The files of a configuration, if it has any.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let (certificates, key) = config.tls_cert.clone().zip(config.tls_key.clone())?;
        Some(Self { certificates, key })
    }

    /// Reads both files.
    ///
    /// # Errors
    ///
    /// A [`CertificateError`], which names the flag and says what to change.
    pub fn load(&self) -> Result<LoadedCertificate, CertificateError> {
        let config = config::server(&self.certificates, &self.key).map_err(|error| self.explain(error))?;
        let validity = config::validity(&self.certificates).map_err(|error| self.explain(error))?;
        Ok(LoadedCertificate { config, validity })
    }

    fn explain(&self, source: ConfigError) -> CertificateError {
        let is_key = match &source {
            ConfigError::Read { path, .. } => *path == self.key && *path != self.certificates,
            ConfigError::Missing { path, what } | ConfigError::Damaged { path, what, .. } => {
                *path == self.key && what.contains("key")
            }
            ConfigError::KeyMismatch { .. } | ConfigError::UnsupportedCurve { .. } => true,
            ConfigError::NoAuthorities(_) | ConfigError::Setup(_) => false,
        };
        let (flag, advice) = match (is_key, &source) {
            (_, ConfigError::KeyMismatch { .. }) => {
                ("--tls-key", "name the key that the certificate was made for, or put the server's own first")
            }
            (_, ConfigError::UnsupportedCurve { .. }) => {
                ("--tls-key", "create a new key and certificate, with RSA, P-256, P-384 or Ed25519")
            }
            (true, ConfigError::Read { .. }) => ("--tls-key", "name a file that the server may read"),
            (false, ConfigError::Read { .. }) => ("--tls-cert", "name a file that the server may read"),
            (true, _) => ("--tls-key", "name a PEM file with an unencrypted key: PKCS #8, PKCS #1 or SEC 1"),
            (false, _) => ("--tls-cert", "name a PEM file with the server's certificate and its issuers'"),
        };
        CertificateError { flag, source, advice }
    }
}

impl LoadedCertificate {
    /// The end of its validity in Unix seconds.
    #[must_use]
    pub fn end_unix(&self) -> Option<u64> {
        self.validity.map(|validity| validity.end_unix)
    }

    /// The end of its validity, for people to read.
    #[must_use]
    pub fn valid_until(&self) -> Option<String> {
        self.validity.map(|validity| date(validity.end_unix))
    }

    /// A warning when it is not valid now, or will soon expire.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        remark(self.validity?, now)
    }
}

fn remark(validity: Validity, now: Duration) -> Option<String> {
    let Validity { begin_unix, end_unix } = validity;
    if now.as_secs() > end_unix {
        Some(format!("the certificate has expired on {}; clients reject it: renew it", date(end_unix)))
    } else if now.as_secs() < begin_unix {
        let begin = date(begin_unix);
        Some(format!("the certificate is not valid before {begin}; clients reject it: check the clock"))
    } else if now + RENEWAL_TIME > Duration::from_secs(end_unix) {
        Some(format!("the certificate expires on {}: renew it, and send SIGHUP", date(end_unix)))
    } else {
        None
    }
}

fn date(unix_seconds: u64) -> String {
    let time =
        i64::try_from(unix_seconds).ok().and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    time.map_or_else(|| "a day far away".to_owned(), |time| time.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// The certificate in use, for which the acceptors have a [`watch::Receiver`].
pub struct Certificate {
    files: CertificateFiles,
    in_use: watch::Sender<Option<Arc<ServerConfig>>>,
    /// The end of the validity of the certificate in use, in Unix seconds.
    end_unix: Cell<Option<u64>>,
}

impl Certificate {
    /// Reads the files, and logs a warning when the certificate is not valid now.
    ///
    /// # Errors
    ///
    /// As [`CertificateFiles::load`].
    pub fn open(
        files: CertificateFiles,
        in_use: watch::Sender<Option<Arc<ServerConfig>>>,
    ) -> Result<Self, CertificateError> {
        let loaded = files.load()?;
        if let Some(remark) = loaded.remark() {
            warn!("--tls-cert: {remark}");
        }
        let end_unix = Cell::new(loaded.end_unix());
        in_use.send_replace(Some(loaded.config));
        Ok(Self { files, in_use, end_unix })
    }

    /// The end of the validity of the certificate in use, in Unix seconds, if known.
    #[must_use]
    pub fn end_unix(&self) -> Option<u64> {
        self.end_unix.get()
    }

    /// Reads the files again. Sessions of the certificate before cannot be resumed.
    pub fn reload(&self) {
        match self.files.load() {
            Ok(loaded) => {
                let until = loaded.valid_until().unwrap_or_else(|| "an unknown time".to_owned());
                info!(
                    "new connections get the certificate in {}, valid until {until}",
                    self.files.certificates.display()
                );
                if let Some(remark) = loaded.remark() {
                    warn!("--tls-cert: {remark}");
                }
                self.end_unix.set(loaded.end_unix());
                self.in_use.send_replace(Some(loaded.config));
            }
            Err(error) => error!("the certificate stays as it is: {error}; then send SIGHUP again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_remarked_on_before_its_time_and_from_a_week_before_its_end() {
        let validity = Validity { begin_unix: 1_000_000_000, end_unix: 1_100_000_000 };
        let at = |seconds| remark(validity, Duration::from_secs(seconds));
        assert!(at(999_999_999).unwrap().contains("not valid before 2001-09-09 01:46 UTC"));
        assert_eq!(at(1_000_000_000), None);
        assert_eq!(at(1_100_000_000 - RENEWAL_TIME.as_secs()), None);
        assert!(at(1_100_000_000 - RENEWAL_TIME.as_secs() + 1).unwrap().contains("expires on 2004-11-09"));
        assert!(at(1_100_000_000).unwrap().contains("expires on"));
        assert!(at(1_100_000_001).unwrap().contains("has expired on 2004-11-09 11:33 UTC"));
    }
}
