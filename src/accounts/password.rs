//! Passwords, and their argon2id hashes (RFC 9106), which are all that is stored.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use thiserror::Error;

/// The longest password that an account may have, in bytes. Long enough for any sentence, and short enough
/// for the message that it is sent in.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// A password as typed. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why a password is invalid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PasswordError {
    /// It is empty.
    #[error("the password is empty; choose one of 1 to {PASSWORD_BYTES_MAX} bytes")]
    Empty,
    /// It is too long.
    #[error("the password is too long; choose one of 1 to {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// It could not be hashed: random numbers or memory are missing.
    #[error("the password cannot be hashed: {0}; the system must have random numbers and 19 MiB of memory")]
    Hash(#[from] argon2::password_hash::Error),
}

impl Password {
    /// A password that is not checked yet.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Its hash with a salt of its own, as a PHC string, which includes the parameters. They are the first ones that
    /// OWASP recommends for argon2id: 19 MiB, 2 passes, 1 lane; some 20 ms on a common core.
    ///
    /// # Errors
    ///
    /// [`PasswordError`], which says what to choose instead.
    pub fn hash(&self) -> Result<String, PasswordError> {
        match self.0.len() {
            0 => Err(PasswordError::Empty),
            1..=PASSWORD_BYTES_MAX => {
                let hash: PasswordHash = Argon2::default().hash_password(self.0.as_bytes())?;
                Ok(hash.to_string())
            }
            _ => Err(PasswordError::TooLong),
        }
    }

    /// True when this password matches `hash`. `None` when `hash` is invalid.
    #[must_use]
    pub fn is_behind(&self, hash: &str) -> Option<bool> {
        let hash = PasswordHash::new(hash).ok()?;
        Some(Argon2::default().verify_password(self.0.as_bytes(), &hash).is_ok())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    #[test]
    fn a_hash_names_its_parameters_and_tells_passwords_apart() {
        let hash = password("correct horse").hash().unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(password("correct horse").is_behind(&hash), Some(true));
        assert_eq!(password("Correct horse").is_behind(&hash), Some(false));
        assert_eq!(password("").is_behind(&hash), Some(false));
        assert_ne!(password("correct horse").hash().unwrap(), hash, "each has its own salt");
        assert_eq!(password("x").is_behind("correct horse"), None);
    }

    #[test]
    fn empty_and_endless_passwords_are_refused() {
        assert_eq!(password("").hash(), Err(PasswordError::Empty));
        assert_eq!(password(&"x".repeat(1_025)).hash(), Err(PasswordError::TooLong));
    }

    #[test]
    fn a_password_is_never_printed() {
        assert_eq!(format!("{:?}", password("secret")), "Password(…)");
    }
}
