//! What is left of users after a restart: their ids and sessions, in the data directory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::json;

use crate::durability::stop;
use crate::harness::{
    Chat, Launch, eventually, on_one_and_four_shards_only, on_one_and_four_shards_with_data, run,
};
use crate::sessions::come_back;

on_one_and_four_shards_only! { without_a_directory_a_restart_ends_all_sessions }

on_one_and_four_shards_with_data! {
    a_session_outlives_a_clean_restart,
    a_session_outlives_a_kill,
    ids_are_not_given_again_after_a_restart_or_a_kill,
    too_old_is_too_old_over_a_restart,
    a_state_that_was_lost_ends_all_sessions,
    a_key_that_was_replaced_ends_all_sessions,
    a_failed_disk_stops_nobody_and_loses_nothing_once_it_works,
}

/// Waits until the file has a session of this name in this room.
async fn is_kept(data: &Path, name: &str, room: &str) {
    eventually("the session is on the disk", async || {
        let file = rusqlite::Connection::open(data.join("state.db")).unwrap();
        let sql = "SELECT count(*) FROM session WHERE name = ?1 AND room = ?2";
        file.query_row(sql, [name, room], |row| row.get::<_, i64>(0)).unwrap() == 1
    })
    .await;
}

async fn a_session_outlives_a_clean_restart(launch: Launch) {
    let mut server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    alice.until("name_changed").await;
    let gone = Chat::enter(&server).await;
    alice.until("join").await;
    alice.move_to("random").await;
    let (gone_id, gone_session) = (gone.id, gone.session.clone());
    gone.leave().await;
    stop(&mut server).await;
    let server = launch.start();
    let (mut back, welcome) = come_back(&server, &alice.session).await;
    assert_eq!((back.id, &*back.name, &welcome["room"]), (alice.id, "Alice", &json!("random")));
    assert_eq!(back.session, alice.session);
    assert_eq!(come_back(&server, &gone_session).await.0.id, gone_id);
    assert_eq!(Chat::enter(&server).await.id, gone_id + 1);
    back.message("back again").await;
}

async fn a_session_outlives_a_kill(launch: Launch) {
    let data = launch.data().to_owned();
    let server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    let gone = Chat::enter(&server).await;
    alice.until("join").await;
    let (gone_id, gone_session) = (gone.id, gone.session.clone());
    gone.leave().await;
    alice.until("leave").await;
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    alice.until("name_changed").await;
    alice.move_to("random").await;
    is_kept(&data, "Alice", "random").await;
    drop(server);
    // It is not needed that she comes back to the first one.
    drop(launch.clone().start());
    let server = launch.start();
    let (back, welcome) = come_back(&server, &alice.session).await;
    assert_eq!((back.id, &*back.name, &welcome["room"]), (alice.id, "Alice", &json!("random")));
    assert_eq!(come_back(&server, &gone_session).await.0.id, gone_id);
}

async fn ids_are_not_given_again_after_a_restart_or_a_kill(launch: Launch) {
    let mut server = launch.clone().start();
    let crowd = Chat::crowd(&server, 3).await;
    let mut last = crowd[2].id;
    assert_eq!(last, 3);
    drop(crowd);
    for is_kill in [false, true, false, true, false] {
        if is_kill {
            drop(server);
        } else {
            stop(&mut server).await;
        }
        server = launch.clone().start();
        let newcomer = Chat::enter(&server).await;
        assert!(newcomer.id > last, "{} after {last}", newcomer.id);
        assert!(is_kill || newcomer.id == last + 1, "{} after {last} and a clean stop", newcomer.id);
        last = newcomer.id;
    }
}

async fn too_old_is_too_old_over_a_restart(launch: Launch) {
    let launch = launch.flag("--session-timeout", "1s");
    let mut server = launch.clone().start();
    let alice = Chat::enter(&server).await;
    let (session, id) = (alice.session.clone(), alice.id);
    alice.leave().await;
    stop(&mut server).await;
    // Only time makes it old.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let server = launch.start();
    assert_eq!(come_back(&server, &session).await.0.id, id + 1);
}

async fn a_state_that_was_lost_ends_all_sessions(launch: Launch) {
    let data = launch.data().to_owned();
    let mut server = launch.clone().start();
    let alice = Chat::enter(&server).await;
    stop(&mut server).await;
    fs::remove_file(data.join("state.db")).unwrap();
    let server = launch.start();
    // Its id is given again, for the file is all that knew of it.
    let mut other = Chat::enter(&server).await;
    assert_eq!(other.id, alice.id);
    let (newcomer, _) = come_back(&server, &alice.session).await;
    assert_eq!(newcomer.id, other.id + 1);
    assert_eq!(other.next().await["type"], "join");
    other.message("undisturbed").await;
}

async fn a_key_that_was_replaced_ends_all_sessions(launch: Launch) {
    let data = launch.data().to_owned();
    let key = data.join("session.key");
    let mut server = launch.clone().start();
    let alice = Chat::enter(&server).await;
    stop(&mut server).await;
    let made = fs::metadata(&key).unwrap();
    assert_eq!((made.len(), made.mode() & 0o777), (32, 0o600));
    for (bytes, wanted) in [(vec![], "32 bytes and not 0"), (vec![7; 33], "32 bytes and not 33")] {
        fs::write(&key, bytes).unwrap();
        let flags = ["--listen=127.0.0.1:0", "--shards=1", "--data", data.to_str().unwrap()];
        let refused = run(&flags, &[]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        let key = key.display().to_string();
        let says_what_to_do = refused.stderr.contains("move it out of the way");
        assert!(refused.stderr.contains(&key) && says_what_to_do, "{}", refused.stderr);
        assert!(refused.stderr.contains(wanted), "{}", refused.stderr);
    }
    fs::remove_file(&key).unwrap();
    let server = launch.start();
    assert_eq!(come_back(&server, &alice.session).await.0.id, alice.id + 1);
}

async fn without_a_directory_a_restart_ends_all_sessions(launch: Launch) {
    let mut server = launch.clone().start();
    let alice = Chat::enter(&server).await;
    stop(&mut server).await;
    let server = launch.start();
    let mut other = Chat::enter(&server).await;
    assert_eq!((alice.id, other.id), (1, 1));
    let (newcomer, _) = come_back(&server, &alice.session).await;
    assert_eq!(newcomer.id, 2);
    assert_eq!(other.next().await["type"], "join");
    other.message("undisturbed").await;
}

async fn a_failed_disk_stops_nobody_and_loses_nothing_once_it_works(launch: Launch) {
    let data = launch.data().to_owned();
    let server = launch.clone().with_small_files().start();
    let mut alice = Chat::enter(&server).await;
    server.refuse_writes();
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    alice.until("name_changed").await;
    eventually("it is logged", async || server.output().contains("state.db: ")).await;
    // Users come, go and come back as ever.
    let gone = Chat::enter(&server).await;
    let (gone_id, gone_session) = (gone.id, gone.session.clone());
    gone.leave().await;
    let (gone, _) = come_back(&server, &gone_session).await;
    assert_eq!(gone.id, gone_id);
    alice.move_to("random").await;
    server.lift_limit_of_files();
    eventually("it works again", async || server.output().contains("state.db can be written again")).await;
    is_kept(&data, "Alice", "random").await;
    assert_eq!(server.output().matches("state.db: ").count(), 1);
    drop(server);
    let server = launch.start();
    let (back, welcome) = come_back(&server, &alice.session).await;
    assert_eq!((back.id, &*back.name, &welcome["room"]), (alice.id, "Alice", &json!("random")));
    assert_eq!(come_back(&server, &gone_session).await.0.id, gone_id);
}
