//! What a chat client is told, and whether it may be told that.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Chat, IMAGES, Immediate, Ordered, Shown};
use crate::record::{Record, Said, content_key};
use crate::scenario::{ON_DEMAND, Scenario};
use crate::violation::{Checked, ensure, violated};

impl Chat {
    /// Takes one message of the server.
    pub(crate) fn hear(&mut self, text: &str, record: &mut Record, scenario: &Scenario) -> Checked {
        let Ok(message) = serde_json::from_str::<Value>(text) else { violated!(Protocol, "no JSON: {text}") };
        let kind = message["type"].as_str().unwrap_or_default();
        ensure!(Protocol, message["timestamp"].is_u64(), "no timestamp: {text}");
        ensure!(Protocol, !self.is_told_to_return, "behind reconnect: {text}");
        let content = &message["content"];
        if self.shown == Shown::Nothing && self.user.is_none() {
            // Of an eviction, nothing else is left.
            ensure!(Protocol, matches!(kind, "welcome" | "reconnect"), "{kind} before welcome");
        }
        match kind {
            "welcome" => self.hear_welcome(content, record, scenario),
            "users" => self.hear_users(&message, scenario),
            "history" if message.get("more").is_some() => self.hear_page(&message, record, scenario),
            "history" => self.hear_history(&message, record, scenario),
            "room_joined" => {
                let room = text_of(content, "room")?;
                if scenario.closes_rooms() && room == scenario.rooms[0] {
                    self.leave_closed(record)?;
                } else {
                    self.skip_ordered(
                        |answer| matches!(answer, Ordered::RoomJoined { room: asked, .. } if *asked == room),
                    )?;
                    let Some(Ordered::RoomJoined { after, epoch, .. }) = self.ordered.pop_front() else {
                        violated!(Protocol, "room_joined for nothing")
                    };
                    self.resumed_after = after;
                    self.resumed_epoch = epoch;
                }
                ensure!(OneOrder, self.shown == Shown::All, "room_joined before the room before was shown");
                if room != self.room {
                    if let (Some((_, epoch)), Some(last)) = (self.life.split_once('@'), self.last_id) {
                        self.visited.insert(self.room.clone(), (epoch.to_owned(), last));
                    }
                    self.last_id = None;
                    self.room = room;
                }
                self.shown = Shown::Name;
                Ok(())
            }
            "message_sent" => self.hear_message_sent(content, record, scenario),
            "message_read" => self.hear_reading(content, record, scenario),
            "message_deleted" => self.hear_deletion(&message, record, scenario),
            "message" | "image" | "typing" | "join" | "leave" | "user_renamed" | "presence" => {
                ensure!(OneOrder, self.shown == Shown::All, "{kind} of a room before its history");
                self.hear_room(kind, &message, record, scenario)
            }
            "error" => {
                let error = text_of(content, "message")?;
                match error.as_str() {
                    "Too many messages" => {
                        ensure!(Protocol, scenario.is_rate_limited(), "refused without a limit");
                        self.refused_for_rate += 1;
                        Ok(())
                    }
                    "User not found or offline" => self.end_private(),
                    "Message could not be stored" => {
                        ensure!(Protocol, scenario.has_failing_disk, "refused without a reason");
                        self.skip_ordered(|answer| matches!(answer, Ordered::MessageSent(_)))?;
                        self.ordered.pop_front();
                        Ok(())
                    }
                    "Too many rooms" => {
                        ensure!(
                            Protocol,
                            scenario.rooms_max < scenario.rooms_on_demand.len(),
                            "there is place"
                        );
                        // It comes behind the answers to earlier moves, and may overtake what the room before answers.
                        let is_meant = |answer: &Ordered| {
                            matches!(answer, Ordered::RoomJoined { room, .. }
                                if room.starts_with(ON_DEMAND) || !scenario.is_rate_limited())
                        };
                        let Some(place) = self.ordered.iter().position(is_meant) else {
                            violated!(Protocol, "{error}, and no room was asked for")
                        };
                        let refused = self.ordered.remove(place);
                        let is_on_demand = matches!(&refused, Some(Ordered::RoomJoined { room, .. })
                            if room.starts_with(ON_DEMAND));
                        ensure!(Protocol, is_on_demand, "{error} answers {refused:?}");
                        Ok(())
                    }
                    "Message could not be deleted" => {
                        ensure!(Protocol, scenario.has_failing_disk, "refused without a reason");
                        self.end_deletion(None)
                    }
                    "Permission denied" => self.end_deletion(None),
                    _ if error.starts_with("Unknown message: ") => {
                        let is_meant = |id: &u64| error.ends_with(&format!(" {id}"));
                        if let Some(id) = self.deletes_asked.iter().copied().find(is_meant) {
                            return self.end_deletion(Some(id));
                        }
                        let Some(place) = self.reads_open.iter().position(is_meant) else {
                            violated!(Protocol, "{error}, which was not asked for")
                        };
                        self.reads_open.remove(place);
                        Ok(())
                    }
                    _ => self.take_immediate(&Immediate::Error(error)),
                }
            }
            "reconnect" => {
                ensure!(Protocol, number_of(content, "after_ms")? <= 60_000, "too far away: {text}");
                self.is_told_to_return = true;
                Ok(())
            }
            "stats" => self.take_immediate(&Immediate::Stats),
            "rooms" => {
                let rooms = content.as_array().into_iter().flatten();
                let rooms = rooms.map(|room| Ok((text_of(room, "room")?, number_of(room, "users_online")?)));
                self.rooms_told = Some(rooms.collect::<Checked<_>>()?);
                self.take_immediate(&Immediate::Rooms)
            }
            "name_changed" => {
                let (old, new) = (text_of(content, "old_name")?, text_of(content, "new_name")?);
                self.take_immediate(&Immediate::NameChanged(new.clone()))?;
                ensure!(OneOrder, old == self.name, "the name was {} and not {old}", self.name);
                self.name = new;
                Ok(())
            }
            "private_message" => self.hear_private(&message, record),
            "private_message_sent" => {
                let content = text_of(&message, "content")?;
                let Some(private) = record.privates.get_mut(&content) else {
                    violated!(Protocol, "a private message that was never sent: {content:?}")
                };
                ensure!(
                    Protocol,
                    private.from_client == self.client && !private.is_confirmed,
                    "confirmed twice: {content:?}"
                );
                ensure!(Protocol, message["to_id"] == private.to, "another receiver: {text}");
                private.is_confirmed = true;
                self.end_private()
            }
            _ => violated!(Protocol, "an unknown message: {text}"),
        }
    }

    fn hear_welcome(&mut self, content: &Value, record: &mut Record, scenario: &Scenario) -> Checked {
        ensure!(Protocol, self.user.is_none(), "a second welcome");
        let user = number_of(content, "user_id")?;
        self.user = Some(user);
        self.name = text_of(content, "user_name")?;
        let has_come_back = self.claimed == Some(user);
        if let Some(claimed) = self.claimed.filter(|_| scenario.are_sessions_ample()) {
            let is_alone = record.claims[&claimed] == 1;
            ensure!(Protocol, has_come_back || !is_alone, "user {user} has come back as {claimed}");
        }
        self.room = text_of(content, "room")?;
        let is_default = self.name == format!("User{user}");
        if has_come_back {
            ensure!(Protocol, is_default || self.has_renamed(), "user {user} comes back as {}", self.name);
            let is_known =
                scenario.rooms.contains(&self.room) || scenario.rooms_on_demand.contains(&self.room);
            ensure!(Protocol, is_known, "welcome to {}", self.room);
        } else {
            ensure!(Protocol, is_default, "user {user} is called {}", self.name);
            ensure!(Protocol, self.room == "general", "welcome to {}", self.room);
        }
        ensure!(Protocol, content["session"].is_string() == scenario.sessions.is_some(), "{content}");
        if let Some(session) = content["session"].as_str() {
            record.sessions.push((user, session.to_owned()));
        }
        ensure!(Protocol, content["server_stats"]["users_online"].as_u64() > Some(0), "nobody is online");
        record.clients_of.entry(user).or_default().insert(self.client);
        let before = record.users.insert(user, self.client);
        ensure!(Protocol, has_come_back || before.is_none(), "user {user} twice");
        ensure!(Protocol, user <= scenario.arrivals_max as u64, "user {user} of {}", scenario.arrivals_max);
        self.shown = Shown::Name;
        Ok(())
    }

    /// It was taken to the first room without having asked: once for each time that its room was closed.
    fn leave_closed(&mut self, record: &Record) -> Checked {
        self.moves += 1;
        let left = self.left_closed.entry(self.room.clone()).or_default();
        *left += 1;
        let closed = record.closed.get(&self.room).copied().unwrap_or(0);
        ensure!(Protocol, *left <= closed, "{} was closed {closed} times, and left {left} times", self.room);
        Ok(())
    }

    fn hear_users(&mut self, message: &Value, scenario: &Scenario) -> Checked {
        let mut users = BTreeMap::new();
        let mut ids = Vec::new();
        for user in message["content"].as_array().into_iter().flatten() {
            let id = number_of(user, "id")?;
            ids.push(id);
            users.insert(id, text_of(user, "name")?);
        }
        ensure!(Protocol, ids.len() == users.len(), "a user is listed twice: {ids:?}");
        let own = self.user.unwrap_or(0);
        let is_whole = message.get("total").is_none();
        if is_whole {
            ensure!(Protocol, ids.is_sorted(), "users out of order: {ids:?}");
        }
        let is_snapshot = self.shown == Shown::Name;
        if !is_snapshot {
            // A page says how many there are in all, and holds no more than was asked for.
            self.skip_ordered(|answer| match answer {
                Ordered::Users { limit: Some(limit) } => !is_whole && ids.len() <= *limit,
                Ordered::Users { limit: None } => {
                    is_whole || !scenario.is_presence_exact() && users.contains_key(&own)
                }
                _ => false,
            })?;
            if let Some(Ordered::Users { limit: Some(_) }) = self.ordered.pop_front() {
                return Ok(());
            }
        }
        ensure!(OneLeave, users.contains_key(&own), "not listed in one's own room");
        if !is_snapshot && self.is_roster_whole && scenario.is_presence_exact() {
            // One's own name is told otherwise.
            self.roster.insert(own, users[&own].clone());
            ensure!(OneLeave, self.roster == users, "{:?} was announced, {users:?} is listed", self.roster);
        }
        if is_snapshot || is_whole {
            self.roster = users;
            self.is_roster_whole = is_whole && ids.is_sorted();
        }
        if is_snapshot {
            self.shown = Shown::Users;
        }
        Ok(())
    }

    /// Somebody has read one of its messages.
    fn hear_reading(&self, content: &Value, record: &Record, scenario: &Scenario) -> Checked {
        let (id, reader) = (number_of(content, "message_id")?, number_of(content, "read_by")?);
        ensure!(Protocol, content["read_at"].is_u64(), "no time of reading: {content}");
        // Somebody that does not read its own welcome is known to nobody.
        let mut clients = record.clients_of.get(&reader).into_iter().flatten();
        let is_asked = !record.clients_of.contains_key(&reader)
            || clients.any(|&client| record.reads.contains(&(client, id)));
        ensure!(Protocol, is_asked, "user {reader} has not read {id}");
        let own = self.user.unwrap_or(0);
        let has_lives = !scenario.rooms_on_demand.is_empty();
        let rooms = if has_lives { usize::MAX } else { scenario.rooms.len() };
        ensure!(Protocol, record.may_be_author(own, id, rooms), "{id} is somebody else's");
        Ok(())
    }

    fn hear_message_sent(&mut self, content: &Value, record: &mut Record, scenario: &Scenario) -> Checked {
        ensure!(OneOrder, self.shown == Shown::All, "message_sent before history");
        ensure!(
            OneOrder,
            content["room"] == *self.room,
            "message_sent for {} in {}",
            content["room"],
            self.room
        );
        let id = number_of(content, "message_id")?;
        ensure!(
            DurableBeforeAcknowledged,
            !scenario.is_durable || record.durable.contains(&(self.room.clone(), id)),
            "message {id} of {} was acknowledged",
            self.room
        );
        self.follow(id, record)?;
        self.skip_ordered(|answer| matches!(answer, Ordered::MessageSent(_)))?;
        let Some(Ordered::MessageSent(said)) = self.ordered.pop_front() else {
            violated!(Protocol, "message_sent for nothing")
        };
        record.see_id(&self.life, id);
        if self.refused_for_rate == 0 {
            let said = Said { from: self.user.unwrap_or(0), name: self.name.clone(), content: said };
            // The answer to a change of name may have overtaken this one.
            if self.immediate.iter().all(|answer| !matches!(answer, Immediate::NameChanged(_)))
                && !self.has_renamed()
            {
                return record.see_message(&self.life, id, said);
            }
        }
        Ok(())
    }

    fn has_renamed(&self) -> bool {
        self.name.starts_with('N')
    }

    fn hear_room(
        &mut self,
        kind: &str,
        message: &Value,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let content = &message["content"];
        let is_exact = scenario.is_presence_exact() && self.is_roster_whole;
        let from = number_of(message, "from_id")?;
        let own = self.user.unwrap_or(0);
        ensure!(OneOrder, from != own, "{kind} to the one who caused it");
        if let Some(room) = content.get("room") {
            ensure!(OneOrder, *room == *self.room, "{kind} of {room} in {}", self.room);
        }
        match kind {
            "message" | "image" => {
                let id = number_of(message, "message_id")?;
                self.follow(id, record)?;
                let said = Said { from, name: text_of(message, "from_name")?, content: content_of(message)? };
                if is_exact {
                    let name = self.roster.get(&from);
                    ensure!(
                        OneOrder,
                        name == Some(&said.name),
                        "{} from {from}, who is {name:?} here",
                        said.name
                    );
                }
                record.see_message(&self.life, id, said)?;
            }
            "typing" => {
                let (user, name) = (number_of(content, "user_id")?, text_of(content, "user_name")?);
                ensure!(OneOrder, user == from && content["is_typing"].is_boolean(), "{message}");
                let known = self.roster.get(&user);
                ensure!(OneOrder, !is_exact || known == Some(&name), "{name} writes, who is {known:?} here");
            }
            "join" => {
                let (user, name) = (number_of(content, "user_id")?, text_of(content, "user_name")?);
                ensure!(OneLeave, user == from && user != own, "a join of {user} from {from}");
                let twice = self.roster.insert(user, name);
                ensure!(OneLeave, !is_exact || twice.is_none(), "user {user} joined {} twice", self.room);
            }
            "leave" => {
                let user = number_of(content, "user_id")?;
                ensure!(OneLeave, user != own && from == 0, "one's own leave");
                let known = self.roster.remove(&user);
                ensure!(
                    OneLeave,
                    !is_exact || known.is_some(),
                    "user {user} left {} without being there",
                    self.room
                );
            }
            "user_renamed" => {
                let (old, new) = (text_of(content, "old_name")?, text_of(content, "new_name")?);
                let known = self.roster.insert(from, new);
                ensure!(OneLeave, !is_exact || known.as_ref() == Some(&old), "{known:?} was called {old}");
            }
            _ => return self.hear_presence(content, scenario),
        }
        if is_exact && let Some(online) = content["users_online"].as_u64() {
            let len = self.roster.len() as u64;
            ensure!(OneLeave, online == len, "{online} are online and {len} are known, after {kind}");
        }
        Ok(())
    }

    fn hear_presence(&mut self, content: &Value, scenario: &Scenario) -> Checked {
        ensure!(Protocol, !scenario.is_presence_exact(), "presence in a room that announces everyone");
        for joined in content["joined"].as_array().into_iter().flatten() {
            self.roster.insert(number_of(joined, "id")?, text_of(joined, "name")?);
        }
        for renamed in content["renamed"].as_array().into_iter().flatten() {
            self.roster.insert(number_of(renamed, "id")?, text_of(renamed, "name")?);
        }
        for left in content["left"].as_array().into_iter().flatten() {
            self.roster.remove(&left.as_u64().unwrap_or(0));
        }
        if content["truncated"] == true {
            self.is_roster_whole = false;
        }
        Ok(())
    }

    fn hear_private(&mut self, message: &Value, record: &mut Record) -> Checked {
        let content = text_of(message, "content")?;
        let from = number_of(message, "from_id")?;
        let may_be_sender = record
            .privates
            .get(&content)
            .is_none_or(|private| record.may_have_been(private.from_client, from));
        let Some(private) = record.privates.get_mut(&content) else {
            violated!(Protocol, "a private message that was never sent: {content:?}")
        };
        ensure!(Protocol, Some(private.to) == self.user, "somebody else's private message: {content:?}");
        ensure!(Protocol, private.received_by.replace(self.client).is_none(), "a private message twice");
        ensure!(Protocol, may_be_sender, "from {from}: {content:?}");
        let (_, sequence) = content_key(&content).unwrap_or_default();
        let before = self.privates_from.insert(private.from_client, sequence);
        ensure!(OneOrder, before.is_none_or(|before| before < sequence), "{content:?} after {before:?}");
        Ok(())
    }

    fn end_private(&mut self) -> Checked {
        match (&mut self.privates_open, &mut self.privates_empty) {
            (0, 0) => violated!(Protocol, "an answer to a private message that was not sent"),
            (0, open) | (open, _) => *open -= 1,
        }
        Ok(())
    }

    /// Gives up answers until one that `is_meant`; only the rate limit excuses that.
    pub(super) fn skip_ordered(&mut self, is_meant: impl Fn(&Ordered) -> bool) -> Checked {
        while let Some(next) = self.ordered.front()
            && !is_meant(next)
        {
            self.skipped += 1;
            ensure!(OneOrder, self.skipped <= self.refused_for_rate, "no answer in its place: {next:?}");
            self.ordered.pop_front();
        }
        ensure!(OneOrder, !self.ordered.is_empty(), "an answer to nothing");
        Ok(())
    }

    pub(super) fn take_immediate(&mut self, answer: &Immediate) -> Checked {
        while let Some(next) = self.immediate.pop_front() {
            if next == *answer {
                return Ok(());
            }
            self.skipped += 1;
            ensure!(OneOrder, self.skipped <= self.refused_for_rate, "{answer:?} instead of {next:?}");
        }
        violated!(Protocol, "{answer:?} to nothing")
    }
}

/// What a message or a kept message holds. An image's address stands for who has sent it.
pub(super) fn content_of(message: &Value) -> Checked<String> {
    match message["content"]["url"].as_str().map(|url| url.strip_prefix(IMAGES)) {
        None => text_of(message, "content"),
        Some(Some(key)) if message["type"] == "image" => Ok(format!("{key} image")),
        Some(_) => violated!(Protocol, "an image that nobody has sent: {message}"),
    }
}

pub(super) fn text_of(value: &Value, key: &str) -> Checked<String> {
    match value[key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => violated!(Protocol, "no text {key:?} in {value}"),
    }
}

pub(super) fn number_of(value: &Value, key: &str) -> Checked<u64> {
    match value[key].as_u64() {
        Some(number) => Ok(number),
        None => violated!(Protocol, "no number {key:?} in {value}"),
    }
}
