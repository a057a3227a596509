//! Mail for members: each delivery is handed to its client, or to all members on this shard.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::Shard;
use super::account_message::MessageToAccount;
use super::client_io::{ClientIo, Context};
use super::local_rooms::{FanOut, LocalRooms};
use super::mass_order::MassAction;
use super::user::User;
use crate::accounts::AccountChange;
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, UserDialect, hub};
use crate::mail::{self, AccountMessage};
use crate::moderation::OrderRefusal;
use crate::rooms::{ClientRef, Delivery, Event, Publication, RoomEvent};

impl Shard {
    pub(super) fn deliver(&mut self, delivery: mail::Delivery, now: Now) {
        match delivery {
            mail::Delivery::FromNode(notice) => self.take_from_node(*notice, now),
            mail::Delivery::PrivateSent { to, receiver, receiver_name, content } => {
                self.with_user(to.connection, now, |_, io| {
                    io.push(chat::private_message_sent(receiver, &receiver_name, &content, now));
                });
            }
            mail::Delivery::UserNotFound { to } => {
                self.with_user(to.connection, now, |user, io| user.refuse(&ChatError::UserNotFound, io));
            }
            mail::Delivery::TermsDecided { order, is_in_force } => {
                self.handle_terms_decided(*order, is_in_force, now);
            }
            mail::Delivery::TermsUndecided { origin } => {
                self.context.answer_order(origin, Err(OrderRefusal::OutcomeUnknown));
            }
            mail::Delivery::OrderFromNode(order) => self.carry_out(*order, now),
            mail::Delivery::Noticed(notice) => self.take_notice(notice, ClientRef::ELSEWHERE),
            mail::Delivery::OrderDone { to, outcome } => {
                self.handle_order_done(to, outcome, now);
            }
            mail::Delivery::NoticeDone { to, .. } => {
                self.answer(to.connection, now, |user, _| user.handle_notice_done());
            }
            mail::Delivery::SessionEnded { to } => {
                self.with_user(to.connection, now, |user, io| user.handle_session_ended(io));
            }
            mail::Delivery::SessionNotReached { to } => {
                self.with_user(to.connection, now, |user, io| user.handle_session_not_reached(io));
            }
            mail::Delivery::PasswordChecked { to, result } => {
                self.answer(to.connection, now, |user, io| user.handle_sign_in_result(result, io));
            }
            mail::Delivery::AccountsChanged(change) => {
                self.context.reserved_names = Arc::clone(&change.reserved);
                for AccountChange { account, kind } in &change.changed {
                    let ids = self.context.signed_in.of(account).collect();
                    self.order_all(ids, MassAction::FollowAccount(*kind), None);
                }
            }
            mail::Delivery::Room(Delivery::Publish(publication)) => self.publish(&publication, now),
            mail::Delivery::Room(Delivery::Opened { to, room }) => {
                let is_used = self.with_user(to.connection, now, |user, io| user.handle_opened(room, io));
                if is_used != Some(true) {
                    self.context.release(room);
                }
            }
            mail::Delivery::Room(Delivery::Joined { to, room, snapshot }) => {
                self.answer(to.connection, now, |user, io| user.handle_joined(room, &snapshot, io));
            }
            mail::Delivery::Room(Delivery::Left { to }) => {
                let moved = self.with_user(to.connection, now, |user, io| user.handle_left(io));
                self.clients.set_place(moved.flatten());
            }
            mail::Delivery::Room(Delivery::Members { to, members }) => {
                self.with_user(to.connection, now, |user, io| user.handle_members(&members, io));
            }
            mail::Delivery::Room(Delivery::History { to, page }) => {
                self.answer(to.connection, now, |user, io| user.handle_history(&page, io));
            }
            mail::Delivery::Room(Delivery::Names { to, names }) => {
                self.context.rooms.update_names(&names);
                self.with_user(to.connection, now, |user, io| user.handle_names(io));
            }
            mail::Delivery::Room(Delivery::Renamed { to, old_name, new_name, names }) => {
                self.context.rooms.update_names(&names);
                self.with_user(to.connection, now, |_, io| {
                    io.push(hub::renamed(&old_name, &new_name, io.context.rooms.names()));
                });
            }
            mail::Delivery::Room(Delivery::Kept { to, cursor }) => {
                self.with_user(to.connection, now, |_, io| io.link.open_gate(cursor, None));
            }
            mail::Delivery::Room(Delivery::Lost { to, cursor, refusal }) => {
                self.with_user(to.connection, now, |user, io| user.handle_lost_change(cursor, refusal, io));
            }
            mail::Delivery::Room(Delivery::Superseded { to }) => {
                self.with_user(to.connection, now, |user, io| user.handle_superseded(io));
            }
            mail::Delivery::Room(Delivery::RoomGone { to, after }) => {
                self.with_user(to.connection, now, |user, io| user.handle_room_gone(after, io));
            }
            mail::Delivery::Room(Delivery::Refused { to, refusal }) => {
                self.answer(to.connection, now, |user, io| user.handle_refusal(refusal, io));
            }
            mail::Delivery::Room(Delivery::Read { author, message, reader, read_at }) => {
                self.with_welcomed_user(author, now, |user, io| {
                    if user.dialect == UserDialect::Chat {
                        let read = chat::direct(&Direct::MessageRead { message, reader, read_at }, now);
                        // Not before the author has been told the id of its message.
                        io.push_in_order(read);
                    }
                });
            }
            mail::Delivery::Room(Delivery::Closing { room, member }) => self.note_closing(room, member),
            // These are for the HTTP API alone.
            mail::Delivery::RelayReceived { .. }
            | mail::Delivery::Connections { .. }
            | mail::Delivery::AccountShown { .. }
            | mail::Delivery::Room(
                Delivery::Done { .. } | Delivery::Relayed { .. } | Delivery::Closed { .. },
            ) => {
                debug_assert!(false, "Bug: a shard gets an answer that is for the API");
            }
            mail::Delivery::Room(Delivery::Subscribed { to }) => {
                self.with_client(to.connection, now, |session, io| session.handle_subscribed(io));
            }
        }
    }

    /// Gives a user an answer that its input may have waited for, and an ordered move with it.
    pub(super) fn answer(
        &mut self,
        id: ConnectionId,
        now: Now,
        handle: impl FnOnce(&mut User, &mut ClientIo<'_>),
    ) {
        self.with_user(id, now, |user, io| {
            handle(user, io);
            user.follow_ordered_move(io);
        });
    }

    /// Gives a private message to this shard's connections of an account. One of a user costs no more than a broadcast, and
    /// is delivered at once, since nobody is answered, and so nothing else would bound those that wait.
    pub(super) fn deliver_to_account(&mut self, message: AccountMessage, now: Now) {
        let ids: Vec<_> = self.context.signed_in.of(&message.account).collect();
        let origin = message.origin;
        let mut message = MessageToAccount::new(message, now);
        if origin.is_some() {
            return self.order_all(ids, MassAction::Message(Box::new(message)), origin);
        }
        for id in ids {
            self.with_user(id, now, |user, io| message.push_to(user, io));
        }
    }

    /// Sends an event to all members on this shard; the client that caused it may get another message, or none.
    fn publish(&mut self, publication: &Arc<Publication>, now: Now) {
        let own = publication.origin.filter(|origin| origin.shard == self.context.settings.index);
        let own = own.map(|origin| origin.connection);
        if let Event::Room { room, room_name, event: RoomEvent::Message(message), timestamp, .. } =
            &publication.event
            && let Some(own) = own
        {
            self.with_user(own, now, |user, io| {
                user.acknowledge((*room, room_name), message.id, *timestamp, publication.pending, io)
            });
        }
        let receivers = self.fan_out(now, |rooms, fan_out| rooms.publish(publication, own, fan_out));
        if let Event::Relay { .. } = &publication.event
            && let Some(to) = publication.origin
        {
            self.context.mail.deliver(to.shard, mail::Delivery::RelayReceived { to, receivers });
        }
    }

    /// Lets rooms push to many clients, and evicts those whose queue was full. Returns how many queues have taken a frame.
    pub(super) fn fan_out(
        &mut self,
        now: Now,
        publish: impl FnOnce(&mut LocalRooms, &mut FanOut<'_>),
    ) -> usize {
        let Context { rooms, work, metrics, .. } = &mut self.context;
        let mut fan_out = FanOut {
            clients: &mut self.clients,
            schedule: &mut self.schedule,
            work,
            metrics,
            now,
            delivered: 0,
            overflowed: Vec::new(),
        };
        publish(rooms, &mut fan_out);
        let delivered = fan_out.delivered;
        for (id, overflow) in fan_out.overflowed {
            self.with_client(id, now, |_, io| io.evict(overflow));
        }
        delivered
    }
}
