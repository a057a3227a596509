//! Which dialects a server speaks, and the warning of one that lets strangers publish.

use rustix::process::Signal;

use crate::harness::{Launch, Wire, eventually, on_one_and_four_shards_only, request, upgrade_request};
use crate::http_paths::answer;

on_one_and_four_shards_only! {
    the_paths_of_other_dialects_do_not_exist,
    a_server_that_strangers_may_publish_on_says_so,
}

async fn the_paths_of_other_dialects_do_not_exist(launch: Launch) {
    let all = ["/", "/chat", "/ws", "/broadcast", "/broadcast/news", "/echo"];
    for (dialects, spoken) in [
        ("raw,hub", &["/ws", "/broadcast", "/broadcast/news"][..]),
        ("chat", &["/", "/chat"]),
        ("echo, chat", &["/", "/chat", "/echo"]),
    ] {
        let server = launch.clone().flag("--dialects", dialects).start();
        for path in all {
            let mut wire = Wire::connect(&server).await;
            wire.send(upgrade_request(path)).await;
            let expected = if spoken.contains(&path) { 101 } else { 404 };
            assert_eq!(wire.head().await.status, expected, "{dialects} {path}");
            for method in ["GET", "POST"] {
                let status = answer(&server, &request(&server, method, path, "")).await.status;
                assert_eq!(status != 404, spoken.contains(&path), "{dialects} {method} {path}");
            }
        }
        assert_eq!(answer(&server, &request(&server, "GET", "/healthz", "")).await.status, 200);
    }
}

async fn a_server_that_strangers_may_publish_on_says_so(launch: Launch) {
    const WARNING: &str = "strangers may publish";
    let everywhere = launch.clone().at(([0, 0, 0, 0], 0).into());
    let server = everywhere.clone().flag("--dialects", "chat,raw,echo").start();
    eventually("a warning", async || {
        let output = server.output();
        let warning = output.lines().find(|line| line.contains(WARNING));
        warning.is_some_and(|line| {
            ["WARN", "as raw, echo ", "--auth required", "--dialects chat", "--listen 127.0.0.1"]
                .iter()
                .all(|part| line.contains(part))
        })
    })
    .await;
    for mut server in [everywhere.flag("--dialects", "chat").start(), launch.start()] {
        server.signal(Signal::TERM);
        server.exit().await;
        assert!(!server.output().contains(WARNING), "{}", server.output());
    }
}
