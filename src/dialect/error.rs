//! Why a message of a user had no effect.

use thiserror::Error;

/// Why a message had no effect, in the words that its sender gets.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChatError {
    /// Not JSON, not an object, no type, or a field of the wrong type.
    #[error("Invalid message format")]
    InvalidFormat,
    /// A type that this dialect does not have.
    #[error("Unknown message type: {0}")]
    UnknownType(String),
    /// Over the message limit.
    #[error("Message too large")]
    TooLarge,
    /// Over the rate.
    #[error("Too many messages")]
    TooMany,
    /// Not a name.
    #[error("Invalid name (1-20 characters required)")]
    InvalidName,
    /// Not an address of the web.
    #[error("Invalid image URL")]
    InvalidImageUrl,
    /// Not among the messages that the room keeps.
    #[error("Unknown message: {0}")]
    UnknownMessage(String),
    /// A second name for one connection.
    #[error("You are logged in already")]
    LoggedInAlready,
    /// Only for those who have logged in.
    #[error("Log in first")]
    NotLoggedIn,
    /// Nobody there.
    #[error("User not found or offline")]
    UserNotFound,
    /// Only for admins.
    #[error("Permission denied")]
    PermissionDenied,
    /// An admin has forbidden it for a while.
    #[error("You are muted")]
    Muted,
    /// Only for those who have signed in.
    #[error("Authentication required")]
    AuthenticationRequired,
    /// The server has too many to verify, or cannot read its accounts.
    #[error("Authentication is not possible at the moment, try again later")]
    SignInUnavailable,
    /// The disk does not take it.
    #[error("Message could not be stored")]
    NotStored,
    /// No such room.
    #[error("Unknown room: {0}")]
    UnknownRoom(String),
}
