//! What all TLS connections of one kind share, made of PEM files: a server's certificate and key, and whom a
//! client trusts.
//!
//! Both sides speak TLS 1.2 and 1.3 and offer HTTP/1.1 by ALPN, which is what a WebSocket is upgraded from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// The protocol that both sides offer (RFC 7301, section 6).
const APPLICATION_PROTOCOL: &[u8] = b"http/1.1";

/// Whose certificates a client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that lead to an authority which the system trusts.
    System,
    /// Those that lead to a certificate in this PEM file, and no others.
    File(PathBuf),
    /// Any certificate: encrypted, but the server is not verified. For tests and measuring.
    Anyone,
}

/// Whether a client resumes TLS sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// The last 256 are kept and resumed, which is much cheaper for both sides.
    Resumed,
    /// Each connection does a full handshake, like connections of different clients.
    Fresh,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file can be read, and what it should hold is not there.
    #[error("{} holds no {what} in PEM form, which would begin with -----BEGIN", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// What a file holds cannot be understood.
    #[error("{} holds a {what} that cannot be used: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key is not that of the certificate.
    #[error(
        "the key in {} does not belong to the first certificate in {}, which must be the server's own",
        key.display(),
        certificates.display()
    )]
    KeyMismatch {
        /// The file with the certificates.
        certificates: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The key is one that neither TLS nor we can use.
    #[error("{} holds a private key on the curve {curve}, which is not supported", path.display())]
    UnsupportedCurve {
        /// The file.
        path: PathBuf,
        /// The curve, as people call it.
        curve: &'static str,
    },
    /// The system has no trusted certificates.
    #[error("the system has no certificates of authorities to trust ({0}): install ca-certificates")]
    NoAuthorities(String),
    /// The cryptography cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(RustlsError),
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";

/// A server's configuration: the chain in `certificates`, the server's own first, with its key (PKCS #8, PKCS
/// #1 or SEC 1). Clients resume their sessions by tickets, so shards need not share what they remember; the
/// key of the tickets is another one every six hours.
///
/// # Errors
///
/// A [`ConfigError`] that names the file.
pub fn server(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, ConfigError> {
    let chain = read_certificates(certificates)?;
    let pem = read(key)?;
    let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => ConfigError::Missing { path: key.into(), what: KEY },
        other => ConfigError::Damaged { path: key.into(), what: KEY, why: other.to_string() },
    })?;
    let curve = unsupported_curve(private_key.secret_der());
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Setup)?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, private_key).map_err(|error| match error {
        RustlsError::InconsistentKeys(_) => {
            ConfigError::KeyMismatch { certificates: certificates.into(), key: key.into() }
        }
        RustlsError::InvalidCertificate(why) => {
            ConfigError::Damaged { path: certificates.into(), what: CERTIFICATE, why: why.to_string() }
        }
        other => match curve {
            Some(curve) => ConfigError::UnsupportedCurve { path: key.into(), curve },
            None => ConfigError::Damaged { path: key.into(), what: KEY, why: other.to_string() },
        },
    })?;
    config.alpn_protocols = vec![APPLICATION_PROTOCOL.to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(ConfigError::Setup)?;
    Ok(Arc::new(config))
}

/// Curves that keys are made on and ring does not know, by their object identifiers in DER: those of SEC 2,
/// Brainpool (RFC 5639, section 4.1) and RFC 8410.
const UNSUPPORTED_CURVES: [(&[u8], &str); 9] = [
    (b"\x06\x05\x2b\x81\x04\x00\x23", "P-521"),
    (b"\x06\x05\x2b\x81\x04\x00\x21", "P-224"),
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01", "P-192"),
    (b"\x06\x05\x2b\x81\x04\x00\x0a", "secp256k1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x07", "brainpoolP256r1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0b", "brainpoolP384r1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0d", "brainpoolP512r1"),
    (b"\x06\x03\x2b\x65\x71", "Ed448"),
    (b"\x06\x03\x2b\x65\x6e", "X25519"),
];

/// The curve that a key which cannot be used names, whatever its form.
fn unsupported_curve(key: &[u8]) -> Option<&'static str> {
    let names = |identifier: &[u8]| key.windows(identifier.len()).any(|bytes| bytes == identifier);
    UNSUPPORTED_CURVES.iter().find(|(identifier, _)| names(identifier)).map(|(_, curve)| *curve)
}

/// From when until when a certificate is valid, in seconds since 1970 (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub begin_unix: u64,
    /// The last one.
    pub end_unix: u64,
}

/// The validity of the first certificate in a file, a server's own. `None` when it is nothing that clients
/// could verify, and so has none for them either.
///
/// # Errors
///
/// A [`ConfigError`] that names the file.
pub fn validity(certificates: &Path) -> Result<Option<Validity>, ConfigError> {
    let chain = read_certificates(certificates)?;
    let Some(Ok(certificate)) = chain.first().map(ParsedCertificate::try_from) else { return Ok(None) };
    // A verifier looks at the time first, and says by which second it has judged.
    let problem_at = |unix_seconds| {
        let outcome = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &RootCertStore::empty(),
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds)),
            provider().signature_verification_algorithms.all,
        );
        match outcome {
            Err(RustlsError::InvalidCertificate(problem)) => Some(problem),
            _ => None,
        }
    };
    Ok(match (problem_at(0), problem_at(u64::MAX)) {
        (
            Some(CertificateError::NotValidYetContext { not_before, .. }),
            Some(CertificateError::ExpiredContext { not_after, .. }),
        ) => Some(Validity { begin_unix: not_before.as_secs(), end_unix: not_after.as_secs() }),
        _ => None,
    })
}

/// A client's configuration.
///
/// # Errors
///
/// A [`ConfigError`] that names the file, or says that the system trusts nobody.
pub fn client(trust: &Trust, sessions: Sessions) -> Result<Arc<ClientConfig>, ConfigError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Setup)?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(system_authorities()?),
        Trust::File(path) => builder.with_root_certificates(authorities_in(path)?),
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![APPLICATION_PROTOCOL.to_vec()];
    if sessions == Sessions::Fresh {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// ring needs nothing but a C compiler to build; aws-lc, the other provider of rustls, takes minutes.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// U+FEFF, which some editors put ahead of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is in a file, without such a mark: PEM with it would not begin with dashes.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read(path)?;
    let damaged = |error: rustls::pki_types::pem::Error| ConfigError::Damaged {
        path: path.into(),
        what: CERTIFICATE,
        why: error.to_string(),
    };
    let certificates =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    match certificates.is_empty() {
        true => Err(ConfigError::Missing { path: path.into(), what: CERTIFICATE }),
        false => Ok(certificates),
    }
}

fn authorities_in(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        authorities.add(certificate).map_err(|error| ConfigError::Damaged {
            path: path.into(),
            what: CERTIFICATE,
            why: error.to_string(),
        })?;
    }
    Ok(authorities)
}

fn system_authorities() -> Result<RootCertStore, ConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    // Systems have some old certificates that nothing can be done with; the others are enough.
    let _ = authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() {
        let why = found.errors.first().map_or("nothing was found".to_owned(), ToString::to_string);
        return Err(ConfigError::NoAuthorities(why));
    }
    Ok(authorities)
}

/// Accepts every certificate, but only from a server that has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
