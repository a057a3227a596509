//! The rooms that clients have created, over all homes: how many there are at most, which of them are empty, and their
//! list.
//!
//! Opening and forgetting a room, each change of its members and each list of rooms take the one lock; messages never do.
//! A home is alone in changing its rooms, with one exception: where there are too many, another home may *claim* the
//! place of a room that is empty. The claimed room is off the list at once, and its home is told to forget it.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ListedRoom, RoomIndex};
use crate::config::ROOM_CHARS_MAX;
use crate::pattern::{Pattern, any_matches, disjoint};

/// The rooms that clients have created. Clones share them.
#[derive(Clone, Debug)]
pub struct RoomList(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    patterns: Vec<Pattern>,
    rooms_max: usize,
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    by_name: BTreeMap<Arc<str>, Place>,
    /// The names of the same rooms, by the number of members, the most first. No set is empty.
    by_members: BTreeMap<Reverse<usize>, BTreeSet<Arc<str>>>,
    /// Those without members, in the order in which the last ones left.
    empty: BTreeMap<u64, Arc<str>>,
    /// Places of rooms that are being opened, and are not listed yet.
    reserved: usize,
    /// Counts the times that a room has lost its last member.
    vacated: u64,
}

#[derive(Debug)]
struct Place {
    room: Arc<ListedRoom>,
    members: usize,
    /// When its last member left, as a number of `Rooms::vacated`; 0 before.
    vacated: u64,
}

/// There are as many rooms as there may be, and none of them is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyRooms;

/// Part of the list.
#[derive(Debug)]
pub struct RoomPage {
    /// How many rooms match.
    pub total: usize,
    /// Some of them, with the number of their members.
    pub rooms: Vec<(Arc<ListedRoom>, usize)>,
    /// How many rooms were looked at to find them.
    pub looked_at: usize,
}

impl RoomList {
    /// An empty list for names that match these patterns.
    pub(super) fn new(patterns: Vec<Pattern>, rooms_max: usize) -> Self {
        Self(Arc::new(Shared { patterns, rooms_max, rooms: Mutex::default() }))
    }

    /// True when clients may create a room of this name: it matches a pattern and is valid.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        any_matches(&self.0.patterns, name) && is_valid(name)
    }

    /// How many rooms there are, those included that are being opened.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms().len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rooms whose names match one of these patterns (`None`: all) and begin with `prefix`, most members first,
    /// equal ones by name: at most `limit` behind the first `offset`.
    #[must_use]
    pub fn page(&self, patterns: Option<&[Pattern]>, prefix: &str, offset: usize, limit: usize) -> RoomPage {
        let ranges: Vec<NameRange> = disjoint(patterns, prefix).iter().map(NameRange::of).collect();
        let rooms = self.rooms();
        let total = ranges.iter().map(|range| rooms.count(range)).sum();
        let mut page = Vec::new();
        let (mut to_skip, mut looked_at) = (offset, total);
        if offset < total {
            'page: for (Reverse(members), names) in &rooms.by_members {
                for range in &ranges {
                    looked_at += 1;
                    for name in range.of_set(names) {
                        looked_at += 1;
                        if to_skip > 0 {
                            to_skip -= 1;
                            continue;
                        }
                        let place = rooms.by_name.get(name).expect("Bug: a room has members and no place");
                        page.push((Arc::clone(&place.room), *members));
                        if page.len() >= limit.min(total - offset) {
                            break 'page;
                        }
                    }
                }
            }
        }
        RoomPage { total, rooms: page, looked_at }
    }

    /// The room of this name, if it is open.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<ListedRoom>> {
        self.rooms().by_name.get(name).map(|place| Arc::clone(&place.room))
    }

    /// The rooms whose names begin with `prefix` and come behind `after`, by name, at most `limit`.
    #[must_use]
    pub fn by_name(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Arc<ListedRoom>> {
        let rooms = self.rooms();
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let behind = rooms.by_name.range::<str, _>((first, Bound::Unbounded));
        let matching = behind.take_while(|(name, _)| name.starts_with(prefix)).take(limit);
        matching.map(|(_, place)| Arc::clone(&place.room)).collect()
    }

    /// Takes a place for a room that is about to be opened. Where there is none, the room that has been empty longest
    /// makes place: it is off the list, and its home must be told to forget it.
    pub(super) fn reserve(&self) -> Result<Option<RoomIndex>, TooManyRooms> {
        let mut rooms = self.rooms();
        let is_full = rooms.len() >= self.0.rooms_max;
        let claimed = if is_full { Some(rooms.claim().ok_or(TooManyRooms)?) } else { None };
        rooms.reserved += 1;
        Ok(claimed)
    }

    /// Takes a place also where there is none: for a room that another server of a cluster has opened.
    pub(super) fn reserve_anyway(&self) {
        self.rooms().reserved += 1;
    }

    /// Gives up a place of [`RoomList::reserve`].
    pub(super) fn cancel(&self) {
        let mut rooms = self.rooms();
        rooms.reserved = rooms.reserved.checked_sub(1).expect("Bug: no place was reserved");
    }

    /// Lists a room at a place of [`RoomList::reserve`].
    pub(super) fn insert(&self, room: &Arc<ListedRoom>) {
        let mut rooms = self.rooms();
        rooms.reserved = rooms.reserved.checked_sub(1).expect("Bug: no place was reserved");
        let place = Place { room: Arc::clone(room), members: 0, vacated: 0 };
        let before = rooms.by_name.insert(Arc::clone(room.name()), place);
        assert!(before.is_none(), "Bug: a room was opened twice");
        rooms.by_members.entry(Reverse(0)).or_default().insert(Arc::clone(room.name()));
    }

    /// Notes how many members a room has, whether its last one has left since the last call, and whether it may be
    /// claimed. False when it was claimed before.
    #[must_use]
    pub(super) fn update(
        &self,
        room: &ListedRoom,
        members: usize,
        was_vacated: bool,
        is_empty: bool,
    ) -> bool {
        debug_assert!(!is_empty || members == 0);
        let rooms = &mut *self.rooms();
        let Some(place) = rooms.by_name.get_mut(room.name()).filter(|place| place.is_of(room)) else {
            return false;
        };
        if members != place.members {
            remove_name(&mut rooms.by_members, place.members, room.name());
            rooms.by_members.entry(Reverse(members)).or_default().insert(Arc::clone(room.name()));
            place.members = members;
        }
        if was_vacated {
            rooms.empty.remove(&place.vacated);
            rooms.vacated += 1;
            place.vacated = rooms.vacated;
        }
        if is_empty {
            assert!(place.vacated > 0, "Bug: a room is empty that nobody has left");
            rooms.empty.insert(place.vacated, Arc::clone(room.name()));
        } else {
            rooms.empty.remove(&place.vacated);
        }
        true
    }

    /// Takes a room off the list, unless it was claimed before.
    pub(super) fn remove(&self, room: &ListedRoom) {
        let mut rooms = self.rooms();
        if rooms.by_name.get(room.name()).is_some_and(|place| place.is_of(room)) {
            rooms.remove(room.name());
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // A thread that has panicked has ended the server, so the list no longer matters.
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn len(&self) -> usize {
        self.by_name.len() + self.reserved
    }

    /// How many names are in the range. It follows no pointer for each, so a hundred thousand take half a millisecond.
    fn count(&self, range: &NameRange) -> usize {
        if range.is_full() {
            self.by_name.len()
        } else {
            self.by_name.range::<str, _>(range.bounds()).count()
        }
    }

    fn claim(&mut self) -> Option<RoomIndex> {
        let (_, name) = self.empty.pop_first()?;
        self.remove(&name)
    }

    fn remove(&mut self, name: &str) -> Option<RoomIndex> {
        let (name, place) = self.by_name.remove_entry(name)?;
        self.empty.remove(&place.vacated);
        remove_name(&mut self.by_members, place.members, &name);
        Some(place.room.index())
    }
}

impl Place {
    /// True unless it is of a later room of the same name.
    fn is_of(&self, room: &ListedRoom) -> bool {
        self.room.index() == room.index()
    }
}

/// The names that match a pattern: a range in the order of names, since these are compared character by character.
struct NameRange {
    first: Box<str>,
    /// The first name behind it; `None`: it has no end.
    behind: Option<Box<str>>,
}

impl NameRange {
    fn of(pattern: &Pattern) -> Self {
        match pattern {
            // The least text behind a name is the name and the least character.
            Pattern::Name(name) => Self { first: name.clone(), behind: Some(format!("{name}\u{0}").into()) },
            Pattern::Prefix(prefix) => Self { first: prefix.clone(), behind: behind_all_with(prefix) },
            Pattern::Nothing => Self { first: "".into(), behind: Some("".into()) },
        }
    }

    fn is_full(&self) -> bool {
        self.first.is_empty() && self.behind.is_none()
    }

    fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        (Bound::Included(&self.first), self.behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
    }

    fn of_set<'s>(&self, names: &'s BTreeSet<Arc<str>>) -> impl Iterator<Item = &'s Arc<str>> {
        names.range::<str, _>(self.bounds())
    }
}

/// The least text that is greater than all that begin with `prefix`: its last character that has a next one is replaced
/// by that, and the rest is cut. `None` when there is none.
fn behind_all_with(prefix: &str) -> Option<Box<str>> {
    let (at, next) =
        prefix.char_indices().rev().find_map(|(at, last)| Some((at, (last..=char::MAX).nth(1)?)))?;
    Some(format!("{}{next}", &prefix[..at]).into())
}

fn remove_name(by_members: &mut BTreeMap<Reverse<usize>, BTreeSet<Arc<str>>>, members: usize, name: &str) {
    if let Entry::Occupied(mut names) = by_members.entry(Reverse(members)) {
        names.get_mut().remove(name);
        if names.get().is_empty() {
            names.remove();
        }
    }
}

/// Whether a room that clients create may have this name.
fn is_valid(name: &str) -> bool {
    let length = name.chars().take(ROOM_CHARS_MAX + 1).count();
    (1..=ROOM_CHARS_MAX).contains(&length)
        && !name.starts_with(char::is_whitespace)
        && !name.ends_with(char::is_whitespace)
        && !name.contains(|c: char| c.is_control() || c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Epoch, ShardIndex};

    fn list(patterns: &[&str], rooms_max: usize) -> RoomList {
        RoomList::new(patterns.iter().map(|text| Pattern::parse(text)).collect(), rooms_max)
    }

    fn room(name: &str, slot: u32) -> Arc<ListedRoom> {
        let index = RoomIndex { home: ShardIndex(0), slot, generation: 0 };
        Arc::new(ListedRoom::new(name.into(), index, Epoch::random()))
    }

    fn open(list: &RoomList, name: &str, slot: u32) -> Arc<ListedRoom> {
        let room = room(name, slot);
        assert_eq!(list.reserve(), Ok(None));
        list.insert(&room);
        room
    }

    /// The names of a page, and the total.
    fn page(list: &RoomList, patterns: Option<&[&str]>, prefix: &str, offset: usize) -> (Vec<String>, usize) {
        let patterns: Option<Vec<Pattern>> =
            patterns.map(|texts| texts.iter().map(|text| Pattern::parse(text)).collect());
        let page = list.page(patterns.as_deref(), prefix, offset, 3);
        (page.rooms.iter().map(|(room, _)| room.name().to_string()).collect(), page.total)
    }

    #[test]
    fn a_name_matches_a_pattern_and_has_1_to_64_characters_none_of_them_special() {
        let list = list(&["team-*", "*x"], 9);
        assert!(list.allows("team-a") && list.allows("team- a") && !list.allows("team") && !list.allows("x"));
        let all = self::list(&["*"], 9);
        let (longest, longer) = ("😀".repeat(64), "😀".repeat(65));
        for name in ["a", " ", "team-*", "*", "", "a\u{0}", "a\u{85}b", "\u{3000}a", "a\u{2028}", "a\t"] {
            assert_eq!(all.allows(name), name == "a", "{name:?}");
        }
        assert!(all.allows(&longest) && !all.allows(&longer));
    }

    #[test]
    fn those_with_most_members_come_first_and_equal_ones_by_name() {
        let list = list(&["*"], 100);
        let names = ["b", "c", "a", "ab", "aa"];
        let rooms: Vec<_> = names.iter().zip(0..).map(|(name, slot)| open(&list, name, slot)).collect();
        assert!(list.update(&rooms[1], 2, false, false) && list.update(&rooms[3], 1, false, false));
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (patterns, prefix, offset, expected, total) in [
            (None, "", 0, &["c", "ab", "a"][..], 5),
            (None, "", 3, &["aa", "b"], 5),
            (None, "", 9, &[], 5),
            (None, "a", 0, &["ab", "a", "aa"], 3),
            (None, "a", 2, &["aa"], 3),
            (None, "a", usize::MAX, &[], 3),
            (None, "x", 0, &[], 0),
            (Some(&["*"][..]), "", 0, &["c", "ab", "a"], 5),
            (Some(&["*"]), "", 1, &["ab", "a", "aa"], 5),
            (Some(&["a*", "b", "aa", "x"]), "", 0, &["ab", "a", "aa"], 4),
            (Some(&["a*", "b", "aa", "x"]), "", 3, &["b"], 4),
            (Some(&["aa", "b"]), "a", 0, &["aa"], 1),
            (Some(&[]), "", 0, &[], 0),
        ] {
            assert_eq!(
                page(&list, patterns, prefix, offset),
                (strings(expected), total),
                "{patterns:?} {prefix}"
            );
        }
    }

    #[test]
    fn names_that_begin_alike_are_a_range() {
        for (prefix, behind) in [
            ("", None),
            ("a", Some("b")),
            ("team-", Some("team.")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(behind_all_with(prefix).as_deref(), behind, "{prefix:?}");
        }
    }

    #[test]
    fn a_page_looks_no_further_than_it_reaches() {
        let list = list(&["*"], 1_000);
        for slot in 0..1_000 {
            open(&list, &format!("{}-{slot:03}", if slot < 10 { "few" } else { "many" }), slot);
        }
        let looked_at = |prefix, offset| list.page(None, prefix, offset, 5).looked_at;
        // To count those that match, then the page of the one group.
        assert_eq!((looked_at("few", 0), looked_at("few", 3)), (10 + 1 + 5, 10 + 1 + 3 + 5));
        assert_eq!(looked_at("many", 0), 990 + 1 + 5);
        assert_eq!((looked_at("none", 0), looked_at("few", 10)), (0, 10));
    }

    #[test]
    fn the_room_that_has_been_empty_longest_makes_place() {
        let list = list(&["*"], 2);
        let (a, b) = (open(&list, "a", 0), open(&list, "b", 1));
        assert_eq!(list.reserve(), Err(TooManyRooms), "both have just been opened");
        assert!(list.update(&b, 1, false, false) && list.update(&a, 1, false, false));
        assert_eq!(list.reserve(), Err(TooManyRooms));
        assert!(list.update(&a, 0, true, true) && list.update(&b, 0, true, true));
        // A look at it does not make it younger.
        assert!(list.update(&a, 0, false, false));
        assert!(list.update(&a, 0, false, true));
        assert_eq!(list.reserve(), Ok(Some(a.index())));
        assert_eq!(list.len(), 2);
        assert!(!list.update(&a, 1, false, false), "it is too late");
        list.remove(&a);
        // One of the same name is another room.
        let again = room("a", 2);
        list.insert(&again);
        assert!(!list.update(&a, 1, false, false));
        list.remove(&a);
        assert!(list.update(&again, 1, false, false) && list.update(&b, 2, false, false));
        assert_eq!(list.reserve(), Err(TooManyRooms));
        list.remove(&b);
        assert_eq!(list.reserve(), Ok(None));
        list.cancel();
        list.remove(&again);
        assert!(list.is_empty());
    }
}
