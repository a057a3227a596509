//! What a shard has done, in plain numbers; the floor publishes them once a turn.

use super::connection::Session;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer sent a close frame.
    PeerClosed,
    /// The peer's stream ended without one.
    PeerVanished,
    /// A receive or send failed.
    Lost,
    /// It did not read what was sent.
    SlowConsumer,
    /// It was silent for too long.
    Idle,
    /// It broke the protocol (RFC 6455, close code 1002).
    ProtocolError,
    /// It sent text that is none (1007).
    InvalidUtf8,
    /// It sent a message over the limit (1009).
    TooBig,
    /// The server is shutting down.
    Shutdown,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::PeerClosed,
        Self::PeerVanished,
        Self::Lost,
        Self::SlowConsumer,
        Self::Idle,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::TooBig,
        Self::Shutdown,
    ];

    /// The reason as a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerVanished => "peer_vanished",
            Self::Lost => "lost",
            Self::SlowConsumer => "slow_consumer",
            Self::Idle => "idle",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooBig => "too_big",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A number for each dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByDialect {
    /// Connections of the chat dialect.
    pub chat: u64,
    /// Connections on topics.
    pub raw: u64,
    /// Connections of the echo dialect.
    pub echo: u64,
}

impl ByDialect {
    pub(super) fn of(&mut self, session: &Session) -> &mut u64 {
        match session {
            Session::Chat(_) => &mut self.chat,
            Session::Raw { .. } => &mut self.raw,
            Session::Echo => &mut self.echo,
        }
    }
}

/// Counts since the shard's start, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Connections that are open now.
    pub open: ByDialect,
    /// Connections that were admitted.
    pub admitted: ByDialect,
    /// Text and binary messages received.
    pub messages_in: ByDialect,
    /// Messages queued for connections.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Events of rooms and topics that members of this shard were told of.
    pub broadcasts: u64,
    /// Encodings made for them.
    pub broadcast_encodings: u64,
    /// Sends submitted.
    pub batches_sent: u64,
    /// Frames in them.
    pub frames_sent: u64,
    /// Bytes that wait in out-queues or are under way, now.
    pub queued_bytes: u64,
    /// Ended connections, by [`EndReason`].
    pub ended: [u64; EndReason::ALL.len()],
}

impl Counters {
    pub(super) fn opened(&mut self, session: &Session) {
        *self.open.of(session) += 1;
        *self.admitted.of(session) += 1;
    }

    pub(super) fn ended(&mut self, session: &Session, reason: EndReason) {
        *self.open.of(session) -= 1;
        self.ended[reason as usize] += 1;
    }
}
