//! The server under test, as a process.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use super::cluster::new_redis_database;
use super::{Certificate, PATIENCE, Wire, eventually, request, within};

/// What a file may grow to where files are small: some messages of the longest kind.
const SMALL_FILE_KIB: usize = 200;

/// A command line in the making.
#[derive(Clone, Default)]
pub(crate) struct Launch {
    address: Option<SocketAddr>,
    name: Option<String>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    data: Option<Arc<TempDir>>,
    certificate: Option<Arc<Certificate>>,
    has_small_files: bool,
    stdout: Option<Arc<OwnedFd>>,
    stderr: Option<Arc<OwnedFd>>,
    /// Where the nodes of a cluster find Redis.
    redis: Option<String>,
}

/// A running server. It is killed when dropped, and its output is printed when its test fails.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    output: Arc<Mutex<String>>,
    /// Stays while the server may write to it.
    _data: Option<Arc<TempDir>>,
    certificate: Option<Arc<Certificate>>,
    /// How many connections the kernel has made to it, whether or not it has accepted them.
    connections_made: AtomicU64,
    /// The other node of its cluster, to which every second connection goes.
    other: Option<Box<Server>>,
}

impl Launch {
    pub(crate) fn with_shards(shards: usize) -> Self {
        Self::default().flag("--shards", shards)
    }

    pub(crate) fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A flag without a value.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// Gives it a new directory for what outlives the process. Servers that are started one after another
    /// from clones of this have it in common.
    pub(crate) fn durable(self) -> Self {
        let data = data_directory();
        let launch = self.flag("--data", data.path().display());
        Self { data: Some(Arc::new(data)), ..launch }
    }

    /// Gives it a certificate, so that it speaks TLS alone.
    pub(crate) fn over_tls(self) -> Self {
        self.with_certificate(Certificate::new())
    }

    /// Gives it this certificate.
    pub(crate) fn with_certificate(self, certificate: Certificate) -> Self {
        let launch = self.flag("--tls-cert", certificate.chain().display());
        let launch = launch.flag("--tls-key", certificate.key().display());
        Self { certificate: Some(Arc::new(certificate)), ..launch }
    }

    /// Makes it two servers that share rooms.
    pub(crate) fn on_two_nodes(self) -> Self {
        Self { redis: Some(new_redis_database()), ..self }
    }

    /// That directory.
    pub(crate) fn data(&self) -> &Path {
        self.data.as_ref().expect("a durable launch").path()
    }

    /// Limits the size of its files to [`SMALL_FILE_KIB`], which looks like a full disk to the server.
    pub(crate) fn with_small_files(self) -> Self {
        Self { has_small_files: true, ..self }
    }

    /// Listens there instead of on a free port.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Writes its log there instead of to the harness.
    pub(crate) fn logging_to(self, stderr: OwnedFd) -> Self {
        Self { stderr: Some(Arc::new(stderr)), ..self }
    }

    /// Writes there where it listens. As the harness does not hear of it, it must have been told by
    /// [`Launch::at`].
    pub(crate) fn announcing_to(self, stdout: OwnedFd) -> Self {
        Self { stdout: Some(Arc::new(stdout)), ..self }
    }

    /// Has the host of that address be given by its name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    pub(crate) fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Lifts the rate limit, for tests that send as fast as they can.
    pub(crate) fn without_rate_limit(self) -> Self {
        self.flag("--rate", 1_000_000).flag("--burst", 1_000_000)
    }

    /// Starts the server, and returns once it has said where it listens.
    pub(crate) fn start(self) -> Server {
        let Some(redis) = &self.redis else { return self.start_one() };
        let node = |name: &str| {
            let launch = Self { redis: None, ..self.clone() };
            launch.flag("--redis", redis).flag("--node", name)
        };
        // Both at once: the first start of a cluster waits for others.
        let (first, second) = (node("a"), node("b"));
        let second = thread::spawn(move || second.start_one());
        let mut first = first.start_one();
        first.other = Some(Box::new(second.join().expect("the other node starts")));
        first
    }

    fn start_one(self) -> Server {
        let listen = match (self.address, &self.name) {
            (None, _) => "127.0.0.1:0".to_owned(),
            (Some(address), None) => address.to_string(),
            (Some(address), Some(name)) => format!("{name}:{}", address.port()),
        };
        let mut command = match self.has_small_files {
            false => Command::new(env!("CARGO_BIN_EXE_uproar")),
            true => {
                let limit = format!("ulimit -S -f {SMALL_FILE_KIB}; exec \"$@\"");
                let mut bash = Command::new("bash");
                bash.args(["-c", &limit, "bash", env!("CARGO_BIN_EXE_uproar")]);
                bash
            }
        };
        let piped = |to: &Option<Arc<OwnedFd>>| match to {
            None => Stdio::piped(),
            Some(to) => to.try_clone().expect("a descriptor").into(),
        };
        let mut child = command
            .args(["--listen", &listen])
            .args(&self.arguments)
            .envs(self.variables)
            .stdin(Stdio::null())
            .stdout(piped(&self.stdout))
            .stderr(piped(&self.stderr))
            .spawn()
            .expect("the binary starts");
        let output = Arc::new(Mutex::new(String::new()));
        let (announce, announced) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            keep(stderr, output.clone(), None);
        }
        let address = match (child.stdout.take(), self.address) {
            (Some(stdout), _) => {
                keep(stdout, output.clone(), Some(announce));
                announced.recv_timeout(PATIENCE).ok()
            }
            (None, None) => panic!("its address is not printed"),
            (None, Some(address)) => has_server(address).then_some(address),
        };
        let Some(address) = address else {
            let _ = child.kill();
            let output = output.lock().unwrap();
            panic!("the server with {:?} did not start to listen:\n{output}", self.arguments);
        };
        let connections_made = AtomicU64::new(0);
        Server {
            child,
            address,
            output,
            _data: self.data,
            certificate: self.certificate,
            connections_made,
            other: None,
        }
    }
}

/// Waits until requests are answered. Before that, connections may be accepted by a listener that only looks
/// whether the address is free.
fn has_server(address: SocketAddr) -> bool {
    let answered = || -> io::Result<bool> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        Ok(stream.read(&mut [0; 1])? > 0)
    };
    let deadline = Instant::now() + PATIENCE;
    while !answered().unwrap_or(false) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// A new directory for `--data`. It is in memory where the machine has such a place: no test outlives the machine,
/// and a disk that other programs keep busy delays none.
pub(crate) fn data_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Collects what the server prints, so that its pipe never fills, and reports the address.
fn keep(
    stream: impl Read + Send + 'static,
    output: Arc<Mutex<String>>,
    announce: Option<Sender<SocketAddr>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // As text, or in a string of JSON.
            let address = line.split_once("listening on http").and_then(|(_, rest)| {
                rest.trim_start_matches('s').strip_prefix("://")?.split('"').next()?.parse().ok()
            });
            if let (Some(announce), Some(address)) = (&announce, address) {
                let _ = announce.send(address);
            }
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same server, to be reached at another of its addresses.
    pub(crate) fn reached_at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The certificate, where it speaks TLS.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> TcpStream {
        self.connect_with(TcpSocket::new_v4().unwrap()).await
    }

    /// Connects this socket to it.
    pub(crate) async fn connect_with(&self, socket: TcpSocket) -> TcpStream {
        let before = self.connections_made.fetch_add(1, Ordering::Relaxed);
        let address = match &self.other {
            Some(other) if before % 2 == 1 => other.address,
            _ => self.address,
        };
        within("connection", socket.connect(address)).await.expect("the server accepts")
    }

    /// All lines that it has printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server is still there");
    }

    /// From now on no file can be written: the disk has failed.
    pub(crate) fn refuse_writes(&self) {
        self.limit_files(Some(0));
    }

    /// Undoes [`Launch::with_small_files`] and [`Server::refuse_writes`].
    pub(crate) fn lift_limit_of_files(&self) {
        self.limit_files(None);
    }

    fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a soft limit is ours to set");
    }

    /// Waits for the process to end by itself, and for the last that it has printed.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server has exited", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        // Those who collect it hold it until they have come to its end.
        eventually("all that it has printed is read", async || Arc::strong_count(&self.output) == 1).await;
        status.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn descriptors(&self) -> usize {
        self.open_files().len()
    }

    /// How many sockets are open: one for each connection, and those the server always has.
    pub(crate) fn sockets(&self) -> usize {
        let files: HashSet<_> = self.open_files().into_iter().collect();
        files.iter().filter(|name| name.starts_with("socket:")).count()
    }

    /// Waits until it has accepted every connection that was made to it. One that its client has left again may
    /// still be in the backlog, which no count of its sockets shows.
    async fn accepts_everyone(&self) {
        eventually("everyone is accepted", async || {
            let mut wire = Wire::connect(self).await;
            wire.send(request(self, "GET", "/metrics", "")).await;
            let metrics = wire.response().await.body;
            let mut lines = metrics.lines();
            let accepted = lines.find_map(|line| line.strip_prefix("uproar_connections_accepted_total "));
            let accepted: u64 = accepted.expect(&metrics).parse().unwrap();
            // The one that asks is among both.
            accepted >= self.connections_made.load(Ordering::Relaxed)
        })
        .await;
    }

    /// Waits until all connections were accepted, and no more sockets are open than there were before.
    pub(crate) async fn falls_to_sockets(&self, before: usize) {
        self.accepts_everyone().await;
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.sockets() > before {
            assert!(Instant::now() < deadline, "more than {before} still open: {:#?}", self.open_files());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn open_files(&self) -> Vec<String> {
        let directory = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        // One that is closed meanwhile has no name any more.
        let names = directory.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        names.map(|name| name.display().to_string()).collect()
    }

    pub(crate) fn resident_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's output\n{}", self.output.lock().unwrap());
        }
    }
}

/// What a command that ends by itself left behind.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Everything that it has printed.
    pub(crate) fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs the binary to its end.
pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    finish(arguments, variables, "").await
}

/// Runs the binary to its end, with `input` as all that it can read.
pub(crate) async fn run_with_input(arguments: &[&str], input: &str) -> Finished {
    finish(arguments, &[], input).await
}

async fn finish(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Finished {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("end of uproar {arguments:?}");
    let output = super::within(&name, async {
        let mut child = command.spawn().expect("the binary starts");
        // Fails when it has ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        child.wait_with_output().await
    });
    let output = output.await.expect("the binary has run");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
