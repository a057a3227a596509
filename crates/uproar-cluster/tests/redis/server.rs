//! A Redis of the test's own, on a unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, Value};
use tempfile::TempDir;
use uproar_cluster::{Command as ScriptCommand, Reply, Script};

/// A running `redis-server`, killed when it is dropped.
pub(crate) struct Server {
    process: Child,
    directory: TempDir,
    connection: Connection,
    /// The largest command or reply.
    pub(crate) bytes_most: usize,
}

impl Server {
    /// Starts one that keeps everything in its directory before it answers.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[])
    }

    /// The same with further settings, as on the command line.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    fn start_in(directory: TempDir, settings: &[&str]) -> Self {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--maxmemory-policy", "noeviction", "--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(directory.path())
            .arg("--unixsocket")
            .arg(socket_in(directory.path()))
            .args(settings)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for this test (Debian package redis-server)");
        let connection = connect(&socket_in(directory.path()));
        Self { process, directory, connection, bytes_most: 0 }
    }

    /// Kills it, and starts it with what it had kept.
    pub(crate) fn restart(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_file(socket_in(self.directory.path())).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let directory = std::mem::replace(&mut self.directory, empty);
        Self::start_in(directory, &[])
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.directory.path())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    /// Does what a node asks for.
    ///
    /// Neither a command nor a reply has more than 4 MiB, but for a single value of more.
    pub(crate) fn run(&mut self, command: &ScriptCommand) -> Reply {
        let reply = self.send_command(command);
        let bytes = match command {
            ScriptCommand::Script { arguments, .. } => arguments.iter().map(Vec::len).sum(),
            _ => 0,
        };
        let bytes = bytes.max(bytes_of(&reply));
        assert!(bytes < 5 << 20, "{bytes} bytes at once");
        self.bytes_most = self.bytes_most.max(bytes);
        reply
    }

    fn send_command(&mut self, command: &ScriptCommand) -> Reply {
        match command {
            ScriptCommand::Script { script, keys, arguments } => {
                let mut command = redis::cmd("EVAL");
                command.arg(script.source).arg(keys.len()).arg(keys).arg(arguments);
                self.send(&command)
            }
            ScriptCommand::ThenWait { first, replicas, wait_ms } => {
                let first = self.send_command(first);
                let wait = self.call(&["WAIT", &replicas.to_string(), &wait_ms.to_string()]);
                Reply::List(vec![first, wait])
            }
            ScriptCommand::Plain(commands) => {
                let send = |words: &Vec<Vec<u8>>| {
                    let mut command = redis::Cmd::new();
                    command.arg(words);
                    self.send(&command)
                };
                Reply::List(commands.iter().map(send).collect())
            }
        }
    }

    /// Sends any other command.
    pub(crate) fn call(&mut self, words: &[&str]) -> Reply {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        self.send(&command)
    }

    /// The values of a list or set.
    pub(crate) fn texts(&mut self, words: &[&str]) -> Vec<String> {
        let Reply::List(values) = self.call(words) else { panic!("{words:?} is no list") };
        values.iter().map(text).collect()
    }

    /// Everything that Redis has for the partition, but what says who is alive and which recovery runs: by key.
    pub(crate) fn everything(&mut self) -> Vec<(String, String)> {
        let mut keys = self.texts(&["KEYS", "*"]);
        keys.sort();
        let mut all = Vec::new();
        for key in keys {
            let value = match text(&self.call(&["TYPE", &key])).as_str() {
                "hash" => {
                    let Reply::List(pairs) = self.call(&["HGETALL", &key]) else { panic!() };
                    let mut pairs: Vec<_> = pairs.chunks(2).map(|pair| format!("{pair:?}")).collect();
                    pairs.sort();
                    format!("{pairs:?}")
                }
                "list" => format!("{:?}", self.call(&["LRANGE", &key, "0", "-1"])),
                "stream" => format!("{:?}", self.call(&["XRANGE", &key, "-", "+"])),
                "set" => format!("{:?}", self.texts(&["SMEMBERS", &key])),
                other => panic!("a {other} of ours"),
            };
            all.push((key, value));
        }
        all
    }

    /// Makes a key of what `DUMP` has answered.
    pub(crate) fn restore(&mut self, key: &str, dump: &[u8]) {
        let mut command = redis::cmd("RESTORE");
        command.arg(key).arg(0).arg(dump);
        assert_eq!(self.send(&command), Reply::Text("OK".into()));
    }

    /// A change of the primary as far as the script can see: Redis gets another `master_replid`.
    pub(crate) fn change_life(&mut self) {
        assert!(!matches!(self.call(&["DEBUG", "CHANGE-REPL-ID"]), Reply::Error(_)));
    }

    fn send(&mut self, command: &redis::Cmd) -> Reply {
        match command.query::<Value>(&mut self.connection) {
            Ok(value) => reply(value),
            Err(error) => {
                let word = error.code().unwrap_or("ERR");
                Reply::Error(format!("{word} {}", error.detail().unwrap_or_default()))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All scripts as Redis compiles them.
pub(crate) fn load(server: &mut Server) {
    for script in Script::ALL {
        let loaded = server.call(&["SCRIPT", "LOAD", script.source]);
        assert!(matches!(loaded, Reply::Text(_)), "{}: {loaded:?}", script.name);
    }
}

pub(crate) fn text(reply: &Reply) -> String {
    match reply {
        Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?} is no text"),
    }
}

fn bytes_of(reply: &Reply) -> usize {
    match reply {
        Reply::Text(text) => text.len(),
        Reply::List(list) => list.iter().map(bytes_of).sum(),
        _ => 0,
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("socket")
}

fn connect(socket: &Path) -> Connection {
    let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let connected = client.get_connection().and_then(|mut connection| {
            redis::cmd("PING").query::<()>(&mut connection)?;
            Ok(connection)
        });
        match connected {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < deadline, "redis-server does not answer: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(bytes) => Reply::Text(bytes.into()),
        Value::SimpleString(text) => Reply::Text(text.into_bytes().into()),
        Value::Okay => Reply::Text("OK".into()),
        Value::Array(values) => Reply::List(values.into_iter().map(reply).collect()),
        other => panic!("{other:?} is nothing that we ask for"),
    }
}
