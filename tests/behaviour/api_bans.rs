//! `/api/v1/bans`: the list of bans, and the end of one.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api_users::{connections, with_users};
use crate::bans::{ban, bans, is_refused};
use crate::harness::{
    Backend, Chat, Guest, Launch, Server, admitted_from, eventually, on_one_and_four_shards_only,
    on_one_and_four_shards_with_data, within,
};
use crate::mutes::admin;

on_one_and_four_shards_only! {
    bans_are_listed_by_id_with_their_authors,
    bans_are_listed_in_pages,
    a_ban_ends_by_its_id,
    addresses_are_banned_by_their_network,
    a_trusted_proxy_is_not_banned,
    wrong_ids_and_parameters_are_refused,
}

mod with_data {
    super::on_one_and_four_shards_with_data! { ids_are_kept_and_given_once }
    use super::ids_are_kept_and_given_once;
}

async fn list(backend: &Backend, query: &str) -> (Vec<Value>, Value) {
    let answer = backend.get(&format!("/api/v1/bans{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    (page["bans"].as_array().unwrap().clone(), page["next"].clone())
}

async fn ban_account(backend: &Backend, account: &str, body: Value) {
    connections(&backend.post(&format!("/api/v1/users/{account}/ban"), &body).await);
}

async fn end(backend: &Backend, id: &Value) -> u16 {
    backend.request("DELETE", &format!("/api/v1/bans/{id}"), &[], b"").await.status
}

async fn bans_are_listed_by_id_with_their_authors(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    assert_eq!(list(&backend, "").await, (vec![], Value::Null));
    let mut boss = admin(&server, &tokens).await;
    boss.say(ban("account", "zoe", 0, "")).await;
    boss.say(ban("address", "192.0.2.1", 3_600, "flood")).await;
    bans(&mut boss).await;
    ban_account(&backend, "ann", json!({"seconds": 60, "reason": "spam"})).await;
    let (mut rows, next) = list(&backend, "").await;
    assert_eq!((rows.len(), next), (3, Value::Null));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (row, seconds) in rows.iter_mut().zip([None, Some(3_600), Some(60)]) {
        let row = row.as_object_mut().unwrap();
        let since = row.remove("since").unwrap().as_u64().unwrap();
        assert!(since.abs_diff(now) <= 60);
        let until = row.remove("until").unwrap();
        assert_eq!(until.as_u64(), seconds.map(|seconds| since + seconds));
    }
    let expected = [
        json!({"id": 1, "account": "zoe", "reason": null, "by": "account:boss"}),
        json!({"id": 2, "address": "192.0.2.1", "reason": "flood", "by": "account:boss"}),
        json!({"id": 3, "account": "ann", "reason": "spam", "by": "key:shop"}),
    ];
    assert_eq!(rows, expected);
    // Another ban of the same account takes its place.
    ban_account(&backend, "zoe", json!({"seconds": 0, "reason": "again"})).await;
    let (rows, _) = list(&backend, "").await;
    assert_eq!((rows.len(), &rows[0]["id"], &rows[0]["by"]), (3, &json!(1), &json!("key:shop")));
    let log = ["measure=ban", "by=key:shop", "seconds=60", "reason=\"spam\""];
    eventually("it is logged", async || log.iter().all(|word| server.output().contains(word))).await;
}

async fn bans_are_listed_in_pages(launch: Launch) {
    let (_server, _, backend) = with_users(launch).await;
    for number in 0..5 {
        ban_account(&backend, &format!("troll{number}"), json!({"seconds": 0})).await;
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    for count in [2, 2, 1] {
        let (rows, next) = list(&backend, &query).await;
        assert_eq!(rows.len(), count);
        seen.extend(rows.iter().map(|row| row["id"].as_u64().unwrap()));
        query = format!("?limit=2&after={}", next.as_str().unwrap_or_default());
        if count == 2 {
            // What ends, and what comes, on the way moves nothing that stays.
            assert_eq!(end(&backend, &rows[0]["id"]).await, 200);
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(list(&backend, "?after=18446744073709551615").await, (vec![], Value::Null));
}

async fn a_ban_ends_by_its_id(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    ban_account(&backend, "ann", json!({"seconds": 0})).await;
    let token = tokens.token("ann", &[]).await;
    is_refused(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    let (rows, _) = list(&backend, "").await;
    assert_eq!(end(&backend, &rows[0]["id"]).await, 200);
    crate::mutes::member(&server, &tokens, "ann", &[]).await;
    let again = backend.request("DELETE", "/api/v1/bans/1", &[], b"").await;
    again.assert_problem(404, "not-found");
    assert_eq!(list(&backend, "").await.0, [Value::Null; 0]);
    // The next one is another ban.
    ban_account(&backend, "ann", json!({"seconds": 0})).await;
    assert_eq!(list(&backend, "").await.0[0]["id"], 2);
}

async fn addresses_are_banned_by_their_network(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut boss = admin(&server, &tokens).await;
    boss.say(ban("address", "2001:DB8:0:1:ffff::7", 60, "")).await;
    boss.say(ban("address", "::ffff:192.0.2.7", 60, "")).await;
    bans(&mut boss).await;
    let (rows, _) = list(&backend, "").await;
    let addresses: Vec<_> = rows.iter().map(|row| row["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["2001:db8:0:1::", "192.0.2.7"]);
    is_refused(&server, "2001:db8:0:1::1", "/chat").await;
    assert_eq!(end(&backend, &rows[0]["id"]).await, 200);
    drop(admitted_from(&server, "2001:db8:0:1::1", "/chat").await);
    is_refused(&server, "192.0.2.7", "/chat").await;
}

async fn a_trusted_proxy_is_not_banned(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    // Without a word of the proxy, its address stands for the client.
    let mut guest = Chat::enter(&server).await;
    let probe = crate::mutes::member(&server, &tokens, "probe", &[]).await;
    assert_eq!(guest.next().await["type"], "join");
    let shown = backend.get("/api/v1/users/probe").await.json();
    let name = shown["connections"][0]["id"].as_str().unwrap().to_owned();
    drop(probe);
    let instance = name.split('-').next().unwrap();
    let mut statuses = Vec::new();
    for shard in 0..4 {
        let path = format!("/api/v1/connections/{instance}-{shard}-0-0/ban");
        let answer = backend.post(&path, &json!({"seconds": 60})).await;
        statuses.push((answer.status, answer.body));
    }
    let conflict =
        statuses.iter().find(|(status, _)| *status == 409).unwrap_or_else(|| panic!("{statuses:?}"));
    assert!(conflict.1.contains("Address of a trusted proxy"), "{conflict:?}");
    guest.until("leave").await;
    guest.message("still here").await;
}

async fn wrong_ids_and_parameters_are_refused(launch: Launch) {
    let (_server, _, backend) = with_users(launch).await;
    for id in ["x", "-1", "1.5", "18446744073709551616", "%FF"] {
        let refused = backend.request("DELETE", &format!("/api/v1/bans/{id}"), &[], b"").await;
        refused.assert_problem(400, "malformed");
    }
    for id in ["0", "1", "18446744073709551615"] {
        let refused = backend.request("DELETE", &format!("/api/v1/bans/{id}"), &[], b"").await;
        refused.assert_problem(404, "not-found");
    }
    for query in ["after=x", "limit=0", "limit=1001", "offset=1"] {
        backend.get(&format!("/api/v1/bans?{query}")).await.assert_problem(422, "invalid");
    }
}

/// Goal: a backend meets the documented limit of bans, is told so, and finds room again when one has ended.
#[tokio::test]
async fn the_number_of_bans_has_a_limit() {
    const BANS_MAX: usize = 65_536;
    const WRITERS: usize = 8;
    let (_server, _, backend) = with_users(Launch::with_shards(1)).await;
    let writers = (0..WRITERS).map(|writer| {
        let per_writer = BANS_MAX / WRITERS;
        ban_all(&backend, (0..per_writer).map(move |nth| format!("troll{}", writer * per_writer + nth)))
    });
    futures_util::future::join_all(writers).await;
    let ban = async |account: &str| {
        backend.post(&format!("/api/v1/users/{account}/ban"), &json!({"seconds": 0})).await
    };
    let refused = ban("one-more").await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.body.contains("Too many bans") && refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(backend.get("/api/v1/users/one-more").await.json()["ban"], Value::Null);
    // Another ban of one that is banned takes no more room.
    connections(&ban("troll0").await);
    ban("one-more").await.assert_problem(503, "unavailable");
    assert_eq!(end(&backend, &json!(BANS_MAX)).await, 200);
    connections(&ban("one-more").await);
    ban("and-another").await.assert_problem(503, "unavailable");
    let (rows, next) = list(&backend, &format!("?after={}", BANS_MAX - 2)).await;
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!((ids, next), (vec![BANS_MAX as u64 - 1, BANS_MAX as u64 + 1], Value::Null));
}

/// Bans accounts on one connection, many at a time.
async fn ban_all(backend: &Backend, accounts: impl Iterator<Item = String>) {
    let mut stream = backend.connect().await;
    let body = json!({"seconds": 0}).to_string();
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let accounts: Vec<_> = accounts.collect();
    for accounts in accounts.chunks(64) {
        let requests = accounts.iter().map(|account| {
            let head = backend.head("POST", &format!("/api/v1/users/{account}/ban"));
            head.replace("Connection: close\r\n", "") + &fields
        });
        within("requests", stream.write_all(requests.collect::<String>().as_bytes())).await.unwrap();
        let mut answers = String::new();
        while answers.matches("{\"connections\":0}").count() < accounts.len() {
            let mut bytes = [0; 1 << 14];
            let length = within("answers", stream.read(&mut bytes)).await.unwrap();
            assert!(length > 0, "{answers}");
            answers.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }
}

/// Goal: an id that a backend has seen names no other ban, whatever happens to the server.
async fn ids_are_kept_and_given_once(launch: Launch) {
    let serve = async || -> (Server, Backend) {
        let (server, _, backend) = with_users(launch.clone()).await;
        (server, backend)
    };
    let (server, backend) = serve().await;
    for account in ["ann", "ben", "cem"] {
        ban_account(&backend, account, json!({"seconds": 0, "reason": "spam"})).await;
    }
    assert_eq!(end(&backend, &json!(3)).await, 200);
    let rows = || {
        let file = rusqlite::Connection::open(launch.data().join("state.db")).unwrap();
        file.query_row("SELECT count(*), max(id) FROM ban", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        })
        .unwrap()
    };
    eventually("the file follows", async || rows() == (2, Some(2))).await;
    let before = list(&backend, "").await;
    server.signal(Signal::KILL);
    drop(server);
    let (mut server, backend) = serve().await;
    assert_eq!(list(&backend, "").await, before);
    ban_account(&backend, "dora", json!({"seconds": 0})).await;
    assert_eq!(list(&backend, "?after=2").await.0[0]["id"], 4);
    assert_eq!(end(&backend, &json!(4)).await, 200);
    server.signal(Signal::TERM);
    server.exit().await;
    let (server, backend) = serve().await;
    assert_eq!(list(&backend, "").await, before);
    ban_account(&backend, "eve", json!({"seconds": 0})).await;
    assert!(list(&backend, "?after=2").await.0[0]["id"].as_u64().unwrap() >= 4);
    let mut guest = Guest::enter(&server, "192.0.2.1").await;
    assert!(guest.is_heard().await);
}
