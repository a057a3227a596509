//! Why a token is refused, and why keys cannot be used.

use std::io;
use std::path::PathBuf;

use serde_json::error::Category;
use thiserror::Error;

use crate::metrics::TokenOutcome;

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
    /// `sub` is the name of the server itself.
    #[error("the claim sub is what the server calls itself")]
    System,
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

impl TokenError {
    /// As what the check is counted.
    #[must_use]
    pub fn outcome(self) -> TokenOutcome {
        match self {
            Self::TooLong | Self::Malformed => TokenOutcome::Malformed,
            Self::NoKey => TokenOutcome::NoKey,
            Self::Signature => TokenOutcome::Signature,
            Self::Expired => TokenOutcome::Expired,
            Self::NoClaims
            | Self::Missing(_)
            | Self::WrongType(_)
            | Self::Subject
            | Self::System
            | Self::Name
            | Self::NotYetValid
            | Self::IssuedLater
            | Self::Issuer
            | Self::Audience => TokenOutcome::Claims,
        }
    }
}

impl TokenKeyError {
    /// A file that is no JWK set. What serde_json says may show a part of it, and so a secret.
    pub(super) fn no_set(path: PathBuf, error: &serde_json::Error) -> Self {
        let problem = match error.classify() {
            Category::Syntax => "it is no JSON",
            Category::Data => "it has no list named keys",
            Category::Eof | Category::Io => "it ends too early",
        };
        Self::NoSet { path, problem, line: error.line(), column: error.column() }
    }
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
    #[error(
        "--token-jwks: {}: it is no JWK set: {problem} at line {line} column {column}; name a JSON file with a list of \
         keys",
        path.display()
    )]
    NoSet { path: PathBuf, problem: &'static str, line: usize, column: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::jwk::JwkKeys;

    #[test]
    fn an_error_shows_nothing_of_a_set() {
        for (text, wanted) in [
            (r#""the-secret""#, "it has no list named keys at line 1 column 12"),
            (r#"{"keys": "the-secret"}"#, "it has no list named keys at line 1"),
            ("{\"keys\": [],\n the-secret", "it is no JSON at line 2"),
            (r#"{"keys": ["the-secret"#, "it ends too early at line 1"),
        ] {
            let error = JwkKeys::read(text.as_bytes()).unwrap_err();
            let error = TokenKeyError::no_set("set.json".into(), &error);
            let said = error.to_string();
            assert!(said.contains(wanted) && !format!("{said}{error:?}").contains("secret"), "{said}");
        }
    }
}
