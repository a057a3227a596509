//! A Redis that a test can break.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{PATIENCE, eventually};

/// A `redis-server` on a unix socket, which keeps everything on its disk before it answers. It is killed when dropped.
pub(crate) struct Redis {
    directory: TempDir,
    /// Beside those that all have.
    settings: Vec<String>,
    process: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[]).expect("redis-server is needed for this test (Debian package redis-server)")
    }

    /// One that others can follow, and its port: replicas connect by TCP alone.
    pub(crate) fn start_primary() -> (Self, u16) {
        Self::start_at_a_port(&["--repl-diskless-sync-delay", "0"])
    }

    /// A replica of the one at this port, which has all that that one has, and its port.
    pub(crate) async fn follow(primary: u16) -> (Self, u16) {
        let (replica, port) = Self::start_at_a_port(&["--replicaof", "127.0.0.1", &primary.to_string()]);
        eventually("the replica follows", async || {
            replica.command(&["INFO", "replication"]).contains("master_link_status:up")
        })
        .await;
        (replica, port)
    }

    /// One with a port, for those that speak TCP alone.
    fn start_at_a_port(settings: &[&str]) -> (Self, u16) {
        // Another program may take the port meanwhile.
        let attempt = |_| Self::try_at_a_port(settings);
        (0..10).find_map(attempt).expect("redis-server is needed for this test, and a free port")
    }

    /// The same; `None` where a port is taken by another program.
    pub(crate) fn try_at_a_port(settings: &[&str]) -> Option<(Self, u16)> {
        let port = free_port();
        let address = ["--bind", "127.0.0.1", "--port", &port.to_string()];
        Some((Self::start_with(&[&address, settings].concat())?, port))
    }

    /// `None` when it ends before it serves.
    fn start_with(settings: &[&str]) -> Option<Self> {
        // In memory where the machine has such a place: what a process has written outlives it in any case.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let settings: Vec<String> = settings.iter().map(|&word| word.to_owned()).collect();
        let process = spawn(&directory, &settings)?;
        Some(Self { directory, settings, process })
    }

    /// Its address, as nodes are told it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with what it had kept, after [`Redis::kill`].
    pub(crate) fn start_again(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
        self.process = spawn(&self.directory, &self.settings).expect("redis-server starts again");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// What it answers to a command.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.arg("-s").arg(self.socket()).arg("-e").args(words);
        let answered =
            client.output().expect("redis-cli is needed for this test (Debian package redis-tools)");
        let [answer, errors] =
            [answered.stdout, answered.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(answered.status.success(), "{words:?}: {answer}{errors}");
        answer.trim_end().to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts it, and waits until it serves. `None` when it ends before.
fn spawn(directory: &TempDir, settings: &[String]) -> Option<Child> {
    let mut command = Command::new("redis-server");
    if !settings.iter().any(|word| word == "--port") {
        command.args(["--port", "0"]);
    }
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    command.arg("--dir").arg(directory.path());
    command.arg("--unixsocket").arg(directory.path().join("socket")).args(settings);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (serves, serving) = mpsc::channel();
    // Reads to the end, so that the pipe never fills.
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("eady to accept connections") {
                // Nobody listens after the first time.
                let _ = serves.send(());
            }
        }
    });
    // The sender is dropped when the process has ended.
    if serving.recv_timeout(PATIENCE).is_err() {
        let _ = process.kill();
        let _ = process.wait();
        return None;
    }
    Some(process)
}
