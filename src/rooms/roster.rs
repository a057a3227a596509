//! The members of a room.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::event::{MemberEntry, MemberList};
use super::{Member, MemberAccount, NamedMember, Page, ShardIndex, UserId, Visit};

/// The members of one room, by id, and how many of them each shard has.
#[derive(Debug)]
pub(super) struct Roster {
    /// Boxed: most rooms are small, and a node of the map has room for eleven.
    members: BTreeMap<UserId, Box<Entry>>,
    by_shard: Vec<usize>,
    /// How many members want names.
    wanting_names: usize,
    /// The first entries of member lists.
    listed: Lowest,
    /// The members that name lists begin with.
    named: Lowest,
}

/// The cached members with the lowest ids, while they are valid.
#[derive(Debug, Default)]
struct Lowest(Option<Arc<[MemberEntry]>>);

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    account: Option<MemberAccount>,
    connected_at: u64,
    shard: ShardIndex,
    visit: Visit,
    wants_names: bool,
}

impl Roster {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            members: BTreeMap::new(),
            by_shard: vec![0; usize::from(shards)],
            wanting_names: 0,
            listed: Lowest::default(),
            named: Lowest::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The shards that have members.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardIndex> {
        (0..).map(ShardIndex).zip(&self.by_shard).filter(|(_, count)| **count > 0).map(|(shard, _)| shard)
    }

    /// Adds a member; false when it was one already.
    pub(super) fn insert(&mut self, member: &Member) -> bool {
        let Member { user, visit, name, account, connected_at, origin, wants_names, .. } = member.clone();
        let shard = origin.shard;
        let entry = Entry { name, account, connected_at, shard, visit, wants_names };
        if self.members.insert(user, Box::new(entry)).is_some() {
            return false;
        }
        if let Some(count) = self.count_of(shard) {
            *count += 1;
        }
        self.wanting_names += usize::from(wants_names);
        self.forget(user);
        true
    }

    /// How many members are on a shard; `None` for those of other servers.
    fn count_of(&mut self, shard: ShardIndex) -> Option<&mut usize> {
        self.by_shard.get_mut(usize::from(shard.0))
    }

    /// The name of a member.
    pub(super) fn name(&self, id: UserId) -> Option<Arc<str>> {
        self.members.get(&id).map(|entry| Arc::clone(&entry.name))
    }

    /// The members on this shard with their visits, at most `max`.
    pub(super) fn some_on(&self, shard: ShardIndex, max: usize) -> Vec<(UserId, Visit)> {
        let on_it = self.members.iter().filter(|(_, entry)| entry.shard == shard);
        on_it.map(|(id, entry)| (*id, entry.visit)).take(max).collect()
    }

    /// The visit by which a user is a member.
    pub(super) fn visit(&self, id: UserId) -> Option<Visit> {
        self.members.get(&id).map(|entry| entry.visit)
    }

    /// True while some member wants names.
    pub(super) fn is_any_wanting_names(&self) -> bool {
        self.wanting_names > 0
    }

    /// Whether a member wants names.
    pub(super) fn wants_names(&self, id: UserId) -> bool {
        self.members.get(&id).is_some_and(|entry| entry.wants_names)
    }

    /// Removes a member, and returns its name.
    pub(super) fn remove(&mut self, id: UserId) -> Option<NamedMember> {
        let entry = *self.members.remove(&id)?;
        if self.members.is_empty() {
            // An empty map keeps its node.
            self.members = BTreeMap::new();
        }
        if let Some(count) = self.count_of(entry.shard) {
            *count -= 1;
        }
        self.wanting_names -= usize::from(entry.wants_names);
        self.forget(id);
        Some(NamedMember { id, name: entry.name, account: entry.account })
    }

    /// Changes the name and the account of a member, and returns what it was before.
    pub(super) fn rename(&mut self, new: NamedMember) -> Option<NamedMember> {
        let NamedMember { id, name, account } = new;
        let entry = self.members.get_mut(&id)?;
        let name = std::mem::replace(&mut entry.name, name);
        let account = std::mem::replace(&mut entry.account, account);
        self.forget(id);
        Some(NamedMember { id, name, account })
    }

    /// All members, or, where there are more than `listed_max`, those with the lowest ids, and `viewer` in
    /// the last place.
    pub(super) fn list(&mut self, viewer: UserId, listed_max: usize) -> MemberList {
        if self.len() <= listed_max {
            let listed = self.listed.of(&self.members, self.len());
            return MemberList { listed, last: None, total: None };
        }
        let total = Some(self.len());
        let last = self.entry(viewer);
        let others = listed_max - usize::from(last.is_some());
        let mut listed = self.listed.of(&self.members, others);
        if listed.iter().any(|member| member.id == viewer) {
            // Rare: a user with a low id returns to a large room.
            listed = self.entries().filter(|member| member.id != viewer).take(others).collect();
        }
        MemberList { listed, last, total }
    }

    /// The members of one page.
    pub(super) fn page(&self, page: Page) -> MemberList {
        let listed = self.entries().skip(page.offset).take(page.limit).collect();
        MemberList { listed, last: None, total: Some(self.len()) }
    }

    /// The first `limit` members behind this id.
    pub(super) fn after(&self, after: Option<UserId>, limit: usize) -> MemberList {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.members.range((first, Bound::Unbounded)).take(limit);
        let listed = behind.map(|(id, entry)| entry.listed_as(*id)).collect();
        MemberList { listed, last: None, total: Some(self.len()) }
    }

    /// The members whose names are sent with events: those with the lowest ids, at most `names_max`.
    pub(super) fn named(&mut self, names_max: usize) -> Arc<[MemberEntry]> {
        self.named.of(&self.members, self.len().min(names_max))
    }

    fn forget(&mut self, id: UserId) {
        self.listed.forget(id);
        self.named.forget(id);
    }

    fn entry(&self, id: UserId) -> Option<MemberEntry> {
        self.members.get(&id).map(|entry| entry.listed_as(id))
    }

    fn entries(&self) -> impl Iterator<Item = MemberEntry> {
        entries(&self.members)
    }
}

impl Lowest {
    fn of(&mut self, members: &BTreeMap<UserId, Box<Entry>>, count: usize) -> Arc<[MemberEntry]> {
        match &self.0 {
            Some(lowest) if lowest.len() == count => Arc::clone(lowest),
            _ => Arc::clone(self.0.insert(entries(members).take(count).collect())),
        }
    }

    /// Drops the list, unless the member comes after its last entry. Otherwise each of 10,000 newcomers would
    /// cause a new list.
    fn forget(&mut self, id: UserId) {
        if self.0.as_ref().is_some_and(|lowest| lowest.last().is_none_or(|last| id <= last.id)) {
            self.0 = None;
        }
    }
}

fn entries(members: &BTreeMap<UserId, Box<Entry>>) -> impl Iterator<Item = MemberEntry> {
    members.iter().map(|(&id, entry)| entry.listed_as(id))
}

impl Entry {
    fn listed_as(&self, id: UserId) -> MemberEntry {
        let Self { name, account, connected_at, .. } = self;
        MemberEntry { id, name: Arc::clone(name), account: account.clone(), connected_at: *connected_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::ClientRef;
    use uproar_ring::ConnectionId;

    fn id(n: u64) -> UserId {
        UserId::from_wire(n).unwrap()
    }

    fn member(n: u64, wants_names: bool) -> Member {
        let connection = ConnectionId { index: n as u32, generation: 0 };
        let origin = ClientRef { shard: ShardIndex((n % 2) as u16), connection };
        Member {
            user: id(n),
            visit: Visit::default(),
            name: format!("User{n}").into(),
            account: None,
            connected_at: n,
            owner: None,
            origin,
            wants_names,
        }
    }

    fn roster(ids: impl IntoIterator<Item = u64>) -> Roster {
        let mut roster = Roster::new(2);
        for n in ids {
            assert!(roster.insert(&member(n, false)));
        }
        roster
    }

    fn ids(list: &MemberList) -> Vec<UserId> {
        list.listed.iter().chain(&list.last).map(|member| member.id).collect()
    }

    #[test]
    fn a_small_room_is_listed_whole_and_in_order() {
        let mut roster = roster([5, 1, 3]);
        let list = roster.list(id(1), 3);
        assert_eq!((ids(&list), list.total), (vec![id(1), id(3), id(5)], None));
    }

    #[test]
    fn a_large_room_lists_the_lowest_ids_and_the_viewer_last() {
        let mut roster = roster(1..=10);
        let list = roster.list(id(10), 4);
        assert_eq!((ids(&list), list.total), ([1, 2, 3, 10].map(id).to_vec(), Some(10)));
        assert_eq!(ids(&roster.list(id(2), 4)), [1, 3, 4, 2].map(id));
    }

    #[test]
    fn the_list_is_shared_until_one_of_the_listed_changes() {
        let mut roster = roster(1..=10);
        let before = roster.list(id(10), 4).listed;
        roster.insert(&member(11, false));
        roster.remove(id(7));
        assert!(Arc::ptr_eq(&before, &roster.list(id(11), 4).listed));
        roster.rename(NamedMember { id: id(2), name: "other".into(), account: None });
        assert_eq!(&*roster.list(id(11), 4).listed[1].name, "other");
        roster.remove(id(1));
        assert_eq!(ids(&roster.list(id(11), 4)), [2, 3, 4, 11].map(id));
    }

    #[test]
    fn growing_and_shrinking_over_the_limit_never_serves_an_old_list() {
        let mut roster = roster(1..=3);
        assert_eq!(ids(&roster.list(id(3), 3)).len(), 3);
        roster.insert(&member(4, false));
        assert_eq!(ids(&roster.list(id(4), 3)), [1, 2, 4].map(id));
        roster.remove(id(2));
        assert_eq!(ids(&roster.list(id(4), 3)), [1, 3, 4].map(id));
        roster.remove(id(1));
        assert_eq!(ids(&roster.list(id(4), 3)), [3, 4].map(id));
    }

    #[test]
    fn names_are_told_while_somebody_wants_them() {
        let mut roster = roster(1..=4);
        assert!(!roster.is_any_wanting_names());
        roster.insert(&member(5, true));
        assert!(roster.is_any_wanting_names() && roster.wants_names(id(5)) && !roster.wants_names(id(4)));
        let named = roster.named(3);
        assert_eq!(named.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3].map(id));
        assert_eq!(ids(&roster.list(id(5), 4)), [1, 2, 3, 5].map(id));
        assert!(Arc::ptr_eq(&named, &roster.named(3)), "lists do not take their place");
        roster.remove(id(5));
        assert!(!roster.is_any_wanting_names());
    }

    #[test]
    fn shards_are_named_while_they_have_members() {
        let mut roster = roster([2, 4]);
        assert_eq!(roster.shards().collect::<Vec<_>>(), [ShardIndex(0)]);
        roster.remove(id(2));
        roster.remove(id(4));
        assert_eq!(roster.shards().count(), 0);
        assert_eq!(roster.remove(id(4)), None);
    }
}
