//! A Redis for all tests of this process, with a database of its own for each of them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::PATIENCE;

/// Databases, of which each test takes one.
const DATABASES: u32 = 4_096;

struct Redis {
    socket: PathBuf,
    next_database: AtomicU32,
    _directory: TempDir,
    /// Redis ends with the input of this process, which is closed when the tests have ended.
    _keeper: Child,
}

static REDIS: OnceLock<Redis> = OnceLock::new();

/// The address of a database that nobody has used.
pub(crate) fn new_redis_database() -> String {
    let Redis { socket, next_database, .. } = REDIS.get_or_init(Redis::start);
    let database = next_database.fetch_add(1, Ordering::Relaxed);
    assert!(database < DATABASES, "more tests than databases");
    format!("unix://{}?db={database}", socket.display())
}

impl Redis {
    fn start() -> Self {
        let directory = super::server::data_directory();
        let socket = directory.path().join("redis.sock");
        let redis = format!(
            "redis-server --port 0 --unixsocket {} --databases {DATABASES} --save '' --dir {} >&2 & cat; kill $!",
            socket.display(),
            directory.path().display()
        );
        let keeper = Command::new("sh")
            .args(["-c", &redis])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start: is it installed?");
            thread::sleep(Duration::from_millis(10));
        }
        Self { socket, next_database: AtomicU32::new(0), _directory: directory, _keeper: keeper }
    }
}
