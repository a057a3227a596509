//! A client of the chat dialect: what it says, what it must be answered, and what it knows of its room.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::random::Random;
use crate::record::{Private, Record, Said, content_key};
use crate::scenario::{CONTENT_BYTES_MAX, Scenario};
use crate::violation::{Checked, ensure, violated};

/// Where all images are.
pub(crate) const IMAGES: &str = "http://images/";

/// Answers that come in the room's order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ordered {
    MessageSent(String),
    Users {
        limit: Option<usize>,
    },
    /// With the id that it has resumed after, if it has.
    RoomJoined {
        room: String,
        after: Option<u64>,
    },
}

/// Answers that come in the order of what they answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Immediate {
    Error(String),
    Stats,
    Rooms,
    NameChanged(String),
}

/// How much of a room the client has been shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Name,
    Users,
    All,
}

#[derive(Debug)]
pub(crate) struct Chat {
    client: usize,
    pub(crate) user: Option<u64>,
    name: String,
    pub(crate) room: String,
    shown: Shown,
    last_id: Option<u64>,
    pub(crate) roster: BTreeMap<u64, String>,
    /// True while everyone's coming and going since the list of users was told by name.
    pub(crate) is_roster_whole: bool,
    sequence: usize,
    ordered: VecDeque<Ordered>,
    immediate: VecDeque<Immediate>,
    /// Private messages without an answer, and those that may be left without one.
    privates_open: usize,
    privates_empty: usize,
    /// How often it has asked for a room.
    moves: usize,
    refused_for_rate: usize,
    /// Answers that never came, which only the rate limit excuses.
    skipped: usize,
    /// The id behind which the history that comes next begins.
    resumed_after: Option<u64>,
    /// What was written of one's writing, which has no answer.
    typings: usize,
    /// Readings that may be left without an answer.
    reads_open: Vec<u64>,
    /// The last private message from each user.
    privates_from: BTreeMap<u64, usize>,
    pub(crate) rooms_told: Option<BTreeMap<String, u64>>,
}

impl Chat {
    pub(crate) fn new(client: usize) -> Self {
        Self {
            client,
            user: None,
            name: String::new(),
            room: "general".to_owned(),
            shown: Shown::Nothing,
            last_id: None,
            roster: BTreeMap::new(),
            is_roster_whole: true,
            sequence: 0,
            ordered: VecDeque::new(),
            immediate: VecDeque::new(),
            privates_open: 0,
            privates_empty: 0,
            moves: 0,
            refused_for_rate: 0,
            skipped: 0,
            resumed_after: None,
            typings: 0,
            reads_open: Vec::new(),
            privates_from: BTreeMap::new(),
            rooms_told: None,
        }
    }

    /// True when it has been shown the room that it is in.
    pub(crate) fn is_in_room(&self) -> bool {
        self.shown == Shown::All
    }

    fn content(&mut self, random: &mut Random) -> String {
        let len = if random.percent(90) { random.below(40) } else { random.below(CONTENT_BYTES_MAX / 4) };
        let letters = ["a", "ß", "你", "🙂", "\"", "\\", "\n"];
        let pad: String = if random.percent(80) {
            std::iter::repeat_n('x', len).collect()
        } else {
            (0..len).map(|_| *random.pick(&letters)).collect()
        };
        self.sequence += 1;
        format!("{}/{} {pad}", self.client, self.sequence)
    }

    /// Says something that a test looks for: `message`, then asks for everything.
    pub(crate) fn probe(&mut self) -> Vec<String> {
        self.sequence += 1;
        let content = format!("{}/{} probe", self.client, self.sequence);
        let say = json!({ "type": "message", "content": content }).to_string();
        self.ordered.extend([Ordered::MessageSent(content), Ordered::Users { limit: None }]);
        self.immediate.push_back(Immediate::Rooms);
        self.rooms_told = None;
        vec![say, json!({ "type": "get_users" }).to_string(), json!({ "type": "get_rooms" }).to_string()]
    }

    /// The shortest thing that has an answer from the room's home.
    pub(crate) fn flood(&mut self) -> String {
        self.sequence += 1;
        let content = format!("{}/{} ", self.client, self.sequence);
        self.ordered.push_back(Ordered::MessageSent(content.clone()));
        json!({ "type": "message", "content": content }).to_string()
    }

    /// True when it may have come to one room twice.
    pub(crate) fn may_have_returned(&self) -> bool {
        self.moves > 1
    }

    /// Draws the next thing to send.
    pub(crate) fn speak(&mut self, record: &mut Record, scenario: &Scenario, random: &mut Random) -> String {
        if random.percent(scenario.chances.move_room) {
            let room = random.pick(&scenario.rooms).clone();
            let after = random.percent(40).then(|| self.some_id(&room, record, random));
            self.ordered.push_back(Ordered::RoomJoined { room: room.clone(), after });
            self.moves += 1;
            let message = match after {
                Some(after) => json!({ "type": "resume", "room": room, "after": after }),
                None => json!({ "type": "join_room", "room": room }),
            };
            return message.to_string();
        }
        let error =
            |chat: &mut Self, message: &str| chat.immediate.push_back(Immediate::Error(message.to_owned()));
        let message = match random.below(25) {
            20 | 21 => {
                self.sequence += 1;
                let url = format!("{IMAGES}{}/{}", self.client, self.sequence);
                self.ordered
                    .push_back(Ordered::MessageSent(format!("{}/{} image", self.client, self.sequence)));
                json!({ "type": "image", "url": url })
            }
            22 => {
                self.typings += 1;
                json!({ "type": "typing", "is_typing": random.percent(50) })
            }
            23 => {
                let room = self.room.clone();
                let id = self.some_id(&room, record, random);
                self.reads_open.push(id);
                record.reads.insert((self.client, id));
                json!({ "type": "read", "message_id": id })
            }
            24 => {
                error(self, "Invalid image URL");
                json!({ "type": "image", "url": "javascript:alert(1)" })
            }
            0..=7 => {
                let content = self.content(random);
                self.ordered.push_back(Ordered::MessageSent(content.clone()));
                json!({ "type": "message", "content": content })
            }
            8 | 9 => {
                // Never the same twice, so that no two announcements of it are alike.
                self.sequence += 1;
                let name = format!("N{}-{}", self.client, self.sequence);
                self.immediate.push_back(Immediate::NameChanged(name.clone()));
                json!({ "type": "set_name", "name": format!(" {name}\t") })
            }
            10 | 11 => return self.speak_privately(record, random),
            12 => {
                self.ordered.push_back(Ordered::Users { limit: None });
                json!({ "type": "get_users" })
            }
            13 => {
                let limit = random.below(4);
                self.ordered.push_back(Ordered::Users { limit: Some(limit) });
                json!({ "type": "get_users", "offset": random.below(3), "limit": limit })
            }
            14 => {
                self.immediate.push_back(Immediate::Rooms);
                json!({ "type": "get_rooms" })
            }
            15 => {
                self.immediate.push_back(Immediate::Stats);
                json!({ "type": "get_stats" })
            }
            16 => {
                error(self, "Unknown room: attic");
                json!({ "type": "join_room", "room": "attic" })
            }
            17 => {
                error(self, "Invalid name (1-20 characters required)");
                json!({ "type": "set_name", "name": "x".repeat(21) })
            }
            18 => {
                let (garbage, answer) = *random.pick(&[
                    ("{", "Invalid message format"),
                    ("[]", "Invalid message format"),
                    (r#"{"type":"message","content":7}"#, "Invalid message format"),
                    (r#"{"type":"dance"}"#, "Unknown message type: dance"),
                ]);
                error(self, answer);
                return garbage.to_owned();
            }
            _ => {
                error(self, "Message too large");
                json!({ "type": "message", "content": "x".repeat(scenario.limits.message_bytes_max) })
            }
        };
        message.to_string()
    }

    /// An id that a room may have given out, and sometimes one that it has not.
    fn some_id(&self, room: &str, record: &Record, random: &mut Random) -> u64 {
        let last = record.last_id(room);
        match random.below(4) {
            0 => 0,
            1 => last + random.below(3) as u64,
            _ => last.saturating_sub(random.below(8) as u64),
        }
    }

    fn speak_privately(&mut self, record: &mut Record, random: &mut Random) -> String {
        // Members of the hub dialect are known from the room alone.
        let known = record.users.keys().chain(self.roster.keys()).copied();
        let known: Vec<u64> = known.chain([0, 1_000_000]).collect();
        let to = *random.pick(&known);
        let to_id = if random.percent(50) { json!(to) } else { json!(to.to_string()) };
        if random.percent(10) {
            self.privates_empty += 1;
            return json!({ "type": "private_message", "to_id": to_id }).to_string();
        }
        let content = self.content(random);
        self.privates_open += 1;
        let private = Private { from_client: self.client, to, ..Private::default() };
        record.privates.insert(content.clone(), private);
        json!({ "type": "private_message", "to_id": to_id, "content": content }).to_string()
    }

    /// Takes one message of the server.
    pub(crate) fn hear(&mut self, text: &str, record: &mut Record, scenario: &Scenario) -> Checked {
        let Ok(message) = serde_json::from_str::<Value>(text) else { violated!(Protocol, "no JSON: {text}") };
        let kind = message["type"].as_str().unwrap_or_default();
        ensure!(Protocol, message["timestamp"].is_u64(), "no timestamp: {text}");
        let content = &message["content"];
        if self.shown == Shown::Nothing && self.user.is_none() {
            ensure!(Protocol, kind == "welcome", "{kind} before welcome");
        }
        match kind {
            "welcome" => self.hear_welcome(content, record, scenario),
            "users" => self.hear_users(&message, scenario),
            "history" => self.hear_history(&message, record, scenario),
            "room_joined" => {
                let room = text_of(content, "room")?;
                self.skip_ordered(
                    |answer| matches!(answer, Ordered::RoomJoined { room: asked, .. } if *asked == room),
                )?;
                let Some(Ordered::RoomJoined { after, .. }) = self.ordered.pop_front() else {
                    violated!(Protocol, "room_joined for nothing")
                };
                self.resumed_after = after;
                ensure!(OneOrder, self.shown == Shown::All, "room_joined before the room before was shown");
                if room != self.room {
                    self.last_id = None;
                    self.room = room;
                }
                self.shown = Shown::Name;
                Ok(())
            }
            "message_sent" => self.hear_message_sent(content, record, scenario),
            "message_read" => self.hear_reading(content, record, scenario),
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
                    _ if error.starts_with("Unknown message: ") => {
                        let place = self.reads_open.iter().position(|id| error.ends_with(&format!(" {id}")));
                        let Some(place) = place else {
                            violated!(Protocol, "{error}, which was not asked for")
                        };
                        self.reads_open.remove(place);
                        Ok(())
                    }
                    _ => self.take_immediate(&Immediate::Error(error)),
                }
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
        ensure!(Protocol, self.name == format!("User{user}"), "user {user} is called {}", self.name);
        ensure!(Protocol, content["room"] == "general", "welcome to another room");
        ensure!(Protocol, content["server_stats"]["users_online"].as_u64() > Some(0), "nobody is online");
        ensure!(Protocol, record.users.insert(user, self.client).is_none(), "user {user} twice");
        ensure!(Protocol, user <= scenario.arrivals_max as u64, "user {user} of {}", scenario.arrivals_max);
        self.shown = Shown::Name;
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

    fn hear_history(&mut self, message: &Value, record: &mut Record, scenario: &Scenario) -> Checked {
        let content = &message["content"];
        let resumed_after = self.resumed_after.take();
        let complete = message.get("complete").and_then(Value::as_bool);
        if !scenario.is_rate_limited() {
            // Otherwise it is not known which of several requests was dropped.
            ensure!(
                Protocol,
                complete.is_some() == resumed_after.is_some(),
                "complete: {complete:?} after {resumed_after:?}"
            );
        }
        ensure!(OneOrder, self.shown == Shown::Users, "a history that is no part of a snapshot");
        self.shown = Shown::All;
        let kept = content.as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(EverythingBounded, kept.len() <= scenario.history, "a history of {}", kept.len());
        let mut before = None;
        for message in kept {
            let id = number_of(message, "message_id")?;
            ensure!(
                OneOrder,
                before.is_none_or(|before| record.is_lost_between(&self.room, before, id)),
                "{id} after {before:?} in a history"
            );
            before = Some(id);
            let said = Said {
                from: number_of(message, "from_id")?,
                name: text_of(message, "sender")?,
                content: content_of(message)?,
            };
            record.see_message(&self.room, id, said)?;
        }
        if scenario.has_failing_disk {
            if complete == Some(true)
                && let Some(after) = resumed_after.filter(|_| !scenario.is_rate_limited())
            {
                let wanted = (after + 1..).take(kept.len());
                let ids = kept.iter().filter_map(|message| message["message_id"].as_u64());
                ensure!(OneOrder, ids.eq(wanted), "complete behind {after}: {content}");
            }
            // The last ones that it has heard may have been lost since.
            self.last_id = before.max(self.last_id);
            return Ok(());
        }
        if let Some(complete) = complete {
            let after = resumed_after.filter(|_| !scenario.is_rate_limited());
            return self.check_resumed(kept, after, complete, record, scenario);
        }
        if let Some(last) = before {
            let len = scenario.history.min(last as usize);
            ensure!(OneOrder, kept.len() == len, "{} of {len} messages kept", kept.len());
        }
        let last = before.or((scenario.history > 0).then_some(0));
        if let (Some(last), Some(own)) = (last, self.last_id) {
            ensure!(OneOrder, last == own, "the same room again: at {last} and not at {own}");
        }
        self.last_id = last.or(self.last_id);
        Ok(())
    }

    /// What was kept behind an id, and whether that is all that there was.
    fn check_resumed(
        &mut self,
        kept: &[Value],
        after: Option<u64>,
        complete: bool,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let first = kept.first().and_then(|message| message["message_id"].as_u64());
        let last = kept.last().and_then(|message| message["message_id"].as_u64());
        if let (Some(last), Some(own)) = (last, self.last_id) {
            ensure!(OneOrder, last == own, "the same room again: at {last} and not at {own}");
        }
        let Some(after) = after else {
            self.last_id = last.or(self.last_id);
            return Ok(());
        };
        if let Some(last) = last
            && last < after
        {
            // The room has never given it out, and shows all that it keeps.
            let len = scenario.history.min(last as usize);
            ensure!(
                OneOrder,
                !complete && kept.len() == len,
                "complete: {complete}, {} of {len} up to {last}, behind {after}",
                kept.len()
            );
            self.last_id = Some(last);
            return Ok(());
        }
        if let (Some(first), Some(last)) = (first, last) {
            ensure!(OneOrder, first > after, "{first} was asked to be behind {after}");
            let behind = (last - after) as usize;
            let len = behind.min(scenario.history);
            ensure!(
                OneOrder,
                kept.len() == len,
                "{} of {len} messages behind {after} up to {last}",
                kept.len()
            );
            ensure!(
                OneOrder,
                complete == (behind == len),
                "complete: {complete}, {len} of {behind} are kept"
            );
        } else if let Some(own) = self.last_id {
            // Nothing behind it, nothing kept, or an id that the room has never given out.
            ensure!(OneOrder, complete == (after == own), "complete: {complete} behind {after} at {own}");
        }
        if complete {
            // So the room has given it out, even if nobody who heard it is left.
            record.see_id(&self.room, after);
        }
        self.last_id = last.or(complete.then_some(after)).or(self.last_id);
        Ok(())
    }

    /// Somebody has read one of its messages.
    fn hear_reading(&self, content: &Value, record: &Record, scenario: &Scenario) -> Checked {
        let (id, reader) = (number_of(content, "message_id")?, number_of(content, "read_by")?);
        ensure!(Protocol, content["read_at"].is_u64(), "no time of reading: {content}");
        // Somebody that does not read its own welcome is known to nobody.
        let is_asked = record.users.get(&reader).is_none_or(|&client| record.reads.contains(&(client, id)));
        ensure!(Protocol, is_asked, "user {reader} has not read {id}");
        let own = self.user.unwrap_or(0);
        ensure!(Protocol, record.may_be_author(own, id, scenario.rooms.len()), "{id} is somebody else's");
        Ok(())
    }

    /// One's own messages that were lost are not heard, and newcomers are not shown those of others.
    fn follow(&mut self, id: u64, record: &Record) -> Checked {
        if let Some(last) = self.last_id {
            let is_next = record.is_lost_between(&self.room, last, id);
            ensure!(OneOrder, is_next, "message {id} of {} after {last}", self.room);
        }
        self.last_id = Some(id);
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
        record.see_id(&self.room, id);
        if self.refused_for_rate == 0 {
            let said = Said { from: self.user.unwrap_or(0), name: self.name.clone(), content: said };
            // The answer to a change of name may have overtaken this one.
            if self.immediate.iter().all(|answer| !matches!(answer, Immediate::NameChanged(_)))
                && !self.has_renamed()
            {
                return record.see_message(&self.room, id, said);
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
                record.see_message(&self.room, id, said)?;
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
        let Some(private) = record.privates.get_mut(&content) else {
            violated!(Protocol, "a private message that was never sent: {content:?}")
        };
        ensure!(Protocol, Some(private.to) == self.user, "somebody else's private message: {content:?}");
        ensure!(Protocol, private.received_by.replace(self.client).is_none(), "a private message twice");
        let from_client = record.users.get(&from);
        ensure!(
            Protocol,
            from_client.is_none_or(|&client| client == private.from_client),
            "from {from}: {content:?}"
        );
        let (_, sequence) = content_key(&content).unwrap_or_default();
        let before = self.privates_from.insert(from, sequence);
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
    fn skip_ordered(&mut self, is_meant: impl Fn(&Ordered) -> bool) -> Checked {
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

    fn take_immediate(&mut self, answer: &Immediate) -> Checked {
        while let Some(next) = self.immediate.pop_front() {
            if next == *answer {
                return Ok(());
            }
            self.skipped += 1;
            ensure!(OneOrder, self.skipped <= self.refused_for_rate, "{answer:?} instead of {next:?}");
        }
        violated!(Protocol, "{answer:?} to nothing")
    }

    /// It was closed by a shutdown, and has heard everything of its room that anyone has heard.
    pub(crate) fn check_shut_down(&self, record: &Record) -> Checked {
        if self.user.is_none() {
            return Ok(());
        }
        ensure!(Settled, self.is_in_room(), "shown {:?} of {} at its end", self.shown, self.room);
        let last_id = record.last_id(&self.room);
        ensure!(
            Settled,
            self.last_id
                .is_none_or(|own| own == last_id || record.is_lost_between(&self.room, own, last_id + 1)),
            "closed at {:?} of {}, others are at {last_id}",
            self.last_id,
            self.room
        );
        Ok(())
    }

    /// Everything that was said has been answered, and every message of the room was seen.
    pub(crate) fn check_at_rest(&self, record: &Record) -> Checked {
        ensure!(NoWaitingOnTheSlow, self.is_in_room(), "still shown {:?} of {}", self.shown, self.room);
        let open = self.ordered.len() + self.immediate.len() + self.privates_open + self.skipped;
        let (least, most) = (self.refused_for_rate, self.refused_for_rate);
        ensure!(
            NoWaitingOnTheSlow,
            open <= most && open + self.privates_empty + self.reads_open.len() + self.typings >= least,
            "{open} answers have not come, {most} were refused: {:?} {:?} {} private",
            self.ordered.iter().take(3).collect::<Vec<_>>(),
            self.immediate.iter().take(3).collect::<Vec<_>>(),
            self.privates_open
        );
        let last_id = record.last_id(&self.room);
        ensure!(
            OneOrder,
            self.last_id
                .is_none_or(|own| own == last_id || record.is_lost_between(&self.room, own, last_id + 1)),
            "at {:?} of {}, others are at {last_id}",
            self.last_id,
            self.room
        );
        Ok(())
    }
}

/// What a message or a kept message holds. An image's address stands for who has sent it.
fn content_of(message: &Value) -> Checked<String> {
    match message["content"]["url"].as_str().map(|url| url.strip_prefix(IMAGES)) {
        None => text_of(message, "content"),
        Some(Some(key)) if message["type"] == "image" => Ok(format!("{key} image")),
        Some(_) => violated!(Protocol, "an image that nobody has sent: {message}"),
    }
}

fn text_of(value: &Value, key: &str) -> Checked<String> {
    match value[key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => violated!(Protocol, "no text {key:?} in {value}"),
    }
}

fn number_of(value: &Value, key: &str) -> Checked<u64> {
    match value[key].as_u64() {
        Some(number) => Ok(number),
        None => violated!(Protocol, "no number {key:?} in {value}"),
    }
}
