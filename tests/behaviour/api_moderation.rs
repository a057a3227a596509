//! `/api/v1/connections/{id}/…`: orders of a backend about one connection, signed in or not.

use serde_json::{Value, json};

use crate::api_users::{connections, with_users};
use crate::bans::is_refused;
use crate::harness::{
    Backend, Guest, Hub, Launch, Server, Socket, TokenKey, Wire, admitted_from, direct, eventually,
    on_one_and_four_shards_only, upgrade_from,
};
use crate::mutes::member;

on_one_and_four_shards_only! {
    one_connection_of_an_account_is_closed,
    a_connection_is_banned_with_its_account,
    a_connection_is_muted_with_its_account,
    connections_that_are_no_users_are_closed_and_banned,
    hostile_names_find_no_connection,
    orders_cross_with_clients_that_come_and_go,
}

/// The names of the connections of an account, by room or topic.
async fn names_of(backend: &Backend, account: &str, count: usize) -> Vec<(Value, String)> {
    let mut rows = Vec::new();
    eventually("all connections", async || {
        let shown = backend.get(&format!("/api/v1/users/{account}")).await.json();
        rows = shown["connections"].as_array().unwrap().clone();
        rows.len() == count
    })
    .await;
    rows.iter().map(|row| (row["user_id"].clone(), row["id"].as_str().unwrap().to_owned())).collect()
}

async fn order(backend: &Backend, id: &str, verb: &str, body: &Value) -> u64 {
    connections(&backend.post(&format!("/api/v1/connections/{id}/{verb}"), body).await)
}

async fn one_connection_of_an_account_is_closed(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut first = member(&server, &tokens, "ann", &[]).await;
    let mut second = member(&server, &tokens, "ann", &[]).await;
    let names = names_of(&backend, "ann", 2).await;
    let (_, name) = names.iter().find(|(user, _)| *user == json!(second.id)).unwrap();
    assert_eq!(order(&backend, name, "disconnect", &json!({"reason": "one is enough"})).await, 1);
    assert_eq!(second.next().await, direct("kicked", json!({"reason": "one is enough"})));
    assert_eq!(second.closed().await, (1008, "kicked".to_owned()));
    assert_eq!(first.until("leave").await["content"]["user_id"], second.id);
    first.message("still here").await;
    // It has ended, which is no error.
    assert_eq!(order(&backend, name, "disconnect", &json!({})).await, 0);
    assert_eq!(order(&backend, name, "mute", &json!({"seconds": 5})).await, 0);
    let log = ["measure=kick", "by=key:shop"];
    eventually("it is logged", async || log.iter().all(|word| server.output().contains(word))).await;
}

async fn a_connection_is_banned_with_its_account(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut chats =
        [member(&server, &tokens, "troll", &[]).await, member(&server, &tokens, "troll", &[]).await];
    let names = names_of(&backend, "troll", 2).await;
    assert_eq!(order(&backend, &names[0].1, "ban", &json!({"seconds": 0, "reason": "spam"})).await, 2);
    for chat in &mut chats {
        chat.until("kicked").await;
        assert_eq!(chat.closed_in_the_end().await, (1008, "banned".to_owned()));
    }
    let token = tokens.token("troll", &[]).await;
    is_refused(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    let troll = backend.get("/api/v1/users/troll").await.json();
    assert_eq!(
        (&troll["ban"]["reason"], &troll["ban"]["until"], &troll["ban"]["by"]),
        (&json!("spam"), &Value::Null, &json!("key:shop"))
    );
    assert_eq!(connections(&backend.request("POST", "/api/v1/users/troll/unban", &[], b"").await), 0);
    member(&server, &tokens, "troll", &[]).await;
    // There is none any more, which is no error either.
    assert_eq!(connections(&backend.request("POST", "/api/v1/users/troll/unban", &[], b"").await), 0);
}

async fn a_connection_is_muted_with_its_account(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut chats =
        [member(&server, &tokens, "troll", &[]).await, member(&server, &tokens, "troll", &[]).await];
    let names = names_of(&backend, "troll", 2).await;
    assert_eq!(order(&backend, &names[1].1, "mute", &json!({"seconds": 60})).await, 2);
    for chat in &mut chats {
        assert_eq!(chat.until("muted").await["content"], json!({"seconds": 60}));
    }
    // A visitor that has not logged in is muted by its account, too.
    let mut visitor = Hub::with_token(&server, &tokens.token("late", &[]).await).await;
    let names = names_of(&backend, "late", 1).await;
    assert_eq!(names[0].0, Value::Null);
    order(&backend, &names[0].1, "mute", &json!({"seconds": 60})).await;
    visitor.login("late").await;
    assert!(visitor.system().await.starts_with("You are muted for "));
}

async fn connections_that_are_no_users_are_closed_and_banned(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let token = tokens.token("ann", &["--topic", "*"]).await;
    let mut raw = Socket::with_token(&server, "/broadcast/news", &token).await;
    let names = names_of(&backend, "ann", 1).await;
    assert_eq!(order(&backend, &names[0].1, "disconnect", &json!({})).await, 1);
    assert_eq!(raw.closed().await, (1008, "kicked".to_owned()));
    let mut echo = Socket::with_token(&server, "/echo", &token).await;
    let names = names_of(&backend, "ann", 1).await;
    assert_eq!(order(&backend, &names[0].1, "ban", &json!({"seconds": 60})).await, 1);
    assert_eq!(echo.closed().await, (1008, "banned".to_owned()));
    is_refused(&server, "192.0.2.1", &format!("/echo?token={token}")).await;
    // Guests are found by their place: an account is not needed.
    let guest = Guest::enter(&server, "2001:db8::1").await;
    let neighbour = admitted_from(&server, "2001:db8::2", "/echo").await;
    let mut banned = 0;
    for name in all_names(&server, &tokens, &backend).await {
        // A server with fewer shards has no connection of this name.
        let answer = backend.post(&format!("/api/v1/connections/{name}/ban"), &json!({"seconds": 60})).await;
        banned += if answer.status == 404 { 0 } else { connections(&answer) };
    }
    assert!(banned >= 2, "{banned}");
    is_refused(&server, "2001:db8::3", "/chat").await;
    drop((guest, neighbour));
}

/// The names that the first connections of each shard may have.
async fn all_names(server: &Server, tokens: &TokenKey, backend: &Backend) -> Vec<String> {
    let probe = member(server, tokens, "probe", &[]).await;
    let name = names_of(backend, "probe", 1).await.remove(0).1;
    probe.leave().await;
    let instance = name.split('-').next().unwrap().to_owned();
    let places = (0..4).flat_map(|shard| (0..8).map(move |index| (shard, index)));
    places
        .flat_map(|(shard, index)| (0..4).map(move |generation| (shard, index, generation)))
        .map(|(shard, index, generation)| format!("{instance}-{shard}-{index}-{generation}"))
        .collect()
}

async fn hostile_names_find_no_connection(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut ann = member(&server, &tokens, "ann", &[]).await;
    let name = names_of(&backend, "ann", 1).await.remove(0).1;
    let instance = name.split('-').next().unwrap();
    for id in [
        "x".to_owned(),
        "-".to_owned(),
        "%00".to_owned(),
        "..%2F..".to_owned(),
        "00000000-0-0-0".to_owned(),
        format!("{instance}-65535-0-0"),
        format!("{instance}-65534-0-0"),
        format!("{instance}-4-0-0"),
        format!("{instance}-99999999999-0-0"),
        format!("{instance}-0-0"),
        format!("{name}-0"),
        format!("+{name}"),
        "9".repeat(5_000),
    ] {
        for verb in ["disconnect", "mute", "ban"] {
            let body = if verb == "disconnect" { json!({}) } else { json!({"seconds": 60}) };
            let refused = backend.post(&format!("/api/v1/connections/{id}/{verb}"), &body).await;
            refused.assert_problem(404, "not-found");
        }
    }
    for id in [format!("{instance}-0-4294967295-4294967295"), format!("{instance}-0-4294967295-0")] {
        assert_eq!(order(&backend, &id, "disconnect", &json!({})).await, 0);
    }
    for (verb, body) in
        [("mute", json!({})), ("ban", json!({"seconds": -1})), ("disconnect", json!({"x": 1}))]
    {
        let refused = backend.post(&format!("/api/v1/connections/{name}/{verb}"), &body).await;
        refused.assert_problem(422, "invalid");
    }
    ann.message("still here").await;
}

/// Goal: an account that is banned while its clients come, sign in and come back has no connection afterwards.
async fn orders_cross_with_clients_that_come_and_go(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    for round in 0..10 {
        let account = format!("troll{round}");
        let token = tokens.token(&account, &[]).await;
        let mut early = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
        let path = format!("/chat?token={token}&session={}", early.session);
        let mut late = Guest::enter(&server, "192.0.2.2").await;
        // It signs in, and the other one comes back on a new connection, while the order is under way.
        late.say(json!({"type": "auth", "token": token})).await;
        let ban = json!({"seconds": 0});
        let mut again = Wire::connect(&server).await;
        again.send(upgrade_from("192.0.2.1", &path)).await;
        let answer = backend.post(&format!("/api/v1/users/{account}/ban"), &ban).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(early.closed().await.0, 1008);
        assert_eq!(late.closed().await.0, 1008);
        let shown = format!("/api/v1/users/{account}");
        eventually("none is left", async || backend.get(&shown).await.json()["connections"] == json!([]))
            .await;
        drop(again);
    }
}
