//! `DELETE /api/v1/rooms/{room}`: a room is closed, and its members go to the first one.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api_users::{connections, with_users};
use crate::harness::{
    Backend, Chat, Launch, eventually, on_one_and_four_shards_only, on_one_and_four_shards_with_data,
};
use crate::mutes::member;

on_one_and_four_shards_only! {
    members_of_a_closed_room_go_to_the_first_one,
    a_room_of_the_same_name_is_a_new_one,
    a_repeated_request_closes_no_other_room,
    those_who_may_not_join_the_first_room_go_to_another,
    configured_and_unknown_rooms_are_not_closed,
    joins_and_messages_that_cross_with_it_are_not_lost,
    a_crowd_leaves_at_a_pace,
}

mod with_data {
    super::on_one_and_four_shards_with_data! {
        its_history_does_not_come_back,
        a_room_stays_while_the_disk_fails,
        a_disk_that_fails_under_a_closing_room_is_told,
        joins_and_messages_that_cross_with_it_are_not_lost,
    }
    use super::{
        a_disk_that_fails_under_a_closing_room_is_told, a_room_stays_while_the_disk_fails,
        its_history_does_not_come_back, joins_and_messages_that_cross_with_it_are_not_lost,
    };
}

async fn close(backend: &Backend, room: &str) -> u64 {
    connections(&backend.request("DELETE", &format!("/api/v1/rooms/{room}"), &[], b"").await)
}

fn with_teams(launch: Launch) -> Launch {
    launch.flag("--room-pattern", "team-*")
}

async fn members_of_a_closed_room_go_to_the_first_one(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch)).await;
    let mut watcher = Chat::enter(&server).await;
    let mut members = [Chat::enter(&server).await, Chat::enter(&server).await];
    for member in &mut members {
        member.move_to("team-a").await;
    }
    members[1].message("in the team").await;
    assert_eq!(close(&backend, "team-a").await, 2);
    for member in &mut members {
        assert_eq!(member.until("room_joined").await["content"], json!({"room": "general"}));
        let users = member.next().await;
        assert_eq!(users["type"], "users");
        assert!(users["content"].as_array().unwrap().iter().any(|user| user["id"] == member.id));
        let history = member.next().await;
        assert_eq!((&history["type"], &history["content"]), (&json!("history"), &json!([])));
    }
    for path in ["/api/v1/rooms/team-a", "/api/v1/rooms/team-a/history"] {
        backend.get(path).await.assert_problem(404, "not-found");
    }
    let [mut ann, mut ben] = members;
    ann.say(json!({"type": "message", "content": "all here"})).await;
    ann.until("message_sent").await;
    for other in [&mut watcher, &mut ben] {
        assert_eq!(other.until("message").await["content"], "all here");
    }
    assert_eq!(backend.get("/api/v1/rooms/general").await.json()["users_online"], 3);
    let log = ["measure=close_room", "by=key:shop", "team-a"];
    eventually("it is logged", async || log.iter().all(|word| server.output().contains(word))).await;
}

async fn a_repeated_request_closes_no_other_room(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch)).await;
    let mut stream = backend.events("?types=moderation", None).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("team-a").await;
    let close = async || {
        backend.request("DELETE", "/api/v1/rooms/team-a", &[("Idempotency-Key", "close-1")], b"").await
    };
    assert_eq!(connections(&close().await), 1);
    ann.until("room_joined").await;
    let told = stream.until("moderation").await.data;
    let (action, by, target) = (json!("close_room"), json!("key:shop"), json!({"room": "team-a"}));
    assert_eq!((&told["action"], &told["by"], &told["target"]), (&action, &by, &target));
    ann.move_to("team-a").await;
    let again = close().await;
    assert_eq!((connections(&again), again.header("idempotency-replayed")), (1, Some("true")));
    assert_eq!(backend.get("/api/v1/rooms/team-a").await.json()["users_online"], 1);
}

async fn a_room_stays_while_the_disk_fails(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch).with_small_files()).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("team-a").await;
    let members = async || backend.get("/api/v1/rooms/team-a").await.json()["users_online"].clone();
    assert_eq!(members().await, 1);
    server.refuse_writes();
    let post = json!({"room": "team-a", "content": "a"});
    backend.post("/api/v1/publish", &post).await.assert_problem(503, "not-stored");
    let refused = backend.request("DELETE", "/api/v1/rooms/team-a", &[], b"").await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(members().await, 1);
}

async fn a_room_of_the_same_name_is_a_new_one(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch)).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("team-a").await;
    ann.message("old").await;
    let epoch = backend.get("/api/v1/rooms/team-a").await.json()["epoch"].clone();
    assert_eq!(close(&backend, "team-a").await, 1);
    ann.until("room_joined").await;
    ann.until("history").await;
    ann.say(json!({"type": "join_room", "room": "team-a"})).await;
    assert_eq!(ann.until("room_joined").await["content"], json!({"room": "team-a"}));
    let history = ann.until("history").await;
    assert_eq!(history["content"], json!([]));
    assert_ne!(history["epoch"], epoch);
    assert_eq!(ann.message("new").await, 1);
    // An empty one is closed, too.
    ann.move_to("general").await;
    assert_eq!(close(&backend, "team-a").await, 0);
    assert_eq!(backend.get("/api/v1/rooms/team-a").await.status, 404);
}

async fn those_who_may_not_join_the_first_room_go_to_another(launch: Launch) {
    let (server, tokens, backend) = with_users(with_teams(launch)).await;
    let mut bound = member(&server, &tokens, "ann", &["--room", "random", "--room", "team-*"]).await;
    bound.move_to("team-a").await;
    let path = "/api/v1/users/ben/move";
    let mut nowhere = member(&server, &tokens, "ben", &["--room", "gaming"]).await;
    assert_eq!(connections(&backend.post(path, &json!({"to": "team-a"})).await), 1);
    nowhere.until("room_joined").await;
    assert_eq!(close(&backend, "team-a").await, 2);
    assert_eq!(bound.until("room_joined").await["content"], json!({"room": "random"}));
    assert_eq!(nowhere.until("room_joined").await["content"], json!({"room": "gaming"}));
}

async fn configured_and_unknown_rooms_are_not_closed(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch)).await;
    let mut ann = Chat::enter(&server).await;
    let delete =
        async |room: &str| backend.request("DELETE", &format!("/api/v1/rooms/{room}"), &[], b"").await;
    for room in ["general", "random"] {
        delete(room).await.assert_problem(409, "conflict");
    }
    for room in ["team-a", "nowhere", "general%00", "team-%2A"] {
        delete(room).await.assert_problem(404, "not-found");
    }
    delete("%FF").await.assert_problem(400, "malformed");
    ann.message("still here").await;
}

/// Goal: whoever joins or speaks while the room is closed is answered, and everybody ends up in one room together.
async fn joins_and_messages_that_cross_with_it_are_not_lost(launch: Launch) {
    let (server, _, backend) = with_users(with_teams(launch)).await;
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(Chat::enter(&server).await);
    }
    for round in 0..8 {
        for chat in &mut crowd[..3] {
            chat.say(json!({"type": "join_room", "room": "team-a"})).await;
        }
        for chat in &mut crowd[..3] {
            chat.until("room_joined").await;
            chat.until("history").await;
        }
        // Three speak in the room, and three are on their way there.
        for chat in &mut crowd[..3] {
            chat.burst((0..5).map(|n| json!({"type": "message", "content": format!("{round} {n}")}))).await;
        }
        for chat in &mut crowd[3..] {
            chat.say(json!({"type": "join_room", "room": "team-a"})).await;
        }
        let body = json!({"room": "team-a", "content": "from the shop"});
        let (published, closed) = tokio::join!(
            backend.post("/api/v1/publish", &body),
            backend.request("DELETE", "/api/v1/rooms/team-a", &[], b"")
        );
        assert_eq!((published.status, closed.status), (200, 200), "{published:?} {closed:?}");
        // Each message has its answer, whichever room it was said in.
        for chat in &mut crowd[..3] {
            for _ in 0..5 {
                chat.until("message_sent").await;
            }
        }
        // Whoever came too late for the closed room is in a new one.
        eventually("the closed room is empty", async || {
            let general = backend.get("/api/v1/rooms/general").await.json()["users_online"].as_u64().unwrap();
            let team = backend.get("/api/v1/rooms/team-a").await;
            let team = if team.status == 404 { 0 } else { team.json()["users_online"].as_u64().unwrap() };
            general + team == 6 && general >= 3
        })
        .await;
        for (index, chat) in crowd.iter_mut().enumerate() {
            chat.say(json!({"type": "join_room", "room": "general"})).await;
            chat.say(json!({"type": "message", "content": format!("end {round} {index}")})).await;
            loop {
                let sent = chat.until("message_sent").await;
                if sent["content"]["room"] == "general" {
                    break;
                }
            }
        }
        // Those of the first three hear the last of the others there: they are members.
        let last = format!("end {round} 5");
        for chat in &mut crowd[..3] {
            while chat.until("message").await["content"] != last {}
        }
        backend.request("DELETE", "/api/v1/rooms/team-a", &[], b"").await;
    }
}

/// Goal: others are served while the members of a large room leave it.
async fn a_crowd_leaves_at_a_pace(launch: Launch) {
    let launch = with_teams(launch).flag("--presence-limit", 20).flag("--max-clients-per-address", 0);
    let (server, _, backend) = with_users(launch).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let mut chat = Chat::connect(&server).await;
        chat.read_welcome().await;
        chat.say(json!({"type": "join_room", "room": "team-a"})).await;
        crowd.push(chat);
    }
    eventually("all are there", async || {
        backend.get("/api/v1/rooms/team-a").await.json()["users_online"] == 300
    })
    .await;
    assert_eq!(close(&backend, "team-a").await, 300);
    for chat in &mut crowd {
        loop {
            let joined = chat.until("room_joined").await;
            if joined["content"]["room"] == "general" {
                break;
            }
        }
    }
    eventually("all are in the first room", async || {
        backend.get("/api/v1/rooms/general").await.json()["users_online"] == 300
    })
    .await;
}

async fn its_history_does_not_come_back(launch: Launch) {
    let launch = with_teams(launch);
    let rows = || {
        let file = rusqlite::Connection::open(launch.data().join("history.db")).unwrap();
        let sql = "SELECT count(*) FROM message WHERE content LIKE 'secret%'";
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let (server, _, backend) = with_users(launch.clone()).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("team-a").await;
    ann.message("secret one").await;
    ann.message("secret two").await;
    assert_eq!(rows(), 2);
    assert_eq!(close(&backend, "team-a").await, 1);
    server.signal(Signal::KILL);
    drop(server);
    let (server, _, backend) = with_users(launch.clone()).await;
    let mut ben = Chat::enter(&server).await;
    ben.say(json!({"type": "join_room", "room": "team-a"})).await;
    ben.until("room_joined").await;
    assert_eq!(ben.until("history").await["content"], json!([]));
    eventually("the rows are deleted", async || rows() == 0).await;
    // Another one that nobody has left when the server stops.
    ben.message("secret three").await;
    assert_eq!(close(&backend, "team-a").await, 1);
    server.signal(Signal::TERM);
    drop(server);
    let (_server, _, backend) = with_users(launch.clone()).await;
    eventually("the rows are deleted", async || rows() == 0).await;
    assert_eq!(backend.get("/api/v1/rooms/team-a").await.status, 404);
    assert_eq!(backend.get("/api/v1/rooms").await.json()["next"], Value::Null);
}

/// Goal: the caller learns that the disk has not taken it. The history comes back only if the server is killed before it has.
async fn a_disk_that_fails_under_a_closing_room_is_told(launch: Launch) {
    let launch = with_teams(launch);
    let rows = || {
        let file = rusqlite::Connection::open(launch.data().join("history.db")).unwrap();
        let sql = "SELECT count(*) FROM message WHERE content = 'secret'";
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    for is_killed in [false, true] {
        let (server, _, backend) = with_users(launch.clone()).await;
        let mut stream = backend.events("?types=moderation", None).await;
        let mut ann = Chat::enter(&server).await;
        ann.move_to("team-a").await;
        ann.message("secret").await;
        server.refuse_writes();
        let key = format!("close-{is_killed}");
        let close = async || {
            backend.request("DELETE", "/api/v1/rooms/team-a", &[("Idempotency-Key", &key)], b"").await
        };
        let refused = close().await;
        refused.assert_problem(503, "not-stored");
        assert_eq!(refused.json()["detail"], "the room is closed; the disk has not noted it");
        // It has happened, though.
        assert_eq!(stream.until("moderation").await.data["action"], "close_room");
        assert_eq!(ann.until("room_joined").await["content"], json!({"room": "general"}));
        assert_eq!(close().await.header("idempotency-replayed"), Some("true"));
        backend.get("/api/v1/rooms/team-a").await.assert_problem(404, "not-found");
        if !is_killed {
            server.lift_limit_of_files();
            eventually("the rows are deleted", async || rows() == 0).await;
        }
        server.signal(Signal::KILL);
        drop(server);
        let (server, _, _) = with_users(launch.clone()).await;
        let mut ben = Chat::enter(&server).await;
        ben.say(json!({"type": "join_room", "room": "team-a"})).await;
        ben.until("room_joined").await;
        let history = ben.until("history").await;
        assert_eq!(history["content"].as_array().unwrap().len(), usize::from(is_killed), "{history}");
        server.signal(Signal::KILL);
        drop(server);
    }
}
