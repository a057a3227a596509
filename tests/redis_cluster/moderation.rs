//! Bans and mutes, which hold on all nodes.

use serde_json::{Value, json};

use crate::harness::{
    ApiKeys, Backend, Chat, Launch, Server, TokenKey, direct, error, eventually, upgrade_with,
};
use crate::nodes::{becomes_ready, becomes_unready, node, start};
use crate::redis::Redis;
use crate::room::enter_as;

/// A node with the HTTP API, and tokens of this key.
fn moderated(redis: &Redis, name: &str, tokens: &TokenKey, keys: &ApiKeys) -> Launch {
    node(redis, name).flag("--token-key", tokens.path().display()).with_api(keys)
}

struct Cluster {
    tokens: TokenKey,
    keys: ApiKeys,
    key: String,
    redis: Redis,
}

impl Cluster {
    async fn new() -> Self {
        let keys = ApiKeys::new();
        let key = keys.add("shop", &[]).await;
        Self { tokens: TokenKey::new(), keys, key, redis: Redis::start() }
    }

    fn start(&self) -> [Server; 2] {
        start(["a", "b"].map(|name| moderated(&self.redis, name, &self.tokens, &self.keys)))
    }

    fn backend(&self, node: &Server) -> Backend {
        Backend::with_key(node, &self.key)
    }

    async fn member(&self, node: &Server, sub: &str, flags: &[&str]) -> Chat {
        let mut member = Chat::with_token(node, &self.tokens.token(sub, flags).await).await;
        member.read_welcome().await;
        assert_eq!(member.next().await["type"], "users");
        assert_eq!(member.next().await["type"], "history");
        member
    }

    /// What an upgrade with a token of this account is answered.
    async fn status_of(&self, node: &Server, sub: &str) -> u16 {
        let token = self.tokens.token(sub, &[]).await;
        upgrade_with(node, &format!("/chat?token={token}"), "").await.status
    }
}

/// The bans, as the API lists them.
async fn bans(backend: &Backend) -> Vec<Value> {
    backend.get("/api/v1/bans").await.json()["bans"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_ban_ends_the_connections_of_all_nodes_and_outlives_them() {
    let cluster = Cluster::new().await;
    let [a, b] = cluster.start();
    let mut boss = cluster.member(&a, "boss", &["--admin"]).await;
    let mut trolls = [cluster.member(&a, "troll", &[]).await, cluster.member(&b, "troll", &[]).await];
    boss.say(json!({"type": "ban", "account": "troll", "seconds": 0, "reason": "spam"})).await;
    for troll in &mut trolls {
        assert_eq!(troll.until("kicked").await, direct("kicked", json!({"reason": "spam"})));
        assert_eq!(troll.closed_in_the_end().await, (1008, "banned".to_owned()));
    }
    let [at_a, at_b] = [cluster.backend(&a), cluster.backend(&b)];
    let listed = bans(&at_a).await;
    assert_eq!(
        (listed.len(), &listed[0]["account"], &listed[0]["by"]),
        (1, &json!("troll"), &json!("account:boss"))
    );
    assert_eq!(bans(&at_b).await, listed);
    for node in [&a, &b] {
        assert_eq!(cluster.status_of(node, "troll").await, 403);
    }
    // One of a node that is there already, which is changed where another one is.
    let again = json!({"seconds": 0, "reason": "more spam"});
    assert_eq!(at_b.post("/api/v1/users/troll/ban", &again).await.status, 200);
    let listed_again = bans(&at_b).await;
    assert_eq!((&listed_again[0]["id"], &listed_again[0]["reason"]), (&listed[0]["id"], &json!("more spam")));
    drop((a, b));
    let [a, b] = cluster.start();
    let [at_a, at_b] = [cluster.backend(&a), cluster.backend(&b)];
    assert_eq!((bans(&at_a).await, bans(&at_b).await), (listed_again.clone(), listed_again.clone()));
    assert_eq!(cluster.status_of(&b, "troll").await, 403);
    let id = listed[0]["id"].as_u64().unwrap();
    assert_eq!(at_b.request("DELETE", &format!("/api/v1/bans/{id}"), &[], b"").await.status, 200);
    eventually("no ban", async || bans(&at_a).await.is_empty()).await;
    cluster.member(&a, "troll", &[]).await;
    assert_eq!(at_a.request("DELETE", &format!("/api/v1/bans/{id}"), &[], b"").await.status, 404);
}

#[tokio::test]
async fn a_mute_holds_on_all_nodes_and_for_who_comes_back_elsewhere() {
    let cluster = Cluster::new().await;
    let [a, b] = cluster.start();
    let mut boss = cluster.member(&a, "boss", &["--admin"]).await;
    let mut ann = cluster.member(&b, "ann", &[]).await;
    let at_a = cluster.backend(&a);
    assert_eq!(at_a.post("/api/v1/users/ann/mute", &json!({"seconds": 1_000})).await.status, 200);
    assert_eq!(ann.until("muted").await, direct("muted", json!({"seconds": 1_000})));
    ann.say(json!({"type": "message", "content": "x"})).await;
    assert_eq!(ann.next().await, error("You are muted"));
    assert_eq!(at_a.request("POST", "/api/v1/users/ann/unmute", &[], b"").await.status, 200);
    assert_eq!(ann.next().await["type"], "unmuted");
    ann.message("free").await;

    // A guest is muted by its session.
    let guest = enter_as(&a, "guest").await;
    boss.say(json!({"type": "mute", "target_id": guest.id, "seconds": 1_000})).await;
    let mut guest = guest;
    assert_eq!(guest.until("muted").await, direct("muted", json!({"seconds": 1_000})));
    let mut back = Chat::connect_at(&b, &format!("/chat?session={}", guest.session)).await;
    assert_eq!(back.read_welcome().await["content"]["user_id"], guest.id);
    back.until("muted").await;
    back.say(json!({"type": "message", "content": "x"})).await;
    assert_eq!(back.until("error").await, error("You are muted"));
}

#[tokio::test]
async fn an_account_is_disconnected_on_all_nodes() {
    let cluster = Cluster::new().await;
    let [a, b] = cluster.start();
    let mut anns = [cluster.member(&a, "ann", &[]).await, cluster.member(&b, "ann", &[]).await];
    let order = json!({"reason": "a new version"});
    let answer = cluster.backend(&a).post("/api/v1/users/ann/disconnect", &order).await;
    // The connections of other nodes are not counted.
    assert_eq!((answer.status, answer.json()), (200, json!({"connections": 1})));
    for ann in &mut anns {
        assert_eq!(ann.until("kicked").await, direct("kicked", order.clone()));
        assert_eq!(ann.closed_in_the_end().await, (1008, "kicked".to_owned()));
    }
}

#[tokio::test]
async fn users_of_other_nodes_are_kicked_muted_and_banned() {
    let cluster = Cluster::new().await;
    let [a, b] = cluster.start();
    let mut boss = cluster.member(&a, "boss", &["--admin"]).await;
    let mut guest = enter_as(&b, "guest").await;
    let mut ann = cluster.member(&b, "ann", &[]).await;
    boss.until("join").await;
    boss.until("join").await;
    boss.say(json!({"type": "mute", "target_id": guest.id, "seconds": 1_000})).await;
    assert_eq!(guest.until("muted").await, direct("muted", json!({"seconds": 1_000})));
    boss.say(json!({"type": "unmute", "target_id": guest.id})).await;
    guest.until("unmuted").await;
    boss.say(json!({"type": "kick", "target_id": guest.id, "reason": "enough"})).await;
    assert_eq!(guest.until("kicked").await, direct("kicked", json!({"reason": "enough"})));
    assert_eq!(guest.closed_in_the_end().await, (1008, "kicked".to_owned()));
    boss.say(json!({"type": "ban", "target_id": ann.id, "seconds": 0})).await;
    assert_eq!(ann.until("kicked").await["type"], "kicked");
    assert_eq!(ann.closed_in_the_end().await, (1008, "banned".to_owned()));
    assert_eq!(cluster.status_of(&a, "ann").await, 403);
    // Its order is the next that is answered, once all before are.
    boss.say(json!({"type": "kick", "target_id": ann.id})).await;
    assert_eq!(boss.until("error").await, error("User not found or offline"));
}

#[tokio::test]
async fn an_order_without_redis_is_refused_and_bans_are_written_again_to_an_empty_one() {
    let mut cluster = Cluster::new().await;
    let [a, b] = cluster.start();
    let at_a = cluster.backend(&a);
    let body = json!({"seconds": 0});
    assert_eq!(at_a.post("/api/v1/users/first/ban", &body).await.status, 200);
    cluster.redis.kill();
    becomes_unready(&a).await;
    let refused = at_a.post("/api/v1/users/second/ban", &body).await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.json()["detail"], "The order could not be stored");
    cluster.redis.start_again();
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    let listed = bans(&at_a).await;
    assert_eq!((listed.len(), &listed[0]["account"]), (1, &json!("first")));
    cluster.redis.command(&["FLUSHALL"]);
    // The ban of a node that starts comes from Redis alone.
    let kept = ["HEXISTS", "{uproar:0}:bans", "account:first"];
    eventually("written again", async || cluster.redis.command(&kept) == "1").await;
    let c = moderated(&cluster.redis, "c", &cluster.tokens, &cluster.keys).start();
    assert_eq!(bans(&cluster.backend(&c)).await, listed);
}
