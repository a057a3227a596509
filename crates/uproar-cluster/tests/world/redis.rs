//! The server, with its replica and its disk.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use uproar_cluster::{Command, Reply};

use super::data::{Data, Value};
use super::script::Scripts;
use super::stream::Stream;

/// How much a stream read answers at once, as the server asks for it.
const ENTRIES_AT_ONCE: &str = "16";

/// A connection for commands, as far as `WAIT` sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    /// What was written behind its last command.
    offset: u64,
}

/// What another server would have: a replica, or a disk.
#[derive(Clone, Debug)]
pub(crate) struct Copy(Data);

/// A server.
pub(crate) struct Redis {
    data: Rc<RefCell<Data>>,
    scripts: Scripts,
    lives: u64,
    /// What the replica has; `None` without one.
    replica: Option<Data>,
    /// False while the replica gets nothing.
    pub(crate) replicates: bool,
}

impl Redis {
    pub(crate) fn new(has_replica: bool) -> Self {
        let data = Rc::new(RefCell::new(Data::new()));
        let scripts = Scripts::new(&data);
        let replica = has_replica.then(|| data.borrow().clone());
        let mut redis = Self { data, scripts, lives: 0, replica, replicates: true };
        redis.change_life();
        redis
    }

    /// Does what a node asks for.
    pub(crate) fn run(&mut self, command: &Command, connection: &mut Connection) -> Reply {
        let before = self.data.borrow().offset;
        let reply = match command {
            Command::Script { script, keys, arguments } => {
                self.scripts.run(&self.data, *script, keys, arguments).unwrap_or_else(Reply::Error)
            }
            Command::ThenWait { first, replicas: _, wait_ms: _ } => {
                let first = self.run(first, connection);
                return Reply::List(vec![first, self.wait(*connection)]);
            }
            Command::Plain(commands) => Reply::List(
                commands
                    .iter()
                    .map(
                        |words| {
                            if words[0] == b"WAIT" { self.wait(*connection) } else { self.run_words(words) }
                        },
                    )
                    .collect(),
            ),
        };
        let after = self.data.borrow().offset;
        if after != before {
            connection.offset = after;
        }
        reply
    }

    fn run_words(&self, words: &[Vec<u8>]) -> Reply {
        let words: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
        self.data.borrow_mut().run(&words, false).unwrap_or_else(Reply::Error)
    }

    /// Any other command.
    pub(crate) fn call(&self, words: &[&str]) -> Reply {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.run_words(&words)
    }

    /// `XREAD` of one stream: its entries, or nothing.
    pub(crate) fn read(&self, log: &str, behind: u64) -> Reply {
        let id = format!("{behind}-0");
        match self.call(&["XREAD", "COUNT", ENTRIES_AT_ONCE, "STREAMS", log, &id]) {
            Reply::List(streams) => match &streams[..] {
                [Reply::List(stream)] => stream[1].clone(),
                other => panic!("{other:?} is no stream"),
            },
            reply => reply,
        }
    }

    /// How many commands have written something.
    pub(crate) fn offset(&self) -> u64 {
        self.data.borrow().offset
    }

    /// The number of the last entry of a log.
    pub(crate) fn last(&self, log: &str) -> u64 {
        let data = self.data.borrow();
        data.stream(log.as_bytes()).ok().flatten().map_or(0, Stream::last)
    }

    /// How many replicas have what was written on this connection. One that gets anything gets it at once.
    fn wait(&mut self, connection: Connection) -> Reply {
        if self.replicates && !self.data.borrow().is_full {
            self.replicate();
        }
        let has_it = self.replica.as_ref().is_some_and(|replica| replica.offset >= connection.offset);
        Reply::Number(has_it.into())
    }

    /// The replica gets everything.
    pub(crate) fn replicate(&mut self) {
        if self.replicates && self.replica.is_some() {
            self.replica = Some(self.data.borrow().clone());
        }
    }

    /// What is here now.
    pub(crate) fn copy(&self) -> Copy {
        Copy(self.data.borrow().clone())
    }

    /// The same primary after a restart, with what was on its disk; or what was in its memory.
    pub(crate) fn restart(&mut self, from: Option<&Copy>) {
        if let Some(Copy(data)) = from {
            self.take(data.clone());
        }
        self.change_life();
    }

    /// The replica is the primary now, and gets a replica that has the same. False without one.
    pub(crate) fn fail_over(&mut self) -> bool {
        let Some(data) = self.replica.clone() else { return false };
        self.take(data);
        self.replica = Some(self.data.borrow().clone());
        self.change_life();
        true
    }

    fn take(&mut self, data: Data) {
        let mut now = self.data.borrow_mut();
        // What belongs to the machine, and not to the data.
        let (clock_ms, offset) = (now.clock_ms, now.offset);
        *now = Data { clock_ms, offset: offset.max(data.offset), is_full: now.is_full, ..data };
        now.is_primary = true;
    }

    /// It gets another `master_replid`, as after each start.
    pub(crate) fn change_life(&mut self) {
        self.lives += 1;
        self.data.borrow_mut().replication_id = format!("{:040x}", self.lives);
    }

    pub(crate) fn flush(&self) {
        self.data.borrow_mut().keys.clear();
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.data.borrow_mut().is_full = is_full;
    }

    pub(crate) fn set_primary(&self, is_primary: bool) {
        self.data.borrow_mut().is_primary = is_primary;
    }

    pub(crate) fn set_scan_max(&self, scan_max: Option<usize>) {
        self.data.borrow_mut().scan_max = scan_max;
    }

    pub(crate) fn set_clock_ms(&self, clock_ms: u64) {
        self.data.borrow_mut().clock_ms = clock_ms;
    }

    pub(crate) fn clock_ms(&self) -> u64 {
        self.data.borrow().clock_ms
    }

    /// Makes a string of a key.
    pub(crate) fn break_key(&self, key: &str) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.data.borrow_mut().keys.insert(key, Value::Text("a string".into()));
    }

    /// Whether a key is a string, which none of ours is.
    pub(crate) fn is_broken(&self, key: &str) -> bool {
        matches!(self.data.borrow().keys.get(key.as_bytes()), Some(Value::Text(_)))
    }
}
