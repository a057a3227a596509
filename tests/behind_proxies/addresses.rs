//! One server behind a proxy that is configured as docs/operating.md says: it sees the address of each client.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::programs::{NGINX_DIRECTORIES, Proxy, Server, connect_from, read_to, until, upgrade_request};

/// The address of the clients, and another one that they pretend to have.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const PRETENDED: &str = "203.0.113.9";

#[test]
fn nginx_tells_the_address_in_x_forwarded_for() {
    let server = Server::start(&[]);
    let location = snippet("nginx", "location");
    let proxy = Proxy::nginx(|listen| {
        let location = location.replace("127.0.0.1:8080", &server.address.to_string());
        format!("http {{ access_log off; {NGINX_DIRECTORIES} server {{ listen {listen}; {location} }} }}")
    });
    assert_told(&server, &proxy, |own| own.ip().to_string());
}

#[test]
fn haproxy_tells_the_address_in_x_forwarded_for() {
    let server = Server::start(&[]);
    let config = snippet("haproxy", "defaults");
    let proxy = Proxy::haproxy(|listen| {
        let config = config.replace("127.0.0.1:8080", &server.address.to_string());
        config.replace("bind :80", &format!("bind {listen}"))
    });
    assert_told(&server, &proxy, |own| own.ip().to_string());
}

#[test]
fn nginx_tells_the_address_by_the_proxy_protocol() {
    let server = Server::start(&["--proxy-protocol"]);
    let stream = snippet("nginx", "stream");
    let proxy = Proxy::nginx(|listen| {
        let stream = stream.replace("127.0.0.1:8443", &server.address.to_string());
        stream.replace("listen 443", &format!("listen {listen}"))
    });
    assert_told(&server, &proxy, |own| own.to_string());
}

#[test]
fn haproxy_tells_the_address_by_the_proxy_protocol() {
    let server = Server::start(&["--proxy-protocol"]);
    let config = snippet("haproxy", "defaults");
    let proxy = Proxy::haproxy(|listen| {
        let config = config.replace("mode http", "mode tcp").replace("    option forwardfor\n", "");
        let config = config.replace("bind :80", &format!("bind {listen}"));
        config.replace("127.0.0.1:8080", &format!("{} send-proxy-v2 check inter 100ms", server.address))
    });
    assert_told(&server, &proxy, |own| own.to_string());
    assert!(!server.log().contains("no header of the PROXY protocol"), "{}", server.log());
}

/// The part of docs/operating.md in this language that begins with this word.
fn snippet(language: &str, start: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let mut snippets = page.split("```");
    let found = snippets.find_map(|block| {
        block.strip_prefix(language)?.strip_prefix('\n').filter(|text| text.starts_with(start))
    });
    found.expect("a snippet").to_owned()
}

/// Connects through the proxy, and compares the address that the server tells, and logs, with the expected one.
fn assert_told(server: &Server, proxy: &Proxy, expected: impl FnOnce(SocketAddr) -> String) {
    let (own, told) = told_address(proxy.address);
    let expected = expected(own);
    assert_eq!(told, expected);
    until("a line of the log", || server.log().contains(&format!("peer={expected}\n")));
}

/// Connects to the hub, and returns the client's own address and the one that the server tells.
pub(crate) fn told_address(address: SocketAddr) -> (SocketAddr, String) {
    let mut stream = connect_from(CLIENT, address);
    let own = stream.local_addr().unwrap();
    // A page of the site, on which the server has only its loopback address.
    let headers = format!("Origin: http://chat.example\r\nX-Forwarded-For: {PRETENDED}\r\n");
    stream.write_all(upgrade_request("/ws", &headers).as_bytes()).unwrap();
    let received = read_to(&mut stream, "user_list");
    let told = received.split_once("\"ip\":\"").and_then(|(_, rest)| rest.split_once('"'));
    (own, told.expect("an address").0.to_owned())
}
