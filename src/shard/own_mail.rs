//! Mail of a shard to itself: what its homes tell its clients, and requests, which a shard handles like those of others.

use crate::clock::Now;
use crate::events::Event;
use crate::mail::{Delivery, PrivateMessage, PrivateTyping, Request};

use super::Shard;
use super::client_io::ClientIo;
use super::user::User;

impl Shard {
    /// Handles this shard's mail to itself, until none is left.
    pub(super) fn settle_all(&mut self, now: Now) {
        loop {
            while let Some((to, delivery)) = self.homes.poll_delivery() {
                self.context.mail.deliver(to, delivery);
            }
            while let Some(event) = self.homes.poll_observed() {
                self.context.tell(Event::Room(event));
            }
            while let Some((to, request)) = self.homes.poll_request() {
                self.context.mail.request(to, request);
            }
            if let Some(delivery) = self.context.mail.pop_own_delivery() {
                self.deliver(delivery, now);
            } else if let Some(request) = self.context.mail.pop_own_request() {
                self.handle_own(request, now);
            } else if let Some(id) = self.closing.pop_front() {
                // The ring may have closed its socket meanwhile.
                if self.clients.get_mut(id).is_some() {
                    self.read_pending(id, now);
                }
            } else {
                return;
            }
        }
    }

    fn handle_own(&mut self, request: Request, now: Now) {
        match request {
            Request::Room(request) => self.homes.handle_request(request, now),
            Request::Private(private) => self.deliver_private(private, now),
            Request::PrivateToAccount(message) => self.deliver_to_account(message, now),
            Request::Typing(typing) => self.deliver_typing(&typing, now),
            Request::TakeOver(order) => self.hand_session_over(&order, now),
            Request::Moderate(order) => self.carry_out(order, now),
            Request::Explain { connection, origin } => self.explain(connection, origin, now),
            Request::ListConnections { page, origin } => self.list_connections(&page, origin, now),
            Request::TakeNotice { notice, origin } => self.take_notice(notice, origin),
            Request::MoveAccount(order) => self.move_account(order),
            Request::ShowAccount { account, origin } => self.show_account(&account, origin),
        }
    }

    fn deliver_private(&mut self, private: PrivateMessage, now: Now) {
        let (to, origin) = (private.to, private.origin);
        // It follows a user that has come back on another shard.
        let found = self.context.directory.users().find(to);
        if let Some(found) = found.filter(|found| found.shard != self.context.settings.index) {
            self.context.mail.request(found.shard, Request::Private(private));
            return;
        }
        let receive = |user: &mut User, io: &mut ClientIo<'_>| user.receive_private(private, io);
        if !self.with_welcomed_user(to, now, receive) {
            self.context.mail.deliver(origin.shard, Delivery::UserNotFound { to: origin });
        }
    }

    fn deliver_typing(&mut self, typing: &PrivateTyping, now: Now) {
        let (to, origin) = (typing.to, typing.origin);
        if !self.with_welcomed_user(to, now, |user, io| user.receive_typing(typing, io)) {
            self.context.mail.deliver(origin.shard, Delivery::UserNotFound { to: origin });
        }
    }
}
