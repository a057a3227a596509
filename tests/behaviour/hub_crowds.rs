//! The hub in a room of more than 50, where names are sent once a second.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Chat, Hub, Launch, Server, on_one_server};

on_one_server! {
    talkers_do_not_have_all_names_sent_with_each_word,
    comings_and_goings_are_told_with_the_names,
    the_last_name_of_one_who_is_renamed_reaches_the_list,
    answers_that_nobody_asked_for_have_no_names,
}

/// With the hub members of each test, more than 50.
const CROWD: usize = 51;

async fn talkers_do_not_have_all_names_sent_with_each_word(launch: Launch) {
    let server = launch.start();
    let _crowd = crowd(&server).await;
    let [mut ann, mut bea] = [Hub::enter(&server, "Ann").await, Hub::enter(&server, "Bea").await];
    let start = Instant::now();
    let words = 80;
    let said = (0..words).map(|n| json!({"type": "user", "content": n.to_string()}).to_string().into());
    ann.socket().send_all(said.collect::<Vec<_>>()).await;
    let mut listed = 0;
    for n in 0..words {
        let heard = until(&mut bea, "user").await;
        assert_eq!(heard["content"], n.to_string());
        listed += usize::from(names(&heard) > 0);
    }
    let seconds = start.elapsed().as_secs() as usize;
    assert!(listed <= 2 + seconds, "{listed} lists within {seconds} seconds");
}

async fn comings_and_goings_are_told_with_the_names(launch: Launch) {
    let server = launch.start();
    let mut crowd = crowd(&server).await;
    let mut ann = Hub::enter(&server, "Ann").await;
    let all = CROWD + 1;
    // Three come and one goes, in whatever time. The list is right in the end, and never empty.
    let _newcomers = [Hub::enter(&server, "Bea").await, Hub::enter(&server, "Cleo").await];
    crowd.pop().unwrap().leave().await;
    let _last = Hub::enter(&server, "Dora").await;
    for _ in 0..4 {
        let told = ann.next().await;
        assert!(["login", "logout"].contains(&told["type"].as_str().unwrap()), "{told}");
        let list = told["user_list"].as_array().unwrap();
        assert!(list.len() >= all - 1, "{} names", list.len());
        let expected = ["Ann", "Bea", "Cleo", "Dora"].map(Value::from);
        if list.len() == all + 2 && expected.iter().all(|name| list.contains(name)) {
            return;
        }
    }
    panic!("the last list was not all of it");
}

async fn the_last_name_of_one_who_is_renamed_reaches_the_list(launch: Launch) {
    let server = launch.start();
    let _crowd = crowd(&server).await;
    let [mut ann, mut bea] = [Hub::enter(&server, "Ann").await, Hub::enter(&server, "Bea").await];
    for name in ["Ada", "Adele", "Agnes"] {
        ann.say("rename", name).await;
    }
    for hub in [&mut ann, &mut bea] {
        let mut last = Value::Null;
        for line in ["Ann 改名为 Ada", "Ada 改名为 Adele", "Adele 改名为 Agnes"] {
            last = until(hub, "system").await;
            assert_eq!(last["content"], line);
        }
        assert!(last["user_list"].as_array().unwrap().contains(&json!("Agnes")), "{last}");
    }
}

async fn answers_that_nobody_asked_for_have_no_names(launch: Launch) {
    let server = launch.start();
    let _crowd = crowd(&server).await;
    let mut ann = Hub::enter(&server, "Ann").await;
    for _ in 0..3 {
        ann.send("nonsense").await;
        let refused = ann.next().await;
        assert_eq!((&refused["content"], names(&refused)), (&json!("Invalid message format"), 0));
    }
    ann.say("who", "").await;
    assert_eq!(names(&ann.next().await), CROWD + 1);
    assert_eq!(names(&Hub::connect(&server).await.next().await), CROWD + 1, "in the handshake");
}

/// Members of the room, by chat.
async fn crowd(server: &Server) -> Vec<Chat> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(Chat::enter(server).await);
    }
    crowd
}

async fn until(hub: &mut Hub, kind: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let message = hub.next().await;
        if message["type"] == kind {
            return message;
        }
    }
    panic!("no {kind}");
}

fn names(message: &Value) -> usize {
    message["user_list"].as_array().unwrap().len()
}
