//! Caches encoded member lists and histories: they are long, and the same for many newcomers in a row.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use uproar_protocol::frames;

use super::content::{Shown, kind_of, with_account};
use crate::clock::Now;
use crate::dialect::encoded::Encoded;
use crate::rooms::{Epoch, HistoryPage, MemberEntry, MemberList, MessageId, Resumed, RoomMessage};

/// The lists of one room that were encoded last.
#[derive(Debug, Default)]
pub struct Lists {
    members: Encoded<MemberEntry>,
    history: Rows,
}

/// The end of a room's history, encoded. Requests ask for some of the last messages, and for newer ones.
///
/// Invariant: `messages` are in the room's order, as are their rows, of which the one at an index ends at the same
/// index of `ends`.
#[derive(Debug, Default)]
struct Rows {
    messages: VecDeque<Arc<RoomMessage>>,
    /// Rows in `json`, with commas between them.
    ends: VecDeque<usize>,
    json: String,
    /// The most that were asked for at once, which a room's history bounds.
    longest: usize,
}

impl Rows {
    /// The rows of a history, of which those that are known already are not encoded again.
    fn of(&mut self, history: &[Arc<RoomMessage>]) -> &str {
        let Some(first) = history.first() else { return "" };
        let start = match self.messages.binary_search_by_key(&first.id, |message| message.id) {
            Ok(start) if self.is_followed_by(start, history) => start,
            Err(end) if self.messages.back().is_some_and(|last| last.id.0 + 1 == first.id.0) => end,
            _ => {
                *self = Self { longest: self.longest, ..Self::default() };
                0
            }
        };
        for message in &history[self.messages.len() - start..] {
            let comma = if self.messages.is_empty() { "" } else { "," };
            write!(self.json, "{comma}{}", row(message)).expect("Bug: writing to a String failed");
            self.messages.push_back(Arc::clone(message));
            self.ends.push_back(self.json.len());
        }
        self.longest = self.longest.max(history.len());
        let start = start - self.forget(self.messages.len().saturating_sub(2 * self.longest));
        // Behind the comma.
        let start_bytes = start.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
        &self.json[start_bytes..]
    }

    /// True when what is known from `start` on is the beginning of `history`, by identity.
    fn is_followed_by(&self, start: usize, history: &[Arc<RoomMessage>]) -> bool {
        let known = self.messages.range(start..);
        known.len() <= history.len() && known.zip(history).all(|(known, message)| Arc::ptr_eq(known, message))
    }

    /// Where there are so many too many, forgets half of all, and says how many.
    fn forget(&mut self, excess: usize) -> usize {
        if excess == 0 {
            return 0;
        }
        let count = self.messages.len() - self.longest;
        let bytes = self.ends[count - 1] + 1;
        self.messages.drain(..count);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|end| *end -= bytes);
        self.json.drain(..bytes);
        count
    }
}

fn row(message: &RoomMessage) -> serde_json::Value {
    let mut row = json!({
        "message_id": message.id, "type": kind_of(&message.content), "sender": message.from_name,
        "from_id": message.from, "content": Shown(&message.content), "timestamp": message.timestamp,
    });
    if let Some(account) = &message.from_account {
        row["from_account"] = json!(account);
    }
    row
}

/// The bytes of a list's message beside the list: the other keys and their values, without deleted ids.
const TAIL_BYTES: usize = 192;

/// A direct message around a list that is encoded already.
#[derive(Default, Serialize)]
struct Tail<'a> {
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<&'a [MessageId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

impl Lists {
    /// The `users` message, whole or a page.
    #[must_use]
    pub fn users(&mut self, members: &MemberList, now: Now) -> Bytes {
        let is_page = members.total.is_some() && members.last.is_none();
        // A page is for one client, and must not replace the cached list for newcomers.
        let mut own = Encoded::default();
        let kept = if is_page { &mut own } else { &mut self.members };
        let mut content = kept.of(&members.listed, member).to_owned();
        if let Some(last) = &members.last {
            let comma = if content.is_empty() { "" } else { "," };
            write!(content, "{comma}{}", member(last)).expect("Bug: writing to a String failed");
        }
        let tail = Tail { timestamp: now.unix_seconds, total: members.total, ..Tail::default() };
        list("users", &content, &tail)
    }

    /// The `history` message of a join; `resumed` is for a `resume`.
    #[must_use]
    pub fn history(
        &mut self,
        history: &Arc<[Arc<RoomMessage>]>,
        epoch: Epoch,
        resumed: Option<&Resumed>,
        now: Now,
    ) -> Bytes {
        let content = self.history.of(history);
        let tail = Tail {
            timestamp: now.unix_seconds,
            epoch: Some(epoch),
            complete: resumed.map(|resumed| resumed.is_complete),
            deleted: resumed.map(|resumed| &*resumed.deleted),
            ..Tail::default()
        };
        list("history", content, &tail)
    }
}

/// The `history` message for one client that looks further back: it must not replace the cached rows for newcomers.
#[must_use]
pub fn history_page(page: &HistoryPage, now: Now) -> Bytes {
    let HistoryPage { messages, epoch, has_more } = page;
    let mut rows = Rows::default();
    let (epoch, more) = (Some(*epoch), Some(*has_more));
    let tail = Tail { timestamp: now.unix_seconds, epoch, more, ..Tail::default() };
    list("history", rows.of(messages), &tail)
}

fn member(member: &MemberEntry) -> serde_json::Value {
    let entry = json!({ "id": member.id, "name": member.name, "connected_at": member.connected_at });
    with_account(entry, member.account.as_ref())
}

fn list(kind: &str, content: &str, tail: &Tail<'_>) -> Bytes {
    frames::written_text(content.len() + TAIL_BYTES, |buffer| {
        buffer.extend_from_slice(format!(r#"{{"type":"{kind}","content":["#).as_bytes());
        buffer.extend_from_slice(content.as_bytes());
        buffer.push(b']');
        // The tail is an object with at least one field; with a comma as its brace it continues this one.
        let begin = buffer.len();
        serde_json::to_writer(&mut *buffer, tail).expect("Bug: a list's tail is always JSON");
        buffer[begin] = b',';
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Content, MessageId, UserId};

    const NOW: Now = Now { monotonic_ms: 0, uptime_ms: 0, unix_seconds: 5 };

    fn entry(n: u64) -> MemberEntry {
        MemberEntry {
            id: UserId::from_wire(n).unwrap(),
            name: format!("U\"{n}").into(),
            account: None,
            connected_at: n,
        }
    }

    fn payload(frame: &[u8]) -> serde_json::Value {
        let header = if frame[1] < 126 { 2 } else { 4 };
        serde_json::from_slice(&frame[header..]).unwrap()
    }

    #[test]
    fn a_list_is_encoded_anew_only_when_it_is_another_one() {
        let mut lists = Lists::default();
        let listed: Arc<[_]> = (1..=2).map(entry).collect();
        let all = MemberList { listed: Arc::clone(&listed), last: None, total: None };
        let one = |n: u64| json!({ "id": n, "name": format!("U\"{n}"), "connected_at": n });
        let expected = json!({ "type": "users", "content": [one(1), one(2)], "timestamp": 5 });
        assert_eq!(payload(&lists.users(&all, NOW)), expected);
        let with_last = MemberList { listed, last: Some(entry(9)), total: Some(7) };
        let expected =
            json!({ "type": "users", "content": [one(1), one(2), one(9)], "timestamp": 5, "total": 7 });
        assert_eq!(payload(&lists.users(&with_last, NOW)), expected);
        let other = MemberList { listed: Arc::new([]), last: Some(entry(3)), total: None };
        assert_eq!(payload(&lists.users(&other, NOW))["content"], json!([one(3)]));
    }

    #[test]
    fn a_history_is_what_it_is_however_much_of_it_was_asked_for_before() {
        let message = |n: u64| {
            let (from, content) = (UserId::from_wire(1).unwrap(), Content::Text(format!("{n},")));
            let (from_name, from_account) = ("A".into(), None);
            Arc::new(RoomMessage { id: MessageId(n), from, from_name, from_account, content, timestamp: n })
        };
        let said: Vec<_> = (1..=40).map(message).collect();
        let again: Vec<_> = (1..=40).map(message).collect();
        let mut rows = Rows::default();
        let mut check = |history: &[Arc<RoomMessage>], encoded_at_most: usize| {
            let known =
                rows.messages.iter().filter(|known| history.iter().any(|one| Arc::ptr_eq(one, known)));
            assert!(history.len() - known.count() <= encoded_at_most);
            let ids: Vec<_> = history.iter().map(|message| json!(message.id)).collect();
            let shown: serde_json::Value = serde_json::from_str(&format!("[{}]", rows.of(history))).unwrap();
            let shown: Vec<_> =
                shown.as_array().unwrap().iter().map(|row| row["message_id"].clone()).collect();
            assert_eq!(shown, ids);
            assert!(rows.messages.len() <= 2 * rows.longest);
            assert_eq!(
                (rows.messages.len(), rows.ends.back().copied()),
                (rows.ends.len(), Some(rows.json.len()))
            );
        };
        check(&said[3..10], 7);
        check(&said[5..10], 0);
        check(&said[3..10], 0);
        check(&said[4..11], 1);
        for end in 12..=40 {
            check(&said[end - 1..end], 1);
            check(&said[end - 7..end], 0);
        }
        check(&said[30..40], 10);
        check(&again[30..40], 10);
        check(&[&again[30..33], &again[35..40]].concat(), 0);
    }

    #[test]
    fn a_history_is_sent_even_when_it_is_empty() {
        let mut lists = Lists::default();
        let epoch = Epoch::random();
        let expected = json!({ "type": "history", "content": [], "timestamp": 5, "epoch": epoch });
        assert_eq!(payload(&lists.history(&Arc::from([]), epoch, None, NOW)), expected);
        let resumed = Resumed { is_complete: true, deleted: vec![MessageId(3)] };
        let resumed = payload(&lists.history(&Arc::from([]), epoch, Some(&resumed), NOW));
        assert_eq!((&resumed["complete"], &resumed["deleted"]), (&json!(true), &json!([3])));
        let page = HistoryPage { messages: Vec::new(), epoch, has_more: false };
        let expected =
            json!({ "type": "history", "content": [], "timestamp": 5, "epoch": epoch, "more": false });
        assert_eq!(payload(&history_page(&page, NOW)), expected);
        let message = RoomMessage {
            id: MessageId(4),
            from: UserId::from_wire(2).unwrap(),
            from_name: "Ann".into(),
            from_account: Some("ann".into()),
            content: Content::Text("hi".into()),
            timestamp: 3,
        };
        let kept = json!({
            "message_id": 4, "type": "message", "sender": "Ann", "from_id": 2, "content": "hi", "timestamp": 3,
            "from_account": "ann",
        });
        assert_eq!(
            payload(&lists.history(&Arc::from([Arc::new(message)]), epoch, None, NOW))["content"],
            json!([kept])
        );
    }
}
