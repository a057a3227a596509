//! TLS: versions, sessions, certificates that change, and what happens to those who speak it badly. That
//! everything else is the same over TLS is shown by the other files, each of which runs over it too.

use std::fs;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

use rcgen::date_time_ymd;
use rustix::process::Signal;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::counts::numbers;
use crate::harness::{
    Certificate, Launch, Server, Socket, TEXT, Transport, Wire, eventually, frame,
    on_one_and_four_shards_only, run, upgrade_request, within,
};

on_one_and_four_shards_only! {
    both_versions_are_spoken,
    http_1_1_is_agreed_on_and_nothing_else,
    a_second_connection_resumes_the_session_of_the_first,
    keys_may_be_updated,
    plain_http_is_told_to_use_tls,
    tls_on_a_plain_port_is_a_bad_request,
    broken_records_end_their_own_connection_alone,
    every_beginning_of_a_handshake_may_be_all_there_is,
    a_handshake_has_its_time,
    a_peer_that_just_ends_is_heard_and_answered,
    a_new_certificate_is_for_new_connections,
    a_bad_certificate_leaves_the_old_one_in_use,
}

async fn both_versions_are_spoken(launch: Launch) {
    let server = launch.over_tls().start();
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(certificate(&server).client(version));
        let mut wire = upgraded(&server, &client).await;
        assert_eq!(wire.transport().session().protocol_version(), Some(version.version));
        assert_eq!(echo(&mut wire, "over TLS").await, "over TLS");
    }
}

async fn http_1_1_is_agreed_on_and_nothing_else(launch: Launch) {
    let server = launch.over_tls().start();
    let mut client = certificate(&server).client(&TLS13);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let wire = upgraded(&server, &Arc::new(client.clone())).await;
    assert_eq!(wire.transport().session().alpn_protocol(), Some(&b"http/1.1"[..]));
    client.alpn_protocols = vec![b"h2".to_vec()];
    let refused = Transport::shake_hands(server.connect().await, &server, &Arc::new(client)).await;
    let error = refused.err().expect("h2 alone is refused");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

async fn a_second_connection_resumes_the_session_of_the_first(launch: Launch) {
    let server = launch.over_tls().start();
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(certificate(&server).client(version));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut wire = upgraded(&server, &client).await;
            assert_eq!(wire.transport().session().handshake_kind(), Some(expected));
            // Tickets of TLS 1.3 come ahead of the first answer.
            echo(&mut wire, "again").await;
        }
    }
    let numbers = numbers(&server).await;
    assert_eq!(numbers[r#"uproar_tls_handshakes_total{kind="resumed"}"#], 4.0);
}

async fn keys_may_be_updated(launch: Launch) {
    let server = launch.over_tls().start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    for _ in 0..5 {
        wire.transport_mut().session_mut().refresh_traffic_keys().unwrap();
        assert_eq!(echo(&mut wire, "under new keys").await, "under new keys");
    }
}

async fn plain_http_is_told_to_use_tls(launch: Launch) {
    let server = launch.over_tls().start();
    for request in [&b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..], upgrade_request("/chat").as_bytes()] {
        let mut plain = server.connect().await;
        plain.write_all(request).await.unwrap();
        let mut answer = String::new();
        within("answer", plain.read_to_string(&mut answer)).await.expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nThis port speaks TLS: use https:// or wss://"), "{answer}");
    }
    let numbers = numbers(&server).await;
    assert_eq!(numbers[r#"uproar_tls_failures_total{reason="not_tls"}"#], 2.0);
}

async fn tls_on_a_plain_port_is_a_bad_request(launch: Launch) {
    let server = launch.start();
    let mut client = server.connect().await;
    client.write_all(&hello(&Certificate::new())).await.unwrap();
    let mut answer = String::new();
    within("answer", client.read_to_string(&mut answer)).await.expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    for level in ["WARN", "ERROR"] {
        assert!(!server.output().contains(level), "{}", server.output());
    }
}

async fn broken_records_end_their_own_connection_alone(launch: Launch) {
    let server = launch.over_tls().start();
    let mut other = Wire::upgrade(&server, "/echo").await;
    let record =
        |kind: u8, len: usize| [&[kind, 3, 3, (len >> 8) as u8, len as u8][..], &vec![7; len]].concat();
    // Of each kind, a kind that is none, one that is longer than allowed, and one after another.
    let broken = [record(20, 1), record(21, 40), record(22, 40), record(23, 40), record(99, 40)];
    let broken = broken.into_iter().chain([record(23, 0x4fff), [record(23, 40), record(23, 40)].concat()]);
    for (number, bytes) in broken.enumerate() {
        // Right behind the handshake, and where the shard has it.
        for path in [None, Some("/echo")] {
            let mut wire = Wire::connect(&server).await;
            if let Some(path) = path {
                wire.upgrade_to(path).await;
                echo(&mut wire, "whole").await;
            }
            within("room to write", wire.transport_mut().tcp_mut().write_all(&bytes)).await.unwrap();
            let said = wire.failure().await;
            assert!(said.contains("received fatal alert"), "{number} {path:?}: {said}");
        }
    }
    assert_eq!(echo(&mut other, "undisturbed").await, "undisturbed");
    let numbers = numbers(&server).await;
    assert_eq!(numbers[r#"uproar_connections_ended_total{reason="tls_error"}"#], 7.0);
    assert_eq!(numbers[r#"uproar_tls_failures_total{reason="violation"}"#], 7.0);
}

async fn every_beginning_of_a_handshake_may_be_all_there_is(launch: Launch) {
    let server = launch.over_tls().start();
    let _here = Wire::upgrade(&server, "/echo").await;
    let before = server.sockets();
    let hello = hello(certificate(&server));
    for len in (0..hello.len()).step_by(7) {
        let mut client = server.connect().await;
        client.write_all(&hello[..len]).await.unwrap();
    }
    // One byte of each is another one.
    for index in (0..hello.len()).step_by(7) {
        let mut client = server.connect().await;
        let mut damaged = hello.clone();
        damaged[index] ^= 0x55;
        client.write_all(&damaged).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = within("end", client.read_to_end(&mut answer)).await;
    }
    server.falls_to_sockets(before).await;
    assert_eq!(echo(&mut Wire::upgrade(&server, "/echo").await, "still there").await, "still there");
}

async fn a_handshake_has_its_time(launch: Launch) {
    let server = launch.over_tls().flag("--handshake-timeout", "300ms").start();
    let hello = hello(certificate(&server));
    for beginning in [&hello[..0], &hello[..100], &hello] {
        let mut client = server.connect().await;
        client.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        // An end at all is what it is about.
        let _ = within("end", client.read_to_end(&mut answer)).await;
    }
    let numbers = numbers(&server).await;
    assert_eq!(numbers[r#"uproar_tls_failures_total{reason="timeout"}"#], 3.0);
}

async fn a_peer_that_just_ends_is_heard_and_answered(launch: Launch) {
    let server = launch.over_tls().start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send(frame(TEXT, "last words")).await;
    // TCP ends, and TLS does not.
    SockRef::from(wire.transport().tcp()).shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(wire.text().await, "last words");
    wire.end().await;
}

async fn a_new_certificate_is_for_new_connections(launch: Launch) {
    let server = launch.over_tls().start();
    let mut old = Wire::upgrade(&server, "/echo").await;
    let first = presented(&old);
    assert_eq!(presented(&Wire::connect(&server).await), first);
    certificate(&server).sign(|_| {});
    server.signal(Signal::HUP);
    eventually("a new certificate", async || presented(&Wire::connect(&server).await) != first).await;
    assert_eq!(echo(&mut old, "as before").await, "as before");
    let words = "new connections get the certificate in";
    eventually(words, async || server.output().contains(words)).await;
    let mut new = Wire::upgrade(&server, "/echo").await;
    assert_eq!(echo(&mut new, "as well").await, "as well");
}

async fn a_bad_certificate_leaves_the_old_one_in_use(launch: Launch) {
    let mut server = launch.over_tls().start();
    let first = presented(&Wire::connect(&server).await);
    let chain = fs::read(certificate(&server).chain()).unwrap();
    certificate(&server).sign(|_| {});
    // The old certificate with the new key.
    fs::write(certificate(&server).chain(), chain).unwrap();
    server.signal(Signal::HUP);
    eventually("a refusal in the log", async || server.output().contains("stays as it is: --tls-key: "))
        .await;
    fs::remove_file(certificate(&server).chain()).unwrap();
    server.signal(Signal::HUP);
    eventually("another one", async || server.output().contains("stays as it is: --tls-cert: cannot read"))
        .await;
    assert_eq!(presented(&Wire::connect(&server).await), first);
    assert!(server.is_running());
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_refused_with_their_flag() {
    let (good, other) = (Certificate::new(), Certificate::new());
    let [chain, key] = [good.chain(), good.key()].map(|path| path.display().to_string());
    let [absent, other_key] = [good.chain().with_file_name("absent.pem"), other.key()];
    let [absent, other_key] = [absent, other_key].map(|path| path.display().to_string());
    for (cert_flag, key_flag, named, wanted) in [
        (&absent, &key, "--tls-cert", "No such file"),
        (&chain, &absent, "--tls-key", "No such file"),
        (&key, &key, "--tls-cert", "holds no certificate in PEM form"),
        (&chain, &chain, "--tls-key", "holds no private key in PEM form"),
        (&chain, &other_key, "--tls-key", "does not belong to the first certificate"),
    ] {
        for command in [&["check"][..], &[]] {
            let flags = ["--listen=127.0.0.1:0", "--tls-cert", cert_flag, "--tls-key", key_flag];
            let finished = run(&[&flags, command].concat(), &[]).await;
            let line = finished.output().lines().find(|line| line.contains(named)).map(str::to_owned);
            let line = line.unwrap_or_else(|| panic!("no line names {named}: {}", finished.output()));
            assert!(line.contains(wanted) && line.contains("; name "), "{line}");
            assert_eq!(finished.code, Some(2));
        }
    }
    for (flag, missing) in [("--tls-cert", "--tls-key"), ("--tls-key", "--tls-cert")] {
        let finished = run(&["--listen=127.0.0.1:0", flag, &chain], &[]).await;
        assert_eq!(finished.code, Some(2));
        assert!(finished.stderr.contains(flag) && finished.stderr.contains(missing), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn an_expired_certificate_is_warned_of() {
    let certificate = Certificate::new();
    certificate.sign(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let server = Launch::with_shards(1).with_certificate(certificate).start();
    let words = "WARN --tls-cert: the certificate has expired on 2001-01-01";
    eventually(words, async || server.output().contains(words)).await;
}

#[tokio::test]
async fn members_over_tls_are_counted() {
    let server = Launch::with_shards(1).over_tls().start();
    let crowd = Socket::listeners(&server, "/broadcast", 3).await;
    assert_eq!(numbers(&server).await["uproar_tls_connections"], 3.0);
    drop(crowd);
    eventually("they have gone", async || numbers(&server).await["uproar_tls_connections"] == 0.0).await;
}

fn certificate(server: &Server) -> &Certificate {
    server.certificate().expect("a server that speaks TLS")
}

async fn upgraded(server: &Server, client: &Arc<ClientConfig>) -> Wire {
    let transport = Transport::shake_hands(server.connect().await, server, client).await;
    let mut wire = Wire::of(transport.expect("a TLS session"));
    wire.upgrade_to("/echo").await;
    wire
}

async fn echo(wire: &mut Wire, words: &str) -> String {
    wire.send(frame(TEXT, words)).await;
    wire.text().await
}

/// The first message of a client.
fn hello(certificate: &Certificate) -> Vec<u8> {
    let config = Arc::new(certificate.client(&TLS13));
    let mut client = ClientConnection::new(config, certificate.name()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    assert_eq!(client.reader().read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    hello
}

/// The certificate that the server has shown.
fn presented(wire: &Wire) -> Vec<u8> {
    wire.transport().session().peer_certificates().unwrap()[0].to_vec()
}
