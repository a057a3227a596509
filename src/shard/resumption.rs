//! Users that come back on another connection with the token of their session.
//!
//! The shard of the new connection takes a session that has ended, in one step. If the earlier connection is still there,
//! its shard is asked to close it, which ends the session as every close does; then the new connection takes the session.
//! If the new connection ends meanwhile, the session stays. Of two connections that come at once, one is a new user.

use std::sync::Arc;

use super::Shard;
use super::client_io::{ClientIo, Context};
use super::ended_sessions::Ended;
use super::user::{Opening, RoomMembership, Standing, User};
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::mail::{self, TakeOver};
use crate::metrics::EndReason;
use crate::rooms::{Change, ClientRef, Resumption, RoomIndex, UserId, UserSession, Visit};
use crate::storage::StateChange;

impl Shard {
    /// Closes a user's connection, because the user has come back on another one, and tells that one.
    pub(super) fn hand_session_over(&mut self, order: &TakeOver, now: Now) {
        // Where everybody is closed, the newcomer is, too; until then it waits.
        if self.drain.is_some() {
            return;
        }
        let TakeOver { user, connection, origin } = *order;
        self.with_user(connection, now, |found, io| {
            // It may have ended since, and its slot be another client's.
            if found.id == Some(user) {
                io.close(1008, "session resumed elsewhere", EndReason::SessionResumed);
            }
        });
        self.context.mail.deliver(origin.shard, mail::Delivery::SessionEnded { to: origin });
    }

    /// Forgets sessions that have expired.
    pub(super) fn forget_expired_sessions(&mut self, now: Now) {
        let Context { ended_sessions, directory, state, .. } = &mut self.context;
        ended_sessions.forget_expired(now.monotonic_ms, directory.users(), |user| {
            if let Some(state) = state {
                state.note(StateChange::User(user));
            }
        });
    }
}

impl Context {
    /// Notes that a user's connection has ended. Its session is kept, if it has one.
    pub(super) fn end_user(&mut self, user: UserId, now: Now) {
        let sessions = self.settings.sessions.as_ref();
        let (timeout_ms, kept_max) =
            sessions.map_or((0, 0), |sessions| (sessions.timeout_ms, sessions.kept_max));
        if let Some(expires_ms) = self.directory.users().end(user, timeout_ms, now) {
            let due_ms = now.monotonic_ms.saturating_add(timeout_ms);
            self.keep_ended(Ended { user, due_ms, expires_ms }, kept_max);
        }
        self.note_user(user);
    }

    /// Tells the other servers of a cluster that a user who has left a room does not go on to another one.
    pub(super) fn note_gone(&mut self, user: UserId, visit: Visit) {
        // A room that is never forgotten, whose log refuses the leave and tells it to all.
        let room = self.directory.rooms().first().map(|room| room.index());
        if let Some(room) = room.filter(|_| self.directory.users().blocks().is_some()) {
            self.propose(room, Change::Leave { user, visit, reply: None });
        }
    }

    /// Keeps a session that has ended, and forgets another one where there are too many.
    pub(super) fn keep_ended(&mut self, ended: Ended, kept_max: usize) {
        if let Some(oldest) = self.ended_sessions.push(ended, kept_max, self.directory.users()) {
            self.metrics.sessions_forgotten.add(1);
            self.note_user(oldest);
        }
    }

    /// Tells the storage that what is kept of a user has changed.
    pub(super) fn note_user(&self, user: UserId) {
        if let Some(state) = &self.state {
            state.note(StateChange::User(user));
        }
    }
}

impl User {
    /// Greets a user who may join `first_room`: as the one whose session it has brought, or else as a new one.
    pub(super) fn arrive(&mut self, first_room: RoomIndex, io: &mut ClientIo<'_>) {
        match self.claimed.map(|claimed| (claimed, self.resume(claimed, io))) {
            Some((claimed, Resumption::Resumed(visit, session))) => {
                self.take_session(claimed, visit, &session, first_room, io);
            }
            Some((claimed, Resumption::Online(ClientRef { shard, connection }))) if !self.awaits_session => {
                self.awaits_session = true;
                let order = TakeOver { user: claimed, connection, origin: io.origin() };
                io.context.mail.request(shard, mail::Request::TakeOver(order));
            }
            Some((claimed, Resumption::Elsewhere(node, visit))) if !self.awaits_session => {
                self.awaits_session = true;
                self.take_over_elsewhere(claimed, node, visit, io);
            }
            // After it has waited, somebody else has been faster.
            Some((_, Resumption::Online(_) | Resumption::Elsewhere(..) | Resumption::Refused)) | None => {
                self.claimed = None;
                self.awaits_session = false;
                self.enter(first_room, io);
            }
        }
    }

    /// The earlier connection of the session has ended.
    pub(super) fn handle_session_ended(&mut self, io: &mut ClientIo<'_>) {
        // This one may have ended, too: then the session stays as it is.
        if !self.awaits_session || !io.link.is_open() {
            return;
        }
        if let Some(room) = self.first_room(io) {
            self.arrive(room, io);
        }
        self.awaits_session = false;
    }

    /// The earlier connection of the session is on another server, which does not answer.
    pub(super) fn handle_session_not_reached(&mut self, io: &mut ClientIo<'_>) {
        if std::mem::take(&mut self.awaits_session) && io.link.is_open() {
            self.turn_away(io);
        }
    }

    fn resume(&self, user: UserId, io: &ClientIo<'_>) -> Resumption {
        let is_banned = |session: &UserSession| {
            session.account.as_deref().is_some_and(|account| io.is_banned(Some(account)))
        };
        let is_accepted = |session: &UserSession| self.may_take(session) && !is_banned(session);
        io.context.directory.users().resume(user, io.origin(), is_accepted, io.now)
    }

    /// Whether this user may go on with a session: without an account on either side, or with the same one. One that has no
    /// account may be taken by somebody who has signed in, as somebody may sign in later: so a mute stays.
    fn may_take(&self, session: &UserSession) -> bool {
        match (&self.standing, &session.account) {
            (Standing::SignedIn(own), Some(account)) => own.account == *account,
            (Standing::SignedIn(_), None) => !self.signed_in_late,
            (Standing::Guest | Standing::Listener, _) => true,
            (Standing::MustSignIn { .. }, _) => false,
        }
    }

    fn take_session(
        &mut self,
        id: UserId,
        visit: Visit,
        session: &UserSession,
        first_room: RoomIndex,
        io: &mut ClientIo<'_>,
    ) {
        self.claimed = None;
        self.awaits_session = false;
        (self.id, self.visit) = (Some(id), visit);
        self.owner = session.account.clone();
        if let Some(owner) = &self.owner {
            io.context.in_sessions.insert(owner, io.id);
        }
        match (&self.standing, &session.account) {
            // The token gives no rights to the account's name.
            (Standing::Guest | Standing::Listener | Standing::MustSignIn { .. }, Some(_)) => {
                self.name = default_name(id);
            }
            (Standing::SignedIn(own), Some(_)) if own.rights.may_rename && !self.signed_in_late => {
                self.name = Arc::clone(&session.name);
            }
            (Standing::SignedIn(_), _) => {}
            (_, None) => self.name = Arc::clone(&session.name),
        }
        io.context.metrics.sessions_resumed.add(1);
        let (directory, kept) = (&io.context.directory, Arc::clone(&session.room));
        let may_join = self.may_join(&kept);
        match directory.find(&kept) {
            Some(room) if may_join => self.join_first(room, kept, None, io),
            None if may_join && directory.on_demand().allows(&kept) => {
                self.request_opening(Opening { name: kept, after: None, is_ordered: false }, io);
            }
            Some(_) | None => {
                let name = directory.configured_name(first_room);
                self.join_first(first_room, name, None, io);
            }
        }
    }

    /// Keeps what this user comes back with. It is called when its name, its account or its room has changed.
    pub(super) fn keep_session(&self, context: &Context) {
        if let (Some(user), Some(session)) = (self.id, self.session(context)) {
            context.directory.users().update(user, session);
            context.note_user(user);
        }
    }

    /// What is kept of this user; `None` for one that cannot come back.
    pub(super) fn session(&self, context: &Context) -> Option<UserSession> {
        if self.membership == RoomMembership::None {
            return None;
        }
        if self.dialect != UserDialect::Chat || context.settings.sessions.is_none() {
            return None;
        }
        let (name, room) = (Arc::clone(&self.name), Arc::clone(&self.room_name));
        // A session stays its account's while the user has not signed in again.
        let account = self.account().or_else(|| self.owner.clone());
        Some(UserSession { name, room, account })
    }
}

/// The name of a user that has chosen none.
pub(super) fn default_name(user: UserId) -> Arc<str> {
    format!("User{user}").into()
}
