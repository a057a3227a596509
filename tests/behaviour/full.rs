//! A server with no room for another connection.

use crate::harness::{Chat, Launch, Socket, eventually, on_one_server, request};
use crate::http_paths::answer;

on_one_server! {
    one_too_many_is_told_so_and_closed,
    those_inside_hear_nothing_of_it,
    a_place_is_free_again_once_somebody_has_left,
    pages_are_served_while_the_server_is_full,
}

async fn one_too_many_is_told_so_and_closed(launch: Launch) {
    let server = launch.flag("--max-clients", 2).start();
    let _inside = (Chat::enter(&server).await, Socket::listeners(&server, "/broadcast", 1).await);
    for path in ["/", "/chat", "/ws", "/broadcast", "/echo"] {
        for _ in 0..5 {
            let mut socket = Socket::connect(&server, path).await;
            assert_eq!(socket.text().await, "Server is full");
            assert_eq!(socket.closed().await.0, 1013);
        }
    }
}

async fn those_inside_hear_nothing_of_it(launch: Launch) {
    let server = launch.flag("--max-clients", 2).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let mut socket = Socket::connect(&server, "/chat").await;
    assert_eq!(socket.text().await, "Server is full");
    socket.closed().await;
    alice.message("just us").await;
    assert_eq!(bob.next().await["content"], "just us");
}

async fn a_place_is_free_again_once_somebody_has_left(launch: Launch) {
    let server = launch.flag("--max-clients", 2).start();
    let mut crowd = Chat::crowd(&server, 2).await;
    for round in 0..10 {
        let leaver = crowd.remove(0);
        if round % 2 == 0 {
            leaver.leave().await;
        } else {
            drop(leaver);
        }
        assert_eq!(crowd[0].next().await["type"], "leave");
        eventually("a free place", async || {
            let mut newcomer = Chat::connect(&server).await;
            if newcomer.socket().text().await == "Server is full" {
                return false;
            }
            newcomer.until("history").await;
            crowd.push(newcomer);
            true
        })
        .await;
        assert_eq!(crowd[0].next().await["type"], "join");
    }
}

async fn pages_are_served_while_the_server_is_full(launch: Launch) {
    let server = launch.flag("--max-clients", 1).start();
    let _inside = Chat::enter(&server).await;
    let request = request(&server, "GET", "/healthz", "");
    assert_eq!(answer(&server, &request).await.status, 200);
}
