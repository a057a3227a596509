//! The programs: servers, nginx and HAProxy, each killed when it is dropped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// How long an event may take before its absence is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Directories of nginx that only root may use by default.
pub(crate) const NGINX_DIRECTORIES: &str =
    "client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;";

/// A connection from this address.
pub(crate) fn connect_from(client: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The request that opens a WebSocket connection, with further headers.
pub(crate) fn upgrade_request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: chat.example\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads up to these words.
pub(crate) fn read_to(stream: &mut TcpStream, words: &str) -> String {
    let mut received = String::new();
    while !received.contains(words) {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).expect(words);
        assert!(count > 0, "{received}");
        received.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    received
}

/// Asks until it is true.
pub(crate) fn until(name: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < deadline, "never true: {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Server {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_uproar"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--shards",
                "1",
                "--trusted-proxy",
                "127.0.0.1",
                "--log-level",
                "debug",
            ])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("http://")?.1.parse().ok());
        Self { child, address: address.expect("an address"), directory }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// True once it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy, killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    pub(crate) fn nginx(config: impl FnOnce(SocketAddr) -> String) -> Self {
        let config = |listen| {
            // The paths are below the directory of the test, except that of the module.
            let modules = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
            let own = "daemon off; master_process off; pid pid; error_log error.log; events {}";
            format!("{modules} {own} {}", config(listen))
        };
        Self::start("nginx", config, |command, directory| {
            command.arg("-p").arg(directory).args(["-c", "config", "-e", "error.log"]);
        })
    }

    pub(crate) fn haproxy(config: impl FnOnce(SocketAddr) -> String) -> Self {
        Self::start("haproxy", config, |command, directory| {
            command.current_dir(directory).args(["-db", "-f", "config"]);
        })
    }

    /// What HAProxy answers to a command on its socket, `uproar.sock`.
    pub(crate) fn tell(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.directory.path().join("uproar.sock")).unwrap();
        socket.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start(
        program: &str,
        config: impl FnOnce(SocketAddr) -> String,
        arguments: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let address = free_address();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config"), config(address)).unwrap();
        // Debian has both where only root looks for programs.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        arguments(&mut command, directory.path());
        let mut child =
            command.env("PATH", path).spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        until("the proxy listens", || {
            assert_eq!(child.try_wait().unwrap(), None, "{program} has ended");
            TcpStream::connect(address).is_ok()
        });
        Self { child, address, directory }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of an address that no other program uses: the proxies cannot be told to listen on any free one.
fn free_address() -> SocketAddr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1 + low % 254, high, 7), 0)).unwrap();
    listener.local_addr().unwrap()
}
