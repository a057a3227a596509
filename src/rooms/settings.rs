//! The settings of rooms.

use super::PresencePolicy;

/// The settings of all rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomSettings {
    /// How presence is announced.
    pub presence: PresencePolicy,
    /// The most names that are sent with an event.
    pub names_max: usize,
    /// Messages that a room keeps.
    pub history: usize,
    /// How long a room that a client has created is kept after its last member has left.
    pub ttl_ms: u64,
}
