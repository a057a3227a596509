//! TLS: sockets over it, certificates that are not accepted, and ports that speak something else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedProtocolVersion,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uproar_websocket::{
    ConnectOptions, Failure, ListenOptions, Message, ReadError, Server, Sessions, Trust, client_tls, connect,
    listen, server_tls,
};

use crate::harness::{
    PATIENCE, REQUEST, RawClient, accept_upgrade, beside, echo, masked, raw_server, read_head, run,
};

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
    });
}

fn patient(tcp: TcpStream) -> TcpStream {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    tcp
}

/// A rustls client that trusts the authority.
fn rustls_client(
    certificates: &Certificates,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let versions = builder.with_protocol_versions(versions).unwrap();
    Arc::new(versions.with_root_certificates(trusted).with_no_client_auth())
}

/// Makes a rustls client speak to the server, and tells how it shook hands.
fn converse(config: &Arc<ClientConfig>, address: SocketAddr) -> HandshakeKind {
    let connection = ClientConnection::new(Arc::clone(config), address.ip().into()).unwrap();
    let mut stream = StreamOwned::new(connection, patient(TcpStream::connect(address).unwrap()));
    stream.write_all(REQUEST.as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    stream.write_all(&[masked(0x81, b"hi"), masked(0x88, b"")].concat()).unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    assert_eq!(answers, b"\x81\x02hi\x88\x00");
    stream.conn.handshake_kind().unwrap()
}

#[test]
fn a_server_resumes_the_sessions_of_its_clients() {
    for version in [&TLS12, &TLS13] {
        let certificates = Certificates::of("127.0.0.1");
        run(async move {
            let config = rustls_client(&certificates, &[version]);
            let server = certificates.server();
            let address = server.local_addr();
            let kinds = beside(move || [(); 3].map(|()| converse(&config, address))).await;
            let resumed = HandshakeKind::Resumed;
            assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed], "{version:?}");
        });
    }
}

/// A rustls server that serves so many clients, one after another; it tells how each shook hands.
fn rustls_server(
    certificates: &Certificates,
    version: &'static SupportedProtocolVersion,
    clients: usize,
) -> (SocketAddr, std::thread::JoinHandle<Vec<HandshakeKind>>) {
    let chain = vec![CertificateDer::from_pem_file(certificates.path("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let versions = builder.with_protocol_versions(&[version]).unwrap();
    let config = Arc::new(versions.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, patient(listener.accept().unwrap().0));
        accept_upgrade(&mut stream);
        stream.write_all(b"\x81\x02hi").unwrap();
        let close = &mut [0; 8];
        stream.read_exact(close).unwrap();
        assert_eq!(close[0], 0x88);
        stream.write_all(b"\x88\x00").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.conn.handshake_kind().unwrap()
    };
    (address, std::thread::spawn(move || (0..clients).map(|_| serve()).collect()))
}

#[test]
fn a_client_resumes_its_sessions_where_that_is_wanted() {
    for (version, sessions, again) in [
        (&TLS12, Sessions::Resumed, HandshakeKind::Resumed),
        (&TLS13, Sessions::Resumed, HandshakeKind::Resumed),
        (&TLS12, Sessions::Fresh, HandshakeKind::Full),
        (&TLS13, Sessions::Fresh, HandshakeKind::Full),
    ] {
        let certificates = Certificates::of("127.0.0.1");
        let (address, server) = rustls_server(&certificates, version, 3);
        run(async move {
            let tls = client_tls(&Trust::File(certificates.path("ca.pem")), sessions).unwrap();
            let options = ConnectOptions { tls: Some(tls), ..ConnectOptions::default() };
            for _ in 0..3 {
                let mut socket = connect(&format!("wss://{address}"), &options).await.unwrap();
                assert!(socket.tls().unwrap().starts_with(&format!("{:?} ", version.version)));
                assert_eq!(socket.read().await.unwrap(), Some(Message::text("hi")));
                socket.close(1000, "").await.unwrap();
            }
            let kinds = beside(move || server.join().unwrap()).await;
            assert_eq!(kinds, [HandshakeKind::Full, again, again], "{version:?} {sessions:?}");
        });
    }
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
fn a_certificate_that_has_signed_itself_is_accepted_by_who_trusts_it_alone() {
    let directory = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    for (file, pem) in [
        ("ca.pem", own.cert.pem()),
        ("cert.pem", own.cert.pem()),
        ("key.pem", own.signing_key.serialize_pem()),
    ] {
        std::fs::write(directory.path().join(file), pem).unwrap();
    }
    let own = Certificates(directory);
    run(async move {
        let server = own.server();
        connect(&secure_url(&server), &own.trusting()).await.unwrap().close(1000, "").await.unwrap();
        let other = Certificates::of("127.0.0.1");
        let error = connect(&secure_url(&server), &other.trusting()).await.unwrap_err();
        assert_eq!(error.to_string(), "the server has a certificate from none of the trusted authorities");
    });
}

#[test]
fn an_address_of_ipv6_is_checked_against_the_certificate() {
    run(async {
        for (name, is_accepted) in [("::1", true), ("::2", false)] {
            let certificates = Certificates::of(name);
            let tls = server_tls(&certificates.path("cert.pem"), &certificates.path("key.pem")).unwrap();
            let options = ListenOptions { tls: Some(tls), ..ListenOptions::default() };
            let server = listen("[::1]:0", options, echo).unwrap();
            let url = format!("wss://{}/", server.local_addr());
            match connect(&url, &certificates.trusting()).await {
                Ok(socket) => {
                    assert!(is_accepted);
                    socket.close(1000, "").await.unwrap();
                }
                Err(error) => {
                    assert!(!is_accepted, "{error}");
                    assert!(error.to_string().ends_with(", and not for ::1"), "{error}");
                }
            }
        }
    });
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

/// A WebSocket over rustls, whose records a test can change on their way.
struct Records(StreamOwned<ClientConnection, TcpStream>);

impl Records {
    fn upgraded(certificates: &Certificates, address: SocketAddr) -> Self {
        let config = rustls_client(certificates, &[&TLS13]);
        let connection = ClientConnection::new(config, address.ip().into()).unwrap();
        let mut stream = StreamOwned::new(connection, patient(TcpStream::connect(address).unwrap()));
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
        Self(stream)
    }

    /// What waits to be sent.
    fn taken(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.0.conn.wants_write() {
            self.0.conn.write_tls(&mut records).unwrap();
        }
        records
    }

    /// A record that holds these bytes.
    fn sealed(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.0.conn.writer().write_all(plaintext).unwrap();
        self.taken()
    }
}

/// A server that tells everything that the sockets of its clients read.
fn telling(certificates: &Certificates) -> (Server, UnboundedReceiver<Result<Option<Message>, ReadError>>) {
    let (told, tells) = unbounded_channel();
    let tls = server_tls(&certificates.path("cert.pem"), &certificates.path("key.pem")).unwrap();
    let options = ListenOptions { tls: Some(tls), ..Default::default() };
    let server = listen("127.0.0.1:0", options, move |mut socket| {
        let told = told.clone();
        async move {
            loop {
                let read = socket.read().await;
                let is_over = !matches!(read, Ok(Some(_)));
                told.send(read).unwrap();
                if is_over {
                    return;
                }
            }
        }
    })
    .unwrap();
    (server, tells)
}

#[test]
fn the_end_of_tls_is_noticed_in_one_segment_with_data() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let (server, mut tells) = telling(&certificates);
        let address = server.local_addr();
        // TCP stays open.
        let client = beside(move || {
            let mut client = Records::upgraded(&certificates, address);
            let mut segment = client.sealed(&masked(0x81, b"hi"));
            client.0.conn.send_close_notify();
            segment.extend(client.taken());
            client.0.sock.write_all(&segment).unwrap();
            client
        })
        .await;
        assert_eq!(tells.recv().await.unwrap().unwrap(), Some(Message::text("hi")));
        let error = tells.recv().await.unwrap().unwrap_err();
        assert!(matches!(error.failure, Failure::EndOfStream), "{error}");
        drop(client);
    });
}

#[test]
fn a_broken_record_takes_back_nothing_and_is_named_to_the_peer() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let (server, mut tells) = telling(&certificates);
        let address = server.local_addr();
        let told = beside(move || {
            let mut client = Records::upgraded(&certificates, address);
            let mut segment = client.sealed(&masked(0x81, b"whole"));
            segment.extend(client.sealed(&masked(0x01, b"part")));
            segment.extend(client.sealed(&masked(0x80, b"end")));
            *segment.last_mut().unwrap() ^= 1;
            client.0.sock.write_all(&segment).unwrap();
            client.0.read_to_end(&mut Vec::new()).unwrap_err().to_string()
        })
        .await;
        assert!(told.contains("BadRecordMac"), "{told}");
        assert_eq!(tells.recv().await.unwrap().unwrap(), Some(Message::text("whole")));
        let error = tells.recv().await.unwrap().unwrap_err();
        assert!(matches!(error.failure, Failure::Tls(_)), "{error}");
        assert_eq!(error.unfinished.unwrap().bytes, b"part");
    });
}

#[test]
fn a_socket_that_is_dropped_ahead_of_a_broken_record_ends_without_waiting() {
    let certificates = Certificates::of("127.0.0.1");
    run(async move {
        let tls = server_tls(&certificates.path("cert.pem"), &certificates.path("key.pem")).unwrap();
        let options = ListenOptions { tls: Some(tls), ..Default::default() };
        let server = listen("127.0.0.1:0", options, |mut socket| async move {
            assert_eq!(socket.read().await.unwrap(), Some(Message::text("whole")));
        })
        .unwrap();
        let address = server.local_addr();
        let at_the_end = beside(move || {
            let mut client = Records::upgraded(&certificates, address);
            let mut segment = client.sealed(&masked(0x81, b"whole"));
            segment.extend(client.sealed(&masked(0x81, b"broken")));
            *segment.last_mut().unwrap() ^= 1;
            client.0.sock.write_all(&segment).unwrap();
            let told = client.0.read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(told.contains("BadRecordMac"), "{told}");
            // Half of the time for which a server that waits for its close to leave would wait.
            client.0.sock.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            client.0.sock.read(&mut [0; 64]).unwrap()
        })
        .await;
        assert_eq!(at_the_end, 0);
    });
}
