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
    let open = everywhere.clone().flag("--dialects", "chat,raw,echo").start();
    let behind_proxy =
        launch.clone().flag("--dialects", "hub,raw").flag("--trusted-proxy", "192.0.2.1").start();
    let remedies = ["WARN", "--auth required", "--anonymous listen", "--dialects chat"];
    for (server, parts) in [
        (open, ["anyone who reaches ", "as raw without", "echo answers them", "--listen 127.0.0.1"]),
        (behind_proxy, ["whom a proxy connects to 127.0.0.1", "as hub, raw without", "", ""]),
    ] {
        eventually("a warning", async || {
            let output = server.output();
            let warning = output.lines().find(|line| line.contains(WARNING));
            warning.is_some_and(|line| remedies.iter().chain(&parts).all(|part| line.contains(part)))
        })
        .await;
    }
    let only_echo = everywhere.clone().flag("--dialects", "chat,echo").start();
    eventually("a warning", async || only_echo.output().contains("strangers may use echo")).await;
    assert!(!only_echo.output().contains(WARNING), "{}", only_echo.output());
    for mut server in [everywhere.flag("--dialects", "chat").start(), launch.start()] {
        server.signal(Signal::TERM);
        server.exit().await;
        assert!(!server.output().contains(WARNING), "{}", server.output());
    }
}
