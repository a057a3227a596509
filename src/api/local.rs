//! The program that embeds the server as a backend: it publishes without HTTP.
//!
//! Its requests run on the control thread, to their end even if the program gives up on them, like those of HTTP.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, TryAcquireError, oneshot};
use tokio::time::timeout;
use uproar_protocol::frames::MessageKind;

use super::limits::ApiLimits;
use super::message::{Message, RoomPost, TopicPost};
use super::outcome::REQUEST_TIMEOUT;
use super::publishing::{PublishError, Publisher, published, relayed};
use super::shard_loads::ShardLoads;
use super::stats::Stats;
use crate::metrics::Metrics;
use crate::rooms::{Epoch, MessageId};

/// The most requests of this process that are under way.
const REQUESTS_MAX: u32 = 4_096;

/// A message that a room has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id of the message in its room.
    pub message_id: MessageId,
    /// The life of the room to which the id belongs.
    pub epoch: Epoch,
}

/// A message to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Sent as a text message.
    Text(String),
    /// Sent as a binary message.
    Binary(Bytes),
}

/// A backend in the process of the server. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalBackend {
    /// The runtime of the control thread.
    runtime: Handle,
    publisher: Publisher,
    metrics: Metrics,
    loads: Arc<ShardLoads>,
    limits: ApiLimits,
    under_way: UnderWay,
}

/// The requests under way: each has a permit until nothing of it is left.
#[derive(Clone, Debug)]
pub(super) struct UnderWay(Arc<Semaphore>);

impl LocalBackend {
    pub(super) fn new(
        runtime: Handle,
        publisher: Publisher,
        metrics: Metrics,
        loads: Arc<ShardLoads>,
        limits: ApiLimits,
    ) -> Self {
        let under_way = UnderWay(Arc::new(Semaphore::new(REQUESTS_MAX as usize)));
        Self { runtime, publisher, metrics, loads, limits, under_way }
    }

    /// Sends a chat message to a room, which is opened if its name matches one of the configuration's `room_patterns`.
    /// Returns when the message is as durable as configured.
    ///
    /// # Errors
    ///
    /// [`PublishError`], which says what became of the message.
    pub async fn publish(&self, room: &str, message: Message) -> Result<Published, PublishError> {
        let post = RoomPost::check(message, self.limits).map_err(PublishError::Invalid)?;
        let (room, publisher) = (room.to_owned(), self.publisher.clone());
        self.carry_out(async move {
            let target = publisher.open(publisher.find(&room).await).await?;
            let taken = published(publisher.say(&target, post.message()).await).await?;
            Ok(Published { message_id: taken.message, epoch: taken.epoch })
        })
        .await
    }

    /// Sends a message to a raw topic. Returns how many clients' queues have taken it.
    ///
    /// # Errors
    ///
    /// [`PublishError`], which says what became of the message.
    pub async fn broadcast(&self, topic: &str, payload: Payload) -> Result<usize, PublishError> {
        let (kind, payload) = match payload {
            Payload::Text(text) => (MessageKind::Text, Bytes::from(text)),
            Payload::Binary(bytes) => (MessageKind::Binary, bytes),
        };
        let bytes_max = self.limits.frame_bytes_max;
        if payload.len() > bytes_max {
            return Err(PublishError::Invalid(format!("the message is longer than {bytes_max} bytes")));
        }
        let post = TopicPost { topic: topic.to_owned(), kind, payload };
        let publisher = self.publisher.clone();
        self.carry_out(async move { relayed(publisher.relay(post).await).await }).await
    }

    /// The process in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.publisher.directory, &self.metrics, &self.loads)
    }

    pub(super) fn under_way(&self) -> UnderWay {
        self.under_way.clone()
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PublishError>> + Send + 'static,
    ) -> Result<T, PublishError> {
        let link = &self.publisher.link;
        let permit = match Arc::clone(&self.under_way.0).try_acquire_owned() {
            Ok(permit) if !link.is_closed() => permit,
            // At the end, all permits are taken to wait for the requests that have one.
            Err(TryAcquireError::NoPermits) if !link.is_closed() => return Err(PublishError::Busy),
            Ok(_) | Err(_) => return Err(PublishError::ShuttingDown),
        };
        let (tell, told) = oneshot::channel();
        self.runtime.spawn(async move {
            let _permit = permit;
            let mut work = pin!(work);
            let in_time = timeout(REQUEST_TIMEOUT, work.as_mut()).await;
            let is_late = in_time.is_err();
            // The caller may have given up.
            let _ = tell.send(in_time.unwrap_or(Err(PublishError::Unknown)));
            if is_late {
                // The time ends the wait of the caller, and not the work: a room that it opens is to be released.
                let _ = work.await;
            }
        });
        // It fails when the control thread has ended, or has failed.
        told.await.unwrap_or(Err(PublishError::Unknown))
    }
}

impl UnderWay {
    /// Waits until there are none. From then on none begins.
    pub(super) async fn wait_until_none(&self) {
        // It cannot fail: nobody else closes it.
        let _ = self.0.acquire_many(REQUESTS_MAX).await;
        self.0.close();
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::Instant;
    use uproar_ring::Waker;

    use super::*;
    use crate::api::link::MeshLink;
    use crate::mail;
    use crate::mesh::{Mailbox, Mesh};
    use crate::permit::ClientPermits;
    use crate::rooms::{Change, Delivery, Directory, EntryNumber, Proposal, Request as RoomRequest};

    /// A backend of which no shard answers anything, and the mailbox of that shard.
    fn unanswered() -> (LocalBackend, Vec<Mailbox>) {
        let (mesh, mailboxes) = Mesh::new(vec![Waker::new().unwrap()]);
        let directory = Directory::new(&["general".to_owned()], 1);
        let publisher = Publisher { link: MeshLink::new(mesh), directory };
        let metrics = Metrics::new(1, 1, ClientPermits::new(1));
        let loads = Arc::new(ShardLoads::new(&metrics));
        let limits = ApiLimits { message_bytes_max: 100, frame_bytes_max: 100 };
        (LocalBackend::new(Handle::current(), publisher, metrics, loads, limits), mailboxes)
    }

    /// Goal: a disk that hangs does not hold the program that publishes, and its message counts as under way all the same.
    #[tokio::test(start_paused = true)]
    async fn after_ten_seconds_without_the_disk_the_outcome_is_unknown() {
        let (backend, mut mailboxes) = unanswered();
        let (shards, answers) = unbounded_channel();
        let answering = tokio::spawn(backend.publisher.link.clone().run(answers));
        let began = Instant::now();
        let publishing = {
            let backend = backend.clone();
            tokio::spawn(async move { backend.publish("general", Message::text("hello")).await })
        };
        let request = mailboxes[0].requests.recv().await;
        let Some(mail::Request::Room(RoomRequest::Room {
            proposal: Proposal::Change(Change::Message { origin, .. }),
            ..
        })) = request
        else {
            panic!("{request:?}")
        };
        // The room has taken it, and nothing comes from the disk.
        let (message, epoch, pending) = (MessageId(1), Epoch::random(), Some(EntryNumber(1)));
        shards.send(mail::Delivery::Room(Delivery::Done { to: origin, message, epoch, pending })).unwrap();
        assert_eq!(publishing.await.unwrap(), Err(PublishError::Unknown));
        assert_eq!(began.elapsed().as_secs(), REQUEST_TIMEOUT.as_secs());
        assert_eq!(backend.under_way.0.available_permits(), REQUESTS_MAX as usize - 1);
        // Its shard has ended.
        drop(shards);
        answering.await.unwrap();
        backend.under_way().wait_until_none().await;
    }

    #[tokio::test]
    async fn what_is_under_way_is_bounded() {
        let (backend, _mailboxes) = unanswered();
        let link = backend.publisher.link.clone();
        let publish = || backend.publish("general", Message::text("hello")).now_or_never();
        // The shard answers none of them.
        for _ in 0..REQUESTS_MAX {
            assert_eq!(publish(), None);
        }
        assert_eq!(publish(), Some(Err(PublishError::Busy)));
        link.close();
        assert_eq!(publish(), Some(Err(PublishError::ShuttingDown)));
        // Those that had not been sent are told so, and the last one leaves nothing behind.
        backend.under_way().wait_until_none().await;
        assert_eq!(publish(), Some(Err(PublishError::ShuttingDown)));
    }
}
