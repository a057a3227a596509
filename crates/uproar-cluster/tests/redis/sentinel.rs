//! Three Sentinels, a primary and a replica.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use uproar_cluster::Answer;

use crate::client::{Got, Node};
use crate::node::publish;

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    pub(crate) fn start(directory: &Path, port: u16, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let child = Command::new("redis-server")
            .args(arguments)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for this test (Debian package redis-server)");
        Self { child, port }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        until("it answers", || {
            let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
            redis::cmd("PING").query::<()>(&mut connection).ok().map(|()| connection)
        })
    }

    fn info(&self, field: &str) -> String {
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut self.connection()).unwrap();
        info.get(field).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn until<R>(what: &str, mut look: impl FnMut() -> Option<R>) -> R {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports that nobody has. Another program may take one before it is used: then the test says which, and fails.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A primary, its replica, and who watches them.
struct Redis {
    primary: Process,
    replica: Process,
    sentinels: Vec<Process>,
    _directory: TempDir,
}

impl Redis {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let [primary, replica, sentinels @ ..] = free_ports::<5>();
        let settings = ["--save", "", "--appendonly", "yes"];
        let primary = Process::start(&at("primary"), primary, &settings);
        let of = primary.port.to_string();
        let replica = Process::start(
            &at("replica"),
            replica,
            &[&settings[..], &["--replicaof", "127.0.0.1", &of]].concat(),
        );
        until("it replicates", || (replica.info("master_link_status") == "up").then_some(()));
        let sentinels = sentinels.map(|port| {
            let directory = at(&format!("sentinel {port}"));
            std::fs::create_dir_all(&directory).unwrap();
            let settings = format!(
                "sentinel monitor main 127.0.0.1 {of} 2\nsentinel down-after-milliseconds main 1000\n\
                 sentinel failover-timeout main 3000\n"
            );
            std::fs::write(directory.join("sentinel.conf"), settings).unwrap();
            let file = directory.join("sentinel.conf").display().to_string();
            Process::start(&directory, port, &[&file, "--sentinel"])
        });
        for sentinel in &sentinels {
            let mut connection = sentinel.connection();
            until("the Sentinels know each other and the replica", || {
                let ask = |what: &str| -> Vec<redis::Value> {
                    redis::cmd("SENTINEL").arg(what).arg("main").query(&mut connection).unwrap_or_default()
                };
                let mut ask = ask;
                (ask("sentinels").len() == 2 && ask("replicas").len() == 1).then_some(())
            });
        }
        Self { primary, replica, sentinels: sentinels.into(), _directory: directory }
    }

    fn address(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+sentinel://{}/main", sentinels.join(","))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_the_end_loses_no_message() {
    let redis = Redis::start();
    let mut a = Node::begin("a", 1, &redis.address()).await;
    let mut b = Node::begin("b", 2, &redis.address()).await;
    let room = a.open("general").await;
    for n in 1..=20 {
        assert_eq!(a.decide(publish(&room, &format!("kept {n}"))).await, Got::Answer(Answer::Sent(n)));
    }
    let epoch = a.mirror.epoch.clone();
    // The replica gets nothing of these.
    redis.replica.signal(Signal::STOP);
    for n in 21..=40 {
        assert_eq!(b.decide(publish(&room, &format!("lost {n}"))).await, Got::Answer(Answer::Sent(n)));
    }
    redis.primary.signal(Signal::KILL);
    redis.replica.signal(Signal::CONT);
    let begun = Instant::now();
    let of_a = a.propose(publish(&room, "after"), None).await;
    let outcomes = [b.decide(publish(&room, "after")).await, a.outcome(of_a).await];
    assert!([41, 42].iter().all(|id| outcomes.contains(&Got::Answer(Answer::Sent(*id)))), "{outcomes:?}");
    assert_eq!(redis.replica.info("role"), "master");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(b.mirror.epoch, epoch, "nobody has lost anything");
    assert_eq!(b.decide(publish(&room, "end")).await, Got::Answer(Answer::Sent(43)));
    // What the replica did not have was appended again as it was.
    let ids: Vec<u64> =
        b.mirror.rooms["general"].history.iter().map(uproar_cluster::KeptMessage::id).collect();
    assert_eq!(ids, [39, 40, 41, 42, 43]);
}
