//! `POST /api/v1/broadcast/{topic}`: messages of a backend to raw topics.

use tokio_tungstenite::tungstenite::Message;

use crate::api_publish::with_backend;
use crate::harness::{Launch, Socket, on_one_and_four_shards_only};

on_one_and_four_shards_only! {
    the_body_goes_to_every_listener_and_they_are_counted,
    the_type_tells_text_from_bytes,
    a_name_is_one_segment,
    a_topic_without_listeners_has_no_receivers,
    bodies_are_within_the_frame_limit,
}

async fn the_body_goes_to_every_listener_and_they_are_counted(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut listeners = Socket::listeners(&server, "/broadcast/prices", 9).await;
    let mut others = Socket::listeners(&server, "/broadcast/price", 1).await;
    let answer =
        backend.request("POST", "/api/v1/broadcast/prices", &[("Content-Type", "text/plain")], b"7").await;
    assert_eq!((answer.status, answer.json()["receivers"].as_u64()), (200, Some(9)), "{answer:?}");
    for listener in &mut listeners {
        assert_eq!(listener.next().await, Some(Message::text("7")));
    }
    others[0].send("own").await;
    assert_eq!(others[0].next().await, Some(Message::text("own")));
}

async fn the_type_tells_text_from_bytes(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut listeners = Socket::listeners(&server, "/broadcast/t", 1).await;
    let listener = &mut listeners[0];
    let post = async |kind: &[(&str, &str)], body: &[u8]| {
        backend.request("POST", "/api/v1/broadcast/t", kind, body).await
    };
    for kind in ["text/csv", "application/json", "application/vnd.x+json; charset=utf-8", "TEXT/plain"] {
        assert_eq!(post(&[("Content-Type", kind)], "é".as_bytes()).await.status, 200);
        assert_eq!(listener.next().await, Some(Message::text("é")), "{kind}");
    }
    for kind in [&[("Content-Type", "application/octet-stream")][..], &[("Content-Type", "image/png")], &[]] {
        assert_eq!(post(kind, b"\xff\x00").await.status, 200);
        assert_eq!(listener.next().await, Some(Message::binary(vec![0xff, 0])), "{kind:?}");
    }
    post(&[("Content-Type", "text/plain")], b"\xff").await.assert_problem(422, "invalid");
    assert_eq!(post(&[("Content-Type", "text/plain")], b"").await.status, 200);
    assert_eq!(listener.next().await, Some(Message::text("")));
}

async fn a_name_is_one_segment(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    for (path, segment) in [
        ("/broadcast/a/b", "a%2Fb"),
        ("/broadcast/caf%C3%A9%20x", "caf%C3%A9%20x"),
        ("/broadcast/100%25", "100%25"),
        ("/broadcast/~a-b", "%7Ea%2Db"),
        ("/broadcast/", ""),
    ] {
        let mut listeners = Socket::listeners(&server, path, 1).await;
        if segment.is_empty() {
            backend.request("POST", "/api/v1/broadcast/", &[], b"x").await.assert_problem(404, "not-found");
            continue;
        }
        let target = format!("/api/v1/broadcast/{segment}");
        let answer = backend.request("POST", &target, &[], b"x").await;
        assert_eq!(answer.json()["receivers"], 1, "{path}: {answer:?}");
        assert_eq!(listeners[0].next().await, Some(Message::binary(b"x".to_vec())));
    }
    let long = format!("/api/v1/broadcast/{}", "t".repeat(1_025));
    backend.request("POST", &long, &[], b"x").await.assert_problem(404, "not-found");
    backend.request("POST", "/api/v1/broadcast/%FF", &[], b"x").await.assert_problem(400, "malformed");
}

async fn a_topic_without_listeners_has_no_receivers(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let post =
        async || backend.request("POST", "/api/v1/broadcast/t", &[], b"x").await.json()["receivers"].clone();
    assert_eq!(post().await, 0);
    let listeners = Socket::listeners(&server, "/broadcast/t", 2).await;
    assert_eq!(post().await, 2);
    for listener in listeners {
        listener.leave(1000).await;
    }
    crate::harness::eventually("they are gone", async || post().await == 0).await;
}

async fn bodies_are_within_the_frame_limit(launch: Launch) {
    let (server, backend) =
        with_backend(launch.flag("--max-message", 1_000).flag("--max-frame", 2_000)).await;
    let mut listeners = Socket::listeners(&server, "/broadcast/t", 1).await;
    let post = async |len: usize| backend.request("POST", "/api/v1/broadcast/t", &[], &vec![b'x'; len]).await;
    assert_eq!(post(2_000).await.status, 200);
    assert_eq!(listeners[0].next().await.map(|message| message.len()), Some(2_000));
    post(2_001).await.assert_problem(413, "too-large");
}
