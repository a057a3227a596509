//! The command that appends a batch.

use std::collections::HashMap;

use crate::{BadReply, Batch, Command, Entry, Keys, Reply, Script, Tag};

/// What all nodes of a partition have alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Messages that a room's history keeps.
    pub history: usize,
    /// Bytes that the log keeps, some 1/64 more.
    pub log_bytes: u64,
    /// For how many milliseconds it is known who has left; 0 for not at all.
    pub left_ms: u64,
    /// What else nodes must agree on, as words for an error message. The log is begun with it.
    pub agreed: String,
}

/// A batch on its way to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Its name.
    pub tag: Tag,
    /// The version of what is written.
    pub format: u16,
    /// The proposals.
    pub batch: Batch,
    /// Where an entry that Redis has lost is appended again: by which recovery.
    pub recovered: Option<Recovered>,
}

/// That a recovery appends something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The recovery.
    pub recovery: String,
    /// The entry that is appended again, as it was; `None` for one that is new.
    pub again: Option<EntryState>,
}

/// What an entry is beside its proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// Its number.
    pub number: u64,
    /// Its time, in Unix milliseconds.
    pub time_ms: u64,
    /// What was decided.
    pub answers: String,
}

/// The place of a batch in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of its entry.
    pub number: u64,
    /// True when it was in the log already.
    pub is_known: bool,
    /// How many rooms are damaged.
    pub damaged: u64,
}

/// Why a batch was not appended. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The primary has started or changed since the log was recovered.
    #[error("the primary has started or changed, and the log is not recovered yet")]
    Life,
    /// It is not this recovery any more.
    #[error("the recovery is over, or another one has begun")]
    RecoveryOver,
    /// An entry that is appended again would become another one: Redis has something else than the log before it led
    /// to.
    #[error("what Redis has does not lead to the entry that is appended again")]
    Differs,
    /// The node is gone for the others: it was silent for too long.
    #[error("the other nodes have declared this node gone")]
    Fenced,
    /// Another process has the name of the node.
    #[error("another process has begun with the name of this node")]
    Replaced,
    /// The name of the node belongs to another process than the one that was to be replaced.
    #[error("another process has begun with the name of this node at the same time")]
    BeginAgain,
    /// It is not the batch that follows.
    #[error("not the batch that follows; the last one is {last}")]
    WrongBatch {
        /// The last batch of this node in the log.
        last: u64,
    },
    /// The log was begun with other settings.
    #[error("the other nodes have other settings: {theirs}")]
    Settings {
        /// What they have agreed on.
        theirs: String,
    },
    /// The log is written in a format that this node does not read, or a live node does not read that of the batch.
    #[error("the log is written in format {format}")]
    Format {
        /// The one that is to be read, or may be written.
        format: u16,
    },
    /// Redis has refused the script, for example because it is full, or may only be read.
    #[error("Redis has refused it: {0}")]
    Redis(String),
    /// Redis has answered with something else.
    #[error(transparent)]
    Reply(#[from] BadReply),
}

impl Append {
    /// Appends an entry again that Redis has lost.
    #[must_use]
    pub fn again(entry: &Entry, recovery: &str) -> Self {
        let answers = entry.answers_text();
        let again = EntryState { number: entry.number, time_ms: entry.time_ms, answers };
        let recovered = Recovered { recovery: recovery.to_owned(), again: Some(again) };
        let (tag, format, batch) = (entry.tag.clone(), entry.format, entry.batch.clone());
        Self { tag, format, batch, recovered: Some(recovered) }
    }

    /// The command. Sent again, it does nothing again.
    #[must_use]
    pub fn command(&self, keys: &Keys, settings: &Settings) -> Command {
        let mut rooms = Rooms::default();
        let mut proposed: Vec<Vec<u8>> = Vec::new();
        let mut payload_start = 1;
        for proposal in self.batch.proposals() {
            let (room, opened) = match proposal.room() {
                Some((name, opened)) => (rooms.place_of(name).to_string(), opened.map(|it| it.to_string())),
                None => Default::default(),
            };
            let payload_end = payload_start + proposal.payload().len();
            // Lua counts from 1, and the last one belongs to it.
            let (kind, fields) = proposal.arguments((payload_start, payload_end - 1));
            payload_start = payload_end;
            proposed.push(kind.into());
            let empty = FIELDS - fields.len();
            proposed.extend([room, opened.unwrap_or_default()].into_iter().chain(fields).map(Vec::from));
            proposed.extend(std::iter::repeat_n(Vec::new(), empty));
        }
        let (proposals, payloads) = self.batch.encode();
        let recovery = self.recovered.as_ref().map(|it| it.recovery.clone()).unwrap_or_default();
        let again = self.recovered.as_ref().and_then(|it| it.again.as_ref());
        let of_again = |text: fn(&EntryState) -> String| again.map(text).unwrap_or_default();
        let texts = [
            self.tag.node.to_string(),
            self.tag.incarnation.to_string(),
            self.tag.batch.to_string(),
            self.format.to_string(),
            settings.agreed.clone(),
            settings.history.to_string(),
            settings.log_bytes.to_string(),
            settings.left_ms.to_string(),
            recovery,
            of_again(|entry| entry.number.to_string()),
            of_again(|entry| entry.time_ms.to_string()),
            of_again(|entry| entry.answers.clone()),
        ];
        let mut arguments: Vec<Vec<u8>> = texts.into_iter().map(Vec::from).collect();
        arguments.extend([proposals, payloads, rooms.names.len().to_string().into()]);
        arguments.extend(rooms.names.iter().map(|name| Vec::from(*name)));
        arguments.extend(proposed);
        let of_rooms = rooms.names.iter().flat_map(|name| keys.of_room(name));
        let keys = keys.of_every_batch().into_iter().chain(of_rooms).collect();
        Command::Script { script: Script::APPEND, keys, arguments }
    }

    /// Reads what Redis has answered to the command.
    ///
    /// # Errors
    ///
    /// When the batch was not appended.
    pub fn outcome(reply: &Reply) -> Result<Appended, AppendError> {
        if let Reply::Error(text) = reply {
            return Err(AppendError::of(text));
        }
        match reply.list()? {
            [number, is_known, damaged] => Ok(Appended {
                number: number.number()?,
                is_known: is_known.number()? == 1,
                damaged: damaged.number()?,
            }),
            _ => Err(BadReply.into()),
        }
    }
}

impl AppendError {
    fn of(text: &str) -> Self {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "LIFE" => Self::Life,
            "RECOVERY" => Self::RecoveryOver,
            "DIFFERS" => Self::Differs,
            "REPLACED" => Self::Replaced,
            "BEGIN" => Self::BeginAgain,
            "FENCED" => Self::Fenced,
            "SETTINGS" => Self::Settings { theirs: rest.to_owned() },
            "FORMAT" if let Ok(format) = rest.parse() => Self::Format { format },
            "BATCH" if let Ok(last) = rest.parse() => Self::WrongBatch { last },
            _ => Self::Redis(text.to_owned()),
        }
    }
}

/// The fields of a proposal that only its kind has.
const FIELDS: usize = 7;

/// The rooms of a batch, each once: the script has one state for each.
#[derive(Default)]
struct Rooms<'a> {
    names: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Rooms<'a> {
    /// From 1.
    fn place_of(&mut self, name: &'a str) -> usize {
        *self.places.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len()
        })
    }
}
