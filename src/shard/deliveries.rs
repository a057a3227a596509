//! What homes and other shards tell this shard's connections.

use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames;
use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;

use super::audience::{FanOut, fan_out};
use super::client::{Session, TopicMembership};
use super::names_pace::{Listing, is_coming_or_going};
use super::user::RoomMembership;
use super::{Shard, work};
use crate::clock::Now;
use crate::dialect::chat::{self, Direct, Stats};
use crate::dialect::{Refusal, UserDialect, hub};
use crate::mail;
use crate::metrics::EndReason;
use crate::rooms::{Delivery, Event, Place, Publication, Request, RoomEvent, RoomIndex, Snapshot};

impl Shard {
    pub(super) fn deliver(&mut self, delivery: mail::Delivery, now: Now) {
        match delivery {
            mail::Delivery::Room(delivery) => self.deliver_from_home(delivery, now),
            mail::Delivery::PrivateSent { to, receiver, receiver_name, content } => {
                let sent = chat::private_message_sent(receiver, &receiver_name, &content, now);
                self.push(to.connection, sent, now);
            }
            mail::Delivery::UserNotFound { to } => self.refuse(to.connection, &Refusal::UserNotFound, now),
            mail::Delivery::PasswordChecked { to, verdict } => {
                self.handle_verdict(to.connection, verdict, now)
            }
        }
    }

    fn deliver_from_home(&mut self, delivery: Delivery, now: Now) {
        match delivery {
            Delivery::Joined { to, room, snapshot } => {
                self.handle_joined(to.connection, room, &snapshot, now)
            }
            Delivery::Left { to } => self.handle_left(to.connection, now),
            Delivery::Publish(publication) => self.publish(publication, now),
            Delivery::Members { to, members } => {
                let Some(user) = self.clients.user(to.connection) else { return };
                // It may have asked to leave since; the list was asked for before.
                let (RoomMembership::In { room, .. } | RoomMembership::Leaving { from: room, .. }) =
                    user.membership
                else {
                    return;
                };
                let users = self.rooms[room.get()].lists.users(&members, now);
                user.answers.charge(users.len(), now.monotonic_ms);
                self.push_in_order(to.connection, users, now);
            }
            Delivery::Names { to, names } => self.handle_names(to.connection, &names, now),
            Delivery::Renamed { to, old_name, new_name, names } => {
                self.names_mut().update(&names);
                let renamed = hub::renamed(&old_name, &new_name, self.names());
                self.push(to.connection, renamed, now);
            }
            Delivery::Kept { to, place } => self.handle_kept_message(to.connection, place),
            Delivery::Lost { to, place } => self.handle_lost_message(to.connection, place, now),
            Delivery::NotStored { to } => self.handle_refused_message(to.connection, now),
            Delivery::Read { author, message, reader, read_at } => {
                let Some((id, user)) = self.find_user(author) else { return };
                if user.dialect == UserDialect::Chat {
                    let read = chat::direct(&Direct::MessageRead { message, reader, read_at }, now);
                    // Not before the author has been told the id of its message.
                    self.push_in_order(id, read, now);
                }
            }
            Delivery::ReadFailed { to, message } => {
                self.refuse(to.connection, &Refusal::UnknownMessage(message.0.to_string()), now);
            }
            Delivery::Subscribed { to, topic } => self.handle_subscribed(to.connection, &topic),
        }
    }

    /// The home's answer to a join, or to a visit of one's own room.
    fn handle_joined(&mut self, id: ConnectionId, room: RoomIndex, snapshot: &Snapshot, now: Now) {
        // The connection may have ended while the answer was on its way; its leave followed the join.
        let Some(client) = self.clients.get_mut(id) else { return };
        let greeting = client.greeting.take();
        let Session::User(user) = &mut client.session else { return };
        let name = self.directory.name(room);
        match user.membership {
            RoomMembership::Joining(asked) if asked == room => {
                let place = self.rooms[room.get()].members(user.dialect).insert(id.index);
                user.membership = RoomMembership::In { room, place };
            }
            RoomMembership::In { room: own, .. } if own == room => user.awaits_snapshot = false,
            _ => return,
        }
        if user.dialect == UserDialect::Hub {
            user.welcomed = true;
            let names = &mut self.rooms[room.get()].names;
            names.update(&snapshot.members.listed);
            let login = hub::login(&user.name, names, snapshot.members.last.as_ref());
            self.push(id, login, now);
            self.list_readable(id);
            return;
        }
        let mut frames: Vec<SharedBytes> = greeting.into_iter().collect();
        let was_welcomed = std::mem::replace(&mut user.welcomed, true);
        let first = if was_welcomed {
            chat::direct(&Direct::RoomJoined { room: name }, now)
        } else {
            let stats = Stats::at(now, self.directory.users_online());
            chat::direct(
                &Direct::Welcome { user: user.registered_id(), name: &user.name, stats, room: name },
                now,
            )
        };
        let lists = &mut self.rooms[room.get()].lists;
        let users = lists.users(&snapshot.members, now);
        let history = lists.history(&snapshot.history, snapshot.epoch, snapshot.complete, now);
        if was_welcomed {
            user.answers.charge(users.len() + history.len(), now.monotonic_ms);
        }
        frames.extend([first, users, history].map(SharedBytes::new));
        self.metrics.messages_delivered.add(3);
        self.push_join(id, frames);
        self.list_readable(id);
    }

    /// The old room's home has let go; the new one is asked, if there is one.
    fn handle_left(&mut self, id: ConnectionId, now: Now) {
        let Some(user) = self.clients.user(id) else { return };
        let RoomMembership::Leaving { from, place, to, after } = user.membership else { return };
        user.membership = to.map_or(RoomMembership::None, RoomMembership::Joining);
        self.remove_from_room(id, from, place);
        match to {
            Some(to) => self.request_join(id, to, after),
            None => self.close(id, 1000, "", EndReason::Closed, now),
        }
    }

    fn handle_subscribed(&mut self, id: ConnectionId, topic: &Arc<str>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Session::Raw { membership: membership @ TopicMembership::Joining, .. } = &mut client.session
        else {
            return;
        };
        let place = self.topics.entry(Arc::clone(topic)).or_default().insert(id.index);
        *membership = TopicMembership::In { place };
        if let Some(greeting) = client.greeting.take() {
            self.push_join(id, vec![greeting]);
        }
        self.list_readable(id);
    }

    /// Tells every member on this shard.
    fn publish(&mut self, publication: Arc<Publication>, now: Now) {
        let own = publication.origin.filter(|origin| origin.shard == self.settings.index);
        let own = own.map(|origin| origin.connection);
        match &publication.event {
            Event::Room { .. } => self.publish_in_room(&publication, own, now),
            Event::Relay { topic, kind, payload } => {
                if let Some(members) = self.topics.get(topic) {
                    self.is_send_awaited |= publication.timer.is_some();
                    let frame = timed(frames::message(*kind, payload), &publication);
                    self.metrics.broadcasts.add(1);
                    self.metrics.frames_encoded.add(1);
                    let result = fan_out(members, &mut self.clients, &mut self.dirty, &frame, own);
                    self.end_fan_out(result, frame.len(), now);
                }
            }
        }
    }

    /// Invariant *encode once*: one encoding for each dialect that has members here.
    fn publish_in_room(&mut self, publication: &Arc<Publication>, own: Option<ConnectionId>, now: Now) {
        let Event::Room { room, event, names, timestamp } = &publication.event else { return };
        let name = self.directory.name(*room).clone();
        if let (Some(own), RoomEvent::Message(message)) = (own, event)
            && self.clients.user(own).is_some_and(|user| user.dialect == UserDialect::Chat)
        {
            self.acknowledge(own, Place { room: *room, id: message.id }, *timestamp, now);
        }
        let local = &mut self.rooms[room.get()];
        if let Some(names) = names
            && !local.hub.is_empty()
        {
            local.names.update(names);
        }
        let for_chat = (!local.chat.is_empty()).then(|| chat::room_event(event, &name, *timestamp));
        let listing = (!local.hub.is_empty()).then(|| local.pace.step(event, &local.names, now.monotonic_ms));
        let for_hub = match listing {
            None => None,
            Some(Listing::Later) => {
                local.pace.wait_with(event, (Arc::clone(publication), own));
                None
            }
            Some(listing) => hub::room_event(event, &local.names, listing == Listing::Whole),
        };
        // A hub client hears its own words and its own new name like everyone, but not of its coming, which
        // it was told before, and its going.
        let own_in_hub = own.filter(|_| is_coming_or_going(event));
        if for_chat.is_some() || for_hub.is_some() {
            self.metrics.broadcasts.add(1);
        }
        for (dialect, bytes, own) in
            [(UserDialect::Chat, for_chat, own), (UserDialect::Hub, for_hub, own_in_hub)]
        {
            let Some(bytes) = bytes else { continue };
            self.metrics.frames_encoded.add(1);
            self.is_send_awaited |= publication.timer.is_some();
            let frame = timed(bytes, publication);
            let members = self.rooms[room.get()].members(dialect);
            let result = fan_out(members, &mut self.clients, &mut self.dirty, &frame, own);
            self.end_fan_out(result, frame.len(), now);
        }
    }

    /// Tells hub members what had to wait for the names.
    pub(super) fn announce_with_names(&mut self, now: Now) {
        let room = RoomIndex::GENERAL.get();
        let due = self.rooms[room].pace.take_due(now.monotonic_ms);
        for ((publication, own), listing) in due {
            let Event::Room { event, .. } = &publication.event else { continue };
            let local = &self.rooms[room];
            let Some(bytes) = hub::room_event(event, &local.names, listing == Listing::Whole) else {
                continue;
            };
            // It may have left meanwhile, and its slot be somebody else's.
            let own = own.filter(|_| is_coming_or_going(event));
            let own = own.filter(|&own| self.clients.get_mut(own).is_some());
            self.metrics.broadcasts.add(1);
            self.metrics.frames_encoded.add(1);
            self.is_send_awaited |= publication.timer.is_some();
            let frame = timed(bytes, &publication);
            let result = fan_out(&local.hub, &mut self.clients, &mut self.dirty, &frame, own);
            self.end_fan_out(result, frame.len(), now);
        }
    }

    fn end_fan_out(&mut self, FanOut { delivered, overflowed }: FanOut, frame_bytes: usize, now: Now) {
        self.work += work::frames(delivered, frame_bytes);
        self.metrics.messages_delivered.add(delivered);
        for (id, overflow) in overflowed {
            self.evict(id, overflow, now);
        }
    }

    /// Takes a connection out of the members of a room.
    pub(super) fn remove_from_room(&mut self, id: ConnectionId, room: RoomIndex, place: u32) {
        let Some(user) = self.clients.user(id) else { return };
        let dialect = user.dialect;
        if let Some(moved) = self.rooms[room.get()].members(dialect).remove(place, id.index)
            && let Session::User(user) = &mut self.clients.at(moved).session
            && let RoomMembership::In { place: its, .. } | RoomMembership::Leaving { place: its, .. } =
                &mut user.membership
        {
            *its = place;
        }
    }

    /// Takes a connection off its topic.
    pub(super) fn remove_from_topic(&mut self, id: ConnectionId, topic: &Arc<str>, place: u32) {
        let members = self.topics.get_mut(topic).expect("Bug: a member of an unknown topic");
        let moved = members.remove(place, id.index);
        if members.is_empty() {
            self.topics.remove(topic);
        }
        if let Some(moved) = moved
            && let Session::Raw { membership, .. } = &mut self.clients.at(moved).session
        {
            *membership = TopicMembership::In { place };
        }
    }

    /// Ends a connection's membership, whatever it is, and tells the home once.
    ///
    /// Invariant *one leave*: a membership is taken out here or by a change of room, and nowhere else.
    pub(super) fn depart(&mut self, id: ConnectionId) {
        // A server that shuts down announces no leave: everybody goes.
        let is_announced = self.drain.is_none();
        let index = self.settings.index;
        let Some(client) = self.clients.get_mut(id) else { return };
        match &mut client.session {
            Session::User(user) => {
                let membership = std::mem::replace(&mut user.membership, RoomMembership::None);
                let Some(user_id) = user.id else { return };
                self.directory.users().remove(user_id);
                let room = match membership {
                    RoomMembership::None => return,
                    RoomMembership::Joining(room) => room,
                    RoomMembership::In { room, place } => {
                        self.remove_from_room(id, room, place);
                        room
                    }
                    RoomMembership::Leaving { from, place, .. } => {
                        // Its leave is on the way already.
                        self.remove_from_room(id, from, place);
                        return;
                    }
                };
                if is_announced {
                    let leave = Request::Leave { room, user: user_id, reply: None };
                    self.request(self.directory.home(room), leave);
                }
            }
            Session::Raw { topic, membership } => {
                let topic = Arc::clone(topic);
                match std::mem::replace(membership, TopicMembership::None) {
                    TopicMembership::None => return,
                    TopicMembership::Joining => {}
                    TopicMembership::In { place } => self.remove_from_topic(id, &topic, place),
                }
                if is_announced {
                    let home = self.directory.topic_home(&topic);
                    self.request(home, Request::Unsubscribe { topic, shard: index });
                }
            }
            Session::Echo => {}
        }
    }
}

/// A frame whose last drop ends the measurement of a publication's fan-out.
fn timed(bytes: Bytes, publication: &Publication) -> SharedBytes {
    match &publication.timer {
        Some(timer) => SharedBytes::with_completion_guard(bytes, Arc::clone(timer) as _),
        None => SharedBytes::new(bytes),
    }
}
