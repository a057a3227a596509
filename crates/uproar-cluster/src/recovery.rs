//! Bringing a log back that may have lost its end.
//!
//! Every node that finds that the log does not live takes part: it says what it has, and hears what the others have.
//! When all have reported, or after [`REPORTS_MS`], the one with the longest log claims the recovery and acts. It
//! appends what Redis lacks, or begins a new epoch, and says that the log lives. If it ends meanwhile, another recovery
//! begins after [`PROGRESS_MS`].
//!
//! Of two logs, the one in which the epoch has changed more often is the longer one: the other is the log of a node
//! that was away when others went on without it.

use std::collections::BTreeMap;

use crate::{
    BadReply, Chain, Command, Incarnation, Keys, LiveNode, NodeName, Reply, Script, Tag, script::words,
};

/// How long a recovery waits for nodes that do not report, in milliseconds.
pub const REPORTS_MS: u64 = 5_000;

/// How long a recovery waits at least, in milliseconds: a node whose beginning was lost is known to nobody, and notices
/// within a second.
pub const MEETING_MS: u64 = 1_000;

/// How long a recovery waits when no node is known at all, in milliseconds. Redis may have lost everything, and nodes
/// that know more may be connecting again. So the first start of all takes this long.
pub const STRANGERS_MS: u64 = 5_000;

/// A recovery that makes no progress for so long is replaced, in milliseconds. It is longer than all waits together.
pub const PROGRESS_MS: u64 = 8_000;

/// What a node has of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In which life of the node.
    pub incarnation: Incarnation,
    /// How many times the epoch had changed.
    pub raised: u64,
    /// The number of the last entry; 0 without one.
    pub number: u64,
    /// The batch that it is.
    pub tag: Option<Tag>,
}

/// A recovery that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Every command of the recovery names it.
    pub id: String,
    /// The `master_replid` that it is for.
    pub life: String,
    /// For how long it is under way, in milliseconds.
    pub age_ms: u64,
    /// The node that has claimed it.
    pub actor: Option<LiveNode>,
    /// How many times the epoch had changed by what Redis has.
    pub raised: u64,
    /// The last entry that Redis has.
    pub kept: Chain,
    /// True when Redis knows the epoch. It does not where everything was lost, or was not written again to the end.
    pub has_epoch: bool,
    /// The nodes that Redis knows.
    pub nodes: Vec<LiveNode>,
    /// The nodes that have reported.
    pub reports: BTreeMap<NodeName, Report>,
}

/// Why a recovery does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// It is over, or another one has begun: look again.
    #[error("the recovery is over, or another one has begun")]
    Over,
    /// What Redis has does not lead to the entry that was to be appended again.
    #[error("what Redis has does not lead to the entry that is appended again")]
    Differs,
    /// Redis has refused a command.
    #[error("Redis has refused it: {0}")]
    Redis(String),
    /// Redis has answered with something else.
    #[error(transparent)]
    Reply(#[from] BadReply),
}

/// What a node does next in a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryStep {
    /// Look again soon.
    Wait,
    /// This node has the longest log: it is to claim the recovery with [`Recovery::claim`], and to act when it has.
    Act {
        /// Redis has the log up to this entry, and what follows is to be appended again. `None` where Redis has all
        /// that any node has seen.
        append_behind: Option<Chain>,
        /// True when nothing that was in the log can be missing, so that the epoch stays.
        is_complete: bool,
    },
}

impl Recovery {
    /// The command by which the node `own` reports and looks. `new_id` is random; `report` is what it has of the log,
    /// unless it has not begun.
    #[must_use]
    pub fn command(keys: &Keys, new_id: &str, own: &LiveNode, report: Option<&Report>) -> Command {
        Self::call(keys, new_id, own, report, "")
    }

    /// The command by which a node claims this recovery, and acts from then on by the id `new_id`. The answer is read
    /// as that to [`Recovery::command`], and tells whether it has.
    #[must_use]
    pub fn claim(&self, keys: &Keys, new_id: &str, own: &LiveNode, report: Option<&Report>) -> Command {
        Self::call(keys, new_id, own, report, &self.id)
    }

    fn call(keys: &Keys, new_id: &str, own: &LiveNode, report: Option<&Report>, claimed: &str) -> Command {
        let mut texts = vec![new_id.to_owned(), own.node.to_string(), own.incarnation.to_string()];
        texts.extend(match report {
            Some(Report { raised, number, tag, .. }) => {
                let tag = tag.as_ref().map(Tag::to_string).unwrap_or_default();
                [raised.to_string(), number.to_string(), tag]
            }
            None => Default::default(),
        });
        texts.extend([PROGRESS_MS.to_string(), claimed.to_owned()]);
        Command::Script {
            script: Script::RECOVERY,
            keys: vec![keys.meta(), keys.nodes(), keys.recovery()],
            arguments: texts.into_iter().map(Vec::from).collect(),
        }
    }

    /// Reads the answer to [`Recovery::command`]. `None`: the log lives.
    ///
    /// # Errors
    ///
    /// When Redis has refused the command.
    pub fn read(reply: &Reply) -> Result<Option<Self>, RecoveryError> {
        if let Reply::Error(text) = reply {
            return Err(RecoveryError::of(text));
        }
        let [id, life, age, actor, raised, number, tag, epoch, nodes, reports] = reply.list()? else {
            let is_alive = matches!(reply.list()?, [word] if word.text() == Ok("alive"));
            return if is_alive { Ok(None) } else { Err(BadReply.into()) };
        };
        let name = |text: &str| text.parse::<NodeName>().map_err(|_| BadReply);
        let incarnation = |text: &str| text.parse::<Incarnation>().map_err(|_| BadReply);
        let tag_of = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<Tag>().map(Some).map_err(|_| BadReply),
        };
        let mut live = Vec::new();
        for (node, state) in nodes.pairs()? {
            let (life, _) = state.split_once(' ').ok_or(BadReply)?;
            live.push(LiveNode { node: name(node)?, incarnation: incarnation(life)? });
        }
        let mut reported = BTreeMap::new();
        for (node, report) in reports.pairs()? {
            let mut parts = report.splitn(4, ' ');
            let mut part = || parts.next().ok_or(BadReply);
            let (life, raised, number, tag) = (part()?, part()?, part()?, part()?);
            let count = |text: &str| text.parse::<u64>().map_err(|_| BadReply);
            let (raised, number) = (count(raised)?, count(number)?);
            let report = Report { incarnation: incarnation(life)?, raised, number, tag: tag_of(tag)? };
            reported.insert(name(node)?, report);
        }
        let actor = match actor.text()?.split_once(' ') {
            Some((node, life)) => Some(LiveNode { node: name(node)?, incarnation: incarnation(life)? }),
            None => None,
        };
        Ok(Some(Self {
            id: id.text()?.to_owned(),
            life: life.text()?.to_owned(),
            age_ms: age.number()?,
            actor,
            raised: raised.number()?,
            kept: Chain::behind(number.number()?, tag_of(tag.text()?)?),
            has_epoch: !epoch.text()?.is_empty(),
            nodes: live,
            reports: reported,
        }))
    }

    /// What the node `own` does next. `known` are the others that were alive as far as it knows.
    #[must_use]
    pub fn step(&self, own: &LiveNode, known: &[LiveNode]) -> RecoveryStep {
        let is_heard = |live: &LiveNode| {
            self.reports.get(&live.node).is_some_and(|report| report.incarnation == live.incarnation)
        };
        if self.actor.as_ref().is_some_and(|actor| actor != own) {
            return RecoveryStep::Wait;
        }
        let is_everyone_heard = self.nodes.iter().chain(known).all(is_heard);
        let wait_ms = if is_everyone_heard { MEETING_MS } else { REPORTS_MS };
        if self.age_ms < wait_ms {
            return RecoveryStep::Wait;
        }
        // Of those with equal logs, the one with the first name.
        let length = |report: &Report| (report.raised, report.number);
        let longest =
            self.reports.iter().min_by_key(|(name, report)| (std::cmp::Reverse(length(report)), *name));
        let Some((longest, report)) = longest else {
            // Nobody has anything: a log that begins, or one whose nodes have all ended.
            let act = RecoveryStep::Act { append_behind: None, is_complete: is_everyone_heard };
            return if self.age_ms < STRANGERS_MS { RecoveryStep::Wait } else { act };
        };
        // An earlier process of the same name may have reported.
        if (longest, report.incarnation) != (&own.node, own.incarnation) {
            return RecoveryStep::Wait;
        }
        let kept = (self.raised, self.kept.number());
        // Never so by what nodes and scripts do; then what Redis has counts.
        let is_other = kept == length(report) && self.kept.tag() != report.tag.as_ref();
        RecoveryStep::Act {
            append_behind: (kept < length(report)).then(|| self.kept.clone()),
            is_complete: is_everyone_heard && !is_other,
        }
    }

    /// True once this node has claimed it.
    #[must_use]
    pub fn is_claimed_by(&self, own: &LiveNode) -> bool {
        self.actor.as_ref() == Some(own)
    }

    /// The command that ends the recovery: from now on batches are appended.
    #[must_use]
    pub fn finish(&self, keys: &Keys) -> Command {
        let (meta, recovery) = (keys.meta(), keys.recovery());
        let commands = [words(["HSET", &meta, "life", &self.life]), words(["DEL", &recovery])];
        self.guarded(vec![recovery, meta], &commands)
    }

    /// A command that does what `commands` say, unless the recovery is over. `keys` are the recovery's key, and all
    /// that are in the commands.
    #[must_use]
    pub fn guarded(&self, keys: Vec<String>, commands: &[Vec<Vec<u8>>]) -> Command {
        let mut arguments = vec![self.id.clone().into_bytes()];
        for command in commands {
            arguments.push(command.len().to_string().into());
            arguments.extend(command.iter().cloned());
        }
        Command::Script { script: Script::GUARDED, keys, arguments }
    }

    /// Reads the answer to [`Recovery::finish`] and [`Recovery::guarded`].
    ///
    /// # Errors
    ///
    /// When the recovery is over, or Redis has refused the command.
    pub fn outcome(reply: &Reply) -> Result<(), RecoveryError> {
        match reply {
            Reply::Error(text) => Err(RecoveryError::of(text)),
            Reply::Text(text) if text == "OK" => Ok(()),
            _ => Err(BadReply.into()),
        }
    }
}

impl RecoveryError {
    fn of(text: &str) -> Self {
        if text.starts_with("RECOVERY ") { Self::Over } else { Self::Redis(text.to_owned()) }
    }
}
