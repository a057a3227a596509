//! Labels: closed sets of values, and one number for each of them.

use std::fmt;

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, in the order of their indices.
    const VALUES: &'static [Self];

    /// The position in [`Label::VALUES`].
    fn index(self) -> usize;

    /// The value as Prometheus sees it.
    fn as_str(self) -> &'static str;
}

/// One counter or gauge for each value of a label.
#[derive(Debug)]
pub struct Labelled<T, L, const N: usize> {
    values: [T; N],
    label: std::marker::PhantomData<L>,
}

impl<T: Default, L, const N: usize> Default for Labelled<T, L, N> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| T::default()), label: std::marker::PhantomData }
    }
}

impl<T, L: Label, const N: usize> Labelled<T, L, N> {
    /// The one of this value.
    #[must_use]
    pub fn with(&self, label: L) -> &T {
        &self.values[label.index()]
    }
}

/// Declares a label: its values with their documentation and their text.
macro_rules! label {
    (
        $(#[$about:meta])*
        $name:ident as $label:literal { $($(#[$doc:meta])* $value:ident = $text:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$value,)*];
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const VALUES: &'static [Self] = Self::ALL;

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// The language that a connection speaks.
    Dialect as "dialect" {
        /// JSON messages with rooms, names and history.
        Chat = "chat",
        /// JSON messages of one form, in the room `general`.
        Hub = "hub",
        /// Messages that go unchanged to everybody on a topic.
        Raw = "raw",
        /// Messages that come back unchanged.
        Echo = "echo",
    }
}

label! {
    /// Why a request or an upgrade was rejected.
    RefusalReason as "reason" {
        /// There are as many clients as allowed.
        Full = "full",
        /// Its address has as many clients as allowed.
        AddressClients = "address_clients",
        /// Its address has upgraded as many connections within a second as allowed.
        AddressRate = "address_rate",
        /// Its address has as many connections without an upgrade or an answer as allowed.
        AddressHandshakes = "address_handshakes",
        /// There were as many connections without an upgrade or an answer as allowed, and it was closed in favour of
        /// another.
        HandshakesFull = "handshakes_full",
        /// A trusted proxy did not begin with a header of the PROXY protocol.
        NoProxyHeader = "no_proxy_header",
        /// There are as many topics as allowed.
        TopicsFull = "topics_full",
        /// The origin is not allowed.
        Origin = "origin",
        /// Users must sign in, and outside chat there was no token.
        SignInRequired = "sign_in_required",
        /// The token is not valid.
        BadToken = "bad_token",
        /// The token does not give the right.
        PermissionDenied = "permission_denied",
        /// The account or the address is banned.
        Banned = "banned",
        /// The server is shutting down.
        Draining = "draining",
        /// The process has no descriptor left.
        OutOfDescriptors = "out_of_descriptors",
        /// The head or the upgrade is malformed.
        BadRequest = "bad_request",
        /// The path requires an upgrade, or an upgrade of another version.
        UpgradeRequired = "upgrade_required",
        /// The path does not exist.
        NotFound = "not_found",
        /// The method is neither GET nor HEAD.
        MethodNotAllowed = "method_not_allowed",
        /// The head is longer than allowed.
        HeadTooLarge = "head_too_large",
        /// The head did not arrive in time.
        HandshakeTimeout = "handshake_timeout",
    }
}

label! {
    /// Why an upgraded connection ended.
    EndReason as "reason" {
        /// The peer closed it, or asked the server to.
        Closed = "closed",
        /// The connection was lost without a close.
        Lost = "lost",
        /// More waited for it than its send queue may hold.
        SlowConsumer = "slow_consumer",
        /// The storage was late for so long that too much waited to follow an acknowledgement.
        SlowStorage = "slow_storage",
        /// Nothing came from it within the idle timeout.
        Idle = "idle",
        /// It broke the WebSocket protocol.
        ProtocolError = "protocol_error",
        /// A message was longer than a frame may be.
        TooBig = "too_big",
        /// Text was not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// It broke TLS, or ended it with an alert.
        TlsError = "tls_error",
        /// It did not sign in in time, or with a wrong name or password.
        Unauthenticated = "unauthenticated",
        /// Its token expired.
        TokenExpired = "token_expired",
        /// It did what its token does not allow.
        PermissionDenied = "permission_denied",
        /// An admin kicked the user.
        Kicked = "kicked",
        /// Its account or its address is banned.
        Banned = "banned",
        /// The user came back on another connection.
        SessionResumed = "session_resumed",
        /// The user's account was removed, or has another password.
        AccountChanged = "account_changed",
        /// It could not join its room, because the log of the cluster was out of reach.
        OutOfReach = "out_of_reach",
        /// The other servers of the cluster had declared this one gone.
        Fenced = "fenced",
        /// This server had lost its place in the log of the cluster.
        PlaceLost = "place_lost",
        /// The server shut down.
        Shutdown = "shutdown",
    }
}

label! {
    /// How a TLS session came about.
    HandshakeKind as "kind" {
        /// With the certificate and new keys.
        Full = "full",
        /// A session was resumed.
        Resumed = "resumed",
    }
}

label! {
    /// Why TLS failed before the upgrade.
    TlsFailure as "reason" {
        /// The first bytes were not TLS.
        NotTls = "not_tls",
        /// The handshake did not end in time.
        Timeout = "timeout",
        /// The peer ended the connection.
        Ended = "ended",
        /// The peer sent an alert, for example because it does not trust the certificate.
        Alert = "alert",
        /// The peer broke the protocol, or has no version, cipher or application protocol in common.
        Violation = "violation",
    }
}

label! {
    /// The result of an attempt to sign in.
    SignInOutcome as "outcome" {
        /// The credentials were right.
        Granted = "granted",
        /// The name or the password was wrong, or the address was wrong too often.
        Denied = "denied",
        /// Too many waited, or the accounts could not be read.
        Unavailable = "unavailable",
    }
}

label! {
    /// The result of a check of a token.
    TokenOutcome as "outcome" {
        /// It is valid.
        Valid = "valid",
        /// It has expired.
        Expired = "expired",
        /// Its signature is wrong.
        Signature = "signature",
        /// No key fits it.
        NoKey = "no_key",
        /// It is no JWT, or too long.
        Malformed = "malformed",
        /// A claim is missing, has the wrong type, or another value than it must have.
        Claims = "claims",
    }
}

label! {
    /// The class of a response's status (RFC 9110, 15).
    StatusClass as "class" {
        /// The request was carried out.
        Successful = "2xx",
        /// The request was wrong.
        ClientError = "4xx",
        /// The server could not carry it out.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of a status. The HTTP API has no informational responses and no redirections.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            ..400 => Self::Successful,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

label! {
    /// Why a proposal to the log of a cluster was refused.
    ProposalRefusal as "reason" {
        /// The log was out of reach for too long, and the proposal was never sent: it will not happen.
        OutOfReach = "out_of_reach",
        /// The node has lost its place in the cluster: whether it happens is not certain.
        PlaceLost = "place_lost",
    }
}

label! {
    /// What an admin has ordered.
    OrderKind as "order" {
        /// Disconnect a user.
        Kick = "kick",
        /// Forbid a user to speak for a while.
        Mute = "mute",
        /// Allow it again.
        Unmute = "unmute",
        /// Refuse an account or an address.
        Ban = "ban",
        /// Admit it again.
        Unban = "unban",
        /// Send a message to an account, from a backend.
        Message = "message",
        /// Move the connections of an account to another room.
        Move = "move",
        /// Close a room.
        CloseRoom = "close_room",
    }
}

label! {
    /// How many members a room has.
    RoomSizeClass as "room_size" {
        /// Up to 10, an empty room included.
        UpTo10 = "1-10",
        /// 11 to 100.
        UpTo100 = "11-100",
        /// 101 to 1,000.
        UpTo1000 = "101-1000",
        /// More.
        Above1000 = "1001+",
    }
}

impl RoomSizeClass {
    /// The class of a room with this many members.
    #[must_use]
    pub fn of(members: usize) -> Self {
        match members {
            0..=10 => Self::UpTo10,
            11..=100 => Self::UpTo100,
            101..=1000 => Self::UpTo1000,
            _ => Self::Above1000,
        }
    }
}
