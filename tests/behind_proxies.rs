//! nginx and HAProxy in front of the server, configured as docs/operating.md says: the server sees the address of each
//! client. It needs both programs, which `scripts/test` installs.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// How long an event may take before its absence is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The address of the clients, and another one that they pretend to have.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const PRETENDED: &str = "203.0.113.9";

#[test]
fn nginx_tells_the_address_in_x_forwarded_for() {
    let server = Server::start(&[]);
    let location = snippet("nginx", "location");
    let proxy = Proxy::nginx(|listen| {
        let location = location.replace("127.0.0.1:8080", &server.address.to_string());
        format!("http {{ access_log off; {TEMPORARY} server {{ listen {listen}; {location} }} }}")
    });
    assert_told(&server, &proxy, |own| own.ip().to_string());
}

#[test]
fn haproxy_tells_the_address_in_x_forwarded_for() {
    let server = Server::start(&[]);
    let config = snippet("haproxy", "defaults");
    let proxy = Proxy::haproxy(|listen| {
        let config = config.replace("127.0.0.1:8080", &server.address.to_string());
        config.replace("bind :80", &format!("bind {listen}"))
    });
    assert_told(&server, &proxy, |own| own.ip().to_string());
}

#[test]
fn nginx_tells_the_address_by_the_proxy_protocol() {
    let server = Server::start(&["--proxy-protocol"]);
    let stream = snippet("nginx", "stream");
    let proxy = Proxy::nginx(|listen| {
        let stream = stream.replace("127.0.0.1:8443", &server.address.to_string());
        stream.replace("listen 443", &format!("listen {listen}"))
    });
    assert_told(&server, &proxy, |own| own.to_string());
}

#[test]
fn haproxy_tells_the_address_by_the_proxy_protocol() {
    let server = Server::start(&["--proxy-protocol"]);
    let config = snippet("haproxy", "defaults");
    let proxy = Proxy::haproxy(|listen| {
        let config = config.replace("mode http", "mode tcp").replace("    option forwardfor\n", "");
        let config = config.replace("bind :80", &format!("bind {listen}"));
        config.replace("127.0.0.1:8080", &format!("{} send-proxy-v2 check inter 100ms", server.address))
    });
    assert_told(&server, &proxy, |own| own.to_string());
    assert!(!server.log().contains("no header of the PROXY protocol"), "{}", server.log());
}

/// Directories of nginx that only root may use by default.
const TEMPORARY: &str =
    "client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;";

/// The part of docs/operating.md in this language that begins with this word.
fn snippet(language: &str, start: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let mut snippets = page.split("```");
    let found = snippets.find_map(|block| {
        block.strip_prefix(language)?.strip_prefix('\n').filter(|text| text.starts_with(start))
    });
    found.expect("a snippet").to_owned()
}

/// Connects through the proxy, and compares the address that the server tells, and logs, with the expected one.
fn assert_told(server: &Server, proxy: &Proxy, expected: impl FnOnce(SocketAddr) -> String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((CLIENT, 0)).into()).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let expected = expected(stream.local_addr().unwrap());
    // A page of the site, on which the server has only its loopback address.
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: chat.example\r\nOrigin: http://chat.example\r\nX-Forwarded-For: {PRETENDED}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = String::new();
    while !received.contains("user_list") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).expect("the handshake of the hub");
        assert!(count > 0, "{received}");
        received.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(received.contains(&format!("\"ip\":\"{expected}\"")), "{expected}: {received}");
    until("a line of the log", || server.log().contains(&format!("peer={expected}\n")));
}

/// Asks until it is true.
fn until(name: &str, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question() {
        assert!(Instant::now() < deadline, "never true: {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
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

    fn log(&self) -> String {
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
struct Proxy {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Proxy {
    fn nginx(config: impl FnOnce(SocketAddr) -> String) -> Self {
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

    fn haproxy(config: impl FnOnce(SocketAddr) -> String) -> Self {
        Self::start("haproxy", config, |command, directory| {
            command.arg("-db").arg("-f").arg(directory.join("config"));
        })
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
        Self { child, address, _directory: directory }
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
