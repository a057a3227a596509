//! What a chat client says.

use serde_json::json;

use super::{Chat, IMAGES, Immediate, Ordered};
use crate::random::Random;
use crate::record::{Private, Record};
use crate::scenario::{CONTENT_BYTES_MAX, Scenario};

impl Chat {
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

    /// Draws the next thing to send.
    pub(crate) fn speak(&mut self, record: &mut Record, scenario: &Scenario, random: &mut Random) -> String {
        if random.percent(scenario.chances.move_room) {
            let rooms = scenario.rooms.iter().chain(&scenario.rooms_on_demand);
            let rooms: Vec<&String> = rooms.skip(usize::from(scenario.closes_rooms())).collect();
            let room = (*random.pick(&rooms)).clone();
            let (epoch, after) = match self.visited.get(&room) {
                Some((epoch, last)) if random.percent(50) => (Some(epoch.clone()), Some(*last)),
                _ => (None, random.percent(40).then(|| self.some_id(&room, record, random))),
            };
            self.ordered.push_back(Ordered::RoomJoined { room: room.clone(), after, epoch: epoch.clone() });
            self.moves += 1;
            let message = match (after, epoch) {
                (Some(after), Some(epoch)) => {
                    json!({ "type": "resume", "room": room, "after": after, "epoch": epoch })
                }
                (Some(after), None) => json!({ "type": "resume", "room": room, "after": after }),
                (None, _) => json!({ "type": "join_room", "room": room }),
            };
            return message.to_string();
        }
        let error =
            |chat: &mut Self, message: &str| chat.immediate.push_back(Immediate::Error(message.to_owned()));
        let message = match random.below(28) {
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
                let room = self.life.clone();
                let id = self.some_id(&room, record, random);
                if self.deletes_asked.contains(&id) {
                    // Nobody could tell which of the two is refused.
                    self.immediate.push_back(Immediate::Stats);
                    return json!({ "type": "get_stats" }).to_string();
                }
                self.reads_open.push(id);
                record.reads.insert((self.client, id));
                json!({ "type": "read", "message_id": id })
            }
            24 => {
                error(self, "Invalid image URL");
                json!({ "type": "image", "url": "javascript:alert(1)" })
            }
            25 | 26 => {
                let room = self.life.clone();
                let own = self.user.map(|user| record.last_of(user, &room, 5)).unwrap_or_default();
                let id = match own.is_empty() || random.percent(30) {
                    true => self.some_id(&room, record, random),
                    false => *random.pick(&own),
                };
                if record.reads.contains(&(self.client, id)) {
                    self.immediate.push_back(Immediate::Stats);
                    return json!({ "type": "get_stats" }).to_string();
                }
                self.deletes_open += 1;
                self.deletes_asked.push(id);
                record.deletions.insert(id);
                json!({ "type": "delete_message", "message_id": id })
            }
            27 => {
                let before = random.percent(60).then(|| self.some_id(&self.life, record, random));
                let limit = random.between(1, 20);
                self.ordered.push_back(Ordered::Page { before, limit });
                match before {
                    None => json!({ "type": "get_history", "limit": limit }),
                    Some(before) => json!({ "type": "get_history", "limit": limit, "before": before }),
                }
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
                let (name, answer) = *random.pick(&[
                    ("xxxxxxxxxxxxxxxxxxxxx", "Invalid name (1-20 characters required)"),
                    ("\u{200b}", "Invalid name (1-20 characters required)"),
                    ("s\u{200b}ystem", "Name is reserved"),
                ]);
                error(self, answer);
                json!({ "type": "set_name", "name": name })
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
}
