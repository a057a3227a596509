//! What Redis keeps, and what it is.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use uproar_cluster::Reply;

use super::stream::Stream;

/// A value, of one of the types that are used.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Hash(BTreeMap<Bytes, Bytes>),
    List(VecDeque<Bytes>),
    Stream(Stream),
    Text(Bytes),
}

/// One server. A copy of it is what a replica has, or a disk.
#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) keys: BTreeMap<Bytes, Value>,
    /// How many commands have written something, as replicas count it.
    pub(super) offset: u64,
    pub(super) replication_id: String,
    pub(super) is_primary: bool,
    /// True while it has no memory for more.
    pub(super) is_full: bool,
    /// What `TIME` says.
    pub(super) clock_ms: u64,
    /// How much a scan answers at once at most; `None` as Redis does with small hashes, which is everything.
    pub(super) scan_max: Option<usize>,
}

/// Why a command has failed: an error as Redis writes it.
pub(super) type Outcome = Result<Reply, String>;

pub(super) fn wrong_type() -> String {
    "WRONGTYPE Operation against a key holding the wrong kind of value".to_owned()
}

impl Data {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            offset: 0,
            replication_id: String::new(),
            is_primary: true,
            is_full: false,
            clock_ms: 1_700_000_000_000,
            scan_max: None,
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> Result<Option<&BTreeMap<Bytes, Bytes>>, String> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(wrong_type()),
        }
    }

    pub(super) fn list(&self, key: &[u8]) -> Result<Option<&VecDeque<Bytes>>, String> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(wrong_type()),
        }
    }

    pub(super) fn stream(&self, key: &[u8]) -> Result<Option<&Stream>, String> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Stream(stream)) => Ok(Some(stream)),
            Some(_) => Err(wrong_type()),
        }
    }

    pub(super) fn hash_mut(&mut self, key: &Bytes) -> Result<&mut BTreeMap<Bytes, Bytes>, String> {
        match self.keys.entry(key.clone()).or_insert_with(|| Value::Hash(BTreeMap::new())) {
            Value::Hash(hash) => Ok(hash),
            _ => Err(wrong_type()),
        }
    }

    pub(super) fn list_mut(&mut self, key: &Bytes) -> Result<&mut VecDeque<Bytes>, String> {
        match self.keys.entry(key.clone()).or_insert_with(|| Value::List(VecDeque::new())) {
            Value::List(list) => Ok(list),
            _ => Err(wrong_type()),
        }
    }

    pub(super) fn stream_mut(&mut self, key: &Bytes) -> Result<&mut Stream, String> {
        match self.keys.entry(key.clone()).or_insert_with(|| Value::Stream(Stream::default())) {
            Value::Stream(stream) => Ok(stream),
            _ => Err(wrong_type()),
        }
    }

    /// Redis has no empty hashes and lists.
    pub(super) fn remove_if_empty(&mut self, key: &[u8]) {
        let is_empty = match self.keys.get(key) {
            Some(Value::Hash(hash)) => hash.is_empty(),
            Some(Value::List(list)) => list.is_empty(),
            _ => false,
        };
        if is_empty {
            self.keys.remove(key);
        }
    }
}
