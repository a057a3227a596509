//! Why a token is refused, and why keys cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The check of a token that failed, without anything of the token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX).
    #[error("it is too long")]
    TooLong,
    /// The parts or the header are damaged, the algorithm is `none` or unknown, or an extension is critical.
    #[error("it is no JWT with a supported algorithm")]
    Malformed,
    /// No key has this algorithm, or this `kid`.
    #[error("no key fits its algorithm and its kid")]
    NoKey,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
    /// The claims are not a JSON object.
    #[error("the claims are no JSON object")]
    NoClaims,
    /// A required claim is missing.
    #[error("the claim {0} is missing")]
    Missing(&'static str),
    /// A claim has a wrong type.
    #[error("the claim {0} has the wrong type")]
    WrongType(&'static str),
    /// `sub` has no character, or too many.
    #[error("the claim sub must have 1 to 128 characters")]
    Subject,
    /// Neither `name` nor `sub` can be shown.
    #[error("neither the claim name nor the claim sub is a valid name")]
    Name,
    /// It has expired.
    #[error("it has expired (exp)")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet (nbf)")]
    NotYetValid,
    /// It was issued in the future.
    #[error("it was issued in the future (iat)")]
    IssuedLater,
    /// It is of another issuer.
    #[error("it is of another issuer (iss)")]
    Issuer,
    /// It is for another audience.
    #[error("it is for another audience (aud)")]
    Audience,
}

/// Why keys cannot be used.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum TokenKeyError {
    /// The file cannot be read.
    #[error("{flag}: {}: {source}; name a file that the server may read", path.display())]
    Read { flag: &'static str, path: PathBuf, source: io::Error },
    /// The file has no key that can be used.
    #[error("{flag}: {}: {problem}", path.display())]
    Unusable { flag: &'static str, path: PathBuf, problem: &'static str },
    /// The file is not a JWK set.
    #[error("--token-jwks: {}: it is no JWK set: {source}; name a JSON file with a list of keys", path.display())]
    NoSet { path: PathBuf, source: serde_json::Error },
}
