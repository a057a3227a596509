//! Topics of the raw dialect: which names are one topic, how many topics there may be, and how fast one may publish.

use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Launch, Server, Socket, Wire, eventually, on_one_server, upgrade_request, within};
use crate::metrics::scrape;

on_one_server! {
    names_that_mean_the_same_are_one_topic,
    names_have_at_most_1024_bytes,
    one_topic_too_many_is_refused,
    what_is_published_too_fast_is_dropped_and_counted,
}

async fn names_that_mean_the_same_are_one_topic(launch: Launch) {
    let server = launch.start();
    for (one, same, other) in [
        ("a%2db", "a-b", "a%2Fb"),
        ("%e4%bd%a0", "%E4%BD%A0", "%E4%BD%A1"),
        ("a%2fb", "a%2Fb", "a/b"),
        ("%7euser/%41", "~user/A", "~user/a"),
        ("100%", "100%", "100%25"),
        ("%zz", "%zz", "%ZZ"),
    ] {
        let mut listeners = Vec::new();
        for topic in [one, same, other] {
            let mut listener = Socket::connect(&server, &format!("/broadcast/{topic}")).await;
            // Its own words come back, so it is on its topic.
            listener.send(topic).await;
            assert_eq!(heard(&mut listener).await, topic);
            listeners.push(listener);
        }
        let mut other = listeners.pop().unwrap();
        let [first, second] = &mut listeners[..] else { panic!("two") };
        assert_eq!(heard(first).await, same);
        second.send("both").await;
        assert_eq!((heard(first).await, heard(second).await), ("both".into(), "both".into()));
        other.send("alone").await;
        assert_eq!(heard(&mut other).await, "alone");
    }
}

async fn names_have_at_most_1024_bytes(launch: Launch) {
    let server = launch.start();
    for (name, wanted) in [
        ("a".repeat(1024), 101),
        ("a".repeat(1025), 404),
        ("%61".repeat(1024), 101),
        ("%2F".repeat(341), 101),
        ("%2F".repeat(342), 404),
    ] {
        let (_wire, status) = upgraded(&server, &format!("/broadcast/{name}")).await;
        assert_eq!(status, wanted, "{name}");
    }
}

async fn one_topic_too_many_is_refused(launch: Launch) {
    let server = launch.flag("--topics-max", 2).start();
    let (mut first, status) = upgraded(&server, "/broadcast/a").await;
    assert_eq!(status, 101);
    let (_second, status) = upgraded(&server, "/broadcast").await;
    assert_eq!(status, 101);
    let mut wire = Wire::connect(&server).await;
    wire.send(upgrade_request("/broadcast/b")).await;
    let refusal = wire.response().await;
    assert_eq!((refusal.status, refusal.body.as_str()), (503, "Too many topics"));
    // Others of a topic that is there, and other dialects, have room.
    for path in ["/broadcast/%61", "/broadcast/", "/chat", "/ws", "/echo"] {
        assert_eq!(upgraded(&server, path).await.1, 101, "{path}");
    }
    assert!(scrape(&server).await.contains("uproar_refused_total{reason=\"topics_full\"} 1\n"));
    first.half_close().await;
    first.receive().await;
    drop(first);
    eventually("a topic is gone", async || upgraded(&server, "/broadcast/b").await.1 == 101).await;
}

async fn what_is_published_too_fast_is_dropped_and_counted(launch: Launch) {
    let server = launch.flag("--topic-rate", 1).start();
    let mut listener = Socket::connect(&server, "/broadcast/ticks").await;
    listener.send("here").await;
    assert_eq!(heard(&mut listener).await, "here");
    let mut publisher = Socket::connect(&server, "/broadcast/ticks").await;
    let controls = (0..20).map(|_| Message::Pong("".into()));
    let flood = (0..20).map(|n| Message::text(n.to_string()));
    publisher.send_all(controls.chain(flood)).await;
    let dropped = async || {
        let text = scrape(&server).await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("uproar_messages_over_rate_total{dialect=\"raw\"} "));
        line.unwrap().parse::<usize>().unwrap()
    };
    // A second may pass meanwhile, or several, and then more are let through.
    eventually("all were read", async || {
        let text = scrape(&server).await;
        text.contains("uproar_messages_received_total{dialect=\"raw\"} 21\n")
    })
    .await;
    let published = 20 - dropped().await;
    assert!((2..20).contains(&published), "{published}");
    // The publisher stays, and so does the order.
    listener.send("end").await;
    let mut last = None;
    for _ in 0..published {
        let number: usize = heard(&mut publisher).await.parse().unwrap();
        assert!(last.is_none_or(|last| last < number));
        assert_eq!(heard(&mut listener).await, number.to_string());
        last = Some(number);
    }
    assert_eq!((heard(&mut publisher).await, heard(&mut listener).await), ("end".into(), "end".into()));
    eventually("a line", async || server.output().contains("faster than --topic-rate allows")).await;
    // Echo has no such limit.
    let mut echo = Socket::connect(&server, "/echo").await;
    echo.send_all((0..50).map(|n| Message::text(n.to_string()))).await;
    for n in 0..50 {
        assert_eq!(heard(&mut echo).await, n.to_string());
    }
}

/// The next text, in bounded time however often the server pings.
async fn heard(listener: &mut Socket) -> String {
    within("a message", listener.text()).await
}

async fn upgraded(server: &Server, path: &str) -> (Wire, u16) {
    let mut wire = Wire::connect(server).await;
    wire.send(upgrade_request(path)).await;
    let status = wire.head().await.status;
    (wire, status)
}
