//! What `uproar check` and a start say about the Redis of a cluster: Debian's `redis-server`, started by each test.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longer than anything takes, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `redis-server` on a unix socket, killed when it is dropped.
struct Redis {
    _process: Child,
    directory: TempDir,
}

impl Redis {
    async fn start(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--dir"]).arg(directory.path());
        command.arg("--unixsocket").arg(directory.path().join("socket")).args(settings);
        let mut process = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is needed for this test (Debian package redis-server)");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("ready to accept connections") {
                    return;
                }
            }
            panic!("redis-server has ended");
        };
        timeout(PATIENCE, ready).await.expect("redis-server is ready");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _process: process, directory }
    }

    /// One that is as it should be.
    async fn good(settings: &[&str]) -> Self {
        Self::start(&[&["--appendonly", "yes"], settings].concat()).await
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// What the program has said until its end.
struct Said {
    code: Option<i32>,
    report: String,
    errors: String,
}

async fn run(args: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("uproar ends").unwrap();
    let [report, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(!report.contains("s3cret") && !errors.contains("s3cret"), "{report}{errors}");
    Said { code: output.status.code(), report, errors }
}

/// Starts a server, which goes on, and waits for these lines of its log, in any order.
async fn start_until(args: &[&str], wanted: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.args(["--listen=127.0.0.1:0", "--shards=1", "--node=a"]).args(args);
    let mut server = command.stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    let reading = async {
        while !wanted.iter().all(|wanted| seen.contains(wanted)) {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it has ended: {seen}"));
            seen += &line;
            seen += "\n";
        }
    };
    assert!(timeout(PATIENCE, reading).await.is_ok(), "{wanted:?} in {seen}");
    assert!(!seen.contains("s3cret"), "{seen}");
}

#[tokio::test]
async fn a_redis_that_is_as_it_should_be_is_told_line_by_line() {
    let redis = Redis::good(&[]).await;
    let checked = run(&["check", "--redis", &url(&redis.socket())], &[]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.report, checked.errors);
    for line in [
        "ok       redis        version 7.",
        "ok       redis        cluster mode off",
        "ok       redis        role master",
        "ok       redis        eviction policy noeviction",
        "ok       redis        permissions all that are needed",
        "ok       redis        memory ",
        "ok       redis        persistence append-only file",
        "ok       redis        appendfsync everysec",
        "ok       redis        latency ",
    ] {
        assert!(checked.report.contains(line), "{line} in {}", checked.report);
    }
}

#[tokio::test]
async fn a_redis_that_will_not_do_is_told_with_what_it_should_be() {
    let settings = ["--maxmemory", "1", "--maxmemory-policy", "allkeys-lru", "--replicaof", "127.0.0.1 1"];
    let redis = Redis::start(&settings).await;
    let url = url(&redis.socket());
    let lines = [
        "fatal    redis        role slave: give the address of the primary",
        "fatal    redis        eviction policy allkeys-lru: set maxmemory-policy noeviction",
        "fatal    redis        memory ",
        "lacking  redis        persistence none: set appendonly yes",
    ];
    let checked = run(&["check", "--redis", &url], &[]).await;
    assert_eq!(checked.code, Some(2), "{}{}", checked.report, checked.errors);
    let refused = run(&["--listen=127.0.0.1:0", "--shards=1", "--node=a", "--redis", &url], &[]).await;
    assert_eq!(refused.code, Some(2), "{}{}", refused.report, refused.errors);
    for line in lines {
        assert!(checked.report.contains(line), "{line} in {}", checked.report);
        assert!(refused.errors.contains(line), "{line} in {}", refused.errors);
    }
}

#[tokio::test]
async fn replicas_that_are_asked_for_and_not_there_are_lacking() {
    let redis = Redis::good(&[]).await;
    let checked = run(&["check", "--redis", &url(&redis.socket()), "--redis-replicas", "2"], &[]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.report, checked.errors);
    for line in [
        "lacking  redis        replicas 0 connected, 2 asked for: connect more replicas",
        "lacking  redis        min-replicas-to-write 0: set min-replicas-to-write 1",
    ] {
        assert!(checked.report.contains(line), "{line} in {}", checked.report);
    }
}

#[tokio::test]
async fn what_is_unwise_is_logged_at_the_start() {
    let redis = Redis::start(&[]).await;
    let url = url(&redis.socket());
    let warning = "WARN Redis: persistence none: set appendonly yes, or everything is lost";
    start_until(&["--redis", &url], &[warning]).await;
    let redis = Redis::good(&["--requirepass", "s3cret"]).await;
    let with_password = format!("{}?pass=s3cret", self::url(&redis.socket()));
    start_until(&["--redis", &with_password], &["ps shows everybody the password in --redis"]).await;
}

#[tokio::test]
async fn a_redis_out_of_reach_fails_the_check_and_is_waited_for_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(&directory.path().join("socket"));
    let checked = run(&["check", "--redis", &url], &[]).await;
    assert_eq!(checked.code, Some(2), "{}{}", checked.report, checked.errors);
    let line = format!("fatal    redis        {url} is out of reach: No such file");
    assert!(checked.report.contains(&line), "{}", checked.report);
    start_until(&["--redis", &url], &[&format!("WARN Redis: {url} is out of reach: No such file")]).await;
}

#[tokio::test]
async fn a_server_that_waits_for_redis_ends_in_order_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
    command.args(["--listen=127.0.0.1:0", "--shards=1", "--node=a"]);
    command.args(["--redis", &url(&directory.path().join("socket"))]);
    let mut server = command.stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("it has ended").contains("cannot connect to Redis") {}
    let process = Pid::from_raw(server.id().unwrap().cast_signed()).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    // It would wait for Redis for 40 s.
    let ended = timeout(Duration::from_secs(20), server.wait()).await.expect("it has ended").unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn the_password_is_taken_from_a_file_or_a_variable_and_never_shown() {
    let redis = Redis::good(&["--requirepass", "s3cret"]).await;
    let url = url(&redis.socket());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let file = file.path().to_str().unwrap();
    let check = ["check", "--redis", &url];
    for (args, variables, is_right) in [
        (&[][..], &[][..], false),
        (&[], &[("UPROAR_REDIS_PASSWORD", "s3cret")], true),
        (&[], &[("UPROAR_REDIS_PASSWORD", "not s3cret, but s3cret2")], false),
        (&["--redis-password-file", file], &[], true),
    ] {
        let checked = run(&[&check[..], args].concat(), variables).await;
        let is_ok = checked.report.contains("ok       redis        version");
        let is_refused = checked.report.contains(&format!("fatal    redis        {url} refuses: "));
        assert_eq!((is_ok, is_refused), (is_right, !is_right), "{variables:?}: {}", checked.report);
    }
    let as_user = format!("{url}?user=default");
    let checked = run(&["check", "--redis", &as_user, "--redis-password-file", file], &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.report);
    let with_password = format!("{url}?pass=s3cret");
    let checked = run(&["check", "--redis", &with_password], &[]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.report);
    assert!(checked.errors.starts_with("warning: ps shows everybody the password"), "{}", checked.errors);
}
