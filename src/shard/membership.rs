//! How clients become members of rooms and topics, change rooms, and stop being members.
//!
//! Invariant *one leave*: a membership ends here, in [`Session::depart`] or by a change of room, and nowhere else.

use std::mem;
use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::client::{Session, TopicMembership};
use super::client_io::{ClientIo, Context};
use super::clients::Moved;
use super::resumption::default_name;
use super::terms_orders::BANNED;
use super::user::{Opening, RoomMembership, Standing, User};
use crate::clock::Now;
use crate::dialect::chat::{self, Direct, Stats};
use crate::dialect::{ChatError, UserDialect, hub};
use crate::metrics::EndReason;
use crate::rooms::{
    Change, HistoryPage, Member, MemberList, Request, ResumePoint, RoomIndex, Snapshot, Unlogged,
};

impl Session {
    /// Starts a new client: greets an echo client, or asks a home to make the client a member.
    pub(super) fn begin(&mut self, io: &mut ClientIo<'_>) {
        if let Self::User(user) = self
            && let Standing::SignedIn(identity) = &user.standing
        {
            io.context.note_signed_in(identity, io.id);
        }
        // It may have been banned since the acceptor has asked, and an order has not found it then.
        if io.is_banned(self.account(io).as_deref()) {
            io.link.greet();
            return io.close(1008, BANNED, EndReason::Banned);
        }
        match self {
            Self::User(user) => match user.dialect {
                UserDialect::Chat if matches!(user.standing, Standing::MustSignIn { .. }) => {
                    user.set_deadline(io);
                    io.link.greet();
                }
                UserDialect::Chat => {
                    user.set_deadline(io);
                    if let Some(room) = user.first_room(io) {
                        user.arrive(room, io);
                    }
                }
                UserDialect::Hub => {
                    user.set_deadline(io);
                    user.request_names(io);
                }
            },
            Self::Raw { topic, membership, .. } => {
                *membership = TopicMembership::Joining;
                let (home, origin) = (io.context.directory.home_of(topic), io.origin());
                io.context.mail.request(home, Request::Subscribe { topic: Arc::clone(topic), origin });
            }
            Self::Echo => io.link.greet(),
        }
    }

    /// The account that it has shown.
    fn account(&self, io: &ClientIo<'_>) -> Option<Arc<str>> {
        match self {
            Self::User(user) => user.account(),
            Self::Raw { .. } | Self::Echo => io.context.token_connections.account(io.id).cloned(),
        }
    }

    /// The home's answer to a subscription.
    pub(super) fn handle_subscribed(&mut self, io: &mut ClientIo<'_>) {
        if let Self::Raw { topic, membership: membership @ TopicMembership::Joining, .. } = self {
            let place = io.context.rooms.subscribe(topic, io.id.index);
            *membership = TopicMembership::In { place };
            io.link.greet();
        }
    }

    /// Ends a client's membership, if it has one, and tells the home once if that is to be announced.
    #[must_use]
    pub(super) fn depart(
        &mut self,
        id: ConnectionId,
        is_announced: bool,
        context: &mut Context,
        now: Now,
    ) -> Option<Moved> {
        match self {
            Self::User(user) => {
                if let Standing::SignedIn(identity) = &user.standing {
                    context.note_signed_out(identity, id);
                }
                if let Some(owner) = &user.owner {
                    context.in_sessions.remove(owner, id);
                }
                let membership = mem::replace(&mut user.membership, RoomMembership::None);
                // A room that is being opened for it is released when it is open: see `Delivery::Opened`.
                user.opening = None;
                let user_id = user.id?;
                context.end_user(user_id, now);
                let (room, moved) = match membership {
                    RoomMembership::None => {
                        if user.welcomed && is_announced {
                            context.note_gone(user_id, user.visit);
                        }
                        return None;
                    }
                    RoomMembership::Joining(room) => (room, None),
                    RoomMembership::In { room, place } => {
                        (room, context.rooms.leave(room, user.dialect, place, id.index))
                    }
                    // Its leave is on the way already, and says that it goes on.
                    RoomMembership::Leaving { from, place, to, .. } => {
                        if let Some(to) = to.filter(|_| is_announced) {
                            context.release(to);
                        }
                        if is_announced {
                            context.note_gone(user_id, user.visit);
                        }
                        return context.rooms.leave(from, user.dialect, place, id.index);
                    }
                };
                if is_announced {
                    let visit = user.visit;
                    context.propose(room, Change::Leave { user: user_id, visit, reply: None });
                }
                moved
            }
            Self::Raw { topic, membership, .. } => {
                context.token_connections.remove(id);
                let moved = match mem::replace(membership, TopicMembership::None) {
                    TopicMembership::None => return None,
                    TopicMembership::Joining => None,
                    TopicMembership::In { place } => context.rooms.unsubscribe(topic, place, id.index),
                };
                if is_announced {
                    let (home, shard) = (context.directory.home_of(topic), context.settings.index);
                    context.mail.request(home, Request::Unsubscribe { topic: Arc::clone(topic), shard });
                }
                moved
            }
            Self::Echo => {
                context.token_connections.remove(id);
                None
            }
        }
    }
}

impl User {
    /// Gives a user that is about to be greeted its id, and a name if it has none. From now on others can reach it.
    ///
    /// It comes ahead of the user's first join: others may answer that at once. False where there is no id for it now.
    #[must_use]
    pub(super) fn register(&mut self, io: &ClientIo<'_>) -> bool {
        debug_assert_eq!(self.id, None, "registered twice");
        self.id = io.context.directory.users().register(io.origin(), |id| {
            if self.name.is_empty() {
                self.name = default_name(id);
            }
            self.session(io.context)
        });
        if let Some(id) = self.id {
            io.context.note_user(id);
        }
        self.id.is_some()
    }

    /// Asks the home of a room to make this user a member.
    pub(super) fn request_join(
        &mut self,
        room: RoomIndex,
        after: Option<ResumePoint>,
        io: &mut ClientIo<'_>,
    ) {
        let member = Member {
            user: self.registered_id(),
            visit: self.visit,
            name: Arc::clone(&self.name),
            account: self.member_account(),
            owner: self.owner.clone(),
            connected_at: self.connected_at,
            origin: io.origin(),
            wants_names: self.dialect == UserDialect::Hub,
        };
        io.propose(room, Change::Join { member, after });
    }

    /// Moves a user to another room, or sends the user its own room again.
    pub(super) fn change_room(
        &mut self,
        to: &str,
        after: Option<ResumePoint>,
        io: &mut ClientIo<'_>,
    ) -> Result<(), ChatError> {
        let directory = &io.context.directory;
        let configured = directory.find(to);
        if configured.is_none() && !directory.on_demand().allows(to) {
            return Err(ChatError::UnknownRoom(to.to_owned()));
        }
        if !self.may_join(to) {
            return Err(ChatError::PermissionDenied);
        }
        let RoomMembership::In { room, .. } = self.membership else { return Ok(()) };
        if *to == *self.room_name {
            let (user, origin) = (self.registered_id(), io.origin());
            self.awaits_snapshot = true;
            io.propose(room, Unlogged::Revisit { user, origin, after });
        } else if let Some(configured) = configured {
            let _ = self.leave_for(configured, to.into(), after, io);
        } else {
            // It leaves when it is certain that it can enter.
            self.request_opening(Opening { name: to.into(), after, is_ordered: false }, io);
        }
        Ok(())
    }

    /// Leaves the user's room for another one, which is configured or held for it. False when the user is in none, and
    /// stays as it is.
    #[must_use]
    pub(super) fn leave_for(
        &mut self,
        to: RoomIndex,
        name: Arc<str>,
        after: Option<ResumePoint>,
        io: &mut ClientIo<'_>,
    ) -> bool {
        let RoomMembership::In { room, place } = self.membership else { return false };
        let (user, visit, origin) = (self.registered_id(), self.visit, io.origin());
        self.membership = RoomMembership::Leaving { from: room, place, to: Some(to), after };
        self.room_name = name;
        self.keep_session(io.context);
        io.propose(room, Change::Leave { user, visit, reply: Some(origin) });
        true
    }

    /// Asks the home of a room that clients create to open and hold it.
    pub(super) fn request_opening(&mut self, opening: Opening, io: &mut ClientIo<'_>) {
        let name = Arc::clone(&opening.name);
        let (home, origin) = (io.context.directory.home_of(&name), io.origin());
        self.opening = Some(opening);
        let is_owed = self.welcomed && self.membership == RoomMembership::None;
        io.context.mail.request(home, Request::Open { name, origin, is_owed });
    }

    /// The room that the user has asked for is open, and held for it. False when it will not enter.
    pub(super) fn handle_opened(&mut self, to: RoomIndex, io: &mut ClientIo<'_>) -> bool {
        let Some(Opening { name, after, .. }) = self.opening.take() else { return false };
        match self.membership {
            // It has come back to the room.
            RoomMembership::None => {
                self.join_first(to, name, after, io);
                true
            }
            // It is about to be closed, and stays where it is.
            _ if io.context.has_stopped_reading => false,
            _ => self.leave_for(to, name, after, io),
        }
    }

    /// The room that the user was to enter cannot be opened. True when the user is told nothing: it has not asked for the room
    /// and stays where it is, or it has come back to the room and enters another one.
    pub(super) fn handle_not_opened(&mut self, io: &mut ClientIo<'_>) -> bool {
        let Some(opening) = self.opening.take() else { return false };
        if self.membership != RoomMembership::None {
            return opening.is_ordered;
        }
        if let Some(room) = self.first_room(io) {
            let name = io.context.directory.configured_name(room);
            self.join_first(room, name, None, io);
        }
        true
    }

    /// The room that it was to join was forgotten meanwhile: it is opened anew.
    pub(super) fn handle_room_gone(&mut self, after: Option<ResumePoint>, io: &mut ClientIo<'_>) {
        if let RoomMembership::Joining(_) = self.membership {
            self.membership = RoomMembership::None;
            let name = Arc::clone(&self.room_name);
            self.request_opening(Opening { name, after, is_ordered: false }, io);
        }
    }

    /// It has joined by a later connection, on another server.
    pub(super) fn handle_superseded(&self, io: &mut ClientIo<'_>) {
        io.close(1008, "session resumed elsewhere", EndReason::SessionResumed);
    }

    /// Joins a room while it is in none.
    pub(super) fn join_first(
        &mut self,
        room: RoomIndex,
        name: Arc<str>,
        after: Option<ResumePoint>,
        io: &mut ClientIo<'_>,
    ) {
        self.membership = RoomMembership::Joining(room);
        self.room_name = name;
        self.keep_session(io.context);
        self.request_join(room, after, io);
    }

    /// The home's answer to a join, or to a visit of the user's own room.
    pub(super) fn handle_joined(&mut self, room: RoomIndex, snapshot: &Snapshot, io: &mut ClientIo<'_>) {
        match self.membership {
            RoomMembership::Joining(asked) if asked == room => {
                let place = io.context.rooms.join(room, self.dialect, io.id.index);
                self.membership = RoomMembership::In { room, place };
            }
            RoomMembership::In { room: own, .. } if own == room => self.awaits_snapshot = false,
            // The connection may have ended while the answer was on its way; its leave followed the join.
            _ => return,
        }
        let is_newcomer = !mem::replace(&mut self.welcomed, true);
        match self.dialect {
            UserDialect::Chat => {
                io.link.is_chat_member = true;
                self.show_room(room, snapshot, is_newcomer, io);
            }
            UserDialect::Hub => {
                io.context.rooms.update_names(&snapshot.members.listed);
                let last = snapshot.members.last.as_ref();
                io.push(hub::login(&self.name, io.context.rooms.names(), last));
                if is_newcomer && let Some(muted) = self.come_with_mute(io) {
                    self.tell(&muted, io);
                }
            }
        }
    }

    /// Shows a chat user the room that it is in.
    fn show_room(&mut self, room: RoomIndex, snapshot: &Snapshot, is_newcomer: bool, io: &mut ClientIo<'_>) {
        let name = &self.room_name;
        let first = if is_newcomer {
            let stats = Stats::at(io.now, io.context.directory.users_online());
            let user = self.registered_id();
            // A later life of the server may give an id that is not reserved to somebody else.
            let is_reserved = io.context.directory.users().is_reserved(user);
            let sessions = io.context.settings.sessions.as_ref().filter(|_| is_reserved);
            let session = sessions.map(|sessions| sessions.signer.sign(user));
            Direct::Welcome { user, name: &self.name, stats, room: name, session }
        } else {
            Direct::RoomJoined { room: name }
        };
        let first = chat::direct(&first, io.now);
        let lists = io.context.rooms.lists(room);
        let users = lists.users(&snapshot.members, io.now);
        let history = lists.history(&snapshot.history, snapshot.epoch, snapshot.resumed.as_ref(), io.now);
        if !is_newcomer {
            self.answers.charge(users.len() + history.len(), io.now.monotonic_ms);
        }
        match if is_newcomer { self.come_with_mute(io) } else { None } {
            None => io.push_join([first, users, history]),
            Some(muted) => io.push_join([first, users, history, chat::direct(&muted, io.now)]),
        }
    }

    /// The list of members that the user has asked for.
    pub(super) fn handle_members(&mut self, members: &MemberList, io: &mut ClientIo<'_>) {
        // It may have asked to leave since; the list was asked for before.
        let (RoomMembership::In { room, .. } | RoomMembership::Leaving { from: room, .. }) = self.membership
        else {
            return;
        };
        let users = io.context.rooms.lists(room).users(members, io.now);
        self.answers.charge(users.len(), io.now.monotonic_ms);
        io.push_in_order(users);
    }

    /// The part of the history that the user has asked for.
    pub(super) fn handle_history(&mut self, page: &HistoryPage, io: &mut ClientIo<'_>) {
        self.awaits_snapshot = false;
        if !io.link.is_open() {
            return;
        }
        let history = chat::history_page(page, io.now);
        self.answers.charge(history.len(), io.now.monotonic_ms);
        // As with a join, it may exceed the queue's limit, and nothing is read until it has left.
        io.push_join([history]);
    }

    /// The old room's home has removed the user. Asks the home of the new room, if there is one.
    #[must_use]
    pub(super) fn handle_left(&mut self, io: &mut ClientIo<'_>) -> Option<Moved> {
        let RoomMembership::Leaving { from, place, to, after } = self.membership else { return None };
        let moved = io.context.rooms.leave(from, self.dialect, place, io.id.index);
        self.membership = to.map_or(RoomMembership::None, RoomMembership::Joining);
        match to {
            Some(to) => self.request_join(to, after, io),
            None => io.close(1000, "", EndReason::Closed),
        }
        moved
    }
}
