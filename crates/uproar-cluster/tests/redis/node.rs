//! A node as far as the log sees it.

use uproar_cluster::{
    Answer, Append, AppendError, Appended, Batch, Chain, Entry, Incarnation, Keys, LiveNode, Proposal,
    Recovery, RecoveryStep, Reply, Report, Room, Settings, Tag,
};

use crate::server::Server;

pub(crate) fn keys() -> Keys {
    Keys::of_partition(0)
}

pub(crate) fn settings() -> Settings {
    Settings { history: 5, log_bytes: 64 << 20, left_ms: 60_000, agreed: "--history 5".to_owned() }
}

/// A node that has begun.
pub(crate) struct Node {
    /// Its last batch.
    pub(crate) tag: Tag,
    pub(crate) settings: Settings,
}

impl Node {
    /// One that has not begun.
    pub(crate) fn new(name: &str, incarnation: u64) -> Self {
        let tag = Tag { node: name.parse().unwrap(), incarnation: Incarnation(incarnation), batch: 0 };
        Self { tag, settings: settings() }
    }

    /// One that begins with the log.
    pub(crate) fn begin(server: &mut Server, name: &str, incarnation: u64) -> Self {
        Self::begin_after(server, name, incarnation, None)
    }

    /// One that begins in the place of an earlier incarnation.
    pub(crate) fn begin_after(
        server: &mut Server,
        name: &str,
        incarnation: u64,
        replaced: Option<u64>,
    ) -> Self {
        let mut node = Self::new(name, incarnation);
        node.revive(server);
        node.decide(server, [Proposal::Begin { replaces: replaced.map(Incarnation), reads: 1 }]);
        node
    }

    /// Makes the log live, if it does not.
    pub(crate) fn revive(&self, server: &mut Server) {
        let command = Recovery::command(&keys(), "first", &self.live(), None);
        if let Some(recovery) = Recovery::read(&server.run(&command)).unwrap() {
            assert_eq!(Recovery::outcome(&server.run(&recovery.finish(&keys()))), Ok(()));
        }
    }

    /// The next batch.
    pub(crate) fn next(&mut self, proposals: impl IntoIterator<Item = Proposal>) -> Append {
        self.tag.batch += 1;
        let batch: Batch = proposals.into_iter().collect();
        Append { tag: self.tag.clone(), format: 1, batch, recovered: None }
    }

    pub(crate) fn append(&self, server: &mut Server, append: &Append) -> Result<Appended, AppendError> {
        Append::outcome(&server.run(&append.command(&keys(), &self.settings)))
    }

    /// Appends the next batch, and returns what was decided.
    pub(crate) fn decide(
        &mut self,
        server: &mut Server,
        proposals: impl IntoIterator<Item = Proposal>,
    ) -> Vec<Answer> {
        let append = self.next(proposals);
        let appended = self.append(server, &append).unwrap();
        let entry = entries(server, appended.number - 1).remove(0);
        assert_eq!((entry.number, &entry.tag, &entry.batch), (appended.number, &append.tag, &append.batch));
        entry.answers
    }

    /// Opens a room.
    pub(crate) fn open(&mut self, server: &mut Server, name: &str) -> Room {
        let opened = self.decide(server, [Proposal::Open { name: name.into() }]);
        let [Answer::Opened(opened)] = opened[..] else { panic!("{opened:?}") };
        Room { name: name.into(), opened }
    }

    /// What it reports when it has read the log to this entry.
    pub(crate) fn report(&self, last: &Entry) -> Report {
        let tag = Some(last.tag.clone());
        Report { incarnation: self.tag.incarnation, raised: 0, number: last.number, tag }
    }

    /// Takes part in a recovery.
    pub(crate) fn recover(&self, server: &mut Server, id: &str, own: Option<&Report>) -> Option<Recovery> {
        Recovery::read(&server.run(&Recovery::command(&keys(), id, &self.live(), own))).unwrap()
    }

    pub(crate) fn live(&self) -> LiveNode {
        LiveNode { node: self.tag.node.clone(), incarnation: self.tag.incarnation }
    }

    /// Claims a recovery.
    pub(crate) fn claim(&self, server: &mut Server, seen: &Recovery, id: &str, own: &Report) -> Recovery {
        let claim = seen.claim(&keys(), id, &self.live(), Some(own));
        Recovery::read(&server.run(&claim)).unwrap().unwrap()
    }

    pub(crate) fn step(&self, recovery: &Recovery) -> RecoveryStep {
        recovery.step(&self.live(), &[])
    }
}

/// The entries behind this one, which follow each other.
pub(crate) fn entries(server: &mut Server, behind: u64) -> Vec<Entry> {
    let from = format!("({behind}-0");
    let Reply::List(entries) = server.call(&["XRANGE", &keys().log(), &from, "+"]) else { panic!() };
    let entries: Vec<Entry> = entries.iter().map(|entry| Entry::read(entry).unwrap()).collect();
    if let Some(first) = entries.first() {
        let mut chain = Chain::behind(first.number - 1, first.previous.clone());
        entries.iter().for_each(|entry| chain.take(entry).unwrap());
    }
    entries
}

pub(crate) fn join(room: &Room, user: u64, visit: u64) -> Proposal {
    Proposal::Join { room: room.clone(), user, visit, member: format!("member {user}").into() }
}

pub(crate) fn leave(room: &Room, user: u64, visit: u64) -> Proposal {
    Proposal::Leave { room: room.clone(), user, visit, goes_on: false }
}

/// A message of a member.
pub(crate) fn say(room: &Room, user: u64, visit: u64, text: &str) -> Proposal {
    Proposal::Message {
        room: room.clone(),
        user,
        visit: Some(visit),
        account: None,
        request: None,
        message: text.to_owned().into(),
    }
}

/// A message of a backend.
pub(crate) fn publish(room: &Room, text: &str) -> Proposal {
    Proposal::Message {
        room: room.clone(),
        user: 0,
        visit: None,
        account: None,
        request: None,
        message: text.to_owned().into(),
    }
}

pub(crate) fn delete(room: &Room, message: u64, user: u64) -> Proposal {
    Proposal::Delete { room: room.clone(), message, user, account: None, is_admin: false }
}
