//! The payload of a close frame, and the codes that it may have.

use super::Violation;

/// The payload of a close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code (RFC 6455, section 7.4).
    pub code: u16,
    /// The reason, as text for debugging.
    pub reason: String,
}

/// Reads the payload of a close frame.
pub(super) fn read_close(payload: &[u8]) -> Result<Option<Close>, Violation> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::InvalidClose) };
    };
    let code = u16::from_be_bytes(code);
    if !is_close_code(code) {
        return Err(Violation::InvalidClose);
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?.to_owned();
    Ok(Some(Close { code, reason }))
}

/// True for a code that may stand in a close frame: 1004 to 1006 and 1015 must not be sent (RFC 6455, section
/// 7.4.1), 1012 to 1014 are registered with IANA, 3000 to 4999 are for libraries and applications.
#[must_use]
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
