//! Reading what Redis has, when a node starts.
//!
//! It is read in small parts, while other nodes go on. Where the log was at the beginning is noted, so the entries
//! behind that bring the parts to one moment.

use std::sync::Arc;

use bytes::Bytes;

use crate::format::is_readable;
use crate::script::words;
use crate::{
    BadReply, BadValue, Chain, Command, FORMAT, KeptLeft, KeptMember, KeptMessage, Keys, Mirror, Reply,
    RoomState, Script, Settings, Tag, Term, TermKind,
};

/// How many rooms are read together.
const ROOMS_AT_ONCE: usize = 16;

/// How many members a part has, about. Redis takes some 50 µs for them.
const MEMBERS_A_PART: &str = "200";

/// How many users that have left are read together.
const LEFT_A_PART: usize = 1_000;

/// How many bans or mutes a part has, about.
const TERMS_A_PART: &str = "200";

/// How many bytes of messages a part has, unless a single one has more. Redis takes a millisecond for them.
const MESSAGE_BYTES_A_PART: usize = 1 << 20;

/// Why Redis has something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Redis has refused to read a key.
    #[error("Redis has refused to read it: {0}")]
    Redis(String),
    /// It is written in a format that this version does not read.
    #[error("the log is written in format {0}, and this version reads {FORMAT} and the one before")]
    Format(u16),
    /// What stands there was not written by this version.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// It is not even shaped like that.
    #[error(transparent)]
    Reply(#[from] BadReply),
}

/// Reads what Redis has. Ask for the next command, and hand over what was answered, until there is no more.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    keys: Keys,
    step: Step,
    mirror: Mirror,
    behind: Chain,
    /// How many times the epoch had changed, and for which primary the log lived, when the first part was read.
    lineage: (Reply, Reply),
    /// Rooms of which the rest is to be read.
    rooms: Vec<Unread>,
}

#[derive(Clone, Debug)]
enum Step {
    Meta,
    Nodes,
    /// The terms of this kind, from this cursor on.
    Terms(TermKind, String),
    /// The rooms, from this cursor on.
    Rooms(String),
    /// What is in them, before the next rooms.
    Contents {
        next: Option<String>,
    },
    /// Who has left, without so many who have left last. Behind the rosters: who leaves meanwhile is in one of both.
    Left(usize),
    /// Whether it is still the same log.
    Again,
    Done,
}

/// What is to be read of a room.
#[derive(Clone, Debug)]
struct Unread {
    name: Arc<str>,
    /// How many messages were read; `None` when all were.
    messages: Option<usize>,
    /// The cursor of its members; `None` when all were read.
    members: Option<String>,
}

impl Loader {
    pub(crate) fn new(keys: Keys, settings: &Settings) -> Self {
        Self::of(keys, Mirror::new(settings))
    }

    fn of(keys: Keys, mirror: Mirror) -> Self {
        Self {
            keys,
            step: Step::Meta,
            mirror,
            behind: Chain::default(),
            lineage: (Reply::Nil, Reply::Nil),
            rooms: Vec::new(),
        }
    }

    /// The next command; `None` when all was read.
    pub(crate) fn command(&self) -> Option<Command> {
        let keys = &self.keys;
        let meta = ["last", "tag", "epoch", "raised", "numbers", "format", "life", "time"];
        Some(Command::Plain(match &self.step {
            Step::Meta => vec![[words(["HMGET", &keys.meta()]), words(meta)].concat()],
            Step::Left(read) => {
                let [first, last] = [read + LEFT_A_PART, read + 1].map(|place| format!("-{place}"));
                vec![words(["LRANGE", &keys.left(), &first, &last])]
            }
            Step::Again => vec![words(["HMGET", &keys.meta(), "raised", "life"])],
            Step::Nodes => vec![words(["HGETALL", &keys.nodes()])],
            Step::Terms(kind, cursor) => {
                vec![words(["HSCAN", &keys.terms(*kind), cursor, "COUNT", TERMS_A_PART])]
            }
            Step::Rooms(cursor) => {
                let count = ROOMS_AT_ONCE.to_string();
                vec![words(["HSCAN", &keys.rooms(), cursor, "COUNT", &count])]
            }
            Step::Contents { .. } if self.reads_messages() => return Some(self.messages_command()),
            Step::Contents { .. } => {
                self.unread().filter_map(|unread| self.members_command(unread)).collect()
            }
            Step::Done => return None,
        }))
    }

    /// The rooms that the next command is about.
    fn unread(&self) -> impl Iterator<Item = &Unread> {
        self.rooms.iter().take(ROOMS_AT_ONCE)
    }

    /// True when their messages are read; their members follow.
    fn reads_messages(&self) -> bool {
        self.unread().any(|unread| unread.messages.is_some())
    }

    fn messages_command(&self) -> Command {
        let mut keys = Vec::new();
        let mut arguments = vec![MESSAGE_BYTES_A_PART.to_string().into_bytes()];
        for Unread { name, messages, .. } in self.unread() {
            if let Some(read) = messages {
                keys.push(self.keys.history(name));
                arguments.push(read.to_string().into_bytes());
            }
        }
        Command::Script { script: Script::HISTORY, keys, arguments }
    }

    fn members_command(&self, Unread { name, members, .. }: &Unread) -> Option<Vec<Vec<u8>>> {
        let cursor = members.as_ref()?;
        Some(words(["HSCAN", &self.keys.roster(name), cursor, "COUNT", MEMBERS_A_PART]))
    }

    /// Takes the answer to [`Loader::command`].
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub(crate) fn handle_reply(&mut self, reply: &Reply) -> Result<(), LoadError> {
        if let Reply::Error(text) = reply {
            return Err(LoadError::Redis(text.clone()));
        }
        let replies = reply.list()?;
        let refusal = replies.iter().find_map(|reply| match reply {
            Reply::Error(text) if !is_of_damaged(text) => Some(text.clone()),
            _ => None,
        });
        if let Some(text) = refusal {
            return Err(LoadError::Redis(text));
        }
        let step = std::mem::replace(&mut self.step, Step::Done);
        self.step = match step {
            Step::Meta => {
                let [meta] = replies else { return Err(BadReply.into()) };
                let [last, tag, epoch, raised, numbers, format, life, time] = meta.list()? else {
                    return Err(BadReply.into());
                };
                match u16::try_from(count(format)?) {
                    Ok(0) => {}
                    Ok(format) if is_readable(format) => {}
                    format => return Err(LoadError::Format(format.unwrap_or(u16::MAX))),
                }
                let tag = match tag {
                    Reply::Nil => None,
                    tag => Some(tag.text()?.parse::<Tag>().map_err(|_| BadValue)?),
                };
                self.behind = Chain::behind(count(last)?, tag);
                if *epoch != Reply::Nil {
                    self.mirror.epoch = epoch.text()?.into();
                }
                self.lineage = (raised.clone(), life.clone());
                (self.mirror.raised, self.mirror.numbers) = (count(raised)?, count(numbers)?);
                self.mirror.time_ms = count(time)?;
                Step::Nodes
            }
            Step::Nodes => {
                let [nodes] = replies else { return Err(BadReply.into()) };
                for (node, state) in nodes.pairs()? {
                    let [incarnation, batch, _, reads] = state.split(' ').collect::<Vec<_>>()[..] else {
                        return Err(BadValue.into());
                    };
                    let tag: Tag = format!("{node} {incarnation} {batch}").parse().map_err(|_| BadValue)?;
                    let reads = reads.parse().map_err(|_| BadValue)?;
                    self.mirror.formats.insert(tag.node.clone(), reads);
                    self.mirror.nodes.insert(tag.node.clone(), tag);
                }
                Step::Terms(TermKind::Ban, "0".to_owned())
            }
            Step::Terms(kind, _) => {
                let mut cursor = None;
                if let [its_cursor, terms] = list(replies.first())? {
                    for (subject, term) in terms.pairs()? {
                        self.mirror.terms.insert((kind, subject.into()), Term::read(term)?);
                    }
                    cursor = next(its_cursor.text()?);
                }
                match (cursor, kind) {
                    (Some(cursor), _) => Step::Terms(kind, cursor),
                    (None, TermKind::Ban) => Step::Terms(TermKind::Mute, "0".to_owned()),
                    (None, TermKind::Mute) => Step::Rooms("0".to_owned()),
                }
            }
            Step::Rooms(_) => {
                let [scanned] = replies else { return Err(BadReply.into()) };
                let [cursor, rooms] = scanned.list()? else { return Err(BadReply.into()) };
                for (name, state) in rooms.pairs()? {
                    self.note_room(name, state)?;
                }
                Step::Contents { next: next(cursor.text()?) }
            }
            Step::Contents { next } => {
                self.read_contents(replies)?;
                Step::Contents { next }
            }
            Step::Left(read) => {
                let left = list(replies.first())?;
                for left in left {
                    self.mirror.left.push(KeptLeft::read(bytes(left)?)?);
                }
                if left.len() < LEFT_A_PART { Step::Again } else { Step::Left(read + left.len()) }
            }
            Step::Again => {
                let [meta] = replies else { return Err(BadReply.into()) };
                let [raised, life] = meta.list()? else { return Err(BadReply.into()) };
                if (raised, life) == (&self.lineage.0, &self.lineage.1) {
                    Step::Done
                } else {
                    // The log was recovered meanwhile: what was read before and after does not belong together.
                    *self = Self::of(self.keys.clone(), self.mirror.emptied());
                    Step::Meta
                }
            }
            Step::Done => Step::Done,
        };
        if let Step::Contents { next } = &self.step
            && self.rooms.is_empty()
        {
            self.step = next.clone().map_or(Step::Left(0), Step::Rooms);
        }
        Ok(())
    }

    /// `state` is as [`Keys::rooms`] says. A scan may name a room twice.
    fn note_room(&mut self, name: &str, state: &str) -> Result<(), LoadError> {
        let numbers: Result<Vec<u64>, _> = state.split(' ').map(str::parse).collect();
        let Ok([opened, last, raised]) = numbers.as_deref() else { return Err(BadValue.into()) };
        let mut room = RoomState { opened: *opened, last: *last, raised: *raised, ..RoomState::default() };
        room.raise(self.mirror.raised);
        let name: Arc<str> = name.into();
        self.mirror.rooms.insert(Arc::clone(&name), room);
        self.rooms.retain(|unread| unread.name != name);
        self.rooms.push(Unread { name, messages: Some(0), members: Some("0".to_owned()) });
        Ok(())
    }

    fn read_contents(&mut self, replies: &[Reply]) -> Result<(), LoadError> {
        let mut replies = replies.iter();
        let reads_messages = self.reads_messages();
        let mut read: Vec<Unread> = self.rooms.drain(..self.rooms.len().min(ROOMS_AT_ONCE)).collect();
        for unread in &mut read {
            let room = self.mirror.rooms.get_mut(&unread.name).ok_or(BadReply)?;
            if reads_messages && let Some(before) = unread.messages {
                let [has_all, messages @ ..] = replies.next().ok_or(BadReply)?.list()? else {
                    return Err(BadReply.into());
                };
                for message in messages {
                    let message = KeptMessage::read(bytes(message)?)?;
                    // Messages that come meanwhile make the next part begin with some that were read. None is missed.
                    if room.history.front().is_none_or(|oldest| message.id() < oldest.id()) {
                        room.last = room.last.max(message.id());
                        room.history.push_front(message);
                    }
                }
                unread.messages = (has_all.number()? == 0).then_some(before + messages.len());
            } else if !reads_messages && unread.members.is_some() {
                unread.members = None;
                if let [cursor, members] = list(replies.next())? {
                    for [user, member] in members.list()?.as_chunks().0 {
                        room.members.insert(parse(user)?, KeptMember::read(bytes(member)?)?);
                    }
                    unread.members = next(cursor.text()?);
                }
            }
        }
        read.retain(|unread| unread.messages.is_some() || unread.members.is_some());
        self.rooms.splice(..0, read);
        Ok(())
    }

    /// What was read, and the entry behind which the log brings it to one moment.
    pub(crate) fn finish(self) -> (Mirror, Chain) {
        (self.mirror, self.behind)
    }
}

/// The next cursor of a scan, which ends with 0.
fn next(cursor: &str) -> Option<String> {
    (cursor != "0").then(|| cursor.to_owned())
}

fn parse(reply: &Reply) -> Result<u64, LoadError> {
    Ok(reply.text()?.parse().map_err(|_| BadValue)?)
}

/// A number that is not written before it is more than 0.
fn count(reply: &Reply) -> Result<u64, LoadError> {
    if *reply == Reply::Nil { Ok(0) } else { parse(reply) }
}

fn bytes(reply: &Reply) -> Result<&Bytes, LoadError> {
    match reply {
        Reply::Text(bytes) => Ok(bytes),
        _ => Err(BadReply.into()),
    }
}

/// True for the answer about a key of a wrong type. What is in that key is lost, and nothing else.
fn is_of_damaged(error: &str) -> bool {
    error.starts_with("WRONGTYPE ")
}

/// A list, or nothing where the key is damaged.
fn list(reply: Option<&Reply>) -> Result<&[Reply], LoadError> {
    match reply {
        Some(Reply::Error(_)) => Ok(&[]),
        reply => Ok(reply.ok_or(BadReply)?.list()?),
    }
}
