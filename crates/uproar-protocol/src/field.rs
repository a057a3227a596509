//! Valid names and values of header fields, so that text from elsewhere cannot inject another field.

/// Why a field cannot be sent. Both name it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It has characters that it must not have, a line break for instance.
    #[error("the field {0:?} has a name or a value that cannot be sent")]
    Malformed(String),
    /// It determines the response's length or the connection's end, which the response sets itself.
    #[error("the field {0:?} cannot be given: the response has it already")]
    Reserved(String),
}

/// True for what may be the name of a field or of a subprotocol (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// True for what may be the value of a field: visible characters, spaces and tabs, and no line break.
#[must_use]
pub fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
