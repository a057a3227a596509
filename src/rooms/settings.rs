//! How rooms behave.

use super::PresencePolicy;

/// How rooms behave.
#[derive(Clone, Copy, Debug)]
pub struct RoomSettings {
    /// How presence is announced.
    pub presence: PresencePolicy,
    /// The most names that are told with an event.
    pub names_max: usize,
    /// Messages that a room keeps.
    pub history: usize,
}
