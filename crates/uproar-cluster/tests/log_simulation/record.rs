//! The log as Redis has it, noted entry by entry, and what was ever in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uproar_cluster::{Answer, Entry, LiveNode, Proposal, Reply, Tag};

use crate::model::Redis;

/// Others may declare a node gone when it had no batch in the log for so long, in milliseconds.
const SILENCE_MS: u64 = 10_000;

#[derive(Default)]
pub(crate) struct Record {
    /// The log as it is, with what was trimmed.
    pub(crate) entries: BTreeMap<u64, Arc<Entry>>,
    /// All that were ever in it, with the time when they came.
    seen: HashMap<Tag, u64>,
    /// The last of each life, and when it came.
    last_of: BTreeMap<LiveNode, (Tag, u64)>,
    /// Every message that a node was told of, by epoch, room, its opening and the id. What is lost before that has no id.
    ids: HashMap<(Arc<str>, Arc<str>, u64, u64), Tag>,
    /// Tickets of messages that were ever in the log.
    pub(crate) messages: BTreeSet<u64>,
}

impl Record {
    /// Notes what has changed. Each change of the log is noted at once.
    pub(crate) fn note(&mut self, redis: &Redis, log: &str, now_ms: u64) {
        let last = self.entries.last_key_value().map_or(0, |(number, _)| *number);
        let from = if self.is_at_end(redis, log, last) { format!("({last}-0") } else { "-".to_owned() };
        let Reply::List(entries) = redis.call(&["XRANGE", log, &from, "+"]) else { return };
        for entry in &entries {
            let entry = Entry::read(entry).unwrap_or_else(|error| panic!("{error}: {entry:?}"));
            if self.entries.get(&entry.number).is_some_and(|known| known.tag == entry.tag) {
                continue;
            }
            self.entries.split_off(&entry.number);
            self.push(entry, now_ms);
        }
        // What was lost at the end and was not replaced yet stays, until something stands in its place.
    }

    /// True when the log has the last noted entry.
    fn is_at_end(&self, redis: &Redis, log: &str, last: u64) -> bool {
        let id = format!("{last}-0");
        let Reply::List(found) = redis.call(&["XRANGE", log, &id, &id]) else { return false };
        match &found[..] {
            [entry] => Entry::read(entry).is_ok_and(|entry| entry.tag == self.entries[&last].tag),
            _ => false,
        }
    }

    fn push(&mut self, entry: Entry, now_ms: u64) {
        if let Some((number, last)) = self.entries.last_key_value()
            && number + 1 == entry.number
        {
            assert_eq!(entry.previous.as_ref(), Some(&last.tag), "entry {number} is not the one before");
            assert!(entry.time_ms >= last.time_ms, "time goes back at entry {}", entry.number);
        }
        let is_new = !self.seen.contains_key(&entry.tag);
        for (proposal, answer) in entry.decisions() {
            match (proposal, answer) {
                (Proposal::Message { message, .. }, Answer::Sent(_)) => {
                    self.messages.extend(ticket_of(message));
                }
                (Proposal::NodeGone { seen }, Answer::Done) if is_new => self.check_gone(seen, now_ms),
                _ => {}
            }
        }
        if is_new {
            self.seen.insert(entry.tag.clone(), now_ms);
            self.last_of.insert(entry.tag.live(), (entry.tag.clone(), now_ms));
        }
        self.entries.insert(entry.number, Arc::new(entry));
    }

    /// A node was told of an entry, which is of this epoch.
    pub(crate) fn note_told(&mut self, entry: &Entry, epoch: &Arc<str>) {
        for (proposal, answer) in entry.decisions() {
            if let (Proposal::Message { room, .. }, Answer::Sent(id)) = (proposal, answer) {
                let key = (Arc::clone(epoch), Arc::clone(&room.name), room.opened, *id);
                let known = self.ids.entry(key).or_insert_with(|| entry.tag.clone());
                assert_eq!(*known, entry.tag, "message {id} of {room:?} is given twice");
            }
        }
    }

    /// Nobody is declared gone who has had a batch in the log lately, unless that was lost.
    fn check_gone(&self, seen: &Tag, now_ms: u64) {
        let Some((tag, last_ms)) = self.last_of.get(&seen.live()) else { return };
        let is_kept = self.entries.values().rev().any(|entry| entry.tag == *tag);
        let silence_ms = now_ms - last_ms;
        assert!(!is_kept || silence_ms >= SILENCE_MS, "{seen} is declared gone after {silence_ms} ms");
    }

    /// Messages of the log as it is, each with the number of times that it stands there.
    pub(crate) fn times_sent(&self) -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        for (proposal, answer) in self.entries.values().flat_map(|entry| entry.decisions()) {
            if let (Proposal::Message { message, .. }, Answer::Sent(_)) = (proposal, answer)
                && let Some(ticket) = ticket_of(message)
            {
                *times.entry(ticket).or_insert(0) += 1;
            }
        }
        times
    }
}

/// Each message is its ticket.
fn ticket_of(message: &[u8]) -> Option<u64> {
    std::str::from_utf8(message).ok()?.parse().ok()
}
