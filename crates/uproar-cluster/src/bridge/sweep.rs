//! Removing from Redis the members whose node is gone.
//!
//! For everyone they have left with the entry by which the node has ended. In the rosters they stay for a while,
//! because removing 50,000 of them together would hold Redis up for 40 ms. Until then whoever reads a roster skips
//! them.
//!
//! The live node with the lowest name *sweeps*: it reads the rosters in small parts, and proposes a leave for each
//! member whose node is not alive. It does so when it sees a node end, and when it begins and has read such members. So
//! who sweeps follows from the log. If that node ends too, that is an entry as well, for which the next one sweeps from
//! the start. Leaves that are proposed twice are answered with [`Answer::Late`](crate::Answer::Late).
//!
//! A roster may be newer than the log that this node has read. So whose node is alive is looked at when the log was
//! read up to where it was behind the answer: a member comes behind the beginning of its node.

use std::collections::VecDeque;

use crate::script::words;
use crate::{BadReply, Command, KeptMember, Keys, LiveNode, Proposal, Reply, Room};

/// Rosters that are read together.
const ROSTERS_AT_ONCE: usize = 16;

/// Members of a roster that are read together, about. Redis takes some 50 µs for them.
const MEMBERS_A_PART: &str = "200";

/// A sweep that is under way.
#[derive(Debug)]
pub(super) struct Sweep {
    keys: Keys,
    /// The last entry that was read at its beginning: that of another sweep is another one.
    pub(super) begun_at: u64,
    /// From where on rooms are to be read; `None` when all were.
    rooms: Option<String>,
    /// The rosters to read before that, each from its cursor on.
    rosters: VecDeque<(Room, String)>,
    pub(super) found: Vec<Found>,
    /// Where the log was when they were found.
    found_at: u64,
    pub(super) leaves: VecDeque<Proposal>,
    /// Not before this time is a command sent.
    pub(super) due_ms: u64,
    /// True behind a command: then a batch goes first, if one waits.
    pub(super) gives_way: bool,
}

#[derive(Debug)]
pub(super) struct Found {
    room: Room,
    user: u64,
    member: KeptMember,
}

impl Sweep {
    /// One whose first command is due at this time.
    pub(super) fn new(keys: Keys, begun_at: u64, due_ms: u64) -> Self {
        Self {
            keys,
            begun_at,
            rooms: Some("0".to_owned()),
            rosters: VecDeque::new(),
            found: Vec::new(),
            found_at: 0,
            leaves: VecDeque::new(),
            due_ms,
            gives_way: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rooms.is_none() && self.rosters.is_empty() && self.found.is_empty() && self.leaves.is_empty()
    }

    /// The next command, once what was found is on its way.
    pub(super) fn command(&self) -> Option<Command> {
        if !self.found.is_empty() || !self.leaves.is_empty() {
            return None;
        }
        let mut commands: Vec<_> = self
            .rosters
            .iter()
            .take(ROSTERS_AT_ONCE)
            .map(|(room, cursor)| {
                words(["HSCAN", &self.keys.roster(&room.name), cursor, "COUNT", MEMBERS_A_PART])
            })
            .collect();
        if commands.is_empty() {
            let count = ROSTERS_AT_ONCE.to_string();
            commands.push(words(["HSCAN", &self.keys.rooms(), self.rooms.as_ref()?, "COUNT", &count]));
        }
        commands.push(words(["HMGET", &self.keys.meta(), "last"]));
        Some(Command::Plain(commands))
    }

    pub(super) fn handle_reply(&mut self, reply: &Reply) -> Result<(), BadReply> {
        let [scans @ .., meta] = reply.list()? else { return Err(BadReply) };
        let [last] = meta.list()? else { return Err(BadReply) };
        self.found_at = last.text()?.parse().map_err(|_| BadReply)?;
        if self.rosters.is_empty() {
            let [scan] = scans else { return Err(BadReply) };
            return self.handle_rooms(scan);
        }
        let read: Vec<(Room, String)> = self.rosters.drain(..scans.len().min(self.rosters.len())).collect();
        for ((room, _), scan) in read.into_iter().zip(scans) {
            // A damaged roster is written anew, without them.
            let Ok([cursor, members]) = scan.list() else { continue };
            for [user, member] in members.list()?.as_chunks().0 {
                if let Ok(user) = user.text()?.parse()
                    && let Reply::Text(member) = member
                    && let Ok(member) = KeptMember::read(member)
                {
                    self.found.push(Found { room: room.clone(), user, member });
                }
            }
            if let Some(cursor) = next(cursor)? {
                self.rosters.push_front((room, cursor));
            }
        }
        Ok(())
    }

    fn handle_rooms(&mut self, scan: &Reply) -> Result<(), BadReply> {
        let [cursor, rooms] = scan.list()? else { return Err(BadReply) };
        for (name, state) in rooms.pairs()? {
            let opened = state.split(' ').next().and_then(|opened| opened.parse().ok()).ok_or(BadReply)?;
            self.rosters.push_back((Room { name: name.into(), opened }, "0".to_owned()));
        }
        self.rooms = next(cursor)?;
        Ok(())
    }

    /// Once the log was read to where it was: makes leaves of those whose node is not among the live ones.
    pub(super) fn judge(&mut self, read: u64, live: &[LiveNode]) {
        if read < self.found_at {
            return;
        }
        for Found { room, user, member } in self.found.drain(..) {
            let its = LiveNode { node: member.node, incarnation: member.incarnation };
            if !live.contains(&its) {
                self.leaves.push_back(Proposal::Leave { room, user, visit: member.visit, goes_on: false });
            }
        }
    }
}

/// The next cursor of a scan, which ends with 0.
fn next(cursor: &Reply) -> Result<Option<String>, BadReply> {
    Ok(Some(cursor.text()?).filter(|cursor| *cursor != "0").map(str::to_owned))
}
