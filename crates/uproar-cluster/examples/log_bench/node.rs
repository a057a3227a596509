//! A node as Redis sees one: a connection with one batch under way, made of the messages that have become due
//! meanwhile, and a connection that reads every entry. Entries are counted and not parsed, so that many nodes fit into
//! one thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep_until;
use uproar_cluster::{
    Append, BATCH_PROPOSALS_MAX, Batch, Command as LogCommand, FORMAT, Incarnation, Keys, LiveNode, Proposal,
    Recovery, Reply, Room, Script, Settings, Tag,
};

use crate::link::Link;
use crate::redis::Redis;
use crate::{HISTORY, Result};

/// Rooms over which messages are spread, and the bytes of each.
pub(crate) const ROOMS: usize = 100;
pub(crate) const MESSAGE_BYTES: usize = 200;

/// How often a node shows that it is there.
const CANARY: Duration = Duration::from_secs(1);

/// Entries of its own that a node has not read yet, beyond which it appends nothing. As in the bridge.
const UNSEEN_MAX: usize = 64;

/// How much the nodes send.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// So many messages a second in all.
    Offered(u64),
    /// As much as Redis takes, in batches of this size.
    Full(usize),
}

/// What all nodes note, from the end of the warm-up on.
#[derive(Default)]
pub(crate) struct Record {
    /// By entry: the times at which its messages were due.
    pub(crate) due: HashMap<u64, Vec<Instant>>,
    /// By entry: when the first node and the last one have read it.
    pub(crate) seen: [HashMap<u64, Instant>; 2],
    pub(crate) entries: u64,
    pub(crate) messages: u64,
    pub(crate) replies: u64,
}

/// What one node does of the load.
pub(crate) struct Share {
    pub(crate) rooms: Vec<Room>,
    pub(crate) load: Load,
    pub(crate) nodes: usize,
    pub(crate) number: usize,
    /// The last entry that it has read.
    pub(crate) has_read: watch::Receiver<u64>,
}

/// The half of a node that appends.
pub(crate) struct Writer {
    link: Link,
    keys: Keys,
    digest: String,
    tag: Tag,
    settings: Settings,
}

impl Writer {
    pub(crate) async fn begin(redis: &Redis, keys: &Keys, number: usize) -> Result<Self> {
        let mut link = Link::connect(redis.port).await?;
        let mut digest = String::new();
        for script in Script::ALL {
            let Reply::Text(text) = link.call(&[b"SCRIPT", b"LOAD", script.source.as_bytes()]).await? else {
                return Err("Redis does not take the scripts".into());
            };
            if script == Script::APPEND {
                digest = String::from_utf8(text.into())?;
            }
        }
        let tag = Tag { node: format!("node-{number}").parse()?, incarnation: Incarnation(1), batch: 0 };
        let settings =
            Settings { history: HISTORY, log_bytes: 256 << 20, left_ms: 60_000, agreed: String::new() };
        let mut writer = Self { link, keys: keys.clone(), digest, tag, settings };
        writer.revive().await?;
        writer.append([Proposal::Begin { replaces: None, reads: FORMAT }]).await?;
        Ok(writer)
    }

    /// Makes the log live, if it does not.
    async fn revive(&mut self) -> Result<()> {
        let own = LiveNode { node: self.tag.node.clone(), incarnation: self.tag.incarnation };
        let reply = self.run_script(Recovery::command(&self.keys, "first", &own, None)).await?;
        if let Some(recovery) = Recovery::read(&reply)? {
            let reply = self.run_script(recovery.finish(&self.keys)).await?;
            Recovery::outcome(&reply)?;
        }
        Ok(())
    }

    pub(crate) async fn open_rooms(&mut self) -> Result<Vec<Room>> {
        let mut rooms = Vec::new();
        for number in 0..ROOMS {
            let name: Arc<str> = format!("room-{number}").into();
            let opened = self.append([Proposal::Open { name: name.clone() }]).await?;
            rooms.push(Room { name, opened });
        }
        Ok(rooms)
    }

    /// The bytes that a key takes.
    pub(crate) async fn memory(&mut self, key: &str) -> Result<u64> {
        match self.link.call(&[b"MEMORY", b"USAGE", key.as_bytes(), b"SAMPLES", b"0"]).await? {
            Reply::Number(bytes) => Ok(bytes.unsigned_abs()),
            other => Err(format!("the memory of {key} is {other:?}").into()),
        }
    }

    /// Appends a batch, and returns the number of its entry.
    pub(crate) async fn append(&mut self, proposals: impl IntoIterator<Item = Proposal>) -> Result<u64> {
        self.tag.batch += 1;
        let batch: Batch = proposals.into_iter().collect();
        let append = Append { tag: self.tag.clone(), format: FORMAT, batch, recovered: None };
        let reply = self.run_script(append.command(&self.keys, &self.settings)).await?;
        Ok(Append::outcome(&reply)?.number)
    }

    async fn run_script(&mut self, command: LogCommand) -> Result<Reply> {
        let LogCommand::Script { script, keys, arguments } = command else { return Err("no script".into()) };
        let count = keys.len().to_string();
        let head: [&[u8]; 3] = match script == Script::APPEND {
            true => [b"EVALSHA", self.digest.as_bytes(), count.as_bytes()],
            false => [b"EVAL", script.source.as_bytes(), count.as_bytes()],
        };
        let keys = keys.iter().map(String::as_bytes);
        let words: Vec<&[u8]> =
            head.into_iter().chain(keys).chain(arguments.iter().map(Vec::as_slice)).collect();
        self.link.call(&words).await
    }

    pub(crate) async fn run(
        mut self,
        share: Share,
        record: Arc<Mutex<Record>>,
        begin: Instant,
    ) -> Result<()> {
        let Share { rooms, load, nodes, number, mut has_read } = share;
        let interval = match load {
            Load::Offered(messages) => Duration::from_secs_f64(nodes as f64 / messages as f64),
            Load::Full(_) => Duration::ZERO,
        };
        // Not all at the same moment.
        let offset = interval.mul_f64(number as f64 / nodes as f64);
        let mut next_due = Instant::now() + offset;
        let mut canary_due = Instant::now() + CANARY.mul_f64(number as f64 / nodes as f64);
        let mut count = number;
        let mut unseen = VecDeque::new();
        loop {
            let is_seen =
                |read: &u64| unseen.len() < UNSEEN_MAX || unseen.front().is_none_or(|first| first <= read);
            let read = *has_read.wait_for(is_seen).await?;
            unseen.retain(|entry| *entry > read);
            let mut due = Vec::new();
            match load {
                Load::Full(size) => due.extend(std::iter::repeat_n(Instant::now(), size)),
                Load::Offered(_) => {
                    sleep_until(next_due.min(canary_due).into()).await;
                    let now = Instant::now();
                    while next_due <= now && due.len() < BATCH_PROPOSALS_MAX - 1 {
                        due.push(next_due);
                        next_due += interval;
                    }
                }
            }
            let mut batch: Vec<Proposal> = due
                .iter()
                .map(|_| {
                    count += 7;
                    message(&rooms[count % ROOMS])
                })
                .collect();
            if canary_due <= Instant::now() {
                canary_due += CANARY;
                batch.push(Proposal::Canary);
            }
            let entry = self.append(batch).await?;
            unseen.push_back(entry);
            if Instant::now() >= begin {
                let mut record = record.lock().map_err(|_| "a task has panicked")?;
                record.entries += 1;
                record.messages += due.len() as u64;
                record.due.insert(entry, due);
            }
        }
    }
}

/// The half of a node that reads.
pub(crate) struct Reader {
    pub(crate) link: Link,
    pub(crate) log: String,
    /// The last entry that it has.
    pub(crate) last: u64,
    /// For which places of [`Record::seen`] it notes its times.
    pub(crate) observed: Vec<usize>,
    /// Tells the other half what it has read.
    pub(crate) read: watch::Sender<u64>,
}

impl Reader {
    pub(crate) async fn run(mut self, record: Arc<Mutex<Record>>, begin: Instant) -> Result<()> {
        loop {
            let behind = format!("{}-0", self.last);
            let words: [&[u8]; 8] = [
                b"XREAD",
                b"COUNT",
                b"16",
                b"BLOCK",
                b"1000",
                b"STREAMS",
                self.log.as_bytes(),
                behind.as_bytes(),
            ];
            self.link.send(&words).await?;
            let entries = self.link.skip_entries().await?;
            let now = Instant::now();
            if now >= begin {
                let mut record = record.lock().map_err(|_| "a task has panicked")?;
                record.replies += 1;
                for place in &self.observed {
                    record.seen[*place].extend((1..=entries).map(|entry| (self.last + entry, now)));
                }
            }
            self.last += entries;
            self.read.send_replace(self.last);
        }
    }
}

pub(crate) fn message(room: &Room) -> Proposal {
    Proposal::Message {
        room: room.clone(),
        user: 0,
        visit: None,
        account: None,
        request: None,
        message: Bytes::from_static(&[b'x'; MESSAGE_BYTES]),
    }
}
