//! A client and a server in memory, and what a peer or a network can do to them.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::config::{self, ConfigError, Sessions, Trust};
use super::*;
use rustls::AlertDescription;

const NAME: &str = "chat.example";

/// Certificates in files, as a server's operator has them.
struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signs itself");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("writes");
        Self { directory, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for [`NAME`] and returns the files of chain and key.
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> [PathBuf; 2] {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let files = [self.path("server.pem"), self.path("server.key")];
        fs::write(&files[0], certificate.pem()).expect("writes");
        fs::write(&files[1], key.serialize_pem()).expect("writes");
        files
    }

    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let [chain, key] = self.sign(change);
        config::server(&chain, &key).expect("a configuration")
    }

    fn client(&self) -> Arc<ClientConfig> {
        config::client(&Trust::File(self.path("ca.pem")), Sessions::Fresh).expect("a configuration")
    }
}

/// Two ends, and what each has been told.
struct Pair {
    client: TlsStream,
    server: TlsStream,
    heard_by_client: Vec<u8>,
    heard_by_server: Vec<u8>,
}

impl Pair {
    fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let name = ServerName::try_from(NAME).expect("a name");
        Self {
            client: TlsStream::client(client, name).expect("begins"),
            server: TlsStream::server(server).expect("begins"),
            heard_by_client: Vec::new(),
            heard_by_server: Vec::new(),
        }
    }

    fn connected() -> Self {
        let authority = Authority::new();
        let mut pair = Self::new(&authority.client(), &authority.server(|_| {}));
        pair.exchange(usize::MAX).expect("a handshake");
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        pair
    }

    /// Carries what is to be transmitted, so many bytes at a time, until nobody has more to say.
    fn exchange(&mut self, piece_bytes: usize) -> Result<(), Error> {
        let mut result = Ok(());
        loop {
            let to_server = self.client.poll_transmit().unwrap_or_default();
            for piece in to_server.chunks(piece_bytes) {
                result = result.and(self.server.handle_received(piece, &mut self.heard_by_server));
            }
            let to_client = self.server.poll_transmit().unwrap_or_default();
            for piece in to_client.chunks(piece_bytes) {
                result = result.and(self.client.handle_received(piece, &mut self.heard_by_client));
            }
            if to_server.is_empty() && to_client.is_empty() {
                return result;
            }
        }
    }
}

/// How the client refuses a server, and what the server is told.
fn refusal(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> [Error; 2] {
    let mut pair = Pair::new(client, server);
    let error = pair.exchange(usize::MAX).expect_err("refused");
    let told = pair.server.handle_received(b"", &mut Vec::new()).expect_err("told");
    assert!(pair.client.is_handshaking());
    [error, told]
}

#[test]
fn client_and_server_hear_what_the_other_says() {
    let mut pair = Pair::connected();
    pair.client.write_plaintext(b"from the client").expect("encrypts");
    pair.server.write_plaintext(b"from the server").expect("encrypts");
    pair.exchange(usize::MAX).expect("arrives");
    assert_eq!(pair.heard_by_server, b"from the client");
    assert_eq!(pair.heard_by_client, b"from the server");
    for stream in [&pair.client, &pair.server] {
        assert_eq!(stream.agreed().as_deref(), Some("TLSv1_3 TLS13_AES_256_GCM_SHA384"));
        assert_eq!(stream.application_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!((stream.incoming.capacity(), stream.outgoing.capacity()), (0, 0), "nothing is kept");
    }
}

#[test]
fn tls_1_2_is_spoken_too() {
    let authority = Authority::new();
    let mut authorities = rustls::RootCertStore::empty();
    authorities.add(authority.issuer.der().clone()).expect("an authority");
    let old = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut pair = Pair::new(&Arc::new(old), &authority.server(|_| {}));
    pair.exchange(1).expect("a handshake");
    pair.server.write_plaintext(b"old").expect("encrypts");
    pair.exchange(1).expect("arrives");
    assert_eq!(pair.heard_by_client, b"old");
    assert!(pair.client.agreed().is_some_and(|agreed| agreed.starts_with("TLSv1_2")));
}

#[test]
fn bytes_may_come_one_by_one() {
    let authority = Authority::new();
    let mut pair = Pair::new(&authority.client(), &authority.server(|_| {}));
    pair.exchange(1).expect("a handshake");
    let message: Vec<u8> = (0..40_000_u32).map(|index| index as u8).collect();
    pair.client.write_plaintext(&message).expect("encrypts");
    pair.exchange(1).expect("arrives");
    assert_eq!(pair.heard_by_server, message);
}

#[test]
fn a_session_is_resumed_where_that_is_wanted() {
    let authority = Authority::new();
    let server = authority.server(|_| {});
    for (sessions, expected) in
        [(Sessions::Fresh, rustls::HandshakeKind::Full), (Sessions::Resumed, rustls::HandshakeKind::Resumed)]
    {
        let client = config::client(&Trust::File(authority.path("ca.pem")), sessions).expect("trusts");
        Pair::new(&client, &server).exchange(usize::MAX).expect("a handshake");
        let mut again = Pair::new(&client, &server);
        again.exchange(usize::MAX).expect("another handshake");
        assert_eq!(again.client.common().handshake_kind(), Some(expected));
    }
}

#[test]
fn the_end_is_told_from_being_cut_off() {
    let mut pair = Pair::connected();
    pair.client.write_plaintext(b"last words").expect("encrypts");
    pair.client.close().expect("closes");
    pair.client.close().expect("a second time says nothing");
    pair.exchange(usize::MAX).expect("arrives");
    assert_eq!(pair.heard_by_server, b"last words");
    assert!(pair.server.peer_has_closed() && !pair.client.peer_has_closed());
    assert_eq!(pair.server.handle_end_of_stream(), Ok(()));
    // RFC 8446, 6.1: the other direction is open until it is closed, too.
    pair.server.write_plaintext(b"late answer").expect("encrypts");
    pair.exchange(usize::MAX).expect("arrives");
    assert_eq!(pair.heard_by_client, b"late answer");
    assert_eq!(pair.client.handle_end_of_stream(), Err(Error::Truncated));
}

#[test]
fn what_is_cut_off_in_a_record_is_not_heard() {
    let mut pair = Pair::connected();
    pair.client.write_plaintext(b"pay 100").expect("encrypts");
    let record = pair.client.poll_transmit().expect("a record");
    let mut heard = Vec::new();
    pair.server.handle_received(&record[..record.len() - 1], &mut heard).expect("waits");
    assert_eq!(pair.server.handle_end_of_stream(), Err(Error::Truncated));
    assert!(heard.is_empty());
}

#[test]
fn a_changed_byte_ends_the_connection_and_the_peer_is_told() {
    let mut pair = Pair::connected();
    pair.client.write_plaintext(b"first").expect("encrypts");
    pair.client.write_plaintext(b"second").expect("encrypts");
    let mut records = pair.client.poll_transmit().expect("records");
    *records.last_mut().expect("bytes") ^= 1;
    let mut heard = Vec::new();
    let error = pair.server.handle_received(&records, &mut heard).expect_err("changed");
    assert_eq!(error, Error::Violation(rustls::Error::DecryptError));
    assert_eq!(heard, b"first", "what was complete before counts");
    assert_eq!(pair.server.handle_received(b"", &mut heard), Err(error.clone()));
    assert_eq!(pair.server.write_plaintext(b"x"), Err(error));
    let told = pair.exchange(usize::MAX).expect_err("the alert");
    assert_eq!(told, Error::Alert(AlertDescription::BadRecordMac));
}

#[test]
fn what_is_not_tls_is_called_so() {
    let authority = Authority::new();
    let (client, server) = (authority.client(), authority.server(|_| {}));
    let mut plaintext = Vec::new();
    for garbage in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"GET /chat HTTP/1.1\r\n", &[0; 64], &[0xff; 64]]
    {
        let mut pair = Pair::new(&client, &server);
        assert_eq!(pair.client.handle_received(garbage, &mut plaintext), Err(Error::NotTls));
        assert_eq!(pair.server.handle_received(garbage, &mut plaintext), Err(Error::NotTls));
    }
    assert!(plaintext.is_empty());
}

#[test]
fn no_damage_to_a_handshake_makes_anybody_panic() {
    let authority = Authority::new();
    let (client, server) = (authority.client(), authority.server(|_| {}));
    let mut honest = Pair::new(&client, &server);
    let hello = honest.client.poll_transmit().expect("a hello");
    honest.server.handle_received(&hello, &mut Vec::new()).expect("a hello");
    let answer = honest.server.poll_transmit().expect("an answer");
    for index in 0..answer.len() {
        let mut pair = Pair::new(&client, &server);
        let mut damaged = if index < hello.len() { hello.clone() } else { answer.clone() };
        damaged[index % hello.len()] ^= 0x41;
        let receiver = if index < hello.len() { &mut pair.server } else { &mut pair.client };
        let _ = receiver.handle_received(&damaged, &mut Vec::new());
        let _ = receiver.handle_received(&damaged, &mut Vec::new());
        assert!(receiver.incoming.len() <= INCOMPLETE_BYTES_MAX);
        let _ = receiver.handle_end_of_stream();
    }
}

#[test]
fn a_handshake_message_that_never_ends_is_refused() {
    let authority = Authority::new();
    let mut server = TlsStream::server(&authority.server(|_| {})).expect("begins");
    // A ClientHello of 65,535 bytes (RFC 8446, section 4), one byte in each record.
    let mut message = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat(0));
    let mut record = || [22, 3, 1, 0, 1, message.next().expect("endless")];
    let refused = (0..65_535).find_map(|_| server.handle_received(&record(), &mut Vec::new()).err());
    assert_eq!(refused, Some(Error::Oversized));
    assert_eq!(server.incoming.capacity(), 0);
}

#[test]
fn certificates_are_refused_by_name() {
    let (authority, namesake, other) = (Authority::new(), Authority::new(), Authority::named("another"));
    let client = authority.client();
    let told = Error::Alert(AlertDescription::UnknownCA);
    assert_eq!(refusal(&client, &other.server(|_| {})), [Error::UnknownAuthority, told]);
    assert_eq!(refusal(&client, &namesake.server(|_| {}))[0], Error::UnknownAuthority);

    let expired = authority.server(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let told = Error::Alert(AlertDescription::CertificateExpired);
    assert_eq!(refusal(&client, &expired), [Error::Expired, told]);
    let early = authority.server(|params| params.not_before = date_time_ymd(4000, 1, 1));
    assert_eq!(refusal(&client, &early)[0], Error::NotYetValid);

    let elsewhere = authority.server(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().expect("a name"))];
    });
    let [error, _] = refusal(&client, &elsewhere);
    assert!(error.is_certificate());
    assert_eq!(
        error.to_string(),
        "has a certificate for DnsName(\"other.example\"), and not for chat.example"
    );
    let ca = authority.server(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(refusal(&client, &ca)[0], Error::AuthorityAsServer);
}

#[test]
fn who_trusts_anyone_takes_any_certificate() {
    let authority = Authority::new();
    let expired = authority.server(|params| params.not_after = date_time_ymd(2001, 1, 1));
    let client = config::client(&Trust::Anyone, Sessions::Fresh).expect("a configuration");
    Pair::new(&client, &expired).exchange(usize::MAX).expect("a handshake");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let [chain, key] = authority.sign(|_| {});
    let [_, other_key] = other.sign(|_| {});
    let absent = authority.path("absent.pem");
    let why = |chain: &PathBuf, key: &PathBuf| {
        let error = config::server(chain, key).expect_err("refused");
        (error.to_string(), error)
    };
    let (text, error) = why(&absent, &key);
    assert!(text.contains("absent.pem: No such file"), "{text}");
    assert!(matches!(error, ConfigError::Read { .. }));
    let (text, _) = why(&key, &chain);
    assert!(text.contains("server.key holds no certificate in PEM form"), "{text}");
    let (text, _) = why(&chain, &chain);
    assert!(text.contains("server.pem holds no private key in PEM form"), "{text}");
    let (text, error) = why(&chain, &other_key);
    assert!(matches!(error, ConfigError::KeyMismatch { .. }), "{text}");
    let damaged = authority.path("damaged.pem");
    fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("writes");
    let (text, _) = why(&damaged, &key);
    assert!(text.contains("damaged.pem holds a certificate that cannot be used"), "{text}");
    let trust = |path: &PathBuf| config::client(&Trust::File(path.clone()), Sessions::Fresh);
    assert!(matches!(trust(&damaged), Err(ConfigError::Damaged { .. })));
    assert!(matches!(trust(&key), Err(ConfigError::Missing { .. })));
}

#[test]
fn files_with_a_byte_order_mark_are_read() {
    let authority = Authority::new();
    let [chain, key] = authority.sign(|_| {});
    for file in [&chain, &key, &authority.path("ca.pem")] {
        let marked = [b"\xef\xbb\xbf", &*fs::read(file).expect("reads")].concat();
        fs::write(file, marked).expect("writes");
    }
    let server = config::server(&chain, &key).expect("a configuration");
    assert!(config::validity(&chain).expect("a certificate").is_some());
    Pair::new(&authority.client(), &server).exchange(usize::MAX).expect("a handshake");
}

#[test]
fn a_key_on_a_curve_that_is_not_supported_is_refused_by_the_name_of_the_curve() {
    let authority = Authority::new();
    let [chain, key] = authority.sign(|_| {});
    for (curve, pem) in [("P-521", P521_KEY), ("secp256k1", SECP256K1_KEY), ("Ed448", ED448_KEY)] {
        fs::write(&key, pem).expect("writes");
        let text = config::server(&chain, &key).expect_err("refused").to_string();
        let wanted = format!("server.key holds a private key on the curve {curve}, which is not supported");
        assert!(text.ends_with(&wanted), "{text}");
    }
}

/// Keys that are nobody's, as OpenSSL writes them.
const P521_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIASrP5x+7OxDwguLRH
rrpBDVBibB4lVd04kmyjqnXKlzTG4OPRi0oeVd+ATc0LzflIpfHU9JWqe6h1/Bhf
np7YZTShgYkDgYYABAG/9zZtGp0jGjE6g4EevClhXQTSkxx3rxfTx1GdrCtu6juy
E+8ckQ1Ii1W5UGRyQy9uvXhJP3BDSkmIAEbBVMonOwH2QDrKgm9F9GY+fzVhuorC
tleMXk9dbwf7wcQObm9g1oqv15jvqJfx2DqdmEiQ37uAH5cwE9USnXJ2/K+OB39D
6w==
-----END PRIVATE KEY-----
";
const SECP256K1_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIKROKXtq5W2QbU3WwN0px68kZhuGxjcV6BjsJXaXae7doAcGBSuBBAAK
oUQDQgAEtwTYPWzuwOfnqx4/nVGN+XBldYVIr0tTbBs7sZkV8Xamr6lxCS4K1SyD
AfFUrd3kagzqEZpt+UwceeUIVJ0yeg==
-----END EC PRIVATE KEY-----
";
const ED448_KEY: &str = "-----BEGIN PRIVATE KEY-----
MEcCAQAwBQYDK2VxBDsEOf8jK+XudrU9mBCVipM2GWXIVBE+cXXISEbVZl3G/M5O
TlfrSQSS3PYOLtFUaGww5mo0CdIT8nKTCg==
-----END PRIVATE KEY-----
";
