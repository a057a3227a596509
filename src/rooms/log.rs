//! The log of a room: everything that changes the room, in one order (over 500 lines because of its tests).
//!
//! A [`Proposal`] goes in. At once or later, it comes out as an [`Entry`] with a number, or it is refused. A room applies
//! entries and changes by nothing else. Requests that change nothing are no entries, and come out in order with them, so a
//! client sees its own changes in what it asks for next.
//!
//! - In memory, a proposal is an entry at once.
//! - In a cluster, the log is one that all its servers share: see [`shared`](super::shared).
//! - With a storage, it is an entry at once as long as message ids are reserved on the disk. Where none is left, messages
//!   wait for the next reservation, and later proposals behind them. While the storage fails, messages and deletions are
//!   refused. An entry that changes the history has a second outcome: it is on the disk, or it will never be.
//!
//! A message whose author is no member any more, or is one by a later connection, is dropped before it gets an id.
//!
//! Whether a message may be deleted depends on the state that the room has by then. So the deletion becomes an entry in
//! any case, and the room decides when it applies the entry: whoever applies the same entries decides the same.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::sync::Arc;

use super::roster::Roster;
use super::{
    ClientRef, Content, Deletion, EntryNumber, HistoryChange, Member, MemberAccount, MessageId, Page,
    ResumePoint, RoomMessage, ShardIndex, UserId, Visit,
};

/// Proposals that may wait for the storage at all homes of a shard. Then the shard takes no requests, and with that its
/// clients' input waits; the requests that it has made to itself by then, and a leave of each client, still come. They
/// become entries together, and cause deliveries to all shards at once: this is half of what may wait for one of these.
pub const PROPOSALS_WAITING_MAX: usize = 256;

/// A request to a room.
#[derive(Debug)]
pub enum Proposal {
    /// It changes the room.
    Change(Change<NewMessage>),
    /// It changes nothing.
    Unlogged(Unlogged),
}

/// A change of a room, with a message that is new or, in an entry, numbered.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Change<M> {
    /// Enter the room. A user who is a member by an earlier visit leaves first. It changes nothing once the user has come
    /// back by a later visit. Answered with [`Delivery::Joined`](super::Delivery::Joined), with the messages since `after`
    /// if that is given.
    Join { member: Member, after: Option<ResumePoint> },
    /// Leave the room, unless the user is a member by another visit. Answered with
    /// [`Delivery::Left`](super::Delivery::Left) when `reply` says where to.
    Leave { user: UserId, visit: Visit, reply: Option<ClientRef> },
    /// As for a leave, change a member's name, account or role.
    Rename {
        user: UserId,
        visit: Visit,
        new_name: Arc<str>,
        account: Option<MemberAccount>,
        connected_at: u64,
        owner: Option<Arc<str>>,
        origin: ClientRef,
    },
    /// Send a message to the room. It is dropped, and gets no id, unless its author is a member by `visit`; without one, it
    /// needs no membership. Answered with [`Delivery::Refused`](super::Delivery::Refused) when it cannot be stored.
    Message { message: M, visit: Option<Visit>, origin: ClientRef },
    /// Delete a message. Answered with [`Delivery::Refused`](super::Delivery::Refused) when the room does not keep it,
    /// when the user may not delete it, or when that cannot be stored.
    Delete { deletion: Deletion, origin: ClientRef },
}

/// A message without an id.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub struct NewMessage {
    pub user: UserId,
    pub name: Arc<str>,
    pub account: Option<Arc<str>>,
    pub content: Content,
}

/// A request that changes nothing, and is no entry of the log.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Unlogged {
    /// Show a member the room again. Answered with [`Delivery::Joined`](super::Delivery::Joined).
    Revisit { user: UserId, origin: ClientRef, after: Option<ResumePoint> },
    /// Announce that a member by this visit started or stopped typing.
    Typing { user: UserId, visit: Visit, name: Arc<str>, origin: ClientRef, is_typing: bool },
    /// Note that a member has read a message. Its sender gets [`Delivery::Read`](super::Delivery::Read); answered with
    /// [`Delivery::Refused`](super::Delivery::Refused) when the room does not keep such a message.
    Read { user: UserId, origin: ClientRef, message: MessageId },
    /// List the members. Answered with [`Delivery::Members`](super::Delivery::Members).
    ListMembers { user: UserId, origin: ClientRef, page: Option<Page> },
    /// List the last `limit` kept messages before this one, or of all. Answered with
    /// [`Delivery::History`](super::Delivery::History).
    ListHistory { origin: ClientRef, before: Option<MessageId>, limit: usize },
    /// To the HTTP API: list the `limit` members behind this id. Answered with [`Delivery::Members`](super::Delivery::Members).
    ListMembersAfter { origin: ClientRef, after: Option<UserId>, limit: usize },
    /// To the HTTP API: list the first `limit` kept messages behind this one. Answered with
    /// [`Delivery::History`](super::Delivery::History).
    ListHistoryAfter { origin: ClientRef, after: MessageId, limit: usize },
    /// To the HTTP API: close a room that clients have created, behind everything that was proposed before. Its members are
    /// told to leave. Answered with [`Delivery::Closed`](super::Delivery::Closed).
    Close { origin: ClientRef },
    /// List the names, also for one that is no member. Answered with [`Delivery::Names`](super::Delivery::Names).
    ListNames { origin: ClientRef },
}

impl Proposal {
    /// True for a request to close the room.
    pub(super) fn is_close(&self) -> bool {
        matches!(self, Self::Unlogged(Unlogged::Close { .. }))
    }

    /// The client that has made it, if it is answered.
    pub(super) fn origin(&self) -> Option<ClientRef> {
        match self {
            Self::Change(Change::Join { member, .. }) => Some(member.origin),
            Self::Change(Change::Leave { reply, .. }) => *reply,
            Self::Change(
                Change::Rename { origin, .. }
                | Change::Message { origin, .. }
                | Change::Delete { origin, .. },
            ) => Some(*origin),
            Self::Unlogged(request) => Some(request.origin()),
        }
    }

    /// The HTTP API's request that this is, if it is one. It is answered even where the room is forgotten.
    pub(super) fn of_api(&self) -> Option<ClientRef> {
        let (Self::Change(Change::Message { origin, .. } | Change::Delete { origin, .. })
        | Self::Unlogged(
            Unlogged::ListMembersAfter { origin, .. }
            | Unlogged::ListHistoryAfter { origin, .. }
            | Unlogged::ListHistory { origin, .. }
            | Unlogged::Close { origin },
        )) = self
        else {
            return None;
        };
        Some(*origin).filter(|origin| origin.shard == ShardIndex::API)
    }
}

impl Unlogged {
    /// The client that has made it.
    pub(super) fn origin(&self) -> ClientRef {
        let (Self::Revisit { origin, .. }
        | Self::Typing { origin, .. }
        | Self::Read { origin, .. }
        | Self::ListMembers { origin, .. }
        | Self::ListHistory { origin, .. }
        | Self::ListMembersAfter { origin, .. }
        | Self::ListHistoryAfter { origin, .. }
        | Self::Close { origin }
        | Self::ListNames { origin }) = self;
        *origin
    }
}

impl From<Change<NewMessage>> for Proposal {
    fn from(change: Change<NewMessage>) -> Self {
        Self::Change(change)
    }
}

impl From<Unlogged> for Proposal {
    fn from(request: Unlogged) -> Self {
        Self::Unlogged(request)
    }
}

/// A change that has its place in the room's order.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: EntryNumber,
    pub(super) change: Change<Arc<RoomMessage>>,
}

/// The outcome of a proposal.
#[derive(Debug)]
pub(super) enum Outcome {
    Entry(Entry),
    /// A message of an earlier connection of its author, which comes late, is dropped.
    Late,
    /// A request that is no entry; it is handled now.
    Unlogged(Unlogged),
    /// The message of the client `to` is rejected, because it cannot be stored.
    MessageRefused {
        to: ClientRef,
    },
    /// The same of a deletion.
    DeletionRefused {
        deletion: Deletion,
        to: ClientRef,
    },
    /// The user does not join: it has joined by a later visit.
    Superseded {
        to: ClientRef,
    },
    /// The user cannot join now.
    NotJoined {
        to: ClientRef,
    },
    /// The room was forgotten before.
    RoomGone {
        to: ClientRef,
        after: Option<ResumePoint>,
    },
}

/// The log of one room at its home.
#[derive(Debug)]
pub(super) struct RoomLog {
    last_number: EntryNumber,
    last_message: MessageId,
    /// Proposals without an outcome, in order. Those of memory wait only until [`RoomLog::poll_outcome`] is called.
    waiting: VecDeque<Proposal>,
    kind: Kind,
}

/// Where a log is kept.
#[derive(Debug)]
enum Kind {
    Memory,
    Durable(Durable),
}

/// The state of the storage for one room.
#[derive(Debug)]
struct Durable {
    /// The last message id that may be given out.
    reserved: MessageId,
    /// Changes on their way to the disk, in the order of their entries.
    unanswered: VecDeque<Unanswered>,
}

/// A change of the history without a receipt.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    pub(super) entry: EntryNumber,
    pub(super) change: HistoryChange,
    /// Who has caused it.
    pub(super) to: ClientRef,
}

impl RoomLog {
    /// An empty log in memory.
    pub(super) fn in_memory() -> Self {
        Self {
            last_number: EntryNumber(0),
            last_message: MessageId(0),
            waiting: VecDeque::new(),
            kind: Kind::Memory,
        }
    }

    /// A log whose messages are written to the disk. Its ids continue after `last_message`.
    pub(super) fn durable(last_message: MessageId, reserved: MessageId) -> Self {
        assert!(
            last_message <= reserved,
            "Bug: {last_message:?} was given out, and {reserved:?} is reserved"
        );
        let durable = Durable { reserved, unanswered: VecDeque::new() };
        Self { last_message, kind: Kind::Durable(durable), ..Self::in_memory() }
    }

    /// True when changes of the history are to be written to the disk.
    pub(super) fn is_durable(&self) -> bool {
        matches!(self.kind, Kind::Durable(_))
    }

    /// True when the outcomes of earlier proposals wait for the storage.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Drops the proposals that wait. Returns how many.
    pub(super) fn drop_waiting(&mut self) -> usize {
        std::mem::take(&mut self.waiting).len()
    }

    /// Takes a proposal, and returns its outcome unless it has to wait. `is_failing` says whether the storage fails.
    ///
    /// Invariant *no id twice*: an id is given out only if it is reserved, so it is not given out again after a crash.
    #[must_use]
    pub(super) fn propose(
        &mut self,
        proposal: Proposal,
        timestamp: u64,
        is_failing: bool,
        members: &Roster,
    ) -> Option<Outcome> {
        if self.has_waiting() || self.must_wait(&proposal, is_failing) {
            self.waiting.push_back(proposal);
            return None;
        }
        Some(self.decide(proposal, timestamp, is_failing, members))
    }

    /// The outcome of the next proposal that has waited. `None` while it has to wait, or there is none. To be called after
    /// each `handle_*`, and when the storage begins to fail.
    #[must_use]
    pub(super) fn poll_outcome(
        &mut self,
        timestamp: u64,
        is_failing: bool,
        members: &Roster,
    ) -> Option<Outcome> {
        if self.must_wait(self.waiting.front()?, is_failing) {
            return None;
        }
        let proposal = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            // Rooms wait seldom, and there may be many.
            self.waiting = VecDeque::new();
        }
        Some(self.decide(proposal, timestamp, is_failing, members))
    }

    fn must_wait(&self, proposal: &Proposal, is_failing: bool) -> bool {
        let is_message = matches!(proposal, Proposal::Change(Change::Message { .. }));
        is_message && !is_failing && !self.is_next_id_reserved()
    }

    fn is_next_id_reserved(&self) -> bool {
        match &self.kind {
            Kind::Memory => true,
            Kind::Durable(durable) => self.last_message < durable.reserved,
        }
    }

    fn decide(&mut self, proposal: Proposal, timestamp: u64, is_failing: bool, members: &Roster) -> Outcome {
        let change = match proposal {
            Proposal::Unlogged(request) => return Outcome::Unlogged(request),
            Proposal::Change(Change::Join { member, after }) => Change::Join { member, after },
            Proposal::Change(Change::Leave { user, visit, reply }) => Change::Leave { user, visit, reply },
            Proposal::Change(Change::Rename {
                user,
                visit,
                new_name,
                account,
                connected_at,
                owner,
                origin,
            }) => Change::Rename { user, visit, new_name, account, connected_at, owner, origin },
            Proposal::Change(Change::Message { message, visit: Some(visit), .. })
                if members.visit(message.user) != Some(visit) =>
            {
                return Outcome::Late;
            }
            Proposal::Change(Change::Message { origin, .. }) if is_failing => {
                return Outcome::MessageRefused { to: origin };
            }
            Proposal::Change(Change::Message { message, visit, origin }) => {
                let id = MessageId(self.last_message.0 + 1);
                self.last_message = id;
                let NewMessage { user: from, name: from_name, account: from_account, content } = message;
                let message = Arc::new(RoomMessage { id, from, from_name, from_account, content, timestamp });
                Change::Message { message, visit, origin }
            }
            Proposal::Change(Change::Delete { deletion, origin }) if is_failing => {
                return Outcome::DeletionRefused { deletion, to: origin };
            }
            Proposal::Change(Change::Delete { deletion, origin }) => Change::Delete { deletion, origin },
        };
        self.last_number.0 += 1;
        Outcome::Entry(Entry { number: self.last_number, change })
    }

    /// Notes a change that is given to the storage.
    pub(super) fn await_receipt(&mut self, unanswered: Unanswered) {
        self.stored().unanswered.push_back(unanswered);
    }

    /// The changes up to the entry `through` are stored or lost. Returns those that were not answered before.
    pub(super) fn handle_answered(&mut self, through: EntryNumber) -> Drain<'_, Unanswered> {
        let unanswered = &mut self.stored().unanswered;
        let count = unanswered.partition_point(|unanswered| unanswered.entry <= through);
        unanswered.drain(..count)
    }

    /// Ids up to `reserved` may be given out. Where messages wait for more, the writes before them bring another reservation,
    /// or the end of a failure does.
    pub(super) fn handle_reserved(&mut self, reserved: MessageId) {
        let last = self.last_message;
        let durable = self.stored();
        assert!(reserved >= last, "Bug: {reserved:?} is reserved and {last:?} given out");
        durable.reserved = durable.reserved.max(reserved);
    }

    fn stored(&mut self) -> &mut Durable {
        match &mut self.kind {
            Kind::Durable(durable) => durable,
            Kind::Memory => panic!("Bug: the storage answers a room in memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_ring::ConnectionId;

    fn origin(connection: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index: connection, generation: 0 } }
    }

    fn user() -> UserId {
        UserId::from_wire(1).unwrap()
    }

    /// A log, and the outcomes that came at once.
    struct Driven {
        log: RoomLog,
        outcomes: Vec<Outcome>,
        is_failing: bool,
    }

    impl Driven {
        fn new(log: RoomLog) -> Self {
            Self { log, outcomes: Vec::new(), is_failing: false }
        }

        fn propose(&mut self, proposal: impl Into<Proposal>) {
            let members = Roster::new(1);
            self.outcomes.extend(self.log.propose(proposal.into(), 9, self.is_failing, &members));
        }
    }

    fn say(log: &mut Driven, connection: u32) {
        let content = Content::Text(connection.to_string());
        let message = NewMessage { user: user(), name: "a".into(), account: None, content };
        log.propose(Change::Message { message, visit: None, origin: origin(connection) });
    }

    fn delete(log: &mut Driven, connection: u32) {
        let (user, name) = (user(), "a".into());
        let deletion = Deletion { message: MessageId(1), user, name, account: None, is_admin: false };
        log.propose(Change::Delete { deletion, origin: origin(connection) });
    }

    fn leave(log: &mut Driven) {
        log.propose(Change::Leave { user: user(), visit: Visit::default(), reply: None });
    }

    /// The outcomes: the number of an entry and its message id; or 0, and the connection that was refused.
    fn outcomes(log: &mut Driven) -> Vec<(u64, Option<u64>)> {
        let outcome = |outcome| match outcome {
            Outcome::Entry(Entry { number, change: Change::Message { message, .. } }) => {
                (number.0, Some(message.id.0))
            }
            Outcome::Entry(Entry { number, .. }) => (number.0, None),
            Outcome::MessageRefused { to } | Outcome::DeletionRefused { to, .. } => {
                (0, Some(u64::from(to.connection.index)))
            }
            Outcome::Unlogged(_) | Outcome::Late => (0, None),
            Outcome::Superseded { .. } | Outcome::NotJoined { .. } | Outcome::RoomGone { .. } => {
                unreachable!("only the log of a cluster leads to this")
            }
        };
        let members = Roster::new(1);
        let later = std::iter::from_fn(|| log.log.poll_outcome(9, log.is_failing, &members));
        log.outcomes.drain(..).chain(later).map(outcome).collect()
    }

    #[test]
    fn in_memory_a_proposal_is_an_entry_at_once() {
        let mut log = Driven::new(RoomLog::in_memory());
        say(&mut log, 7);
        leave(&mut log);
        say(&mut log, 7);
        assert_eq!(outcomes(&mut log), [(1, Some(1)), (2, None), (3, Some(2))]);
        assert!(!log.log.has_waiting());
    }

    #[test]
    fn without_a_reserved_id_a_message_waits_and_all_that_follows_with_it() {
        let mut log = Driven::new(RoomLog::durable(MessageId(4), MessageId(5)));
        leave(&mut log);
        say(&mut log, 1);
        say(&mut log, 2);
        log.propose(Unlogged::ListNames { origin: origin(2) });
        leave(&mut log);
        assert_eq!(outcomes(&mut log), [(1, None), (2, Some(5))]);
        assert_eq!(log.log.waiting.len(), 3);
        log.log.handle_reserved(MessageId(6));
        assert_eq!(outcomes(&mut log), [(3, Some(6)), (0, None), (4, None)]);
    }

    #[test]
    fn while_the_storage_fails_messages_and_deletions_are_refused_and_nothing_else_is() {
        let mut log = Driven::new(RoomLog::durable(MessageId(0), MessageId(1)));
        say(&mut log, 1);
        say(&mut log, 2);
        leave(&mut log);
        say(&mut log, 3);
        delete(&mut log, 4);
        assert_eq!(outcomes(&mut log), [(1, Some(1))]);
        log.is_failing = true;
        assert_eq!(outcomes(&mut log), [(0, Some(2)), (2, None), (0, Some(3)), (0, Some(4))]);
        say(&mut log, 5);
        assert_eq!(outcomes(&mut log), [(0, Some(5))]);
        log.is_failing = false;
        log.log.handle_reserved(MessageId(20));
        say(&mut log, 4);
        delete(&mut log, 4);
        assert_eq!(outcomes(&mut log), [(3, Some(2)), (4, None)]);
    }

    #[test]
    fn a_deletion_needs_no_id_and_keeps_its_place() {
        let mut log = Driven::new(RoomLog::durable(MessageId(4), MessageId(5)));
        delete(&mut log, 1);
        say(&mut log, 1);
        delete(&mut log, 1);
        say(&mut log, 2);
        delete(&mut log, 2);
        assert_eq!(outcomes(&mut log), [(1, None), (2, Some(5)), (3, None)]);
        log.log.handle_reserved(MessageId(6));
        assert_eq!(outcomes(&mut log), [(4, Some(6)), (5, None)]);
    }

    #[test]
    fn an_answer_names_the_changes_in_order_and_each_once() {
        let mut log = Driven::new(RoomLog::durable(MessageId(0), MessageId(10)));
        (1..=3).for_each(|connection| say(&mut log, connection));
        leave(&mut log);
        for outcome in log.outcomes.drain(..) {
            if let Outcome::Entry(Entry {
                number: entry,
                change: Change::Message { message, origin: to, .. },
            }) = outcome
            {
                let change = HistoryChange::Append(message);
                log.log.await_receipt(Unanswered { entry, change, to });
            }
        }
        let mut answered = |through| -> Vec<_> {
            log.log.handle_answered(EntryNumber(through)).map(|it| (it.entry.0, it.to)).collect()
        };
        assert_eq!(answered(2), [(1, origin(1)), (2, origin(2))]);
        assert_eq!(answered(4), [(3, origin(3))]);
    }
}
