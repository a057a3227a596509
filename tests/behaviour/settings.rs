//! Where a setting may come from, and which place wins. The length of the history tells.

use std::path::Path;

use crate::harness::{Chat, Launch, Server, Socket, on_one_server};

on_one_server! {
    settings_are_read_from_the_environment,
    settings_are_read_from_a_file,
    flag_beats_environment_beats_file,
    durations_and_sizes_may_stand_in_a_file,
    rooms_are_those_that_were_named,
    a_shard_that_polls_before_it_sleeps_misses_nothing,
    the_features_of_a_ring_can_be_left_out,
}

async fn settings_are_read_from_the_environment(launch: Launch) {
    assert_eq!(history_kept_by(launch.variable("UPROAR_HISTORY", 2)).await, 2);
}

async fn settings_are_read_from_a_file(launch: Launch) {
    let directory = tempfile::tempdir().unwrap();
    let launch = with_file(launch, directory.path(), "history = 1\n");
    assert_eq!(history_kept_by(launch).await, 1);
}

async fn flag_beats_environment_beats_file(launch: Launch) {
    let directory = tempfile::tempdir().unwrap();
    let launch = with_file(launch, directory.path(), "history = 1\n");
    let launch = launch.variable("UPROAR_HISTORY", 2);
    assert_eq!(history_kept_by(launch.clone()).await, 2);
    assert_eq!(history_kept_by(launch.flag("--history", 3)).await, 3);
}

async fn durations_and_sizes_may_stand_in_a_file(launch: Launch) {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"
        history = 4
        max-message = "1KiB"
        handshake-timeout = "5s"
        presence = "auto"
        allow-origin = ["https://one.example", "null"]
        rooms = ["general", "tea"]
    "#;
    let server = with_file(launch, directory.path(), text).start();
    let mut alice = Chat::enter(&server).await;
    alice.send("x".repeat(1025)).await;
    assert_eq!(alice.next().await["content"]["message"], "Message too large");
    alice.move_to("tea").await;
}

async fn rooms_are_those_that_were_named(launch: Launch) {
    let server = launch.flag("--rooms", "general,tea").start();
    let mut alice = Chat::enter(&server).await;
    alice.move_to("tea").await;
    alice.say(serde_json::json!({"type": "join_room", "room": "random"})).await;
    assert_eq!(alice.next().await["content"]["message"], "Unknown room: random");
}

#[tokio::test]
async fn cores_can_be_named() {
    let server = Launch::default().flag("--cores", 0).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.message("on one core").await;
    assert_eq!(bob.next().await["content"], "on one core");
}

/// What comes while it polls, while it falls asleep and while it sleeps: from clients, other shards and acceptors.
async fn a_shard_that_polls_before_it_sleeps_misses_nothing(launch: Launch) {
    for time in ["20us", "10ms"] {
        let server = launch.clone().without_rate_limit().flag("--busy-poll", time).start();
        let [mut alice, mut bob] = Chat::members(&server).await;
        for n in 0..200 {
            alice.message(&n.to_string()).await;
            assert_eq!(bob.next().await["content"], n.to_string());
            if n % 20 == 0 {
                let mut newcomer = Socket::connect(&server, "/echo").await;
                newcomer.send("new").await;
                assert_eq!(newcomer.text().await, "new");
            }
        }
    }
}

async fn the_features_of_a_ring_can_be_left_out(launch: Launch) {
    for features in ["none", "immediate-sends", "ring-messages,no-iowait"] {
        let server = launch.clone().flag("--ring-features", features).start();
        let [mut alice, mut bob] = Chat::members(&server).await;
        for n in 0..50 {
            bob.message(&n.to_string()).await;
            assert_eq!(alice.next().await["content"], n.to_string());
        }
    }
}

#[tokio::test]
async fn acceptors_can_have_cores_of_their_own() {
    let Some([shard_core, acceptor_core]) = two_cores() else { return };
    let server =
        Launch::default().flag("--cores", shard_core).flag("--acceptor-cores", acceptor_core).start();
    let threads = threads(&server);
    let place = |name: &str| {
        let of = |(thread, _, _): &&(String, String, i64)| thread == name;
        let (_, cores, nice) = threads.iter().find(of).unwrap_or_else(|| panic!("no {name} in {threads:?}"));
        (cores.as_str(), *nice)
    };
    assert_eq!(place("shard-0"), (shard_core.to_string().as_str(), 0));
    assert_eq!(place("acceptor-0"), (acceptor_core.to_string().as_str(), 0), "nobody else wants that core");
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.message("on two cores").await;
    assert_eq!(bob.next().await["content"], "on two cores");
}

#[tokio::test]
async fn acceptors_on_the_core_of_a_shard_leave_most_of_it_to_the_shard() {
    let server = Launch::default().flag("--cores", 0).start();
    let nice = |name: &str| threads(&server).into_iter().find(|(thread, ..)| thread == name).map(|it| it.2);
    assert_eq!((nice("shard-0"), nice("acceptor-0")), (Some(0), Some(5)));
}

/// Two cores that this process may use, where it may use two.
fn two_cores() -> Option<[usize; 2]> {
    let mask = rustix::thread::sched_getaffinity(None).unwrap();
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| mask.is_set(*core));
    Some([cores.next()?, cores.next()?])
}

/// The name of each thread of a server, the cores that it may run on, and how nice it is (proc(5)).
fn threads(server: &Server) -> Vec<(String, String, i64)> {
    let directory = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    std::fs::read_dir(directory)
        .unwrap()
        .map(|thread| {
            let path = thread.unwrap().path();
            let status = read(path.join("status"));
            let field =
                |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
            let stat = read(path.join("stat"));
            // The 19th field; the second is the name in parentheses.
            let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap();
            (field("Name:"), field("Cpus_allowed_list:"), nice)
        })
        .collect()
}

fn with_file(launch: Launch, directory: &Path, text: &str) -> Launch {
    let path = directory.join("uproar.toml");
    std::fs::write(&path, text).unwrap();
    launch.flag("--config", path.display())
}

/// How many of five messages a newcomer finds.
async fn history_kept_by(launch: Launch) -> usize {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for _ in 0..5 {
        alice.message("kept?").await;
    }
    let mut bob = Chat::connect(&server).await;
    let history = bob.until("history").await;
    history["content"].as_array().unwrap().len()
}
