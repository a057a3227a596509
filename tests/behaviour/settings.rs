//! Where a setting may come from, and which place wins. The length of the history tells.

use std::path::Path;

use crate::harness::{Chat, Launch, on_one_and_four_shards};

on_one_and_four_shards! {
    settings_are_read_from_the_environment,
    settings_are_read_from_a_file,
    flag_beats_environment_beats_file,
    durations_and_sizes_may_stand_in_a_file,
    rooms_are_those_that_were_named,
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
