//! Proxies in front of the server: whose word about a client's address is taken, and what goes by that address. The
//! clients here are on this machine, and stand for proxies.

use std::net::IpAddr;

use serde_json::json;

use crate::harness::{
    AccountFile, Launch, Server, TEXT, Wire, eventually, frame, on_one_and_four_shards_only, on_one_server,
    password_of, upgrade_request,
};

on_one_server! {
    the_last_address_that_is_no_trusted_proxy_is_the_clients,
    nobody_else_is_believed,
    limits_go_by_the_address_that_is_told,
    a_name_for_loopback_is_taken_from_a_trusted_proxy,
}

/// It brings a directory with accounts.
mod with_accounts {
    use super::{on_one_and_four_shards_only, one_clients_wrong_passwords_lock_nobody_else_out};

    on_one_and_four_shards_only! { one_clients_wrong_passwords_lock_nobody_else_out }
}

/// Stands for a proxy that is trusted, beside another address of this machine that is not.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

fn behind_proxy(launch: Launch) -> Launch {
    launch.flag("--trusted-proxy", PROXY).flag("--trusted-proxy", "10.0.0.0/8,2001:db8:1::/48")
}

async fn the_last_address_that_is_no_trusted_proxy_is_the_clients(launch: Launch) {
    let server = behind_proxy(launch).flag("--log-level", "debug").start();
    let forty: Vec<String> = (1..=40).map(|n| format!("203.0.113.{n}")).collect();
    let forty = format!("X-Forwarded-For: {}\r\n", forty.join(", "));
    for (fields, address) in [
        ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("x-forwarded-for: 203.0.113.9, 192.0.2.1,10.1.1.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1:4711"),
        ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
        ("X-Forwarded-For: [2001:db8::1]:4711, [2001:db8:1::2]:80\r\n", "[2001:db8::1]:4711"),
        ("X-Forwarded-For: 10.0.0.7, 10.0.0.8\r\n", "10.0.0.7"),
        ("X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.8\r\n", "10.0.0.8"),
        ("X-Forwarded-For: rubbish, 192.0.2.1\r\n", "192.0.2.1"),
        (&forty, "203.0.113.40"),
        ("Forwarded: for=203.0.113.9;proto=https, For=\"[2001:db8::1]:4711\"\r\n", "[2001:db8::1]:4711"),
        ("Forwarded: for=\"evil, for=192.0.2.1;by=10.0.0.1\r\n", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n", "192.0.2.2"),
    ] {
        assert_eq!(told_to(&server, PROXY, fields).await.0, address, "{fields}");
    }
    for fields in [
        "",
        "X-Forwarded-For: unknown\r\n",
        "X-Forwarded-For: 192.0.2.1, 192.0.2.\r\n",
        "Forwarded: by=192.0.2.1\r\n",
    ] {
        let (told, own) = told_to(&server, PROXY, fields).await;
        assert_eq!(told, own, "{fields}");
    }
    // Admissions are logged with the address.
    eventually("a line", async || server.output().contains("peer=[2001:db8::1]:4711")).await;
}

async fn nobody_else_is_believed(launch: Launch) {
    let server = behind_proxy(launch).start();
    for fields in ["X-Forwarded-For: 192.0.2.1\r\n", "Forwarded: for=192.0.2.1\r\n"] {
        let (told, own) = told_to(&server, STRANGER, fields).await;
        assert_eq!(told, own, "{fields}");
    }
}

async fn limits_go_by_the_address_that_is_told(launch: Launch) {
    let launch = behind_proxy(launch).flag("--no-limit-for", "192.0.2.99");
    let server = launch.flag("--max-clients-per-address", 1).start();
    let mut inside = Vec::new();
    let entered = async |from: &str, fields: &str| {
        let mut wire = connected(&server, from).await;
        wire.send(request("/echo", fields)).await;
        (wire.head().await.status, wire)
    };
    for (from, address, status) in [
        (PROXY, "192.0.2.1", 101),
        (PROXY, "192.0.2.1", 429),
        (PROXY, "192.0.2.1:4711", 429),
        (PROXY, "192.0.2.2", 101),
        (PROXY, "2001:db8::1", 101),
        (PROXY, "[2001:db8::2]:80", 429),
        (PROXY, "2001:db8:0:1::1", 101),
        // A stranger is counted by its own address, whatever it says.
        (STRANGER, "192.0.2.77", 101),
        (STRANGER, "192.0.2.78", 429),
        // Proxies have no limits, and who is exempt has none either.
        (PROXY, "10.0.0.7", 101),
        (PROXY, "10.0.0.7", 101),
        (PROXY, "unknown", 101),
        (PROXY, "unknown", 101),
        (PROXY, "192.0.2.99", 101),
        (PROXY, "192.0.2.99", 101),
    ] {
        let (answered, wire) = entered(from, &format!("X-Forwarded-For: {address}\r\n")).await;
        assert_eq!(answered, status, "{from} {address}");
        inside.push(wire);
    }
}

async fn a_name_for_loopback_is_taken_from_a_trusted_proxy(launch: Launch) {
    let server = behind_proxy(launch).start();
    for (from, status) in [(PROXY, 101), (STRANGER, 403)] {
        for (origin, status) in [("https://chat.example", status), ("https://evil.example", 403)] {
            let mut wire = connected(&server, from).await;
            let request = request("/chat", &format!("Origin: {origin}\r\n"));
            wire.send(request.replace("Host: localhost", "Host: chat.example")).await;
            assert_eq!(wire.head().await.status, status, "{from} {origin}");
        }
    }
}

async fn one_clients_wrong_passwords_lock_nobody_else_out(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    accounts.hash_cheaply("Ann");
    let server = behind_proxy(launch).flag("--data", accounts.path().display()).start();
    // More than an address may try at once.
    for _ in 0..60 {
        assert_eq!(sign_in(&server, "192.0.2.1", "wrong").await, 1008);
    }
    assert_eq!(sign_in(&server, "192.0.2.1", &password_of("Ann")).await, 1008, "locked out");
    assert_eq!(sign_in(&server, "192.0.2.2", &password_of("Ann")).await, 0, "another address");
}

/// Signs in as Ann through a proxy that tells this address. Returns the code of the close, or 0 for success.
async fn sign_in(server: &Server, address: &str, password: &str) -> u16 {
    let mut wire = connected(server, PROXY).await;
    wire.send(request("/chat", &format!("X-Forwarded-For: {address}\r\n"))).await;
    assert_eq!(wire.head().await.status, 101);
    wire.send(frame(TEXT, json!({"type": "auth", "username": "Ann", "password": password}).to_string()))
        .await;
    loop {
        let next = wire.frame().await.expect("an answer");
        if next.opcode != TEXT {
            return u16::from_be_bytes([next.payload[0], next.payload[1]]);
        }
        if String::from_utf8(next.payload).unwrap().contains("\"auth_success\"") {
            return 0;
        }
    }
}

/// The address that a hub member is told to have, and the one of its socket.
async fn told_to(server: &Server, from: &str, fields: &str) -> (String, String) {
    let mut wire = connected(server, from).await;
    wire.send(request("/ws", fields)).await;
    assert_eq!(wire.head().await.status, 101);
    let handshake = wire.json().await;
    (handshake["ip"].as_str().unwrap().to_owned(), wire.local_address().to_string())
}

async fn connected(server: &Server, from: &str) -> Wire {
    Wire::connect_from(server, from.parse::<IpAddr>().unwrap()).await
}

/// An upgrade with more fields.
fn request(path: &str, fields: &str) -> String {
    upgrade_request(path).replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))
}
