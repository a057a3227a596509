//! The commands that write a room anew.

use std::sync::Arc;

use crate::script::words;
use crate::{KeptLeft, KeptMessage, Keys, Left, RoomState, Term, TermKind, Terms};

/// A command as it is written in a command line.
type Words = Vec<Vec<u8>>;

/// Values that one command writes at most. Lua takes some 8,000.
const VALUES_AT_ONCE: usize = 1_000;

/// How many bytes are written together, unless a single value has more.
pub(super) const BYTES_AT_ONCE: usize = 4 << 20;

/// The messages of a room, as values.
pub(super) fn values_of_history(room: &RoomState) -> Vec<Vec<u8>> {
    room.history.iter().map(KeptMessage::write).collect()
}

/// The users and members of a room in turn, as values.
pub(super) fn values_of_roster(room: &RoomState) -> Vec<Vec<u8>> {
    room.members.iter().flat_map(|(user, member)| [user.to_string().into_bytes(), member.write()]).collect()
}

/// What writes a room: commands in groups, each of which is sent by itself. One that is sent again writes the same.
pub(super) fn room(keys: &Keys, name: &str, room: &RoomState, raised: u64) -> Vec<Vec<Words>> {
    let [history, roster] = keys.of_room(name);
    let mut groups = Groups::default();
    groups.push(words(["UNLINK", &history, &roster]), None);
    groups.push_list(&history, values_of_history(room));
    for part in in_parts(values_of_roster(room), 2) {
        groups.push([words(["HSET", &roster]), part].concat(), None);
    }
    let state = format!("{} {} {raised}", room.opened, room.last);
    groups.push(words(["HSET", &keys.rooms(), name, &state]), None);
    groups.finish()
}

/// What writes who has left, in groups as for a room.
pub(super) fn left(keys: &Keys, left: &Left) -> Vec<Vec<Words>> {
    let key = keys.left();
    let mut groups = Groups::default();
    groups.push(words(["UNLINK", &key]), None);
    groups.push_list(&key, left.iter().map(KeptLeft::write).collect());
    groups.finish()
}

/// What writes the bans and mutes: commands, each with its key.
pub(super) fn terms(keys: &Keys, terms: &Terms) -> Vec<(String, Words)> {
    let of_kind = |kind: TermKind| {
        let of_kind = terms.iter().filter(move |((its, _), _)| *its == kind);
        let values =
            |((_, subject), term): (&(TermKind, Arc<str>), &Term)| [Vec::from(&**subject), term.write()];
        let parts = in_parts(of_kind.flat_map(values).collect(), 2).into_iter();
        let key = keys.terms(kind);
        parts.map(move |part| (key.clone(), [words(["HSET", &key]), part].concat()))
    };
    TermKind::ALL.into_iter().flat_map(of_kind).collect()
}

#[derive(Default)]
struct Groups {
    done: Vec<Vec<Words>>,
    last: Vec<Words>,
    /// Of the last one.
    bytes: usize,
}

impl Groups {
    /// Adds what writes a list, behind what removes it.
    fn push_list(&mut self, key: &str, values: Vec<Vec<u8>>) {
        let mut written: usize = 0;
        for part in in_parts(values, 1) {
            // What an earlier attempt has written behind these goes.
            let trim = written.checked_sub(1).map(|last| words(["LTRIM", key, "0", &last.to_string()]));
            written += part.len();
            self.push([words(["RPUSH", key]), part].concat(), trim);
        }
    }

    fn finish(mut self) -> Vec<Vec<Words>> {
        self.done.push(self.last);
        self.done
    }

    /// Adds a command, to a new group if the last one is large enough, which begins with `opening`.
    fn push(&mut self, command: Words, opening: Option<Words>) {
        let more = bytes_of(&command);
        if self.bytes > 0 && self.bytes + more > BYTES_AT_ONCE {
            self.done.push(std::mem::replace(&mut self.last, opening.into_iter().collect()));
            self.bytes = 0;
        }
        self.bytes += more;
        self.last.push(command);
    }
}

/// The bytes of a command.
pub(super) fn bytes_of(command: &[Vec<u8>]) -> usize {
    command.iter().map(Vec::len).sum()
}

/// Divides values, of which `together` belong together.
fn in_parts(values: Vec<Vec<u8>>, together: usize) -> Vec<Vec<Vec<u8>>> {
    let mut parts: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = 0;
    let mut values = values.into_iter().peekable();
    while values.peek().is_some() {
        let next: Vec<Vec<u8>> = values.by_ref().take(together).collect();
        let more = bytes_of(&next);
        bytes += more;
        match parts.last_mut() {
            Some(part) if part.len() + together <= VALUES_AT_ONCE && bytes <= BYTES_AT_ONCE => {
                part.extend(next)
            }
            _ => {
                bytes = more;
                parts.push(next);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Redis has of a history after these commands.
    fn history_after<'a>(commands: impl IntoIterator<Item = &'a Words>) -> Vec<Vec<u8>> {
        let mut history = Vec::new();
        for command in commands {
            match &command[0][..] {
                b"UNLINK" => history.clear(),
                b"LTRIM" => {
                    history.truncate(std::str::from_utf8(&command[3]).unwrap().parse::<usize>().unwrap() + 1)
                }
                b"RPUSH" => history.extend_from_slice(&command[2..]),
                _ => {}
            }
        }
        history
    }

    #[test]
    fn a_large_room_is_written_in_groups_that_may_be_sent_again() {
        let message = |id: u64| KeptMessage::Whole {
            id,
            time_ms: 0,
            user: 0,
            account: String::new(),
            message: vec![b'x'; 10 << 10].into(),
        };
        let state = RoomState { history: (1..=3_000).map(message).collect(), ..RoomState::default() };
        let groups = room(&Keys::of_partition(0), "general", &state, 0);
        let bytes: Vec<usize> =
            groups.iter().map(|group| group.iter().map(|it| bytes_of(it)).sum()).collect();
        assert!(bytes.len() > 6 && bytes.iter().all(|bytes| *bytes <= BYTES_AT_ONCE + 1_000), "{bytes:?}");
        let twice = groups.iter().flat_map(|group| group.iter().chain(group));
        assert!(history_after(twice) == values_of_history(&state));
    }

    #[test]
    fn a_value_that_is_too_large_goes_alone() {
        let values: Vec<Vec<u8>> = [1, 5 << 20, 1, 1].map(|bytes| vec![0; bytes]).into();
        let parts = in_parts(values, 1);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        let pairs = in_parts(vec![Vec::new(); 2_002], 2);
        assert_eq!(pairs.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 2]);
    }
}
