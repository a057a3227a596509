//! TLS: the trusted authorities, the expected name, and advice when TLS fails.

use std::sync::Arc;

use serde::Serialize;
use uproar_protocol::tls::config::{self, Sessions, Trust};
use uproar_protocol::tls::{self, ClientConfig, ServerName, TlsStream};

use crate::error::Error;
use crate::network::target::Target;
use crate::options::RunOptions;

/// How connections to a `wss://` URL are secured.
#[derive(Clone, Debug)]
pub struct Security {
    trust: Trust,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Security {
    /// What the options ask for; `None` for `ws://`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when they ask for what a `ws://` URL does not have, or the host has no name that a
    /// certificate could have; [`Error::Preflight`] when nobody can be trusted.
    pub fn of(options: &RunOptions, target: &Target) -> Result<Option<Self>, Error> {
        if !target.is_secure {
            let asked = [("--tls-ca", options.tls_ca.is_some()), ("--tls-insecure", options.tls_insecure)];
            return match asked.into_iter().find(|(_, given)| *given) {
                Some((flag, _)) => {
                    Err(Error::Usage(format!("{flag}: --url is {}: write wss:// for TLS", target.url)))
                }
                None => Ok(None),
            };
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| {
            Error::Usage(format!("--url {}: no certificate can be for {:?}", target.url, target.host))
        })?;
        let trust = match (&options.tls_ca, options.tls_insecure) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, true) => Trust::Anyone,
            (None, false) => Trust::System,
        };
        // Clients stand for as many people, who have not been here before.
        let config = config::client(&trust, Sessions::Fresh).map_err(|error| match trust {
            Trust::File(_) => Error::Preflight(format!("--tls-ca: {error}")),
            _ => Error::Preflight(format!("{error}, or name some with --tls-ca FILE")),
        })?;
        Ok(Some(Self { trust, config, name }))
    }

    /// Begins TLS for one connection.
    ///
    /// # Errors
    ///
    /// A [`TlsFailure`] of this side.
    pub fn begin(&self) -> Result<TlsStream, TlsFailure> {
        TlsStream::client(&self.config, self.name.clone()).map_err(TlsFailure::from)
    }

    /// What the result says of it.
    #[must_use]
    pub fn tls(&self) -> Tls {
        if self.trust == Trust::Anyone { Tls::Unverified } else { Tls::Verified }
    }

    /// Whom it trusts, in words.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.trust {
            Trust::System => "trusts the authorities of the system".to_owned(),
            Trust::File(path) => format!("trusts the certificates in {}", path.display()),
            Trust::Anyone => "takes any certificate (--tls-insecure)".to_owned(),
        }
    }
}

/// What a result says of a run over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// The server's certificate was verified.
    Verified,
    /// `--tls-insecure`.
    Unverified,
}

/// TLS failed, and this is what to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the server {error}{}", advice(.error))]
pub struct TlsFailure {
    /// What the server did, or what failed here.
    pub error: tls::Error,
}

impl From<tls::Error> for TlsFailure {
    fn from(error: tls::Error) -> Self {
        Self { error }
    }
}

impl TlsFailure {
    /// True when a server that is asked again will answer the same.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.error.is_certificate() || matches!(self.error, tls::Error::NotTls)
    }
}

fn advice(error: &tls::Error) -> &'static str {
    match error {
        tls::Error::UnknownAuthority => {
            ": name who has signed it with --tls-ca FILE, or take any certificate with --tls-insecure"
        }
        tls::Error::WrongName { .. } => {
            ": name the server in --url as its certificate does, or take any with --tls-insecure"
        }
        error if error.is_certificate() => ": give it another one, or take any with --tls-insecure",
        tls::Error::NotTls => ": write ws:// in --url",
        tls::Error::Truncated => ": see its log; if it does not speak TLS, write ws:// in --url",
        _ => "",
    }
}
