//! A client of the chat dialect: what it says, what it must be answered, and what it knows of its room.

mod hear;
mod history;
mod speak;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use crate::record::Record;
use crate::violation::{Checked, ensure};

/// Where all images are.
pub(crate) const IMAGES: &str = "http://images/";

/// Answers that come in the room's order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ordered {
    MessageSent(String),
    Users {
        limit: Option<usize>,
    },
    /// A part of the history.
    Page {
        before: Option<u64>,
        limit: usize,
    },
    /// With the id that it has resumed after, if it has, and the epoch of that.
    RoomJoined {
        room: String,
        after: Option<u64>,
        epoch: Option<String>,
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
    /// The user whose session it has brought.
    pub(crate) claimed: Option<u64>,
    name: String,
    pub(crate) room: String,
    /// What the room's messages are known by: its name, and, of a room that clients create, its epoch.
    pub(crate) life: String,
    /// How often it was taken out of rooms that were closed, by their names.
    left_closed: BTreeMap<String, usize>,
    /// The epoch of each such room that it has been in, and the last id that it has heard there.
    visited: BTreeMap<String, (String, u64)>,
    /// The epoch that it has resumed with.
    resumed_epoch: Option<String>,
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
    /// Ids that it has asked to delete, and how many of these requests have no answer.
    deletes_asked: Vec<u64>,
    deletes_open: usize,
    /// What it was told is deleted, by room.
    deleted: BTreeSet<(String, u64)>,
    /// The last private message from each client.
    privates_from: BTreeMap<usize, usize>,
    pub(crate) rooms_told: Option<BTreeMap<String, u64>>,
    /// True once it was told when to return: the close comes next.
    is_told_to_return: bool,
}

impl Chat {
    /// A close with this code comes next. An evicted member may never have read its welcome.
    pub(crate) fn check_close(&self, code: u16) -> Checked {
        let (is_told, may_return) = (self.is_told_to_return, matches!(code, 1001 | 1012 | 1013));
        ensure!(Protocol, may_return || !is_told, "told to return, and closed with {code}");
        ensure!(
            Protocol,
            is_told || !may_return || self.user.is_none(),
            "closed with {code}, and when to return?"
        );
        Ok(())
    }

    pub(crate) fn new(client: usize) -> Self {
        Self {
            client,
            user: None,
            claimed: None,
            name: String::new(),
            room: "general".to_owned(),
            life: "general".to_owned(),
            left_closed: BTreeMap::new(),
            visited: BTreeMap::new(),
            resumed_epoch: None,
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
            deletes_asked: Vec::new(),
            deletes_open: 0,
            deleted: BTreeSet::new(),
            privates_from: BTreeMap::new(),
            rooms_told: None,
            is_told_to_return: false,
        }
    }

    /// True when it has been shown the room that it is in.
    pub(crate) fn is_in_room(&self) -> bool {
        self.shown == Shown::All
    }

    /// Says something that a test looks for: `message`, then asks for everything.
    pub(crate) fn probe(&mut self) -> Vec<String> {
        self.sequence += 1;
        let content = format!("{}/{} probe", self.client, self.sequence);
        let say = json!({ "type": "message", "content": content }).to_string();
        let page = Ordered::Page { before: None, limit: 100 };
        self.ordered.extend([Ordered::MessageSent(content), Ordered::Users { limit: None }, page]);
        self.immediate.push_back(Immediate::Rooms);
        self.rooms_told = None;
        let ask = [
            json!({ "type": "get_users" }),
            json!({ "type": "get_history", "limit": 100 }),
            json!({ "type": "get_rooms" }),
        ];
        std::iter::once(say).chain(ask.iter().map(ToString::to_string)).collect()
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

    /// It was closed by a shutdown, and has heard everything of its room that anyone has heard.
    pub(crate) fn check_shut_down(&self, record: &Record) -> Checked {
        if self.user.is_none() {
            return Ok(());
        }
        ensure!(Settled, self.is_in_room(), "shown {:?} of {} at its end", self.shown, self.room);
        let last_id = record.last_id(&self.life);
        ensure!(
            Settled,
            self.last_id
                .is_none_or(|own| own == last_id || record.is_gone_between(&self.room, own, last_id + 1)),
            "closed at {:?} of {}, others are at {last_id}",
            self.last_id,
            self.room
        );
        Ok(())
    }

    /// Everything that was said has been answered, and every message of the room was seen.
    pub(crate) fn check_at_rest(&self, record: &Record) -> Checked {
        ensure!(NoWaitingOnTheSlow, self.is_in_room(), "still shown {:?} of {}", self.shown, self.room);
        let open =
            self.ordered.len() + self.immediate.len() + self.privates_open + self.deletes_open + self.skipped;
        let (least, most) = (self.refused_for_rate, self.refused_for_rate);
        ensure!(
            NoWaitingOnTheSlow,
            open <= most && open + self.privates_empty + self.reads_open.len() + self.typings >= least,
            "{open} answers have not come, {most} were refused: {:?} {:?} {} private",
            self.ordered.iter().take(3).collect::<Vec<_>>(),
            self.immediate.iter().take(3).collect::<Vec<_>>(),
            self.privates_open
        );
        let last_id = record.last_id(&self.life);
        ensure!(
            OneOrder,
            self.last_id
                .is_none_or(|own| own == last_id || record.is_gone_between(&self.room, own, last_id + 1)),
            "at {:?} of {}, others are at {last_id}",
            self.last_id,
            self.room
        );
        Ok(())
    }
}
