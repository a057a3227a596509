//! The raw dialect: what one says, everyone on the topic gets unchanged.

use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    BINARY, CONTINUATION, Launch, Socket, TEXT, Wire, frame, on_one_server, on_two_nodes, part,
};

on_one_server! {
    text_and_binary_reach_everyone_unchanged,
    topics_are_isolated,
    a_message_of_the_frame_limit_arrives_in_fragments,
    a_message_over_the_frame_limit_is_not_passed_on,
    listeners_of_one_topic_see_one_order,
    a_listener_that_left_disturbs_nobody,
    fragments_are_joined,
}

on_two_nodes! {
    text_and_binary_reach_everyone_unchanged,
    topics_are_isolated,
    a_message_of_the_frame_limit_arrives_in_fragments,
    a_message_over_the_frame_limit_is_not_passed_on,
    listeners_of_one_topic_see_one_order,
    a_listener_that_left_disturbs_nobody,
}

const FRAME_MAX: usize = 64 * 1024;

async fn text_and_binary_reach_everyone_unchanged(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast", 5).await;
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::text("日本\0\u{10ffff}{\"type\":\"message\"}"),
        Message::binary(vec![]),
        Message::binary((0..=255).collect::<Vec<u8>>()),
        Message::text("x".repeat(20_000)),
    ] {
        listeners[0].send(message.clone()).await;
        for listener in &mut listeners {
            assert_eq!(listener.next().await, Some(message.clone()));
        }
    }
}

async fn topics_are_isolated(launch: Launch) {
    let server = launch.start();
    let topics = ["/broadcast", "/broadcast/news", "/broadcast/new", "/broadcast/News"];
    let mut pairs = Vec::new();
    for topic in topics {
        pairs.push(Socket::listeners(&server, topic, 2).await);
    }
    for (pair, topic) in pairs.iter_mut().zip(topics) {
        pair[0].send(topic).await;
    }
    // The second word comes directly behind the first: nothing of the other topics in between.
    for (pair, topic) in pairs.iter_mut().zip(topics) {
        pair[1].send("end").await;
        for listener in pair {
            let mut heard = [listener.text().await, listener.text().await];
            heard.sort();
            assert_eq!(heard, [topic, "end"]);
        }
    }
}

async fn fragments_are_joined(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast/news", 2).await;
    let mut wire = Wire::upgrade(&server, "/broadcast/news").await;
    wire.send(part(TEXT, "one ")).await;
    wire.send(part(CONTINUATION, "")).await;
    wire.send(part(CONTINUATION, "message ")).await;
    wire.send(frame(CONTINUATION, "in parts")).await;
    assert_eq!(wire.text().await, "one message in parts");
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "one message in parts");
    }
}

async fn a_message_of_the_frame_limit_arrives_in_fragments(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast", 2).await;
    let mut wire = Wire::upgrade(&server, "/broadcast").await;
    wire.send(frame(TEXT, "here")).await;
    assert_eq!(wire.text().await, "here");
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "here");
    }
    let payload: Vec<u8> = (0..FRAME_MAX).map(|n| (n * 7 % 251) as u8).collect();
    listeners[0].send(payload.clone()).await;

    let first = wire.frame().await.unwrap();
    assert_eq!((first.opcode, first.is_final), (BINARY, false));
    let mut joined = first.payload;
    loop {
        let next = wire.frame().await.unwrap();
        assert_eq!(next.opcode, CONTINUATION);
        joined.extend(next.payload);
        if next.is_final {
            break;
        }
    }
    assert!(joined == payload, "the fragments differ from the message");
    for listener in &mut listeners {
        assert_eq!(listener.next().await, Some(Message::binary(payload.clone())));
    }
}

async fn a_message_over_the_frame_limit_is_not_passed_on(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast", 3).await;
    let mut sender = listeners.pop().unwrap();
    sender.send(vec![0; FRAME_MAX + 1]).await;
    assert_eq!(sender.closed().await.0, 1009);
    listeners[0].send("next").await;
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "next");
    }
}

async fn listeners_of_one_topic_see_one_order(launch: Launch) {
    const WORDS: usize = 200;
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast/busy", 6).await;
    for (speaker, listener) in listeners.iter_mut().enumerate() {
        let words = (0..WORDS).map(|n| Message::text(format!("{speaker} {n}")));
        listener.send_all(words).await;
    }
    let mut heard = Vec::new();
    for listener in &mut listeners {
        let mut words = Vec::new();
        for _ in 0..6 * WORDS {
            words.push(listener.text().await);
        }
        heard.push(words);
    }
    for others in &heard[1..] {
        assert!(others == &heard[0], "two listeners saw two orders");
    }
    for speaker in 0..6 {
        let prefix = format!("{speaker} ");
        let words = heard[0].iter().filter(|word| word.starts_with(&prefix));
        let expected = (0..WORDS).map(|n| format!("{speaker} {n}"));
        assert!(words.cloned().eq(expected), "{speaker}'s words out of order");
    }
}

async fn a_listener_that_left_disturbs_nobody(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast", 4).await;
    listeners.pop().unwrap().leave(1000).await;
    drop(listeners.pop());
    listeners[0].send("still").await;
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "still");
    }
}
