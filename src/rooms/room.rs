//! One room at its home: it applies the entries of its log, keeps messages, and lists members: over 500 lines because
//! of its tests.

use std::sync::Arc;

use tracing::info;

use super::event::{Event, Publication, RoomEvent, RoomMessage, Snapshot};
use super::history::History;
use super::log::{Change, Entry, Outcome, Proposal, RoomLog, Unanswered, Unlogged};
use super::outbox::Outbox;
use super::presence::Presence;
use super::roster::Roster;
use super::shared::{Decision, RoomNotice, Ticket};
use super::shared_log::{SharedLog, kept_member, restored};
use super::{
    ClientRef, Deletion, Delivery, Directory, EntryNumber, Epoch, HistoryChange, KeptMessage, ListedRoom,
    Member, MemberAccount, MessageId, NamedMember, ObservedEvent, ObservedKind, Page, RestoredRoom,
    ResumePoint, RoomCursor, RoomRefusal, RoomSettings, ShardIndex, UserId, Visit, Whereabouts, Write,
    WriteAction,
};
use crate::clock::Now;
use crate::log_text::shown;

/// A room whose home is this shard.
///
/// Invariant *one order*: all deliveries of a room leave through one [`Outbox`] in one sequence, and each shard
/// receives its deliveries in that sequence.
#[derive(Debug)]
pub(super) struct Room {
    listed: Arc<ListedRoom>,
    home: Arc<Home>,
    roster: Roster,
    log: Log,
    /// The number of the entry that was applied last.
    applied: EntryNumber,
    history: History,
    presence: Presence,
    /// Whether members are told to leave.
    closing: Closing,
}

/// Where the log of a room is.
#[derive(Debug)]
enum Log {
    /// Here.
    Own(RoomLog),
    /// With those of all servers of a cluster.
    Shared(SharedLog),
}

/// Whether a room is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Since this request, which its home has not taken yet.
    Asked(ClientRef),
    Yes,
}

/// What all rooms of a home share.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) settings: RoomSettings,
    pub(super) directory: Directory,
}

impl Room {
    /// A room without a history, in memory.
    pub(super) fn new(listed: Arc<ListedRoom>, home: Arc<Home>) -> Self {
        Self {
            roster: Roster::new(home.directory.shards()),
            log: Log::Own(RoomLog::in_memory()),
            applied: EntryNumber(0),
            history: History::new(home.settings.history, listed.epoch()),
            presence: Presence::new(home.settings.presence),
            closing: Closing::No,
            listed,
            home,
        }
    }

    /// The room as other shards know it.
    pub(super) fn listed(&self) -> &Arc<ListedRoom> {
        &self.listed
    }

    /// How many members it has.
    pub(super) fn member_count(&self) -> usize {
        self.roster.len()
    }

    /// True while proposals wait for the storage, or for the shared log.
    pub(super) fn has_waiting(&self) -> bool {
        match &self.log {
            Log::Own(log) => log.has_waiting(),
            Log::Shared(log) => log.has_waiting(),
        }
    }

    /// The request by which it was closed, once.
    pub(super) fn take_closing(&mut self) -> Option<ClientRef> {
        let Closing::Asked(origin) = self.closing else { return None };
        self.closing = Closing::Yes;
        Some(origin)
    }

    /// Drops the proposals that wait for the storage. Returns how many.
    pub(super) fn drop_waiting(&mut self) -> usize {
        match &mut self.log {
            Log::Own(log) => log.drop_waiting(),
            Log::Shared(_) => 0,
        }
    }

    /// Proposes a change to the log, and applies the outcome if it is ready.
    pub(super) fn propose(&mut self, proposal: Proposal, now: Now, outbox: &mut Outbox) {
        let outcome = match &mut self.log {
            Log::Own(log) => log.propose(proposal, now.unix_seconds, outbox.is_storage_failing, &self.roster),
            Log::Shared(log) => log.propose(proposal, outbox),
        };
        match outcome {
            Some(outcome) => self.apply_outcome(outcome, now, outbox),
            None => outbox.proposals_waiting += 1,
        }
    }

    /// Applies the outcomes of proposals that need not wait any more.
    pub(super) fn apply_outcomes(&mut self, now: Now, outbox: &mut Outbox) {
        while let Some(outcome) = match &mut self.log {
            Log::Own(log) => log.poll_outcome(now.unix_seconds, outbox.is_storage_failing, &self.roster),
            Log::Shared(log) => log.poll_unlogged(outbox),
        } {
            outbox.proposals_waiting -= 1;
            self.apply_outcome(outcome, now, outbox);
        }
    }

    /// Applies a decision of the shared log about this room, and handles the requests that have waited for it. `elsewhere`
    /// stands for the clients of the node that has proposed it.
    pub(super) fn handle_decision(
        &mut self,
        decision: &Decision,
        elsewhere: ClientRef,
        now: Now,
        outbox: &mut Outbox,
    ) {
        let outcome =
            self.shared().map(|(log, roster)| log.handle_decision(decision, elsewhere, roster, outbox));
        self.finish(decision.ticket, outcome.flatten(), now, outbox);
    }

    /// The same of a notice.
    pub(super) fn handle_notice(
        &mut self,
        notice: &RoomNotice,
        ticket: Option<Ticket>,
        elsewhere: ClientRef,
        now: Now,
        outbox: &mut Outbox,
    ) {
        let outcome = self.shared().and_then(|(log, _)| log.handle_notice(notice, ticket, elsewhere));
        self.finish(ticket, outcome, now, outbox);
    }

    /// The proposal with this ticket has waited too long.
    pub(super) fn handle_refused(&mut self, ticket: Ticket, now: Now, outbox: &mut Outbox) {
        let outcome = self.shared().and_then(|(log, _)| log.handle_refused(ticket, outbox));
        self.finish(Some(ticket), outcome, now, outbox);
    }

    fn finish(&mut self, ticket: Option<Ticket>, outcome: Option<Outcome>, now: Now, outbox: &mut Outbox) {
        if let Some(outcome) = outcome {
            outbox.proposals_waiting -= usize::from(ticket.is_some());
            self.apply_outcome(outcome, now, outbox);
        }
        self.apply_outcomes(now, outbox);
    }

    fn shared(&mut self) -> Option<(&mut SharedLog, &Roster)> {
        match &mut self.log {
            Log::Shared(log) => Some((log, &self.roster)),
            Log::Own(_) => None,
        }
    }

    /// The room as the shared log names it.
    pub(super) fn shared_name(&self) -> Option<&uproar_cluster::Room> {
        match &self.log {
            Log::Shared(log) => Some(log.room()),
            Log::Own(_) => None,
        }
    }

    /// The shared log has a new epoch, and ids go on so much higher.
    pub(super) fn handle_epoch(&mut self, epoch: Epoch, raised_by: u64) {
        self.history.raise(epoch, raised_by);
        self.listed.set_epoch(epoch);
    }

    /// Lets members of another node leave, which is gone: at most `max`. Returns how many.
    pub(super) fn let_leave(&mut self, node: ShardIndex, max: usize, now: Now, outbox: &mut Outbox) -> usize {
        let leaving = self.roster.some_on(node, max);
        for (user, _) in &leaving {
            self.leave(*user, None, now, outbox);
        }
        leaving.len()
    }

    /// Tells everyone who waits that the room is forgotten, or that the log is at its end. Returns how many proposals and requests have waited.
    pub(super) fn forget_waiting(&mut self, outbox: &mut Outbox) -> usize {
        let Log::Shared(log) = &mut self.log else { return 0 };
        let mut count = 0;
        for proposal in log.drain() {
            count += 1;
            if let Some(to) = proposal.of_api() {
                let has_log_ended = outbox.has_log_ended();
                let refusal = if has_log_ended { RoomRefusal::OutcomeUnknown } else { RoomRefusal::NoRoom };
                outbox.send(to.shard, Delivery::Refused { to, refusal });
            } else if !outbox.has_log_ended()
                && let Proposal::Change(Change::Join { member: Member { origin: to, .. }, after }) = proposal
            {
                outbox.send(to.shard, Delivery::RoomGone { to, after });
            }
        }
        count
    }

    fn apply_outcome(&mut self, outcome: Outcome, now: Now, outbox: &mut Outbox) {
        match outcome {
            Outcome::Entry(entry) => self.apply(entry, now, outbox),
            // Its connection has ended, so nobody waits for an answer.
            Outcome::Late => {}
            Outcome::Unlogged(request) => self.handle_unlogged(request, now, outbox),
            Outcome::MessageRefused { to } => {
                outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NotStored });
            }
            Outcome::DeletionRefused { deletion, to } => {
                let refusal = self.find_deletable(&deletion).err().unwrap_or(RoomRefusal::NotDeleted);
                outbox.send(to.shard, Delivery::Refused { to, refusal });
            }
            Outcome::Superseded { to } => outbox.send(to.shard, Delivery::Superseded { to }),
            Outcome::NotJoined { to } => {
                outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NotJoined });
            }
            Outcome::RoomGone { to, .. } if to.shard == ShardIndex::API => {
                outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NoRoom });
            }
            Outcome::RoomGone { to, after } => outbox.send(to.shard, Delivery::RoomGone { to, after }),
        }
    }

    /// Applies an entry. Nothing else changes a room.
    fn apply(&mut self, Entry { number, change }: Entry, now: Now, outbox: &mut Outbox) {
        assert_eq!(number.0, self.applied.0 + 1, "Bug: an entry out of order");
        self.applied = number;
        match change {
            Change::Join { member, after } => self.join(member, after, now, outbox),
            Change::Leave { user, visit, reply } => self.leave_by(user, visit, reply, now, outbox),
            // One of an earlier connection is late: the user has come back.
            Change::Rename { user, visit, .. } if self.roster.visit(user) != Some(visit) => {}
            Change::Rename { user, new_name, account, origin, .. } => {
                self.rename(NamedMember { id: user, name: new_name, account }, origin, now, outbox);
            }
            Change::Message { message, origin, .. } => self.append(message, origin, now, outbox),
            Change::Delete { deletion, origin } => self.delete(&deletion, origin, now, outbox),
        }
    }

    fn handle_unlogged(&mut self, request: Unlogged, now: Now, outbox: &mut Outbox) {
        match request {
            Unlogged::Revisit { user, origin, after } => self.show(user, origin, after, outbox),
            Unlogged::Typing { user, visit, .. } if self.roster.visit(user) != Some(visit) => {}
            Unlogged::Typing { user, name, origin, is_typing, .. } => {
                self.publish(RoomEvent::Typing { user, name, is_typing }, Some(origin), None, now, outbox);
            }
            Unlogged::Read { user, origin, message } => self.read(user, origin, message, now, outbox),
            Unlogged::ListMembers { user, origin, page } => self.list(user, origin, page, outbox),
            Unlogged::ListMembersAfter { origin, after, limit } => {
                let members = self.roster.after(after, limit);
                outbox.send(origin.shard, Delivery::Members { to: origin, members });
            }
            Unlogged::ListHistoryAfter { origin, after, limit } => {
                let page = self.history.page_after(after, limit);
                outbox.send(origin.shard, Delivery::History { to: origin, page });
            }
            Unlogged::ListHistory { origin, before, limit } => {
                let page = self.history.page(before, limit);
                outbox.send(origin.shard, Delivery::History { to: origin, page });
            }
            Unlogged::ListNames { origin } => self.list_names(origin, outbox),
            Unlogged::Close { origin } => self.close(origin, outbox),
        }
    }

    /// Tells the members to leave, and everyone who joins from now on: who has held the room before may still come.
    fn close(&mut self, origin: ClientRef, outbox: &mut Outbox) {
        if outbox.is_storage_failing {
            // Its history would come back with the disk.
            return outbox
                .send(origin.shard, Delivery::Refused { to: origin, refusal: RoomRefusal::NotDeleted });
        }
        if self.closing != Closing::No {
            let refusal = RoomRefusal::NoRoom;
            return outbox.send(origin.shard, Delivery::Refused { to: origin, refusal });
        }
        self.closing = Closing::Asked(origin);
        let room = self.listed.index();
        for shard in self.roster.shards() {
            outbox.send(shard, Delivery::Closing { room, member: None });
        }
    }

    fn join(&mut self, member: Member, after: Option<ResumePoint>, now: Now, outbox: &mut Outbox) {
        // The user has come back meanwhile, perhaps to another room, so the connection that has asked has ended. In a cluster the
        // log has decided.
        if matches!(self.log, Log::Own(_))
            && self.home.directory.users().visit(member.user).is_some_and(|present| present > member.visit)
        {
            return;
        }
        match self.roster.visit(member.user) {
            None => {}
            // What an earlier connection has sent to this room is overtaken by what the user does on its next one.
            Some(visit) if visit < member.visit => self.leave(member.user, None, now, outbox),
            Some(visit) => {
                assert!(visit > member.visit, "Bug: user {} joined a room twice", member.user);
                return;
            }
        }
        let is_new = self.roster.insert(&member);
        let Member { user, name, account, origin, .. } = member;
        assert!(is_new, "Bug: user {user} joined a room twice");
        self.observe(now, outbox, || {
            let account = account.as_ref().map(|account| Arc::clone(&account.account));
            ObservedKind::Joined { user, name: Arc::clone(&name), account }
        });
        self.home.directory.note_joined();
        self.listed.set_online(self.roster.len());
        let users_online = self.roster.len();
        if self.presence.is_summed_up(users_online) {
            self.show(user, origin, after, outbox);
            self.presence.note_joined(NamedMember { id: user, name, account }, now.monotonic_ms);
        } else {
            // The others get the event first: a shard sends the names that it got last, to old members and new.
            let event = RoomEvent::Joined { user, name, account, users_online };
            self.publish(event, Some(origin), None, now, outbox);
            self.show(user, origin, after, outbox);
        }
        if self.closing != Closing::No {
            let room = self.listed.index();
            outbox.send(origin.shard, Delivery::Closing { room, member: Some(origin) });
        }
    }

    /// Sends a snapshot of the room to one of its members.
    fn show(&mut self, user: UserId, origin: ClientRef, after: Option<ResumePoint>, outbox: &mut Outbox) {
        let listed_max = if self.roster.wants_names(user) {
            self.home.settings.names_max.min(self.home.settings.presence.listed_max())
        } else {
            self.home.settings.presence.listed_max()
        };
        let members = self.roster.list(user, listed_max);
        self.presence.note_listed(&members.listed);
        let (history, resumed) = match after {
            None => (self.history.recent(), None),
            Some(point) => {
                let (history, resumed) = self.history.after(point);
                (history, Some(resumed))
            }
        };
        let snapshot = Snapshot { members, history, epoch: self.history.epoch(), resumed };
        outbox.send(origin.shard, Delivery::Joined { to: origin, room: self.listed.index(), snapshot });
    }

    /// Applies a leave, unless it is late, because the user has come back meanwhile. Then the leave was announced with the
    /// join, and the connection that asked for it has ended.
    fn leave_by(
        &mut self,
        user: UserId,
        visit: Visit,
        reply: Option<ClientRef>,
        now: Now,
        outbox: &mut Outbox,
    ) {
        if self.roster.visit(user) == Some(visit) {
            self.leave(user, reply, now, outbox);
        }
    }

    fn leave(&mut self, user: UserId, reply: Option<ClientRef>, now: Now, outbox: &mut Outbox) {
        let left = self.roster.remove(user).expect("Bug: a user left a room that it was not in");
        let NamedMember { name, account, .. } = left;
        self.observe(now, outbox, || {
            let account = account.map(|account| account.account);
            ObservedKind::Left { user, name: Arc::clone(&name), account }
        });
        self.home.directory.note_left();
        self.listed.set_online(self.roster.len());
        let users_online = self.roster.len();
        if self.presence.is_summed_up(users_online) {
            self.presence.note_left(user, now.monotonic_ms);
        } else {
            self.publish(RoomEvent::Left { user, name, users_online }, reply, None, now, outbox);
        }
        if let Some(to) = reply {
            outbox.send(to.shard, Delivery::Left { to });
        }
    }

    fn rename(&mut self, new: NamedMember, origin: ClientRef, now: Now, outbox: &mut Outbox) {
        let old = self.roster.rename(new.clone());
        let old = old.expect("Bug: a user was renamed in a room that it was not in");
        let (user, old_name, new_name) = (new.id, old.name, Arc::clone(&new.name));
        let account_of = |account: &Option<MemberAccount>| account.as_ref().map(|it| Arc::clone(&it.account));
        // Only lists tell of a role.
        let is_role_alone = old_name == new_name
            && old.account != new.account
            && account_of(&old.account) == account_of(&new.account);
        if self.presence.is_summed_up(self.roster.len()) {
            if self.roster.wants_names(user) && !is_role_alone {
                let names = self.roster.named(self.home.settings.names_max);
                outbox.send(origin.shard, Delivery::Renamed { to: origin, old_name, new_name, names });
            }
            self.presence.note_renamed(new, now.monotonic_ms);
        } else if !is_role_alone {
            self.publish(RoomEvent::Renamed { user, old_name, new_name }, Some(origin), None, now, outbox);
        }
    }

    fn append(&mut self, message: Arc<RoomMessage>, origin: ClientRef, now: Now, outbox: &mut Outbox) {
        self.history.append(Arc::clone(&message));
        self.listed.set_last_message(message.id);
        self.observe(now, outbox, || ObservedKind::Message {
            message: Arc::clone(&message),
            epoch: self.history.epoch(),
        });
        let pending = self.write(HistoryChange::Append(Arc::clone(&message)), origin, outbox);
        let id = message.id;
        // Members do not wait for the disk.
        self.publish(RoomEvent::Message(message), Some(origin), pending, now, outbox);
        self.answer_api(id, origin, pending, outbox);
    }

    /// Tells the HTTP API, if this is its change, that the room has made it.
    fn answer_api(
        &self,
        message: MessageId,
        to: ClientRef,
        pending: Option<EntryNumber>,
        outbox: &mut Outbox,
    ) {
        if to.shard == ShardIndex::API {
            let epoch = self.history.epoch();
            outbox.send(ShardIndex::API, Delivery::Done { to, message, epoch, pending });
        }
    }

    fn delete(&mut self, deletion: &Deletion, origin: ClientRef, now: Now, outbox: &mut Outbox) {
        let message = match self.find_deletable(deletion) {
            Ok(message) => Arc::clone(message),
            Err(refusal) => return outbox.send(origin.shard, Delivery::Refused { to: origin, refusal }),
        };
        if !deletion.is_own(&message) {
            info!(
                room = shown(self.listed.name()),
                message = message.id.0,
                author = %message.from,
                author_name = shown(&message.from_name),
                by = %deletion.user,
                by_name = shown(&deletion.name),
                "message deleted"
            );
        }
        // What backends send has no author, so each of them may be another than the one that deletes.
        if !deletion.is_own(&message) || origin.shard == ShardIndex::API {
            self.observe(now, outbox, || ObservedKind::Deleted {
                message: Arc::clone(&message),
                by: deletion.author_label(),
            });
        }
        self.history.delete(message.id);
        let id = message.id;
        let pending = self.write(HistoryChange::Delete(message), origin, outbox);
        let deleted =
            RoomEvent::Deleted { message: id, by: deletion.user, by_name: Arc::clone(&deletion.name) };
        self.publish(deleted, Some(origin), pending, now, outbox);
        self.answer_api(id, origin, pending, outbox);
    }

    fn find_deletable(&self, deletion: &Deletion) -> Result<&Arc<RoomMessage>, RoomRefusal> {
        let id = deletion.message;
        let message = self.history.find(id).ok_or(RoomRefusal::UnknownMessage(id))?;
        deletion.is_permitted(message).then_some(message).ok_or(RoomRefusal::PermissionDenied)
    }

    /// Writes a change of the history by the entry that is being applied, if the room is durable. The client that has
    /// caused it is answered when that entry has its receipt.
    fn write(&mut self, change: HistoryChange, to: ClientRef, outbox: &mut Outbox) -> Option<EntryNumber> {
        let entry = self.applied;
        let log = match &mut self.log {
            Log::Own(log) => log,
            Log::Shared(log) => return log.await_replicas(entry, to, outbox).then_some(entry),
        };
        if !log.is_durable() {
            return None;
        }
        log.await_receipt(Unanswered { entry, change: change.clone(), to });
        outbox.write(Write { room: self.listed.index(), action: WriteAction::Change(entry, change) });
        Some(entry)
    }

    /// Tells the author of a message, if it is online, that a member has read it.
    fn read(&mut self, reader: UserId, origin: ClientRef, id: MessageId, now: Now, outbox: &mut Outbox) {
        match self.history.find(id) {
            Some(message) => {
                let author = message.from;
                let read_at = now.unix_seconds;
                match self.home.directory.users().locate(author) {
                    Some(Whereabouts::Here(connection)) => {
                        let read = Delivery::Read { author, message: id, reader, read_at };
                        outbox.send(connection.shard, read);
                    }
                    Some(Whereabouts::Elsewhere(node, _)) => {
                        let Some(uproar_cluster::Room { name: room, opened }) = self.shared_name().cloned()
                        else {
                            return;
                        };
                        let (author, message, reader) = (author.get(), id.0, reader.get());
                        let read = RoomNotice::Read { room, opened, author, message, reader, read_at };
                        outbox.tell(self.listed.index().home(), Some(node), read);
                    }
                    None => {}
                }
            }
            None => {
                let refusal = RoomRefusal::UnknownMessage(id);
                outbox.send(origin.shard, Delivery::Refused { to: origin, refusal });
            }
        }
    }

    /// Gives the room its history, to which changes are written from now on.
    pub(super) fn restore(&mut self, restored: RestoredRoom) {
        let last = restored.kept.last().map_or(MessageId(0), KeptMessage::id);
        self.listed.set_last_message(last);
        self.log = Log::Own(RoomLog::durable(restored.last_id, restored.reserved));
        self.history.restore(restored);
    }

    /// Gives the room the state that it has on all servers of a cluster. `client_of` numbers the nodes of members.
    pub(super) fn share(
        &mut self,
        epoch: Epoch,
        state: &uproar_cluster::RoomState,
        awaits_replicas: bool,
        mut client_of: impl FnMut(&uproar_cluster::KeptMember) -> ClientRef,
    ) {
        self.log = Log::Shared(SharedLog::new(
            Arc::clone(self.listed.name()),
            self.listed.index(),
            state.opened,
            awaits_replicas,
        ));
        self.history.restore(restored(epoch, state));
        self.listed.set_epoch(epoch);
        self.listed.set_last_message(MessageId(state.last));
        for (user, kept) in &state.members {
            let Some(member) = kept_member(*user, kept, client_of(kept)) else { continue };
            self.roster.insert(&member);
            self.home.directory.note_joined();
        }
        self.listed.set_online(self.roster.len());
    }

    /// The log that the storage answers.
    fn own_log(&mut self) -> &mut RoomLog {
        match &mut self.log {
            Log::Own(log) => log,
            Log::Shared(_) => panic!("Bug: the storage answers a room of a cluster"),
        }
    }

    /// Ids up to `through` may be given out.
    pub(super) fn handle_reserved(&mut self, through: MessageId, now: Now, outbox: &mut Outbox) {
        self.own_log().handle_reserved(through);
        self.apply_outcomes(now, outbox);
    }

    /// The changes up to the entry `through` are on the disk.
    ///
    /// Invariant *durable before acknowledged*: only this function acknowledges a change to its sender.
    pub(super) fn handle_kept(&mut self, through: EntryNumber, outbox: &mut Outbox) {
        let room = self.listed.index();
        for Unanswered { entry, to, .. } in self.own_log().handle_answered(through) {
            outbox.note_answered();
            outbox.send(to.shard, Delivery::Kept { to, cursor: RoomCursor { room, entry } });
        }
    }

    /// The changes up to the entry `through` that are not on the disk are lost. They are undone: their senders get an
    /// error, and new members should not get a history that the next start lacks.
    pub(super) fn handle_lost(&mut self, through: EntryNumber, epoch: Epoch, outbox: &mut Outbox) {
        let room = self.listed.index();
        let answered: Vec<_> = self.own_log().handle_answered(through).collect();
        for Unanswered { entry, change, to } in answered {
            let refusal = match change {
                HistoryChange::Append(message) => {
                    self.history.lose(message.id);
                    RoomRefusal::NotStored
                }
                HistoryChange::Delete(message) => {
                    self.history.undelete(message);
                    RoomRefusal::NotDeleted
                }
            };
            outbox.note_answered();
            outbox.send(to.shard, Delivery::Lost { to, cursor: RoomCursor { room, entry }, refusal });
        }
        self.history.begin_epoch(epoch);
        self.listed.set_epoch(epoch);
    }

    fn list(&mut self, viewer: UserId, origin: ClientRef, page: Option<Page>, outbox: &mut Outbox) {
        let listed_max = self.home.settings.presence.listed_max();
        let members = match page {
            Some(Page { offset, limit }) => self.roster.page(Page { offset, limit: limit.min(listed_max) }),
            None => self.roster.list(viewer, listed_max),
        };
        self.presence.note_listed(&members.listed);
        outbox.send(origin.shard, Delivery::Members { to: origin, members });
    }

    fn list_names(&mut self, origin: ClientRef, outbox: &mut Outbox) {
        let names = self.roster.named(self.home.settings.names_max);
        outbox.send(origin.shard, Delivery::Names { to: origin, names });
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.presence.due_ms()
    }

    pub(super) fn handle_tick(&mut self, now: Now, outbox: &mut Outbox) {
        if let Some(report) = self.presence.poll_report(self.roster.len(), now.monotonic_ms) {
            self.publish(RoomEvent::Presence(report), None, None, now, outbox);
        }
    }

    fn observe(&self, now: Now, outbox: &mut Outbox, kind: impl FnOnce() -> ObservedKind) {
        let observed =
            || ObservedEvent { at: now.unix_seconds, room: Arc::clone(self.listed.name()), kind: kind() };
        outbox.observe(observed);
    }

    fn publish(
        &mut self,
        event: RoomEvent,
        origin: Option<ClientRef>,
        pending: Option<EntryNumber>,
        now: Now,
        outbox: &mut Outbox,
    ) {
        let timer = match event {
            RoomEvent::Message(_) => outbox.time_fan_out(Some(&self.listed), self.roster.len(), now),
            _ => None,
        };
        let is_told_with_names = match event {
            RoomEvent::Typing { .. } | RoomEvent::Presence(_) | RoomEvent::Deleted { .. } => false,
            RoomEvent::Message(_)
            | RoomEvent::Joined { .. }
            | RoomEvent::Left { .. }
            | RoomEvent::Renamed { .. } => self.roster.is_any_wanting_names(),
        };
        let names = is_told_with_names.then(|| self.roster.named(self.home.settings.names_max));
        let (room, room_name) = (self.listed.index(), Arc::clone(self.listed.name()));
        let event = Event::Room { room, room_name, event, names, timestamp: now.unix_seconds };
        let publication = Arc::new(Publication { event, origin, pending, timer });
        for shard in self.roster.shards() {
            outbox.send(shard, Delivery::Publish(Arc::clone(&publication)));
        }
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::metrics::ShardMetrics;
    use crate::rooms::{
        Content, NewMessage, PresencePolicy, RecentFanOuts, Resumption, ShardIndex, UserSession,
    };

    const NOW: Now = Now { monotonic_ms: 0, uptime_ms: 0, unix_seconds: 0 };

    /// A room with its outbox, and two users: a member that stays, and one that comes back.
    struct Visited {
        room: Room,
        outbox: Outbox,
    }

    impl Visited {
        fn new() -> Self {
            let settings =
                RoomSettings { presence: PresencePolicy::Exact, names_max: 9, history: 9, ttl_ms: 9 };
            let directory = Directory::new(&["general".to_owned()], 1);
            let mut visited = Self {
                room: Room::new(Arc::clone(&directory.rooms()[0]), Arc::new(Home { settings, directory })),
                outbox: Outbox::new(Arc::new(ShardMetrics::default()), RecentFanOuts::default()),
            };
            visited.propose(Change::Join { member: member(1, 0), after: None });
            visited.announced();
            visited
        }

        fn propose(&mut self, change: Change<NewMessage>) {
            self.room.propose(change.into(), NOW, &mut self.outbox);
        }

        fn join(&mut self, visit: u64) {
            self.propose(Change::Join { member: member(2, visit), after: None });
        }

        fn leave(&mut self, visit: u64) {
            self.propose(Change::Leave { user: user(2), visit: nth(visit), reply: None });
        }

        fn rename(&mut self, visit: u64) {
            let (user, new_name, origin) = (user(2), "late".into(), member(2, visit).origin);
            let visit = nth(visit);
            self.propose(Change::Rename {
                user,
                visit,
                new_name,
                account: None,
                connected_at: 0,
                owner: None,
                origin,
            });
        }

        fn say(&mut self, visit: Option<u64>) {
            let content = Content::Text("a".into());
            let message = NewMessage { user: user(2), name: "a".into(), account: None, content };
            let origin = member(2, visit.unwrap_or(0)).origin;
            self.propose(Change::Message { message, visit: visit.map(nth), origin });
        }

        fn type_(&mut self, visit: u64) {
            let (user, visit, origin) = (user(2), nth(visit), member(2, visit).origin);
            let typing = Unlogged::Typing { user, visit, name: "a".into(), origin, is_typing: true };
            self.room.propose(typing.into(), NOW, &mut self.outbox);
        }

        /// What was published since the last call.
        fn announced(&mut self) -> Vec<String> {
            let event = |(_, delivery)| match delivery {
                Delivery::Publish(publication) => match &publication.event {
                    Event::Room { event: RoomEvent::Joined { users_online: 2, .. }, .. } => {
                        Some("join".into())
                    }
                    Event::Room { event: RoomEvent::Left { users_online: 1, .. }, .. } => {
                        Some("leave".into())
                    }
                    Event::Room { event: RoomEvent::Message(message), .. } => {
                        Some(format!("message {}", message.id.0))
                    }
                    Event::Room { event: RoomEvent::Typing { .. }, .. } => Some("typing".into()),
                    _ => Some("something else".into()),
                },
                _ => None,
            };
            self.outbox.deliveries.drain(..).filter_map(event).collect()
        }
    }

    /// The visit of a user's connection, of which this is the number.
    fn nth(visit: u64) -> Visit {
        Visit(visit << 24)
    }

    fn user(id: u64) -> UserId {
        UserId::from_wire(id).unwrap()
    }

    fn member(id: u64, visit: u64) -> Member {
        let connection = ConnectionId { index: visit as u32, generation: 0 };
        Member {
            user: user(id),
            visit: nth(visit),
            name: format!("User{id}").into(),
            account: None,
            connected_at: 0,
            owner: None,
            origin: ClientRef { shard: ShardIndex(0), connection },
            wants_names: false,
        }
    }

    #[test]
    fn a_user_who_comes_back_leaves_before_it_joins() {
        let mut visited = Visited::new();
        visited.join(0);
        visited.join(1);
        assert_eq!(visited.announced(), ["join", "leave", "join"]);
        // The earlier connection's own leave is late.
        visited.leave(0);
        visited.rename(0);
        assert_eq!(visited.announced(), [""; 0]);
        visited.leave(1);
        assert_eq!(visited.announced(), ["leave"]);
    }

    #[test]
    fn a_join_that_a_later_one_has_overtaken_changes_nothing() {
        let mut visited = Visited::new();
        visited.join(1);
        visited.join(0);
        visited.leave(0);
        assert_eq!(visited.announced(), ["join"]);
        assert_eq!(visited.room.roster.visit(user(2)), Some(nth(1)));
    }

    #[test]
    fn a_late_join_of_a_user_who_has_come_back_elsewhere_changes_nothing() {
        let mut visited = Visited::new();
        let users = visited.room.home.directory.users().clone();
        let session = UserSession { name: "a".into(), room: "tea".into(), account: None };
        let register = |id| users.register(member(id, 0).origin, |_| Some(session.clone()));
        assert_eq!([1, 2].map(register), [Some(user(1)), Some(user(2))]);
        users.end(user(2), 9, NOW);
        let resumed = users.resume(user(2), member(2, 1).origin, |_| true, NOW);
        assert!(matches!(resumed, Resumption::Resumed(visit, _) if visit == nth(1)), "{resumed:?}");
        visited.join(0);
        visited.leave(0);
        assert_eq!(visited.announced(), [""; 0]);
        // Also when it is gone, as long as it is known.
        visited.join(1);
        visited.leave(1);
        users.end(user(2), 9, NOW);
        visited.join(0);
        visited.leave(0);
        assert_eq!(visited.announced(), ["join", "leave"]);
        assert_eq!(visited.room.roster.len(), 1);
    }

    #[test]
    fn what_an_earlier_connection_has_said_is_not_published_late() {
        let mut visited = Visited::new();
        visited.join(0);
        visited.say(Some(0));
        visited.type_(0);
        assert_eq!(visited.announced(), ["join", "message 1", "typing"]);
        visited.join(1);
        assert_eq!(visited.announced(), ["leave", "join"]);
        visited.say(Some(0));
        visited.type_(0);
        visited.say(Some(1));
        visited.leave(1);
        visited.say(Some(1));
        visited.type_(1);
        // One that needs no membership; no id was lost.
        visited.say(None);
        assert_eq!(visited.announced(), ["message 2", "leave", "message 3"]);
    }
}
