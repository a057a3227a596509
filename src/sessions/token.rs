//! Session tokens: a user id, and a signature of it.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::SessionKey;
use crate::rooms::UserId;

/// Keeps the signatures apart from others that might be made with the same key.
const PURPOSE: &[u8] = b"uproar session 1";

const ID_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 32;

/// The length of every token: 40 bytes in base64url without padding.
pub const SESSION_TOKEN_CHARS: usize = ((ID_BYTES + SIGNATURE_BYTES) * 8).div_ceil(6);

/// Signs and checks the tokens of one series of user ids.
#[derive(Clone)]
pub struct SessionSigner(Hmac<Sha256>);

impl SessionSigner {
    /// A signer with this key, for the series of user ids that goes by this name. The tokens of another series are
    /// invalid: its ids belong to other users.
    #[must_use]
    pub fn new(key: &SessionKey, series: [u8; 16]) -> Self {
        let mut signature =
            Hmac::<Sha256>::new_from_slice(key.bytes()).expect("Bug: HMAC takes keys of every length");
        signature.update(PURPOSE);
        signature.update(&series);
        Self(signature)
    }

    /// The token of a user; always the same.
    #[must_use]
    pub fn sign(&self, user: UserId) -> String {
        let id = user.get().to_be_bytes();
        let signature = self.0.clone().chain_update(id).finalize().into_bytes();
        BASE64URL_NOPAD.encode(&[&id[..], &signature].concat())
    }

    /// The user that a token names, if the token is valid.
    #[must_use]
    pub fn check(&self, token: &str) -> Option<UserId> {
        if token.len() != SESSION_TOKEN_CHARS {
            return None;
        }
        let decoded = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (id, signature) = decoded.split_first_chunk::<ID_BYTES>()?;
        // In constant time.
        self.0.clone().chain_update(id).verify_slice(signature).ok()?;
        UserId::from_wire(u64::from_be_bytes(*id))
    }
}

impl fmt::Debug for SessionSigner {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSigner(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u64) -> UserId {
        UserId::from_wire(id).unwrap()
    }

    #[test]
    fn a_token_names_its_user_and_fits_into_a_url() {
        let signer = SessionSigner::new(&SessionKey::random(), [1; 16]);
        for id in [1, 2, 1 << 20, u64::MAX] {
            let token = signer.sign(user(id));
            assert_eq!(token.len(), SESSION_TOKEN_CHARS);
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "{token}"
            );
            assert_eq!((signer.check(&token), signer.sign(user(id))), (Some(user(id)), token));
        }
    }

    #[test]
    fn a_token_that_was_changed_in_any_character_is_invalid() {
        let signer = SessionSigner::new(&SessionKey::random(), [1; 16]);
        let token = signer.sign(user(7));
        for place in 0..token.len() {
            for byte in [b'A', b'B', b'Q', b'_', b'-', b'9', b'=', b' ', b'+'] {
                let mut forged = token.clone().into_bytes();
                forged[place] = byte;
                let forged = String::from_utf8(forged).unwrap();
                assert!(forged == token || signer.check(&forged).is_none(), "{forged}");
            }
            assert_eq!(signer.check(&token[..place]), None);
        }
        for other in
            [format!("{token}A"), format!("{token}="), "A".repeat(64 << 10), String::new(), "é".repeat(27)]
        {
            assert_eq!(signer.check(&other), None);
        }
    }

    #[test]
    fn a_token_of_another_key_or_series_is_invalid() {
        let key = SessionKey::random();
        let token = SessionSigner::new(&key, [1; 16]).sign(user(7));
        assert_eq!(SessionSigner::new(&key, [2; 16]).check(&token), None);
        assert_eq!(SessionSigner::new(&SessionKey::random(), [1; 16]).check(&token), None);
    }

    #[test]
    fn the_user_id_0_is_nobody() {
        let signer = SessionSigner::new(&SessionKey::random(), [1; 16]);
        let signature = signer.0.clone().chain_update([0; ID_BYTES]).finalize().into_bytes();
        let token = BASE64URL_NOPAD.encode(&[&[0; ID_BYTES][..], &signature].concat());
        assert_eq!(signer.check(&token), None);
    }
}
