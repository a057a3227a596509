//! Decides whether joins, leaves and renames are announced one by one or in reports.

use std::collections::{BTreeMap, BTreeSet};

use super::{MemberEntry, NamedMember, PresenceReport, UserId};

/// The least time between two reports of a room.
const INTERVAL_MS: u64 = 1_000;

/// How a server announces presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresencePolicy {
    /// One by one up to this many members, in reports above: announcing 10,000 joins to 10,000 members would
    /// be 50 million messages.
    UpTo(usize),
    /// One by one always.
    Exact,
    /// Always only counts; member lists have at most this many entries.
    Count(usize),
}

impl PresencePolicy {
    /// The most members that are listed.
    #[must_use]
    pub fn listed_max(self) -> usize {
        match self {
            Self::UpTo(limit) | Self::Count(limit) => limit,
            Self::Exact => usize::MAX,
        }
    }
}

/// The changes of one room that have not been announced yet.
#[derive(Debug)]
pub(super) struct Presence {
    policy: PresencePolicy,
    joined: BTreeMap<UserId, Newcomer>,
    left: BTreeSet<UserId>,
    renamed: BTreeMap<UserId, NamedMember>,
    /// True when the numbers have changed although the lists may be empty.
    changed: bool,
    due_ms: Option<u64>,
}

/// A user that joined within the interval.
#[derive(Debug)]
struct Newcomer {
    member: NamedMember,
    /// True if it was a member before the interval, and left and rejoined within it.
    was_member: bool,
    /// True once a member list with this user was sent.
    was_listed: bool,
}

impl Presence {
    pub(super) fn new(policy: PresencePolicy) -> Self {
        Self {
            policy,
            joined: BTreeMap::new(),
            left: BTreeSet::new(),
            renamed: BTreeMap::new(),
            changed: false,
            due_ms: None,
        }
    }

    /// True if a change to this many members goes into the next report. A room that shrinks goes
    /// on with reports until the last one is sent, so that changes are announced in order.
    pub(super) fn is_summed_up(&self, members: usize) -> bool {
        match self.policy {
            PresencePolicy::UpTo(limit) => members > limit || self.due_ms.is_some(),
            PresencePolicy::Exact => false,
            PresencePolicy::Count(_) => true,
        }
    }

    pub(super) fn note_joined(&mut self, member: NamedMember, now_ms: u64) {
        let user = member.id;
        // A user that left and came back within the interval was there before, but a user that joined in between does
        // not know it, and its name may be another one.
        let was_member = self.left.remove(&user);
        self.joined.insert(user, Newcomer { member, was_member, was_listed: false });
        self.note_change(now_ms);
    }

    pub(super) fn note_left(&mut self, user: UserId, now_ms: u64) {
        self.renamed.remove(&user);
        // Clients that got the newcomer in a member list must get its leave.
        let is_unknown =
            self.joined.remove(&user).is_some_and(|newcomer| !newcomer.was_member && !newcomer.was_listed);
        if !is_unknown {
            self.left.insert(user);
        }
        self.note_change(now_ms);
    }

    pub(super) fn note_renamed(&mut self, member: NamedMember, now_ms: u64) {
        match self.joined.get_mut(&member.id) {
            Some(joined) => joined.member = member,
            None => drop(self.renamed.insert(member.id, member)),
        }
        self.note_change(now_ms);
    }

    /// Notes that a member list was sent. If a newcomer in it leaves, the report must say so.
    pub(super) fn note_listed(&mut self, listed: &[MemberEntry]) {
        // Ordered by id. Large rooms list the lowest ids, where newcomers are rare, so this finds nobody.
        let (Some(first), Some(last)) = (listed.first(), listed.last()) else { return };
        for (user, newcomer) in self.joined.range_mut(first.id..=last.id) {
            newcomer.was_listed |= listed.binary_search_by_key(user, |member| member.id).is_ok();
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The report of the interval, if it has ended and is not empty.
    pub(super) fn poll_report(&mut self, users_online: usize, now_ms: u64) -> Option<PresenceReport> {
        if self.due_ms? > now_ms {
            return None;
        }
        self.due_ms = None;
        let joined = std::mem::take(&mut self.joined);
        let left = std::mem::take(&mut self.left);
        let renamed = std::mem::take(&mut self.renamed);
        let changed = std::mem::take(&mut self.changed);
        if matches!(self.policy, PresencePolicy::Count(_)) {
            let report = PresenceReport { users_online, truncated: true, ..PresenceReport::default() };
            return changed.then_some(report);
        }
        if joined.is_empty() && left.is_empty() && renamed.is_empty() {
            return None;
        }
        let max = PresenceReport::LISTED_MAX;
        let truncated = joined.len() > max || left.len() > max || renamed.len() > max;
        Some(PresenceReport {
            users_online,
            joined: joined.into_values().take(max).map(|newcomer| newcomer.member).collect(),
            left: left.into_iter().take(max).collect(),
            renamed: renamed.into_values().take(max).collect(),
            truncated,
        })
    }

    fn note_change(&mut self, now_ms: u64) {
        self.changed = true;
        self.due_ms.get_or_insert(now_ms + INTERVAL_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> UserId {
        UserId::from_wire(n).unwrap()
    }

    fn named(n: u64, name: &str) -> NamedMember {
        NamedMember { id: id(n), name: name.into(), account: None }
    }

    fn entry(n: u64) -> MemberEntry {
        MemberEntry { id: id(n), name: "a".into(), account: None, connected_at: 0 }
    }

    #[test]
    fn who_came_and_went_within_one_interval_is_in_neither_list() {
        let mut presence = Presence::new(PresencePolicy::UpTo(1));
        presence.note_joined(named(1, "a"), 0);
        presence.note_joined(named(2, "b"), 0);
        presence.note_renamed(named(2, "c"), 10);
        presence.note_renamed(named(3, "d"), 10);
        presence.note_left(id(1), 500);
        presence.note_left(id(4), 500);
        assert_eq!(presence.poll_report(9, 999), None);
        let report = presence.poll_report(9, 1000).unwrap();
        let expected = PresenceReport {
            users_online: 9,
            joined: vec![named(2, "c")],
            left: vec![id(4)],
            renamed: vec![named(3, "d")],
            truncated: false,
        };
        assert_eq!(report, expected);
        assert_eq!(presence.poll_report(9, 5000), None);
    }

    #[test]
    fn nothing_is_said_when_everything_has_cancelled_out() {
        let mut presence = Presence::new(PresencePolicy::UpTo(1));
        presence.note_joined(named(1, "a"), 0);
        presence.note_left(id(1), 1);
        assert_eq!(presence.poll_report(3, 2000), None);
    }

    #[test]
    fn a_user_that_left_and_rejoined_is_reported_to_users_that_joined_in_between() {
        let mut presence = Presence::new(PresencePolicy::UpTo(1));
        presence.note_left(id(1), 0);
        presence.note_joined(named(1, "a"), 10);
        presence.note_left(id(2), 10);
        presence.note_joined(named(2, "b"), 20);
        presence.note_left(id(2), 30);
        let report = presence.poll_report(1, 1000).unwrap();
        assert_eq!((report.joined, report.left), (vec![named(1, "a")], vec![id(2)]));
    }

    #[test]
    fn a_user_that_was_listed_before_leaving_is_reported() {
        let mut presence = Presence::new(PresencePolicy::UpTo(1));
        presence.note_joined(named(1, "a"), 0);
        presence.note_listed(&[entry(1)]);
        presence.note_joined(named(2, "b"), 10);
        presence.note_left(id(1), 20);
        presence.note_left(id(2), 20);
        let report = presence.poll_report(1, 1000).unwrap();
        assert_eq!((report.joined.len(), report.left), (0, vec![id(1)]));
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let mut presence = Presence::new(PresencePolicy::UpTo(1));
        for n in 1..=51 {
            presence.note_joined(named(n, "a"), 0);
        }
        let report = presence.poll_report(51, 1000).unwrap();
        assert_eq!((report.joined.len(), report.truncated), (50, true));
    }

    #[test]
    fn counting_says_only_numbers() {
        let mut presence = Presence::new(PresencePolicy::Count(500));
        assert!(presence.is_summed_up(1));
        presence.note_joined(named(1, "a"), 0);
        let report = presence.poll_report(1, 1000).unwrap();
        assert_eq!(report, PresenceReport { users_online: 1, truncated: true, ..PresenceReport::default() });
    }

    #[test]
    fn a_shrinking_room_returns_to_single_announcements_after_its_last_report() {
        let mut presence = Presence::new(PresencePolicy::UpTo(2));
        assert!(!presence.is_summed_up(2));
        assert!(presence.is_summed_up(3));
        presence.note_joined(named(3, "c"), 0);
        assert!(presence.is_summed_up(2));
        assert!(presence.poll_report(2, 1000).is_some());
        assert!(!presence.is_summed_up(2));
    }
}
