//! Orders about bans: their fields, their answers, and the list.

use serde_json::{Value, json};

use crate::bans::{ban, bans, is_refused, unban};
use crate::harness::{Chat, Guest, Launch, TokenKey, direct, error, eventually, on_one_and_four_shards_only};
use crate::mutes::{admin, member, serve};

on_one_and_four_shards_only! {
    a_list_of_bans_is_paged,
    bans_are_listed_to_admins_by_account_and_address,
    wrong_fields_ban_nobody,
    others_than_admins_are_refused,
    a_trusted_proxy_is_not_banned,
    orders_are_held_to_the_rate,
    bans_are_logged_and_counted,
}

const FORMAT: &str = "Invalid message format";

async fn a_list_of_bans_is_paged(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    boss.say(json!({"type": "get_bans"})).await;
    assert_eq!(boss.next().await, direct("bans", json!([])));
    boss.burst((0..600).map(|n| ban("account", format!("{n:03}"), 60, &"é".repeat(5_000)))).await;
    boss.say(json!({"type": "get_bans"})).await;
    let all = boss.until("bans").await;
    assert_eq!((all["content"].as_array().unwrap().len(), &all["total"]), (500, &json!(600)));
    let shortened = all["content"][0]["reason"].as_str().unwrap();
    assert_eq!((shortened.chars().count(), shortened.ends_with('…')), (201, true));
    for (query, first, count) in [
        (json!({"offset": 599}), Some("599"), 1),
        (json!({"offset": 600}), None, 0),
        (json!({"offset": u64::MAX}), None, 0),
        (json!({"limit": 2}), Some("000"), 2),
        (json!({"limit": 0}), None, 0),
        (json!({"offset": 50, "limit": 10_000}), Some("050"), 500),
    ] {
        let mut get = json!({"type": "get_bans"});
        get.as_object_mut().unwrap().extend(query.as_object().unwrap().clone());
        boss.say(get).await;
        let page = boss.until("bans").await;
        let listed = page["content"].as_array().unwrap();
        assert_eq!((listed.len(), &page["total"]), (count, &json!(600)), "{query}");
        assert_eq!(listed.first().map(|ban| ban["account"].as_str().unwrap()), first, "{query}");
    }
    for query in [json!({"offset": -1}), json!({"limit": "2"}), json!({"limit": 1.5})] {
        let mut get = json!({"type": "get_bans"});
        get.as_object_mut().unwrap().extend(query.as_object().unwrap().clone());
        boss.say(get).await;
        assert_eq!(boss.next().await, error(FORMAT), "{query}");
    }
}

async fn bans_are_listed_to_admins_by_account_and_address(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let before = now();
    for order in [
        ban("address", "203.0.113.1", 3_600, "spam"),
        ban("account", "troll", 0, "again"),
        ban("address", "9.9.9.9", 0, ""),
        ban("account", "Ann", 31_536_000, "x"),
        ban("account", "Ann", 60, "less"),
    ] {
        boss.say(order).await;
    }
    let mut listed = bans(&mut boss).await;
    let mut until =
        |index: usize| listed[index].as_object_mut().unwrap().remove("until").unwrap().as_u64().unwrap();
    let (ann, spam) = (until(0), until(3));
    assert!((before + 60..=now() + 60).contains(&ann) && (before + 3_600..=now() + 3_600).contains(&spam));
    let expected = [
        json!({"account": "Ann", "reason": "less"}),
        json!({"account": "troll", "until": 0, "reason": "again"}),
        json!({"address": "9.9.9.9", "until": 0, "reason": ""}),
        json!({"address": "203.0.113.1", "reason": "spam"}),
    ];
    assert_eq!(listed, expected);
}

async fn wrong_fields_ban_nobody(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut guest = Guest::enter(&server, "192.0.2.1").await;
    assert_eq!(boss.next().await["type"], "join");
    for seconds in [
        json!(-1),
        json!(1.5),
        json!(31_536_001),
        json!(u64::MAX),
        json!(1e300),
        json!("60"),
        json!(null),
        json!(true),
        json!([60]),
    ] {
        for target in
            [json!({"target_id": guest.id}), json!({"account": "ann"}), json!({"address": "192.0.2.1"})]
        {
            let mut order = json!({"type": "ban", "seconds": seconds});
            order.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
            boss.say(order.clone()).await;
            assert_eq!(boss.next().await, error(FORMAT), "{order}");
        }
    }
    for order in [
        json!({"type": "ban", "account": "ann"}),
        json!({"type": "ban", "target_id": guest.id}),
        json!({"type": "ban", "account": "ann", "seconds": 1, "reason": 5}),
        json!({"type": "ban", "account": "", "seconds": 1}),
        json!({"type": "ban", "account": "x".repeat(129), "seconds": 1}),
        json!({"type": "ban", "account": 7, "seconds": 1}),
        json!({"type": "ban", "account": null, "seconds": 1}),
        json!({"type": "ban", "address": 7, "seconds": 1}),
        json!({"type": "ban", "address": ["192.0.2.1"], "seconds": 1}),
        json!({"type": "unban"}),
        json!({"type": "unban", "account": 7}),
        json!({"type": "unban", "address": {}}),
    ] {
        boss.say(order.clone()).await;
        assert_eq!(boss.next().await, error(FORMAT), "{order}");
    }
    for address in [
        "",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "[2001:db8::1]:80",
        "fe80::1%eth0",
        "2001:db8::/64",
        "192.0.2.0/24",
        "192.0.2",
        "192.0.2.256",
        " 192.0.2.1",
        "localhost",
        "%00",
    ] {
        boss.say(ban("address", address, 1, "")).await;
        assert_eq!(boss.next().await, error(FORMAT), "{address}");
    }
    for target in [json!(0), json!(4_000), json!("x"), json!(-1), json!([1]), json!(null)] {
        // Where several are given, `target_id` counts.
        boss.say(json!({"type": "ban", "target_id": target, "account": "ann", "seconds": 1})).await;
        assert_eq!(boss.next().await, error("User not found or offline"), "{target}");
    }
    boss.say(json!({"type": "ban", "seconds": 1})).await;
    assert_eq!(boss.next().await, error("User not found or offline"));
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    assert!(guest.is_heard().await);
    // Then `account` does.
    boss.say(json!({"type": "ban", "account": "ann", "address": "192.0.2.1", "seconds": 60})).await;
    assert_eq!(bans(&mut boss).await[0]["account"], "ann");
    assert!(guest.is_heard().await);
}

async fn others_than_admins_are_refused(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut ann = member(&server, &key, "ann", &[]).await;
    let mut guest = Chat::enter(&server).await;
    assert_eq!(ann.next().await["type"], "join");
    for other in [&mut ann, &mut guest] {
        for order in [
            ban("target_id", boss.id, 60, ""),
            ban("account", "boss", 60, ""),
            ban("address", "192.0.2.1", 60, ""),
            json!({"type": "ban"}),
            json!({"type": "ban", "address": "rubbish", "seconds": "many"}),
            unban("account", "nobody"),
            json!({"type": "unban"}),
            json!({"type": "get_bans"}),
            json!({"type": "get_bans", "offset": "x"}),
        ] {
            other.say(order.clone()).await;
            assert_eq!(other.next().await, error("Permission denied"), "{order}");
        }
    }
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
}

async fn a_trusted_proxy_is_not_banned(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut guest = Chat::enter(&server).await;
    assert_eq!(boss.next().await["type"], "join");
    for order in [ban("address", "127.0.0.1", 60, ""), ban("target_id", guest.id, 60, "")] {
        boss.say(order.clone()).await;
        assert_eq!(boss.next().await, error("Address of a trusted proxy"), "{order}");
    }
    guest.message("still here").await;
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    eventually("it is in the log", async || server.output().contains("not banned")).await;
}

async fn orders_are_held_to_the_rate(launch: Launch) {
    let key = TokenKey::new();
    let launch = launch.flag("--rate", 1).flag("--burst", 5);
    let server = launch.flag("--token-key", key.path().display()).start();
    let mut boss = admin(&server, &key).await;
    boss.burst((0..200).map(|n| ban("account", n.to_string(), 60, ""))).await;
    let mut dropped = 0;
    while dropped < 150 {
        assert_eq!(boss.next().await, error("Too many messages"));
        dropped += 1;
    }
}

async fn bans_are_logged_and_counted(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(ban("target_id", troll.id, 60, "spam\u{202e}\u{1b}")).await;
    assert_eq!(troll.closed().await.0, 1008);
    boss.say(ban("account", "ann\u{202e}", 0, "why not")).await;
    boss.say(unban("account", "ann\u{202e}")).await;
    assert_eq!(bans(&mut boss).await.len(), 1);
    is_refused(&server, "192.0.2.1", "/echo").await;
    let metrics = crate::metrics::scrape(&server).await;
    for line in [
        "uproar_moderation_orders_total{order=\"ban\"} 2",
        "uproar_moderation_orders_total{order=\"unban\"} 1",
        "uproar_moderation_orders_total{order=\"kick\"} 0",
        "uproar_connections_ended_total{reason=\"banned\"} 1",
        "uproar_refused_total{reason=\"banned\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    let words =
        ["measure=ban", "by_name=\"boss\"", "address=192.0.2.1", "seconds=60", "why not", "measure=unban"];
    eventually("the lines", async || words.iter().all(|word| server.output().contains(word))).await;
    assert!(!server.output().contains(['\u{202e}', '\u{1b}']));
}
