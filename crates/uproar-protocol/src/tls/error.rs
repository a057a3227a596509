//! Why a TLS connection cannot go on: what the peer did, in words that follow "the server" or "the client",
//! apart from what failed here.

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use super::INCOMPLETE_BYTES_MAX;

/// Why a connection cannot go on. All but the last are the peer's doing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// What came is no TLS record.
    #[error("does not speak TLS")]
    NotTls,
    /// The certificate leads to none of the trusted ones.
    #[error("has a certificate from none of the trusted authorities")]
    UnknownAuthority,
    /// The certificate is one of an authority (`CA:TRUE`), which may sign others and not serve.
    #[error("has the certificate of an authority (CA:TRUE), which may sign others and not serve")]
    AuthorityAsServer,
    /// The certificate is another name's.
    #[error("has a certificate for {presented}, and not for {expected}")]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate.
        presented: String,
    },
    /// The certificate is not valid any more.
    #[error("has a certificate that has expired")]
    Expired,
    /// The certificate is not valid yet.
    #[error("has a certificate that is not valid yet")]
    NotYetValid,
    /// The certificate cannot be accepted for another reason.
    #[error("has a certificate that cannot be accepted: {0}")]
    Certificate(CertificateError),
    /// The peer ended the connection with an alert (RFC 8446, section 6.2).
    #[error("answered with the TLS alert {0:?}")]
    Alert(AlertDescription),
    /// More came than [`INCOMPLETE_BYTES_MAX`] before anything in it was complete.
    #[error("sent a handshake message in more than {INCOMPLETE_BYTES_MAX} bytes")]
    Oversized,
    /// TCP ended without the end of TLS, so what came may have been cut off (RFC 8446, section 6.1).
    #[error("ended the connection in the middle of TLS")]
    Truncated,
    /// The peer broke the protocol in another way, or has nothing in common with us.
    #[error("broke TLS: {0}")]
    Violation(rustls::Error),
    /// It is not the peer's doing.
    #[error("cannot be spoken to, because TLS failed on this side: {0}")]
    Own(rustls::Error),
}

impl Error {
    /// True when it is the certificate that was not accepted, which may be a matter of what is trusted.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(
            self,
            Self::UnknownAuthority
                | Self::AuthorityAsServer
                | Self::WrongName { .. }
                | Self::Expired
                | Self::NotYetValid
                | Self::Certificate(_)
        )
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => problem.into(),
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            rustls::Error::FailedToGetCurrentTime
            | rustls::Error::FailedToGetRandomBytes
            | rustls::Error::EncryptError
            | rustls::Error::General(_) => Self::Own(error),
            _ => Self::Violation(error),
        }
    }
}

impl From<CertificateError> for Error {
    fn from(problem: CertificateError) -> Self {
        match problem {
            // An authority of the same name and with another key has not signed it either.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") },
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Other(OtherError(ref cause)) if names_authority(cause.as_ref()) => {
                Self::AuthorityAsServer
            }
            _ => Self::Certificate(problem),
        }
    }
}

/// rustls passes this reason of webpki on as it is.
fn names_authority(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.to_string() == "CaUsedAsEndEntity"
}
