//! What holds of all shards and clients together: at any time, at rest, and at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use uproar::metrics::{Dialect, EndReason};
use uproar::rooms::{ClientRef, ShardIndex, UserId};
use uproar::shard::stage::Stage;

use super::{Summary, TIMERS_MAX, World, of_client};
use crate::chat::Chat;
use crate::client::{Client, Talk};
use crate::scenario::ON_DEMAND;
use crate::violation::{Checked, ensure};

impl World<'_> {
    /// Where users are looked up, they are.
    pub(super) fn check_places(&self) -> Checked {
        let (rooms, rooms_max) = (self.directory.on_demand().len(), self.scenario.rooms_max);
        ensure!(EverythingBounded, rooms <= rooms_max, "{rooms} rooms were created, {rooms_max} may be");
        for (&user, &number) in &self.record.users {
            let found = UserId::from_wire(user).and_then(|user| self.directory.users().find(user));
            let place = self.place_of(&self.clients[number]);
            let is_elsewhere = |found| {
                self.clients.iter().any(|client| client.may_be(user) && self.place_of(client) == Some(found))
            };
            ensure!(
                OnePlace,
                found.is_none_or(|found| Some(found) == place || is_elsewhere(found)),
                "user {user} is looked up at {found:?}, and client {number} is at {place:?}"
            );
        }
        Ok(())
    }

    pub(super) fn place_of(&self, client: &Client) -> Option<ClientRef> {
        let shard = ShardIndex(client.shard as u16);
        client.socket.id.map(|connection| ClientRef { shard, connection })
    }

    pub(super) fn check_at_rest(&self, is_told: bool) -> Checked {
        for client in &self.clients {
            client
                .check_at_rest(&self.record, &self.scenario)
                .map_err(|violation| of_client(client.number, violation))?;
        }
        self.record.check_rooms()?;
        self.check_api_answers()?;
        for (&user, &number) in &self.record.users {
            let found = UserId::from_wire(user).and_then(|user| self.directory.users().find(user));
            let is_found = found.is_some();
            ensure!(OnePlace, is_found || !self.clients[number].is_faithful(), "user {user} is not found");
        }
        for private in self.record.privates.values() {
            let receiver = self.record.users.get(&private.to).map(|&client| &self.clients[client]);
            let is_one = !self.record.is_claimed(private.to);
            let is_due = private.is_confirmed && is_one && receiver.is_some_and(Client::is_faithful);
            ensure!(Protocol, !is_due || private.received_by.is_some(), "{private:?} has not arrived");
        }
        self.check_rosters(is_told)
    }

    /// Who is told to be in a room is there, and who is there is told.
    pub(super) fn check_rosters(&self, is_told: bool) -> Checked {
        let mut members: BTreeMap<&str, BTreeMap<u64, &Chat>> = BTreeMap::new();
        // Connections of which it is not known where they are: they do not read.
        let mut hidden = 0;
        let mut in_hub = 0;
        for client in &self.clients {
            let chat = match &client.talk {
                Talk::Chat(chat) => chat,
                Talk::Hub(hub) if client.is_faithful() && !hub.is_logging_in() => {
                    in_hub += usize::from(hub.is_in_room());
                    continue;
                }
                Talk::Hub(_) => {
                    hidden += usize::from(!client.is_gone());
                    continue;
                }
                Talk::Raw(_) | Talk::Echo(_) => continue,
            };
            match chat.user {
                Some(user) if client.is_faithful() && chat.is_in_room() => {
                    members.entry(&chat.room).or_default().insert(user, chat);
                }
                _ if client.is_gone() => {}
                _ => hidden += 1,
            }
        }
        let configured = self.directory.rooms().iter().map(|room| (Arc::clone(room), room.online()));
        let created = self.directory.on_demand().page(None, "", 0, usize::MAX).rooms;
        let rooms: Vec<_> = configured.chain(created).collect();
        for name in members.keys() {
            let is_listed = rooms.iter().any(|(room, _)| &**room.name() == *name);
            ensure!(OneLeave, is_listed, "{name} has members, and is not listed");
        }
        let all_online: usize = rooms.iter().map(|(_, online)| online).sum();
        ensure!(OneLeave, self.directory.users_online() == all_online, "{all_online} are online");
        for (room, online) in rooms {
            let name = &**room.name();
            let chats = members.get(name);
            let there: Vec<u64> = chats.into_iter().flat_map(BTreeMap::keys).copied().collect();
            let known = there.len() + if name == "general" { in_hub } else { 0 };
            ensure!(
                OneLeave,
                (known..=known + hidden).contains(&online),
                "{online} are in {name}, {there:?} and up to {hidden} more should be"
            );
            for (&user, chat) in chats.into_iter().flatten() {
                // A closed room has another epoch than the one that has its name now.
                let is_listed =
                    !name.starts_with(ON_DEMAND) || chat.life == format!("{name}@{}", room.epoch());
                ensure!(OneLeave, is_listed, "user {user} is in {}, and another room is listed", chat.life);
                if chat.is_roster_whole {
                    let known: Vec<u64> = chat.roster.keys().copied().collect();
                    ensure!(
                        OneLeave,
                        known.len() == online && there.iter().all(|user| known.contains(user)),
                        "user {user} believes that {known:?} are in {name}; {online} are, among them {there:?}"
                    );
                }
                if is_told && !self.scenario.is_rate_limited() {
                    let told = chat.rooms_told.as_ref().and_then(|rooms| rooms.get(name).copied());
                    ensure!(
                        OneLeave,
                        told == Some(online as u64),
                        "user {user} was told {told:?} for {name}, not {online}"
                    );
                }
            }
        }
        Ok(())
    }

    /// What a shutdown promises.
    pub(super) fn check_shut_down(&self) -> Checked {
        if self.shutdown.is_cut_short {
            return Ok(());
        }
        for client in self.clients.iter().filter(|client| client.is_shut_down()) {
            client.check_shut_down(&self.record).map_err(|violation| of_client(client.number, violation))?;
        }
        for private in self.record.privates.values().filter(|private| private.is_confirmed) {
            let receiver = self.record.users.get(&private.to).map(|&client| &self.clients[client]);
            let is_one = !self.record.is_claimed(private.to);
            let is_due = is_one && receiver.is_some_and(Client::is_shut_down);
            ensure!(Settled, !is_due || private.received_by.is_some(), "{private:?} has not arrived");
        }
        Ok(())
    }

    pub(super) fn check_end(&mut self) -> Checked<Summary> {
        let mut timers = 0;
        while self.wait_for_timer() {
            self.settle()?;
            timers += 1;
            ensure!(NothingLeft, timers < TIMERS_MAX, "timers fire for nobody");
        }
        let mut summary = Summary { clients: self.clients.len(), ..Summary::default() };
        for host in &self.hosts {
            let metrics = &host.metrics;
            let index = host.index;
            ensure!(NothingLeft, host.admissions.is_empty(), "shard {index} has not admitted everyone");
            ensure!(NothingLeft, host.links.slots.is_empty(), "shard {index} has not let go of a slot");
            ensure!(NothingLeft, host.shard.clients().queued_bytes() == 0, "bytes are queued for nobody");
            ensure!(NothingLeft, host.shard.homes().writes_unanswered() == 0, "writes have no receipt");
            let waiting = (0..self.scenario.shards)
                .map(|to| host.shard.mail().waiting_for(uproar::rooms::ShardIndex(to)));
            ensure!(
                NothingLeft,
                waiting.into_iter().all(|it| it == (0, 0)),
                "messages wait on shard {index}"
            );
            for &dialect in Dialect::ALL {
                let open = metrics.connections.with(dialect).get();
                ensure!(NothingLeft, open == 0, "{open} {dialect} connections are counted");
            }
            let ended: u64 =
                EndReason::ALL.iter().map(|&reason| metrics.connections_ended.with(reason).get()).sum();
            let began = metrics.upgrades.get();
            ensure!(
                NothingLeft,
                began == ended,
                "{began} connections began and {ended} ended on shard {index}"
            );
            summary.delivered += metrics.messages_delivered.get();
            summary.evicted += metrics.connections_ended.with(EndReason::SlowConsumer).get();
        }
        let users = self.directory.users();
        let (online, ended) = (users.online_count(), users.ended_count());
        ensure!(NothingLeft, online == 0, "{online} users who have gone can be looked up");
        ensure!(NothingLeft, ended == 0, "{ended} sessions that have expired are kept");
        ensure!(NothingLeft, self.places.taken() == 0, "{} places are taken", self.places.taken());
        if self.shutdown.stage > Stage::Serving {
            self.shutdown.check_end()?;
        } else {
            for room in self.directory.rooms() {
                let online = room.online();
                ensure!(OneLeave, online == 0, "{online} are still in {}", room.name());
            }
            ensure!(NothingLeft, self.directory.users_online() == 0, "somebody is still in a room");
            let homes: usize = self.hosts.iter().map(|host| host.shard.homes().room_count()).sum();
            let configured = self.directory.rooms().len();
            ensure!(NothingLeft, homes == configured, "a topic or room is left that nobody hears");
            ensure!(NothingLeft, self.directory.on_demand().is_empty(), "a room is listed that is not there");
        }
        self.record.check_rooms()?;
        self.check_shut_down()?;
        Ok(summary)
    }
}
