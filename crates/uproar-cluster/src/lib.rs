//! The log of rooms that several servers share through Redis: its format, its scripts, and its order.
//!
//! A *node* is one server. Rooms are divided among *partitions*. Each partition has a log, a Redis stream, that every
//! node reads. What changes a room is proposed to the log, and is true once it is in the log: so all nodes see the same
//! changes in the same order.
//!
//! - [`Proposal`]: what a node asks for. A [`Batch`] of them becomes one entry.
//! - [`Append`]: the command that appends a batch. The script `append` decides about each proposal, because only Redis
//!   has the state of the room at the entry's place. It gives out the ids of messages, and finds out which members come
//!   late.
//! - [`Entry`]: a batch in the log, with an [`Answer`] for each proposal.
//! - [`Chain`]: checks that entries follow each other. A stream that lost its end can give a number to another entry,
//!   and one that was trimmed skips numbers; neither is an error to Redis.
//!
//! Beside the log, Redis holds what follows from it: the history and the members of each room, so that a node that
//! starts need not read the log from its beginning. [`Keys`] names everything.
//!
//! **Exactly once.** A node has one batch under way in each partition, and numbers its batches. Where it does not know
//! what became of one, it appends it again. The script knows the number, and answers as the first time.
//!
//! **Redis undoes nothing.** When a script fails half-way, what it has written stays. So the script writes the entry
//! first, after all checks. What fails behind that is noted as damaged, and a node writes it again.
//!
//! **Lost ends.** A primary that restarts or is replaced may have lost the last entries. `master_replid` changes with
//! both. The script compares it each time, and appends nothing until the nodes have brought back what they remember.
//!
//! **Where things are.** [`Bridge`] is all of that as a value, for one partition of one node: what Redis answers goes
//! in, commands and entries come out, and it does no input or output. [`client`] has the connections, and the task that
//! drives a bridge over them.

mod answer;
mod append;
mod batch;
mod bridge;
mod chain;
pub mod client;
mod entry;
mod format;
mod kept;
mod keys;
mod left;
mod loader;
mod mirror;
mod names;
mod proposal;
mod recovery;
mod script;
mod terms;

pub use answer::{Answer, BadAnswer};
pub use append::{Append, AppendError, Appended, EntryState, Recovered, Settings};
pub use batch::{BATCH_BYTES_MAX, BATCH_PROPOSALS_MAX, Batch};
pub use bridge::{Action, Bridge, Config, End, Event};
pub use chain::{Break, Chain};
pub use entry::{BadEntry, Entry};
pub use format::FORMAT;
pub use kept::{BadValue, KeptLeft, KeptMember, KeptMessage};
pub use keys::{IDS_RAISED, Keys, Partitions};
pub use left::Left;
pub use loader::LoadError;
pub use mirror::{Mirror, RoomState};
pub use names::{BadName, Incarnation, LiveNode, NodeName, Tag};
pub use proposal::{Proposal, RequestKey, Room};
pub use recovery::{
    MEETING_MS, PROGRESS_MS, REPORTS_MS, Recovery, RecoveryError, RecoveryStep, Report, STRANGERS_MS,
};
pub use script::{BadReply, Command, Reply, Script};
pub use terms::{Term, TermChange, TermKind, Terms, term_number};
