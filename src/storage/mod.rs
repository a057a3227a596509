//! What outlives the process: the directory that `--data` names, and the SQLite files in it.
//!
//! It knows how files are opened, and nothing of what is kept in them. No shard ever waits for one.

mod database;
mod directory;
mod history;
mod writer;

pub use database::{DatabaseError, LogState, Schema, open};
pub use directory::{DataDirectory, DirectoryError};
pub use history::{HISTORY_FILE, HistoryFile, WriteError};
pub use writer::{HistoryWriter, StorageLink};
