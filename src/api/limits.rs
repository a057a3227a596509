//! What messages of backends are held to.

/// The limits of messages, as for clients.
#[derive(Clone, Copy, Debug)]
pub struct ApiLimits {
    /// The longest content of a room's message, in bytes.
    pub message_bytes_max: usize,
    /// The longest message of a topic, in bytes.
    pub frame_bytes_max: usize,
}
