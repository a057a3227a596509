//! The data directory (`--data`) and the SQLite files in it.
//!
//! `database` opens any of them, `history` is the file of messages, `writer` the thread that writes it. No shard
//! waits for a file.

mod database;
mod directory;
mod history;
mod writer;

pub use database::{DatabaseError, LogState, Schema, open};
pub use directory::{DataDirectory, DirectoryError};
pub use history::{HISTORY_FILE, HistoryFile, WriteError};
pub use writer::{HistoryWriter, StorageLink};
