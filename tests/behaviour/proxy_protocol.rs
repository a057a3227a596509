//! The PROXY protocol, ahead of everything else that a trusted proxy sends. The clients here are on this machine, and
//! stand for proxies.

use std::net::Ipv6Addr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Launch, Server, Transport, Wire, on_one_server, request, upgrade_request, within};
use crate::metrics::scrape;

on_one_server! {
    the_address_in_the_header_is_the_clients,
    without_a_whole_header_the_connection_is_closed_without_an_answer,
    others_send_no_header,
    a_header_has_the_time_of_the_handshake,
    limits_and_fields_go_by_the_address_in_the_header,
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n";

fn behind_proxy(launch: Launch) -> Launch {
    launch.flag("--trusted-proxy", "127.0.0.1").switch("--proxy-protocol")
}

async fn the_address_in_the_header_is_the_clients(launch: Launch) {
    let server = behind_proxy(launch).start();
    let client: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let tcp6 = [&client.octets()[..], &[0; 16], &4711_u16.to_be_bytes(), &[0, 80]].concat();
    let tcp4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
    for (header, told) in [
        (V1.to_vec(), Some("192.0.2.1:4711")),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), Some("[2001:db8::1]:4711")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(0x21, 0x11, &tcp4), Some("192.0.2.1:4711")),
        (v2(0x21, 0x21, &tcp6), Some("[2001:db8::1]:4711")),
        // With more behind the addresses than a proxy usually sends.
        (v2(0x21, 0x11, &[&tcp4[..], &[4, 7, 0xd0], &[0; 2000]].concat()), Some("192.0.2.1:4711")),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &tcp4), None),
    ] {
        let own = hub_address(&server, &header).await;
        assert_eq!(own.0, told.map_or(own.1, str::to_owned), "{header:?}");
    }
    // Byte by byte.
    let mut tcp = server.connect().await;
    tcp.set_nodelay(true).unwrap();
    for byte in v2(0x21, 0x11, &tcp4) {
        tcp.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(hub_address_over(&server, tcp).await.0, "192.0.2.1:4711");
}

async fn without_a_whole_header_the_connection_is_closed_without_an_answer(launch: Launch) {
    let server = behind_proxy(launch).start();
    let mut refused = 0;
    let header = v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80]);
    let cut = (1..header.len()).map(|cut| header[..cut].to_vec());
    let cut_v1 = (1..V1.len()).map(|cut| V1[..cut].to_vec());
    for sent in cut.chain(cut_v1) {
        let mut tcp = server.connect().await;
        tcp.write_all(&sent).await.unwrap();
        tcp.shutdown().await.unwrap();
        assert_closed(tcp, &sent).await;
        refused += 1;
    }
    // These are refused while the proxy could still go on.
    for sent in [
        request(&server, "GET", "/healthz", "").into_bytes(),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 ::1 4711 80\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
        v2(0x11, 0x11, &[0; 12]),
        v2(0x2f, 0x11, &[0; 12]),
        v2(0x21, 0xf1, &[0; 12]),
        v2(0x21, 0x21, &[0; 12]),
        // It would be longer than a header may be.
        [V2, &[0x21, 0x11, 0xff, 0xff]].concat(),
    ] {
        let mut tcp = server.connect().await;
        tcp.write_all(&sent).await.unwrap();
        assert_closed(tcp, &sent).await;
        refused += 1;
    }
    // Health checks of a port connect and say nothing, which is no refusal.
    let mut tcp = server.connect().await;
    tcp.shutdown().await.unwrap();
    assert_closed(tcp, b"").await;
    let mut wire = Wire::of(Transport::over(after_header(&server, V1).await, &server).await);
    wire.send(request(&server, "GET", "/metrics", "")).await;
    let counted = wire.response().await.body;
    let line = format!("uproar_refused_total{{reason=\"no_proxy_header\"}} {refused}");
    assert!(counted.lines().any(|counted| counted == line), "{refused}: {counted}");
}

async fn others_send_no_header(launch: Launch) {
    let server = behind_proxy(launch.clone()).start();
    let stranger = TcpSocket::new_v4().unwrap();
    stranger.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let tcp = server.connect_with(stranger).await;
    let (told, own) = hub_address_over(&server, tcp).await;
    assert_eq!(told, own);
    drop(server);
    // Who is believed sends none to a server that expects none.
    let server = launch.flag("--trusted-proxy", "127.0.0.1").start();
    let (told, own) = hub_address_over(&server, server.connect().await).await;
    assert_eq!(told, own);
    let mut tcp = server.connect().await;
    tcp.write_all(b"PROXY UNKNOWN\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(scrape(&server).await.contains("reason=\"no_proxy_header\"} 0"));
}

async fn a_header_has_the_time_of_the_handshake(launch: Launch) {
    let server = behind_proxy(launch).flag("--handshake-timeout", "300ms").start();
    let begun = Instant::now();
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(&V1[..10]).await.unwrap();
    for tcp in [&mut silent, &mut slow] {
        let mut answer = Vec::new();
        let read = within("an end", tcp.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() && read.is_ok(), "{read:?} {answer:?}");
    }
    assert!(begun.elapsed().as_millis() >= 300);
}

async fn limits_and_fields_go_by_the_address_in_the_header(launch: Launch) {
    let server = behind_proxy(launch).flag("--max-clients-per-address", 1).start();
    let echo = async |header: &[u8], fields: &str| {
        let mut wire = Wire::of(Transport::over(after_header(&server, header).await, &server).await);
        wire.send(upgrade_request("/echo").replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))).await;
        (wire.head().await.status, wire)
    };
    let other = b"PROXY TCP4 192.0.2.2 10.0.0.1 4711 80\r\n";
    let first = echo(V1, "").await;
    assert_eq!(first.0, 101);
    assert_eq!(echo(V1, "").await.0, 429);
    // Not a trusted proxy, so its word is not taken.
    assert_eq!(echo(V1, "X-Forwarded-For: 192.0.2.77\r\n").await.0, 429);
    let second = echo(other, "").await;
    assert_eq!(second.0, 101);
    // The proxy's own, which has no limit, and may tell another one.
    let own = [echo(b"PROXY UNKNOWN\r\n", "").await, echo(b"PROXY UNKNOWN\r\n", "").await];
    assert!(own.iter().all(|(status, _)| *status == 101));
    assert_eq!(echo(b"PROXY UNKNOWN\r\n", "X-Forwarded-For: 192.0.2.2\r\n").await.0, 429);
}

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [V2, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

async fn after_header(server: &Server, header: &[u8]) -> TcpStream {
    let mut tcp = server.connect().await;
    tcp.write_all(header).await.unwrap();
    tcp
}

/// The address that a hub member with this header is told to have, and that of its socket.
async fn hub_address(server: &Server, header: &[u8]) -> (String, String) {
    hub_address_over(server, after_header(server, header).await).await
}

async fn hub_address_over(server: &Server, tcp: TcpStream) -> (String, String) {
    let mut wire = Wire::of(Transport::over(tcp, server).await);
    wire.upgrade_to("/ws").await;
    let handshake = wire.json().await;
    (handshake["ip"].as_str().unwrap().to_owned(), wire.local_address().to_string())
}

/// Reads to the end, which may be a reset, where bytes were left unread.
async fn assert_closed(mut tcp: TcpStream, sent: &[u8]) {
    let mut answer = Vec::new();
    let _ = within("an end", tcp.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{sent:?}: {:?}", String::from_utf8_lossy(&answer));
}
