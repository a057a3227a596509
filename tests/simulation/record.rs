//! What all clients together have seen, against which each one's view is held.

use std::collections::{BTreeMap, BTreeSet};

use crate::violation::{Checked, ensure, violated};

/// A message of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) from: u64,
    pub(crate) name: String,
    pub(crate) content: String,
}

/// A private message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Private {
    pub(crate) from_client: usize,
    pub(crate) to: u64,
    /// The client that has received it.
    pub(crate) received_by: Option<usize>,
    pub(crate) is_confirmed: bool,
}

/// A message of a topic: the client that sent it, and its place among what that client has sent.
pub(crate) type RelayKey = (usize, usize);

#[derive(Clone, Debug)]
pub(crate) struct Relayed {
    pub(crate) topic: String,
    pub(crate) is_text: bool,
    pub(crate) payload: Vec<u8>,
    /// The step at which it was written.
    pub(crate) step: u64,
    /// True once a member has received it.
    pub(crate) is_seen: bool,
    previous: Option<RelayKey>,
    next: Option<RelayKey>,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    /// By the life of the room (see `Chat::life`) and the id.
    rooms: BTreeMap<(String, u64), Said>,
    /// The highest id that somebody has seen, by life and by room.
    last_ids: BTreeMap<String, u64>,
    /// Messages that are on the disk.
    pub(crate) durable: BTreeSet<(String, u64)>,
    /// Messages that were published and could not be written.
    pub(crate) lost: BTreeSet<(String, u64)>,
    /// Deletions that are on the disk.
    pub(crate) durably_deleted: BTreeSet<(String, u64)>,
    /// How often rooms of a name were to be closed.
    pub(crate) closed: BTreeMap<String, usize>,
    /// Ids that somebody has asked to delete, in whatever room.
    pub(crate) deletions: BTreeSet<u64>,
    /// Which client a user is; of several one after another, the last that was welcomed.
    pub(crate) users: BTreeMap<u64, usize>,
    /// The tokens of those who were welcomed, with their users.
    pub(crate) sessions: Vec<(u64, String)>,
    /// How many clients have come back as which user, or have tried to.
    pub(crate) claims: BTreeMap<u64, usize>,
    /// The clients that have been a user, or may have been.
    pub(crate) clients_of: BTreeMap<u64, BTreeSet<usize>>,
    pub(crate) privates: BTreeMap<String, Private>,
    /// Which client has said that it has read which id, in whatever room.
    pub(crate) reads: BTreeSet<(usize, u64)>,
    pub(crate) relayed: BTreeMap<RelayKey, Relayed>,
}

impl Record {
    /// True when more than one client may be, or have been, this user. What an earlier one has sent may come late, and what
    /// it was sent may be lost with it.
    pub(crate) fn is_claimed(&self, user: u64) -> bool {
        self.claims.contains_key(&user)
    }

    /// False when this client was not this user at any time. Of a user whose welcome nobody has read nobody knows.
    pub(crate) fn may_have_been(&self, client: usize, user: u64) -> bool {
        self.clients_of.get(&user).is_none_or(|clients| clients.contains(&client))
    }

    /// Somebody has seen this message under this id.
    pub(crate) fn see_message(&mut self, room: &str, id: u64, said: Said) -> Checked {
        self.see_id(room, id);
        let known = self.rooms.entry((room.to_owned(), id)).or_insert_with(|| said.clone());
        ensure!(
            OneOrder,
            *known == said,
            "message {id} of {room} is {known:?} to one and {said:?} to another"
        );
        Ok(())
    }

    /// Somebody was told of this id.
    pub(crate) fn see_id(&mut self, life: &str, id: u64) {
        // Also in whatever life.
        let (room, _) = life.split_once('@').unwrap_or((life, ""));
        for name in [life, room] {
            let last = self.last_ids.entry(name.to_owned()).or_default();
            *last = id.max(*last);
        }
    }

    /// True when all ids of a room between two others are those of messages that were lost or may have been deleted.
    pub(crate) fn is_gone_between(&self, room: &str, before: u64, behind: u64) -> bool {
        let is_gone = |id| self.deletions.contains(&id) || self.lost.contains(&(room.to_owned(), id));
        before < behind && (before + 1..behind).all(is_gone)
    }

    /// The last messages of a user in a room that somebody has seen.
    pub(crate) fn last_of(&self, user: u64, room: &str, count: usize) -> Vec<u64> {
        let of_room = self.rooms.range((room.to_owned(), 0)..=(room.to_owned(), u64::MAX));
        of_room.rev().filter(|(_, said)| said.from == user).map(|((_, id), _)| *id).take(count).collect()
    }

    /// The author of a message that somebody has seen.
    pub(crate) fn author_of(&self, room: &str, id: u64) -> Option<u64> {
        self.rooms.get(&(room.to_owned(), id)).map(|said| said.from)
    }

    pub(crate) fn last_id(&self, room: &str) -> u64 {
        self.last_ids.get(room).copied().unwrap_or(0)
    }

    /// The id under which somebody has seen this message of the room `general`.
    pub(crate) fn id_in_general(&self, key: RelayKey) -> Option<u64> {
        let of_room = self.rooms.range(("general".to_owned(), 0)..=("general".to_owned(), u64::MAX));
        of_room.into_iter().find(|(_, said)| content_key(&said.content) == Some(key)).map(|((_, id), _)| *id)
    }

    /// False when this id was seen in each of so many rooms, and from others in all of them.
    pub(crate) fn may_be_author(&self, user: u64, id: u64, rooms: usize) -> bool {
        let seen: Vec<_> = self.rooms.iter().filter(|((_, seen), _)| *seen == id).collect();
        seen.len() < rooms || seen.iter().any(|(_, said)| said.from == user)
    }

    /// Each client's messages stand in the rooms in the order in which it sent them, each of them once.
    pub(crate) fn check_rooms(&self) -> Checked {
        let mut last_sequences = BTreeMap::new();
        let mut contents = BTreeMap::new();
        for ((room, id), said) in &self.rooms {
            let key = content_key(&said.content);
            let Some((client, sequence)) = key else {
                violated!(Protocol, "message {id} of {room} was never sent: {:?}", said.content)
            };
            if let Some(before) = last_sequences.insert((room.clone(), client), sequence) {
                ensure!(
                    OneOrder,
                    before < sequence,
                    "client {client} sent {sequence} after {before}, {room} has it otherwise"
                );
            }
            let twice = contents.insert((client, sequence), (room, id));
            ensure!(OneOrder, twice.is_none(), "{:?} stands in {twice:?} and {:?}", said.content, (room, id));
            ensure!(
                Protocol,
                self.may_have_been(client, said.from),
                "{:?} is from user {}",
                said.content,
                said.from
            );
        }
        Ok(())
    }

    pub(crate) fn note_relay(
        &mut self,
        key: RelayKey,
        topic: &str,
        is_text: bool,
        payload: &[u8],
        step: u64,
    ) {
        let relayed = Relayed {
            topic: topic.to_owned(),
            is_text,
            payload: payload.to_vec(),
            step,
            is_seen: false,
            previous: None,
            next: None,
        };
        assert!(self.relayed.insert(key, relayed).is_none());
    }

    /// A member of a topic has received `key` right after `previous`. All members agree on neighbours.
    pub(crate) fn see_relay(
        &mut self,
        topic: &str,
        previous: Option<RelayKey>,
        key: RelayKey,
        is_text: bool,
        payload: &[u8],
    ) -> Checked {
        let Some(relayed) = self.relayed.get_mut(&key) else { violated!(Protocol, "{key:?} was never sent") };
        ensure!(Protocol, relayed.topic == topic, "{key:?} of topic {:?} came on {topic:?}", relayed.topic);
        ensure!(Protocol, relayed.is_text == is_text && relayed.payload == payload, "{key:?} was changed");
        relayed.is_seen = true;
        let Some(previous) = previous else { return Ok(()) };
        let known = *relayed.previous.get_or_insert(previous);
        ensure!(
            OneOrder,
            known == previous,
            "{key:?} follows {known:?} for one and {previous:?} for another"
        );
        let before = self.relayed.get_mut(&previous).expect("Bug: it was seen before");
        let known = *before.next.get_or_insert(key);
        ensure!(
            OneOrder,
            known == key,
            "{previous:?} is followed by {known:?} for one and {key:?} for another"
        );
        Ok(())
    }
}

/// What a content begins with: its client, and its place among what that client has sent.
pub(crate) fn content_key(content: &str) -> Option<RelayKey> {
    let (key, _) = content.split_once(' ')?;
    let (client, sequence) = key.split_once('/')?;
    Some((client.parse().ok()?, sequence.parse().ok()?))
}
