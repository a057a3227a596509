//! Three Sentinels, which make a replica the primary when the primary has died.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::eventually;
use crate::nodes::{becomes_ready, becomes_unready, node_at, start};
use crate::redis::{Redis, free_port};
use crate::room::{all_hear, history, one_on_each};

#[tokio::test]
async fn nodes_ask_them_where_redis_is_and_follow_it() {
    let (mut primary, port) = Redis::start_primary();
    let (replica, _) = Redis::follow(port).await;
    let sentinels = [(); 3].map(|()| Sentinel::watch(port));
    for sentinel in &sentinels {
        sentinel.knows_everybody().await;
    }
    let addresses = sentinels.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).join(",");
    let redis = format!("redis+sentinel://{addresses}/main");
    let [a, b] = start(["a", "b"].map(|name| node_at(&redis, name)));
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let first = all_hear(&mut alice, &mut [&mut bob], "before").await;
    let before = history(&mut bob).await;
    primary.kill();
    becomes_unready(&a).await;
    becomes_unready(&b).await;
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    assert!(replica.command(&["INFO", "replication"]).contains("role:master"));
    all_hear(&mut alice, &mut [&mut bob], "after").await;
    let last = all_hear(&mut bob, &mut [&mut alice], "and on").await;
    let after = history(&mut alice).await;
    assert_eq!(after.contents(), ["before", "after", "and on"]);
    assert_eq!((last, after.epoch), (first + 2, before.epoch), "nobody has lost anything");
}

/// It is killed when dropped.
struct Sentinel {
    port: u16,
    process: Child,
    _directory: TempDir,
}

impl Sentinel {
    /// One that calls the primary at this port `main`.
    fn watch(primary: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        // It writes what it finds out into its file.
        let file = directory.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 3000\n"
        );
        std::fs::write(&file, settings).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for this test (Debian package redis-server)");
        Self { port, process, _directory: directory }
    }

    /// Waits until it has found the other Sentinels and the replica.
    async fn knows_everybody(&self) {
        eventually("the Sentinels know each other", async || {
            self.answers(&["CKQUORUM", "main"]).starts_with("OK 3 usable Sentinels")
                && self.answers(&["REPLICAS", "main"]).contains("runid")
        })
        .await;
    }

    fn answers(&self, question: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &self.port.to_string(), "SENTINEL"]).args(question);
        String::from_utf8(client.output().expect("redis-cli").stdout).unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
