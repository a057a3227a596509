//! Why a user's message had no effect.

use thiserror::Error;

use crate::moderation::OrderRefusal;

/// Why a message had no effect, with the text that its sender gets.
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
    /// The name is invalid.
    #[error("Invalid name (1-20 characters required)")]
    InvalidName,
    /// The name is that of the server or of an account.
    #[error("Name is reserved")]
    NameReserved,
    /// The image's URL is invalid.
    #[error("Invalid image URL")]
    InvalidImageUrl,
    /// The room does not keep this message.
    #[error("Unknown message: {0}")]
    UnknownMessage(String),
    /// A second login on one connection.
    #[error("You are logged in already")]
    LoggedInAlready,
    /// Login is required.
    #[error("Log in first")]
    NotLoggedIn,
    /// The user is unknown or offline.
    #[error("User not found or offline")]
    UserNotFound,
    /// Admin rights are required.
    #[error("Permission denied")]
    PermissionDenied,
    /// A moderation order has no effect.
    #[error(transparent)]
    Order(#[from] OrderRefusal),
    /// The user is muted.
    #[error("You are muted")]
    Muted,
    /// Sign-in is required.
    #[error("Authentication required")]
    AuthenticationRequired,
    /// The server has too many to verify, or cannot read its accounts.
    #[error("Authentication is not possible at the moment, try again later")]
    SignInUnavailable,
    /// The message could not be written to the disk.
    #[error("Message could not be stored")]
    NotStored,
    /// The deletion of the message could not be written to the disk.
    #[error("Message could not be deleted")]
    NotDeleted,
    /// No such room.
    #[error("Unknown room: {0}")]
    UnknownRoom(String),
    /// Clients have created as many rooms as they may, and none of them is empty.
    #[error("Too many rooms")]
    TooManyRooms,
    /// The history of a room cannot be read.
    #[error("Try again later")]
    RoomNotOpened,
}
