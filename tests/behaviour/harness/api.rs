//! A backend: a client of the HTTP API that decides about each byte of its requests.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::data_directory;
use super::{Launch, PATIENCE, Server, run, within};

/// A file of keys, as `uproar api-key` makes their lines. Removed when dropped.
pub(crate) struct ApiKeys {
    directory: TempDir,
}

/// A backend with a key, or without one.
pub(crate) struct Backend {
    address: SocketAddr,
    key: Option<String>,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl ApiKeys {
    /// A file without a key.
    pub(crate) fn new() -> Self {
        let keys = Self { directory: data_directory() };
        std::fs::write(keys.path(), "# keys\n").unwrap();
        keys
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("api.keys")
    }

    /// Adds a key with these scopes, all if there are none, and returns it.
    pub(crate) async fn add(&self, name: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["api-key", name];
        scopes.iter().for_each(|scope| arguments.extend(["--scope", scope]));
        let made = run(&arguments, &[]).await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let (line, key) = made.stdout.trim_end().split_once('\n').expect("two lines");
        let lines = std::fs::read_to_string(self.path()).unwrap();
        std::fs::write(self.path(), format!("{lines}{line}\n")).unwrap();
        key.to_owned()
    }
}

impl Launch {
    /// Serves the HTTP API on a free port, with these keys.
    pub(crate) fn with_api(self, keys: &ApiKeys) -> Self {
        self.flag("--api-listen", "127.0.0.1:0").flag("--api-key-file", keys.path().display())
    }
}

impl Server {
    /// Where it serves the HTTP API. The log says that, which may be read later than the banner.
    pub(crate) fn api_address(&self) -> SocketAddr {
        let find = || {
            let output = self.output();
            let mut lines = output.lines();
            lines.find_map(|line| {
                let (_, rest) = line.split_once("the HTTP API listens")?;
                // As text, or as a field of JSON.
                let (_, rest) = rest.split_once("address=").or_else(|| rest.split_once("\"address\":\""))?;
                rest.split([' ', '"']).next()?.parse().ok()
            })
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = find() {
                return address;
            }
            assert!(Instant::now() < deadline, "it does not say where the HTTP API is:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Backend {
    /// A backend with this key.
    pub(crate) fn with_key(server: &Server, key: &str) -> Self {
        Self { address: server.api_address(), key: Some(key.to_owned()) }
    }

    /// A backend without a key.
    pub(crate) fn without_key(server: &Server) -> Self {
        Self { address: server.api_address(), key: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"").await
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes()).await
    }

    /// Sends a request with more header fields, and reads the answer.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = self.head(method, path);
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let request = [format!("{head}\r\n").as_bytes(), body].concat();
        let mut stream = self.connect().await;
        // It may be answered before it is read whole.
        let _ = within("request", stream.write_all(&request)).await;
        read_answer(&mut stream).await
    }

    /// The beginning of a request that is the last one of its connection.
    pub(crate) fn head(&self, method: &str, path: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(key) = &self.key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        head
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        within("connection", TcpStream::connect(self.address)).await.expect("the API accepts")
    }
}

/// Reads an answer to the end of its connection.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset behind the answer loses nothing that was read.
    let _ = within("answer", stream.read_to_end(&mut bytes)).await;
    Answer::parse(&String::from_utf8(bytes).unwrap())
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect(text).parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect(line);
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Fails unless it is a problem of this status and type.
    pub(crate) fn assert_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:uproar:problem:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}

/// The answer of a request that is sent through a unix socket.
pub(crate) async fn through_unix_socket(path: &Path, request: &str) -> Answer {
    let mut stream = within("connection", tokio::net::UnixStream::connect(path)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within("answer", stream.read_to_end(&mut bytes)).await.unwrap();
    Answer::parse(&String::from_utf8(bytes).unwrap())
}
