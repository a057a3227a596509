//! How often hub members of a large room get the list of names.
//!
//! Every message of the hub dialect has the key `user_list`. In a room of 500, two members who talk would have
//! 10 KB of names sent to everyone a hundred times a second. So in a room of more than [`NAMES_PACED_ABOVE`](crate::dialect::hub::NAMES_PACED_ABOVE) they
//! are sent once a second. In between, `user` has an empty list, and a client keeps the list that it has.
//! Changes of names wait until the second is over, and are sent with the list: all renames, and the last
//! `login` or `logout`, because a client replaces its list at these.

use std::mem;
use std::sync::Arc;

use uproar_ring::ConnectionId;

use crate::dialect::hub::Names;
use crate::rooms::{Publication, RoomEvent};

/// The least time between two lists of names.
const NAMES_EVERY_MS: u64 = 1_000;

/// Renames that may wait; further ones are sent at once, without the names.
const RENAMES_WAITING_MAX: usize = 50;

/// What happened, and the connection that caused it.
type Untold = (Arc<Publication>, Option<ConnectionId>);

/// Whether a message has the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// The names.
    Whole,
    /// No names.
    Empty,
    /// It is not sent now.
    Later,
}

/// When the hub members of a room, on one shard, get the names again.
#[derive(Debug, Default)]
pub(super) struct NamesPace {
    next_ms: u64,
    renames: Vec<Untold>,
    coming_or_going: Option<Untold>,
}

impl NamesPace {
    /// Decides whether the message about `event` has the names.
    pub(super) fn step(&mut self, event: &RoomEvent, names: &Names, now_ms: u64) -> Listing {
        if !names.are_many() {
            return Listing::Whole;
        }
        let is_due = now_ms >= self.next_ms && self.next_due_ms().is_none();
        match event {
            RoomEvent::Typing { .. } | RoomEvent::Presence(_) | RoomEvent::Deleted { .. } => Listing::Empty,
            _ if is_due => {
                self.next_ms = now_ms + NAMES_EVERY_MS;
                Listing::Whole
            }
            RoomEvent::Joined { .. } | RoomEvent::Left { .. } => Listing::Later,
            RoomEvent::Renamed { .. } if self.renames.len() < RENAMES_WAITING_MAX => Listing::Later,
            RoomEvent::Renamed { .. } | RoomEvent::Message(_) => Listing::Empty,
        }
    }

    /// Keeps an event for later.
    pub(super) fn wait_with(&mut self, event: &RoomEvent, untold: Untold) {
        if is_coming_or_going(event) {
            self.coming_or_going = Some(untold);
        } else {
            self.renames.push(untold);
        }
    }

    /// When [`NamesPace::take_due`] has something.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        (!self.renames.is_empty() || self.coming_or_going.is_some()).then_some(self.next_ms)
    }

    /// The events that are due, each with or without the names: the last rename has them, and the login or logout,
    /// which the member that caused it does not get.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<(Untold, Listing)> {
        if self.next_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return Vec::new();
        }
        self.next_ms = now_ms + NAMES_EVERY_MS;
        let renames = mem::take(&mut self.renames).into_iter().map(|untold| (untold, Listing::Empty));
        let mut due: Vec<_> = renames.collect();
        if let Some((_, listing)) = due.last_mut() {
            *listing = Listing::Whole;
        }
        due.extend(self.coming_or_going.take().map(|untold| (untold, Listing::Whole)));
        due
    }
}

/// True for an event at which a page replaces its list of names, even by an empty one.
pub(super) fn is_coming_or_going(event: &RoomEvent) -> bool {
    matches!(event, RoomEvent::Joined { .. } | RoomEvent::Left { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Event, MemberEntry, RoomIndex, UserId};

    fn user(n: u64) -> UserId {
        UserId::from_wire(n).unwrap()
    }

    fn names(count: u64) -> Names {
        let member = |n| MemberEntry { id: user(n), name: "a".into(), account: None, connected_at: 0 };
        let mut names = Names::default();
        names.update(&(1..=count).map(member).collect());
        names
    }

    fn came() -> RoomEvent {
        RoomEvent::Joined { user: user(1), name: "a".into(), account: None, users_online: 1 }
    }

    fn renamed() -> RoomEvent {
        RoomEvent::Renamed { user: user(1), old_name: "a".into(), new_name: "b".into() }
    }

    fn step(pace: &mut NamesPace, event: RoomEvent, names: &Names, now_ms: u64) -> Listing {
        let listing = pace.step(&event, names, now_ms);
        if listing == Listing::Later {
            let kind = if is_coming_or_going(&event) { came() } else { renamed() };
            let (room, room_name) = (RoomIndex::GENERAL, "general".into());
            let event = Event::Room { room, room_name, event, names: None, timestamp: 0 };
            let publication = Arc::new(Publication { event, origin: None, pending: None, timer: None });
            pace.wait_with(&kind, (publication, None));
        }
        listing
    }

    #[test]
    fn a_small_room_is_told_all_names_with_everything() {
        let mut pace = NamesPace::default();
        assert!((0..100).all(|_| step(&mut pace, came(), &names(50), 0) == Listing::Whole));
        assert_eq!(pace.next_due_ms(), None);
    }

    #[test]
    fn in_a_large_room_the_last_change_of_a_second_waits_for_its_end() {
        let (mut pace, names) = (NamesPace::default(), names(51));
        assert_eq!(step(&mut pace, came(), &names, 5_000), Listing::Whole);
        for event in [renamed(), came(), came(), renamed()] {
            assert_eq!(step(&mut pace, event, &names, 5_500), Listing::Later);
        }
        assert!(pace.take_due(5_999).is_empty());
        assert_eq!(step(&mut pace, came(), &names, 6_000), Listing::Later, "behind what waits");
        let due = pace.take_due(6_000);
        assert_eq!(due.len(), 3);
        assert!(matches!(&due[2].0.0.event, Event::Room { event: RoomEvent::Joined { .. }, .. }));
        let listings: Vec<_> = due.iter().map(|(_, listing)| *listing).collect();
        assert_eq!(listings, [Listing::Empty, Listing::Whole, Listing::Whole]);
        assert_eq!(pace.next_due_ms(), None);
        assert_eq!(step(&mut pace, came(), &names, 6_999), Listing::Later);
    }

    #[test]
    fn no_more_renames_wait_than_there_is_room_for() {
        let (mut pace, names) = (NamesPace::default(), names(51));
        step(&mut pace, came(), &names, 0);
        step(&mut pace, came(), &names, 1_000);
        let told = (0..RENAMES_WAITING_MAX + 3).map(|_| step(&mut pace, renamed(), &names, 1_001));
        assert_eq!(told.filter(|listing| *listing == Listing::Empty).count(), 3);
    }
}
