//! How messages reach rooms and topics, whoever has them: the HTTP API or the program that embeds the server.

use thiserror::Error;

use super::link::{Asked, HeldRoom, MeshLink, NoReply, Published, Reply};
use super::message::TopicPost;
use crate::handshake::endpoint;
use crate::mail;
use crate::rooms::{Change, Directory, NewMessage, Request as RoomRequest, RoomIndex, RoomRefusal};

/// Why a message was not published, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The message breaks a rule of chat messages. Nothing happened.
    #[error("{0}")]
    Invalid(String),
    /// There is no such room, and its name matches no `room_patterns`. Nothing happened.
    #[error("there is no room of this name")]
    NoRoom,
    /// The topic's name is too long. Nothing happened.
    #[error("no topic has so long a name")]
    NoTopic,
    /// The room cannot be opened. Nothing happened.
    #[error("there are as many rooms as there may be, and none of them is empty")]
    TooManyRooms,
    /// The room takes no messages: the disk fails, or the log of the cluster is out of reach. Nothing happened.
    #[error("it cannot be stored at the moment")]
    StorageFails,
    /// The server shuts down, or has ended. Nothing happened.
    #[error("the server shuts down")]
    ShuttingDown,
    /// Members may have seen the message, and the disk has refused it.
    #[error("members may have seen it, and the disk has refused it")]
    NotStored,
    /// The program has 4,096 messages under way, and is to wait for one of them first. Nothing happened.
    #[error("too many messages of this program are under way")]
    Busy,
    /// Nobody knows: there was no answer for ten seconds, or the server has ended before it had one.
    #[error("it is not known whether it was published: there was no answer in time, or the server has ended")]
    Unknown,
}

/// The way to rooms and topics. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    pub(super) link: MeshLink,
    pub(super) directory: Directory,
}

/// A room on its way to be found.
pub(super) enum Finding {
    Found(RoomIndex),
    Asked(Asked),
    Refused(PublishError),
}

/// A room that a message can be sent to.
pub(super) enum Target {
    /// One that is always there.
    Configured(RoomIndex),
    /// One that was opened for the message, or found open.
    Held(HeldRoom),
}

impl Publisher {
    /// Finds the room of this name, or asks its home to open it.
    pub(super) async fn find(&self, name: &str) -> Finding {
        if let Some(room) = self.directory.find(name) {
            return Finding::Found(room);
        }
        if !self.directory.on_demand().allows(name) {
            return Finding::Refused(PublishError::NoRoom);
        }
        let asked = self.link.ask(self.directory.home_of(name), |origin| {
            mail::Request::Room(RoomRequest::Open { name: name.into(), origin, is_owed: false })
        });
        match asked.await {
            Ok(asked) => Finding::Asked(asked),
            Err(error) => Finding::Refused(error.into()),
        }
    }

    /// Waits until a room is open.
    pub(super) async fn open(&self, finding: Finding) -> Result<Target, PublishError> {
        let asked = match finding {
            Finding::Found(room) => return Ok(Target::Configured(room)),
            Finding::Asked(asked) => asked,
            Finding::Refused(error) => return Err(error),
        };
        match asked.reply().await? {
            Reply::Opened(room) => Ok(Target::Held(room)),
            reply => Err(reply.into()),
        }
    }

    /// Sends a message to a room. Messages for one room take effect in the order of the calls.
    ///
    /// # Errors
    ///
    /// When the server shuts down.
    pub(super) async fn say(&self, target: &Target, message: NewMessage) -> Result<Asked, PublishError> {
        let room = target.room();
        let asked = self.link.ask(room.home(), |origin| {
            mail::Request::Room(RoomRequest::Room {
                room,
                proposal: Change::Message { message, visit: None, origin }.into(),
            })
        });
        Ok(asked.await?)
    }

    /// Sends a message to the home of a topic.
    ///
    /// # Errors
    ///
    /// When the topic's name is too long, or the server shuts down.
    pub(super) async fn relay(&self, post: TopicPost) -> Result<Asked, PublishError> {
        let TopicPost { topic, kind, payload } = post;
        let topic = endpoint::topic_of(&topic).ok_or(PublishError::NoTopic)?;
        let home = self.directory.home_of(&topic);
        let asked = self.link.ask(home, |origin| {
            mail::Request::Room(RoomRequest::Relay {
                topic: topic.into(),
                kind,
                payload,
                origin: Some(origin),
            })
        });
        Ok(asked.await?)
    }
}

impl Target {
    fn room(&self) -> RoomIndex {
        match self {
            Self::Configured(room) | Self::Held(HeldRoom { room, .. }) => *room,
        }
    }
}

/// Waits for the outcome of a message to a room.
pub(super) async fn published(asked: Result<Asked, PublishError>) -> Result<Published, PublishError> {
    match asked?.reply().await? {
        Reply::Done(published) => Ok(published),
        reply => Err(reply.into()),
    }
}

/// Waits until all queues have taken a message to a topic, and returns how many these are.
pub(super) async fn relayed(asked: Result<Asked, PublishError>) -> Result<usize, PublishError> {
    match asked?.reply().await? {
        Reply::Relayed { receivers } => Ok(receivers),
        reply => Err(reply.into()),
    }
}

impl From<NoReply> for PublishError {
    fn from(no_reply: NoReply) -> Self {
        match no_reply {
            NoReply::Draining => Self::ShuttingDown,
            NoReply::Lost => Self::Unknown,
        }
    }
}

/// The error of a message that this is the answer to.
impl From<Reply> for PublishError {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Refused(RoomRefusal::NoRoom) => Self::NoRoom,
            Reply::Refused(RoomRefusal::TooManyRooms) => Self::TooManyRooms,
            Reply::Refused(RoomRefusal::NotStored | RoomRefusal::NotOpened) => Self::StorageFails,
            Reply::Refused(RoomRefusal::OutcomeUnknown) => Self::Unknown,
            Reply::NotStored => Self::NotStored,
            other => {
                debug_assert!(false, "Bug: {other:?} answers another request");
                Self::Unknown
            }
        }
    }
}
