//! The data directory (`--data`) and the SQLite files in it.
//!
//! `database` opens any of them, `history` is the file of messages, `writer` the thread that writes it. `state` is the file
//! of everything else that outlives the server, with a thread of its own. No shard waits for a file.

mod database;
mod directory;
mod history;
mod state;
mod writer;

pub use database::{DatabaseError, LogState, Schema, WriteError, open};
pub use directory::{DataDirectory, DirectoryError};
pub use history::{HISTORY_FILE, HistoryFile};
pub use state::{
    RestoredState, STATE_FILE, StateChange, StateFile, StateLink, StateQueueFull, StateSources, StateWriter,
};
pub use writer::{HistoryWriter, StorageLink};
