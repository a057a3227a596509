//! TLS: sockets over it, certificates that are not accepted, and ports that speak something else.

use std::io::Write;
use std::path::PathBuf;

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
use uproar::websocket::{
    ConnectOptions, ListenOptions, Message, Server, Sessions, Trust, client_tls, connect, listen, server_tls,
};

use crate::harness::{RawClient, beside, echo, raw_server, run};

/// An authority, and a certificate that it has signed, as PEM files.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn of(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.distinguished_name.push(DnType::CommonName, "An authority");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut own);
        let certificate = own.signed_by(&key, &issuer).unwrap();
        for (file, pem) in [
            ("ca.pem", authority_certificate.pem()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(file), pem).unwrap();
        }
        Self(directory)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn server(&self) -> Server {
        let tls = server_tls(&self.path("cert.pem"), &self.path("key.pem")).unwrap();
        listen("127.0.0.1:0", ListenOptions { tls: Some(tls), ..Default::default() }, echo).unwrap()
    }

    fn trusting(&self) -> ConnectOptions {
        let tls = client_tls(&Trust::File(self.path("ca.pem")), Sessions::Resumed).unwrap();
        ConnectOptions { tls: Some(tls), ..ConnectOptions::default() }
    }
}

fn secure_url(server: &Server) -> String {
    format!("wss://127.0.0.1:{}/", server.local_addr().port())
}

#[test]
fn messages_of_every_size_come_back_through_tls() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let server = certificates.server();
        let options = certificates.trusting();
        // The second connection resumes the session of the first.
        for _ in 0..2 {
            let mut socket = connect(&secure_url(&server), &options).await.unwrap();
            assert_eq!(socket.tls().unwrap(), "TLSv1_3 TLS13_AES_256_GCM_SHA384");
            for length in [0, 1, 16_384, 65_536, 1_000_000] {
                let message = Message::binary(vec![3; length]);
                socket.write(message.clone()).await.unwrap();
                assert!(socket.read().await.unwrap() == Some(message), "{length}");
            }
            socket.write(Message::Ping(b"?".to_vec())).await.unwrap();
            assert_eq!(socket.read().await.unwrap(), Some(Message::Pong(b"?".to_vec())));
            assert_eq!(socket.close(1000, "").await.unwrap().unwrap().code, 1000);
        }
    });
}

/// What connecting to a server with such a certificate says.
fn refusal(certificates: Certificates, trusted: &Certificates) -> String {
    let options = trusted.trusting();
    let mut said = String::new();
    run(async {
        let server = certificates.server();
        said = connect(&secure_url(&server), &options).await.unwrap_err().to_string();
    });
    said
}

#[test]
fn certificates_that_are_not_accepted_say_why() {
    let unknown = refusal(Certificates::of("127.0.0.1"), &Certificates::of("127.0.0.1"));
    assert_eq!(unknown, "the server has a certificate from none of the trusted authorities");
    let refused = |certificates: Certificates| {
        let trusted = Certificates(tempfile::tempdir().unwrap());
        std::fs::copy(certificates.path("ca.pem"), trusted.path("ca.pem")).unwrap();
        refusal(certificates, &trusted)
    };
    let wrong = refused(Certificates::of("other.example"));
    assert!(wrong.contains("other.example") && wrong.ends_with(", and not for 127.0.0.1"), "{wrong}");
    let expired = Certificates::with("127.0.0.1", |own| {
        own.not_before = date_time_ymd(2000, 1, 1);
        own.not_after = date_time_ymd(2001, 1, 1);
    });
    assert_eq!(refused(expired), "the server has a certificate that has expired");
    let early = Certificates::with("127.0.0.1", |own| own.not_before = date_time_ymd(4000, 1, 1));
    assert_eq!(refused(early), "the server has a certificate that is not valid yet");
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_the_start() {
    let (one, other) = (Certificates::of("a.example"), Certificates::of("a.example"));
    let error = server_tls(&one.path("cert.pem"), &other.path("key.pem")).unwrap_err().to_string();
    assert!(error.contains("does not belong to the first certificate in"), "{error}");
    let error = server_tls(&one.path("none.pem"), &one.path("key.pem")).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("none.pem"), "{error}");
}

#[test]
fn plain_text_on_a_port_of_tls_is_told_so() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let server = certificates.server();
        let address = server.local_addr();
        let answer = beside(move || {
            let mut client = RawClient::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
            String::from_utf8(client.read_to_end()).unwrap()
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nThis port speaks TLS: use wss:// or https://"), "{answer}");
        let error = connect(&format!("ws://{address}/"), &ConnectOptions::default()).await.unwrap_err();
        assert!(error.to_string().starts_with("the server answered 400 Bad Request"), "{error}");
    });
}

#[test]
fn tls_on_a_plain_port_is_told_so() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let server = listen("127.0.0.1:0", ListenOptions::default(), echo).unwrap();
        let error = connect(&secure_url(&server), &certificates.trusting()).await.unwrap_err();
        assert_eq!(error.to_string(), "the server does not speak TLS");
    });
}

#[test]
fn broken_records_end_their_connection_alone() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let server = certificates.server();
        let mut neighbour = connect(&secure_url(&server), &certificates.trusting()).await.unwrap();
        let address = server.local_addr();
        for garbage in [&b"\x16\x03\x01\x00\x05hello"[..], &[22; 40_000], b"\x16\x03\x01\xff\xff", b"\x16"] {
            beside(move || {
                let mut client = RawClient::connect(address);
                let _ = client.0.write_all(garbage);
                let _ = client.0.shutdown(std::net::Shutdown::Write);
                // An alert, or a reset where more came than was read.
                let _ = std::io::Read::read_to_end(&mut client.0, &mut Vec::new());
            })
            .await;
        }
        neighbour.write("unharmed").await.unwrap();
        assert_eq!(neighbour.read().await.unwrap(), Some(Message::text("unharmed")));
    });
}

#[test]
fn a_server_that_ends_in_the_handshake_is_named() {
    let certificates = Certificates::of("127.0.0.1");
    let (address, server) = raw_server(|stream| {
        let mut hello = [0; 64];
        std::io::Read::read_exact(stream, &mut hello).unwrap();
    });
    run(async move {
        let error = connect(&format!("wss://{address}"), &certificates.trusting()).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("ended the connection in the middle of TLS") || said.contains("reset"),
            "{said}"
        );
    });
    server.join().unwrap();
}

#[test]
fn a_name_is_checked_against_the_certificate() {
    let certificates = Certificates::of("localhost");
    run(async move {
        let server = certificates.server();
        let url = format!("wss://localhost:{}/", server.local_addr().port());
        let options = certificates.trusting();
        connect(&url, &options).await.unwrap().close(1000, "").await.unwrap();
        let error = connect(&secure_url(&server), &options).await.unwrap_err().to_string();
        assert!(error.contains("localhost") && error.ends_with("and not for 127.0.0.1"), "{error}");
    });
}
