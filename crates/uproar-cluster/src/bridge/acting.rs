//! Bringing the log back, as the node that has the longest one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Config, contents};
use crate::script::words;
use crate::{
    Append, AppendError, Batch, Chain, Command, Entry, Incarnation, Keys, Left, Proposal, Recovered,
    Recovery, RecoveryError, Reply, RoomState, Script, Settings, Tag, Terms,
};

/// Entries that are written together.
const ENTRIES_AT_ONCE: usize = 64;

/// The remaining commands of a recovery. A refused command is sent again.
#[derive(Debug)]
pub(super) struct Acting {
    keys: Keys,
    settings: Settings,
    recovery: Recovery,
    commands: VecDeque<(Kind, Command)>,
    /// The rooms to write anew, behind the first `ahead` commands.
    rooms: VecDeque<(Arc<str>, RoomState)>,
    ahead: usize,
    /// How many times the epoch had changed then.
    raised: u64,
    /// What the log was when everything was asked for, to be written anew; until it is.
    awaited: Option<Awaited>,
}

/// The end of the log as this node has it.
#[derive(Debug)]
pub(super) struct Awaited {
    /// The last entries, as many as others may lack. There are none where the node has begun and read nothing since.
    pub(super) entries: Vec<Arc<Entry>>,
    /// The last entry.
    pub(super) end: Chain,
    /// How many times the epoch had changed.
    pub(super) raised: u64,
    /// The next block of user ids.
    pub(super) numbers: u64,
    /// The nodes that are alive, each with its last batch, and the newest format that it reads.
    pub(super) nodes: Vec<(Tag, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Append,
    Guarded,
}

impl Acting {
    /// Appends `lost` entries again, changes the epoch if there is a new one, in this format, and says that the log
    /// lives.
    pub(super) fn new(
        config: &Config,
        recovery: Recovery,
        lost: &[Arc<Entry>],
        epoch: Option<Arc<str>>,
        format: u16,
    ) -> Self {
        let mut acting = Self {
            keys: config.keys.clone(),
            settings: config.settings.clone(),
            commands: VecDeque::new(),
            rooms: VecDeque::new(),
            ahead: 0,
            raised: 0,
            awaited: None,
            recovery,
        };
        for entry in lost {
            let again = Append::again(entry, &acting.recovery.id);
            acting.append(&again);
        }
        if let Some(epoch) = epoch {
            // It is no batch of a node. The recovery's id makes it another one each time.
            let incarnation = acting.recovery.id.parse().unwrap_or(Incarnation(0));
            let tag = Tag { node: config.node.clone(), incarnation, batch: 0 };
            let batch = Batch::from_iter([Proposal::Epoch { epoch }]);
            let recovered = Some(Recovered { recovery: acting.recovery.id.clone(), again: None });
            acting.append(&Append { tag, format, batch, recovered });
        }
        let finish = acting.recovery.finish(&acting.keys);
        acting.commands.push_back((Kind::Guarded, finish));
        acting
    }

    fn append(&mut self, append: &Append) {
        let command = append.command(&self.keys, &self.settings);
        self.commands.push_back((Kind::Append, command));
    }

    /// First removes what Redis has: another node may have begun to write everything anew.
    pub(super) fn on_cleared(mut self) -> Self {
        self.commands.push_front((Kind::Guarded, self.clear()));
        self
    }

    /// Does nothing but keep the recovery, until [`Acting::rewrite`].
    pub(super) fn waiting_for_rooms(self, awaited: Awaited) -> Self {
        Self { awaited: Some(awaited), ..self }
    }

    /// First writes everything anew as it was when it was asked for.
    ///
    /// Where the log ends is written last: a recovery that finds half of it begins again.
    pub(super) fn rewrite(
        &mut self,
        rooms: impl IntoIterator<Item = (Arc<str>, RoomState)>,
        left: &Left,
        terms: &Terms,
    ) {
        let Some(awaited) = self.awaited.take() else { return };
        self.rooms = rooms.into_iter().collect();
        self.raised = awaited.raised;
        let end = self.end_behind(&awaited);
        for command in self.entries(&awaited.entries).into_iter().chain([end]).rev() {
            self.commands.push_front((Kind::Guarded, command));
        }
        let terms: Vec<_> = contents::terms(&self.keys, terms);
        let left = contents::left(&self.keys, left);
        self.ahead = 1 + left.len() + terms.len();
        for (key, command) in terms {
            let command = self.recovery.guarded(vec![self.keys.recovery(), key], &[command]);
            self.commands.push_front((Kind::Guarded, command));
        }
        let keys = vec![self.keys.recovery(), self.keys.left()];
        for group in left.iter().rev() {
            self.commands.push_front((Kind::Guarded, self.recovery.guarded(keys.clone(), group)));
        }
        self.commands.push_front((Kind::Guarded, self.clear()));
    }

    /// Makes the commands of the next room once those before are done: all together would be as large as everything.
    fn write_next_room(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
        if self.ahead > 0 {
            return;
        }
        let Some((name, room)) = self.rooms.pop_front() else { return };
        let [history, roster] = self.keys.of_room(&name);
        let keys = vec![self.keys.recovery(), history, roster, self.keys.rooms()];
        let groups = contents::room(&self.keys, &name, &room, self.raised);
        self.ahead = groups.len();
        for group in groups.iter().rev() {
            self.commands.push_front((Kind::Guarded, self.recovery.guarded(keys.clone(), group)));
        }
    }

    /// Writes entries as they were, for nodes that have not read them yet.
    fn entries(&self, entries: &[Arc<Entry>]) -> Vec<Command> {
        let log = self.keys.log();
        let keys = [self.keys.recovery(), log.clone()];
        let mut commands = Vec::new();
        let (mut together, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            let add = [words(["XADD", &log, &format!("{}-0", entry.number)]), entry.fields()].concat();
            let more = contents::bytes_of(&add);
            if together.len() == ENTRIES_AT_ONCE || bytes > 0 && bytes + more > contents::BYTES_AT_ONCE {
                commands.push(self.recovery.guarded(keys.to_vec(), &std::mem::take(&mut together)));
                bytes = 0;
            }
            bytes += more;
            together.push(add);
        }
        commands.push(self.recovery.guarded(keys.to_vec(), &together));
        commands
    }

    /// Removes what Redis has.
    fn clear(&self) -> Command {
        let recovery = self.keys.recovery();
        let others = self.keys.of_every_batch().into_iter().filter(|key| *key != recovery);
        let keys: Vec<String> = [recovery.clone()].into_iter().chain(others).collect();
        let others = keys.iter().skip(1).map(|key| key.clone().into_bytes());
        let unlink = words(["UNLINK"]).into_iter().chain(others).collect();
        self.recovery.guarded(keys, &[unlink])
    }

    /// Lets the log go on behind the last entry.
    fn end_behind(&self, Awaited { entries, end, raised, numbers, nodes }: &Awaited) -> Command {
        let (time_ms, total) = entries.last().map_or((0, 0), |last| (last.time_ms, last.total_bytes));
        let (meta, nodes_key) = (self.keys.meta(), self.keys.nodes());
        let number = end.number().to_string();
        let fields = [
            ("last", number.clone()),
            ("tag", end.tag().map(Tag::to_string).unwrap_or_default()),
            ("time", time_ms.to_string()),
            ("total", total.to_string()),
            ("raised", raised.to_string()),
            ("numbers", numbers.to_string()),
            ("settings", self.settings.agreed.clone()),
        ];
        let mut set = words(["HSET", &meta]);
        set.extend(fields.into_iter().flat_map(|(name, value)| [name.into(), value.into_bytes()]));
        let alive = nodes.iter().map(|(Tag { node, incarnation, batch }, reads)| {
            let state = format!("{incarnation} {batch} {number} {reads}");
            words(["HSET", &nodes_key, node.as_str(), &state])
        });
        let commands: Vec<_> = alive.chain([set]).collect();
        self.recovery.guarded(vec![self.keys.recovery(), meta, nodes_key.clone()], &commands)
    }

    /// The next command. While it waits, that says that the recovery goes on.
    pub(super) fn command(&self) -> Option<Command> {
        match (&self.awaited, self.commands.front()) {
            (Some(_), _) => Some(self.recovery.guarded(vec![self.keys.recovery()], &[])),
            (None, next) => next.map(|(_, command)| command.clone()),
        }
    }

    /// The recovery.
    pub(super) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// True until [`Acting::rewrite`].
    pub(super) fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Takes the answer to a command, which was asked for when `is_waiting` was as it is given. True when all is done.
    ///
    /// # Errors
    ///
    /// When the recovery is over, or Redis has refused the command, which then stays the next one.
    pub(super) fn handle_reply(&mut self, was_waiting: bool, reply: &Reply) -> Result<bool, RecoveryError> {
        if was_waiting {
            return Recovery::outcome(reply).map(|()| false);
        }
        match self.commands.front() {
            Some((Kind::Append, _)) => match Append::outcome(reply) {
                Ok(_) => {}
                Err(AppendError::RecoveryOver) => return Err(RecoveryError::Over),
                Err(AppendError::Differs | AppendError::WrongBatch { .. }) => {
                    return Err(RecoveryError::Differs);
                }
                Err(error) => return Err(RecoveryError::Redis(error.to_string())),
            },
            Some((Kind::Guarded, _)) => Recovery::outcome(reply)?,
            None => {}
        }
        self.commands.pop_front();
        self.write_next_room();
        Ok(self.commands.is_empty())
    }
}

/// Writes a damaged room again.
pub(super) fn repair(keys: &Keys, name: &str, damaged_by: u64, room: &RoomState, raised: u64) -> Command {
    let messages = contents::values_of_history(room);
    let texts = [
        name.to_owned(),
        damaged_by.to_string(),
        room.opened.to_string(),
        room.last.to_string(),
        raised.to_string(),
        messages.len().to_string(),
    ];
    let arguments =
        texts.into_iter().map(Vec::from).chain(messages).chain(contents::values_of_roster(room)).collect();
    let [history, roster] = keys.of_room(name);
    let keys = vec![keys.damaged(), keys.rooms(), history, roster];
    Command::Script { script: Script::REPAIR, keys, arguments }
}
