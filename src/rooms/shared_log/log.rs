//! The log of a room of a cluster, as its home sees it.
//!
//! What the home proposes becomes an entry of the log that all nodes share, once Redis has decided about it. Requests that
//! change nothing wait for the answers to what the same client has proposed to this room before, so it sees its own changes
//! in what it asks for next. While the log is out of reach they wait for nothing, and are answered from memory.

use std::sync::Arc;

use uproar_cluster::{Answer, Proposal as Logged};

use super::waiting::Waiting;
use super::{MemberPayload, MessagePayload, member_of};
use crate::rooms::log::{Change, Entry, NewMessage, Outcome, Proposal, Unlogged};
use crate::rooms::outbox::Outbox;
use crate::rooms::roster::Roster;
use crate::rooms::shared::{
    Decision, JOIN_TIMEOUT_MS, MESSAGE_TIMEOUT_MS, RoomNotice, SharedProposal, SharedProposalKind, Ticket,
};
use crate::rooms::{
    ClientRef, Content, Deletion, EntryNumber, Member, MessageId, RoomCursor, RoomIndex, RoomMessage, UserId,
    Visit,
};

/// The shared log of one room.
#[derive(Debug)]
pub(in crate::rooms) struct SharedLog {
    room: uproar_cluster::Room,
    index: RoomIndex,
    /// Counts the entries that were applied here.
    last_number: EntryNumber,
    /// What has no outcome yet. Mostly nothing, and there may be many rooms.
    waiting: Option<Box<Waiting>>,
    /// True where changes are acknowledged once enough replicas have them.
    awaits_replicas: bool,
}

impl SharedLog {
    /// The log of the room that was opened by this entry.
    pub(in crate::rooms) fn new(
        name: Arc<str>,
        index: RoomIndex,
        opened: u64,
        awaits_replicas: bool,
    ) -> Self {
        let room = uproar_cluster::Room { name, opened };
        Self { room, index, last_number: EntryNumber(0), waiting: None, awaits_replicas }
    }

    /// The room as the log names it.
    pub(in crate::rooms) fn room(&self) -> &uproar_cluster::Room {
        &self.room
    }

    /// True when something has no outcome yet.
    pub(in crate::rooms) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a proposal, and returns its outcome if it need not wait.
    #[must_use]
    pub(in crate::rooms) fn propose(&mut self, proposal: Proposal, outbox: &mut Outbox) -> Option<Outcome> {
        match proposal {
            Proposal::Unlogged(request) if !is_told(&request) => {
                let waiting = self.waiting.as_mut().filter(|_| !outbox.is_log_out_of_reach);
                let Some(waiting) = waiting.filter(|waiting| waiting.has_proposed(request.origin())) else {
                    return Some(Outcome::Unlogged(request));
                };
                waiting.push_request(request);
            }
            // Everybody is about to be closed.
            proposal if outbox.has_log_ended() => {
                let of_api = proposal.of_api();
                return Some(of_api.map_or(Outcome::Late, |to| Outcome::MessageRefused { to }));
            }
            proposal => self.send(proposal, outbox),
        }
        None
    }

    fn send(&mut self, proposal: Proposal, outbox: &mut Outbox) {
        let (kind, timeout_ms) = self.encode(&proposal);
        let ticket = Ticket { room: self.index, number: outbox.next_ticket() };
        let room = Arc::clone(&self.room.name);
        outbox.proposals.push_back(SharedProposal { ticket, room, kind, timeout_ms });
        self.waiting.get_or_insert_default().push(ticket, proposal);
    }

    fn encode(&self, proposal: &Proposal) -> (SharedProposalKind, Option<u64>) {
        let room = self.room.clone();
        let (logged, timeout_ms) = match proposal {
            Proposal::Unlogged(request) => {
                return (SharedProposalKind::Tell(None, self.notice(request)), Some(MESSAGE_TIMEOUT_MS));
            }
            Proposal::Change(Change::Join { member, .. }) => {
                let (user, visit) = (member.user.get(), member.visit.0);
                let member = MemberPayload::of(member).encode();
                (Logged::Join { room, user, visit, member }, Some(JOIN_TIMEOUT_MS))
            }
            Proposal::Change(Change::Leave { user, visit, reply }) => {
                // A connection that has ended waits for nothing, and its leave must not be lost.
                let timeout_ms = reply.is_some().then_some(JOIN_TIMEOUT_MS);
                let goes_on = reply.is_some();
                (Logged::Leave { room, user: user.get(), visit: visit.0, goes_on }, timeout_ms)
            }
            Proposal::Change(Change::Rename {
                user, visit, new_name, account, connected_at, owner, ..
            }) => {
                let member =
                    MemberPayload::new(new_name, account.as_ref(), *connected_at, owner.as_ref()).encode();
                (Logged::Rename { room, user: user.get(), visit: visit.0, member }, None)
            }
            Proposal::Change(Change::Message { message, visit, .. }) => {
                let NewMessage { user, name, account, content } = message;
                let (account, message) = (account.clone(), MessagePayload::new(name, content).encode());
                let visit = visit.map(|visit| visit.0);
                let logged =
                    Logged::Message { room, user: user.get(), visit, account, request: None, message };
                (logged, Some(MESSAGE_TIMEOUT_MS))
            }
            Proposal::Change(Change::Delete { deletion, .. }) => {
                let Deletion { message, user, account, is_admin, .. } = deletion;
                let (message, user, account, is_admin) = (message.0, user.get(), account.clone(), *is_admin);
                let logged = Logged::Delete { room, message, user, account, is_admin };
                (logged, Some(MESSAGE_TIMEOUT_MS))
            }
        };
        (SharedProposalKind::Change(logged), timeout_ms)
    }

    fn notice(&self, request: &Unlogged) -> RoomNotice {
        let (room, opened) = (Arc::clone(&self.room.name), self.room.opened);
        match request {
            Unlogged::Typing { user, visit, name, is_typing, .. } => {
                let (user, visit, name) = (user.get(), visit.0, Arc::clone(name));
                RoomNotice::Typing { room, opened, user, visit, name, is_typing: *is_typing }
            }
            Unlogged::Close { .. } => RoomNotice::Close { room, opened },
            _ => unreachable!("Bug: a request is told that other nodes need not know"),
        }
    }

    /// The next request that waits for nothing any more.
    pub(in crate::rooms) fn poll_unlogged(&mut self, outbox: &Outbox) -> Option<Outcome> {
        let waiting = self.waiting.as_mut()?;
        if outbox.is_log_out_of_reach {
            waiting.free_all();
        }
        let request = waiting.poll_free()?;
        self.shrink();
        Some(Outcome::Unlogged(request))
    }

    /// The outcome of what the log has decided. `None` where it means nothing to anybody here, or was proposed again.
    /// `elsewhere` stands for clients of the node that has proposed it, if that is another one.
    pub(in crate::rooms) fn handle_decision(
        &mut self,
        decision: &Decision,
        elsewhere: ClientRef,
        members: &Roster,
        outbox: &mut Outbox,
    ) -> Option<Outcome> {
        let own = decision.ticket.and_then(|ticket| self.take(ticket));
        let (logged, answer) = decision.parts();
        match (own, answer) {
            (Some(Proposal::Change(change)), Answer::Done | Answer::Sent(_)) => {
                let change = own_change(change, answer, decision.unix_seconds());
                Some(self.entry(change))
            }
            (None, Answer::Done | Answer::Sent(_)) => {
                let change = decode(logged, answer, decision.unix_seconds(), elsewhere, members)?;
                Some(self.entry(change))
            }
            (None, _) => None,
            // Nothing was done to a damaged room. Who comes and goes must not be lost, so it is proposed again.
            (
                Some(
                    proposal @ Proposal::Change(
                        Change::Join { .. } | Change::Leave { .. } | Change::Rename { .. },
                    ),
                ),
                Answer::Damaged,
            ) => {
                self.send(proposal, outbox);
                outbox.proposals_waiting += 1;
                Some(Outcome::Late)
            }
            (Some(proposal), answer) => Some(refused(proposal, answer)),
        }
    }

    /// Whether the acknowledgement of a change waits for replicas: notes it, if so.
    pub(in crate::rooms) fn await_replicas(
        &self,
        entry: EntryNumber,
        to: ClientRef,
        outbox: &mut Outbox,
    ) -> bool {
        let waits = self.awaits_replicas && to.shard.elsewhere().is_none();
        if waits {
            outbox.unreplicated.push_back((RoomCursor { room: self.index, entry }, to));
        }
        waits
    }

    /// The outcome of a notice that has come out of the log.
    pub(in crate::rooms) fn handle_notice(
        &mut self,
        notice: &RoomNotice,
        ticket: Option<Ticket>,
        elsewhere: ClientRef,
    ) -> Option<Outcome> {
        match ticket.and_then(|ticket| self.take(ticket)) {
            Some(Proposal::Unlogged(own)) => Some(Outcome::Unlogged(own)),
            Some(Proposal::Change(_)) => None,
            None => Some(Outcome::Unlogged(match notice {
                RoomNotice::Typing { user, visit, name, is_typing, .. } => {
                    let ((user, visit), name) = (member_of(*user, *visit)?, Arc::clone(name));
                    Unlogged::Typing { user, visit, name, origin: elsewhere, is_typing: *is_typing }
                }
                RoomNotice::Close { .. } => Unlogged::Close { origin: elsewhere },
                RoomNotice::Relay { .. } | RoomNotice::Read { .. } => return None,
            })),
        }
    }

    /// The outcome of a proposal that the log will not get.
    pub(in crate::rooms) fn handle_refused(
        &mut self,
        ticket: Ticket,
        outbox: &mut Outbox,
    ) -> Option<Outcome> {
        Some(match self.take(ticket)? {
            Proposal::Change(Change::Join { member, .. }) => Outcome::NotJoined { to: member.origin },
            Proposal::Change(Change::Leave { user, visit, reply: Some(to) }) => {
                // It cannot go on to another room, and is closed. Its leave comes as that of any connection that ends.
                self.send(Change::Leave { user, visit, reply: None }.into(), outbox);
                outbox.proposals_waiting += 1;
                Outcome::NotJoined { to }
            }
            proposal => refused(proposal, &Answer::Damaged),
        })
    }

    /// What waits when the room is forgotten.
    pub(in crate::rooms) fn drain(&mut self) -> impl Iterator<Item = Proposal> {
        self.waiting.take().into_iter().flat_map(|waiting| waiting.drain())
    }

    fn entry(&mut self, change: Change<Arc<RoomMessage>>) -> Outcome {
        self.last_number.0 += 1;
        Outcome::Entry(Entry { number: self.last_number, change })
    }

    /// Takes a proposal out of those that wait.
    fn take(&mut self, ticket: Ticket) -> Option<Proposal> {
        let taken = self.waiting.as_mut()?.take(ticket);
        self.shrink();
        taken
    }

    fn shrink(&mut self) {
        self.waiting.take_if(|waiting| waiting.is_empty());
    }
}

/// Whether other nodes have to know of a request, though it changes nothing.
fn is_told(request: &Unlogged) -> bool {
    matches!(request, Unlogged::Typing { .. } | Unlogged::Close { .. })
}

/// A change that this home has proposed, as the log has taken it.
fn own_change(change: Change<NewMessage>, answer: &Answer, timestamp: u64) -> Change<Arc<RoomMessage>> {
    match change {
        Change::Join { member, after } => Change::Join { member, after },
        Change::Leave { user, visit, reply } => Change::Leave { user, visit, reply },
        Change::Rename { user, visit, new_name, account, connected_at, owner, origin } => {
            Change::Rename { user, visit, new_name, account, connected_at, owner, origin }
        }
        Change::Message { message, visit, origin } => {
            let NewMessage { user: from, name: from_name, account: from_account, content } = message;
            let id = MessageId(if let Answer::Sent(id) = answer { *id } else { 0 });
            let message = Arc::new(RoomMessage { id, from, from_name, from_account, content, timestamp });
            Change::Message { message, visit, origin }
        }
        Change::Delete { deletion, origin } => Change::Delete { deletion, origin },
    }
}

/// The outcome of a proposal of this home that the log has refused.
fn refused(proposal: Proposal, answer: &Answer) -> Outcome {
    match (proposal, answer) {
        (Proposal::Change(Change::Join { member, .. }), Answer::Late) => {
            Outcome::Superseded { to: member.origin }
        }
        (Proposal::Change(Change::Join { member, after }), _) => {
            Outcome::RoomGone { to: member.origin, after }
        }
        (Proposal::Change(Change::Message { visit: Some(_), .. }), Answer::Late) => Outcome::Late,
        (
            Proposal::Change(Change::Message { origin, .. } | Change::Delete { origin, .. }),
            Answer::RoomGone,
        ) => Outcome::RoomGone { to: origin, after: None },
        (Proposal::Change(Change::Message { origin, .. }), _) => Outcome::MessageRefused { to: origin },
        (Proposal::Change(Change::Delete { deletion, origin }), _) => {
            Outcome::DeletionRefused { deletion, to: origin }
        }
        (Proposal::Change(Change::Leave { .. } | Change::Rename { .. }) | Proposal::Unlogged(_), _) => {
            Outcome::Late
        }
    }
}

/// A change of another node. `None` for what no node writes.
fn decode(
    logged: &Logged,
    answer: &Answer,
    timestamp: u64,
    elsewhere: ClientRef,
    members: &Roster,
) -> Option<Change<Arc<RoomMessage>>> {
    Some(match logged {
        Logged::Join { user, visit, member, .. } => {
            let (user, visit) = member_of(*user, *visit)?;
            let payload = MemberPayload::decode(member)?;
            Change::Join { member: remote_member(user, visit, payload, elsewhere), after: None }
        }
        Logged::Leave { user, visit, .. } => {
            let (user, visit) = member_of(*user, *visit)?;
            Change::Leave { user, visit, reply: None }
        }
        Logged::Rename { user, visit, member, .. } => {
            let (user, visit) = member_of(*user, *visit)?;
            let payload = MemberPayload::decode(member)?;
            let account = payload.account();
            let MemberPayload { name: new_name, connected_at, owner, .. } = payload;
            Change::Rename { user, visit, new_name, account, connected_at, owner, origin: elsewhere }
        }
        Logged::Message { user, account, message, .. } => {
            let Answer::Sent(id) = answer else { return None };
            // Its id is given, so it keeps its place. Only somebody who writes into Redis by hand makes one that cannot be read.
            let message = room_message(*id, timestamp, *user, account.clone(), message)
                .unwrap_or_else(|| unreadable_message(*id, timestamp, *user));
            Change::Message { message: Arc::new(message), visit: None, origin: elsewhere }
        }
        Logged::Delete { message, user, account, is_admin, .. } => {
            let user = UserId::from_stored(*user);
            let name = members.name(user).unwrap_or_default();
            let (message, account) = (MessageId(*message), account.clone());
            let deletion = Deletion { message, user, name, account, is_admin: *is_admin };
            Change::Delete { deletion, origin: elsewhere }
        }
        _ => return None,
    })
}

/// A member on another node.
pub(in crate::rooms) fn remote_member(
    user: UserId,
    visit: Visit,
    payload: MemberPayload,
    elsewhere: ClientRef,
) -> Member {
    let account = payload.account();
    let MemberPayload { name, connected_at, owner, .. } = payload;
    // Its own node sends it names.
    Member { user, visit, name, account, owner, connected_at, origin: elsewhere, wants_names: false }
}

fn unreadable_message(id: u64, timestamp: u64, user: u64) -> RoomMessage {
    let (id, from) = (MessageId(id), UserId::from_stored(user));
    let (from_name, content) = (Arc::default(), Content::Text("\u{fffd}".to_owned()));
    RoomMessage { id, from, from_name, from_account: None, content, timestamp }
}

/// A message as the log keeps it.
pub(in crate::rooms) fn room_message(
    id: u64,
    timestamp: u64,
    user: u64,
    from_account: Option<Arc<str>>,
    message: &[u8],
) -> Option<RoomMessage> {
    let payload = MessagePayload::decode(message)?;
    let from_name = Arc::clone(&payload.name);
    let (id, from) = (MessageId(id), UserId::from_stored(user));
    Some(RoomMessage { id, from, from_name, from_account, content: payload.into_content(), timestamp })
}
