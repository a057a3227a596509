//! A server that was killed, and its successor on the same port.

use crate::harness::{Chat, Launch, Socket, Wire, on_one_server};

on_one_server! {
    a_successor_listens_at_once_where_a_killed_server_had_clients,
}

/// The kernel keeps the port for a moment: rings are torn down behind the process that had them.
async fn a_successor_listens_at_once_where_a_killed_server_had_clients(launch: Launch) {
    let mut server = launch.clone().start();
    let address = server.address();
    for _ in 0..3 {
        let mut members = Chat::crowd(&server, 3).await;
        let mut listeners = Socket::listeners(&server, "/broadcast", 2).await;
        let silent = Wire::connect(&server).await;
        // Killed, with the connections open at the other end.
        drop(server);
        server = launch.clone().at(address).start();
        assert_eq!(server.address(), address);
        let [mut alice, mut bob] = Chat::members(&server).await;
        alice.message("back again").await;
        assert_eq!(bob.next().await["content"], "back again");
        members.clear();
        listeners.clear();
        drop(silent);
        bob.leave().await;
        assert_eq!(alice.next().await["type"], "leave");
        alice.leave().await;
    }
}
