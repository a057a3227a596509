//! The binary over TLS: before the servers of the other tests stands what ends TLS for them, on tokio-rustls,
//! with certificates made for the occasion.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Conduct, failed_gates, json, start};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig, SupportedProtocolVersion, crypto, version};

const PORT_VARIABLE: &str = "LOADGEN_TEST_PORT";
const DIRECTORY_VARIABLE: &str = "LOADGEN_TEST_CERTIFICATES";

/// An authority and a certificate that it has signed, in files.
struct Certificates(TempDir);

impl Certificates {
    fn of(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("signs");
        let directory = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, pem: String| fs::write(directory.path().join(name), pem).expect("can be written");
        write("ca.pem", issuer.pem());
        write("server.pem", certificate.pem());
        write("server.key", key.serialize_pem());
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// What stands before a server.
struct Front {
    config: Arc<ServerConfig>,
    server: SocketAddr,
    /// Of how many connections the handshake is completed; the others end after the first bytes.
    handshakes: usize,
}

impl Front {
    fn new(directory: &Path, server: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let chain = CertificateDer::pem_file_iter(directory.join("server.pem")).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).expect("a key");
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that fits");
        Self { config: Arc::new(config), server, handshakes: usize::MAX }
    }

    /// Serves as long as the test's process lives.
    fn start(self, port: u16) -> SocketAddr {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("binds");
                sender.send(listener.local_addr().expect("is bound")).expect("the test listens");
                for accepted in 0.. {
                    let (stream, _) = listener.accept().await.expect("accepts");
                    if accepted < self.handshakes {
                        tokio::spawn(pass_on(
                            TlsAcceptor::from(Arc::clone(&self.config)),
                            stream,
                            self.server,
                        ));
                    } else {
                        tokio::spawn(die(stream));
                    }
                }
            });
        });
        receiver.recv().expect("it starts")
    }
}

async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) {
    stream.set_nodelay(true).expect("a socket");
    let Ok(mut secure) = acceptor.accept(stream).await else { return };
    let mut plain = TcpStream::connect(server).await.expect("the server listens");
    plain.set_nodelay(true).expect("a socket");
    let _ = copy_bidirectional(&mut secure, &mut plain).await;
}

/// Takes the client's first message, and answers with half a header.
async fn die(mut stream: TcpStream) {
    let mut hello = [0; 4096];
    let _ = stream.read(&mut hello).await;
    let _ = stream.write_all(&[22, 3, 3]).await;
}

/// A well-behaved server behind TLS.
fn secure(certificates: &Certificates) -> SocketAddr {
    Front::new(certificates.0.path(), start(Conduct::default()), ALL_VERSIONS).start(0)
}

fn command(scheme: &str, server: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--url", &format!("{scheme}://{server}"), "--clients", "20", "--rate", "40"]);
    command.args(["--duration", "1s", "--warmup", "300ms", "--drain", "1s", "--quiet"]).args(arguments);
    command
}

fn loadgen(scheme: &str, server: SocketAddr, arguments: &[&str]) -> Output {
    command(scheme, server, arguments).output().expect("loadgen runs")
}

/// The exit code, and standard error, of a run that comes to nothing.
fn failure(scheme: &str, server: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
    let output = loadgen(scheme, server, arguments);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_dialect_is_measured_over_tls_and_every_delivery_counted() {
    let certificates = Certificates::of("127.0.0.1");
    let (server, ca) = (secure(&certificates), certificates.path("ca.pem"));
    for (dialect, each) in [("raw", 20), ("echo", 1), ("chat", 19)] {
        let result =
            json(&loadgen("wss", server, &["--tls-ca", &ca, "--dialect", dialect, "--format", "json"]));
        assert_eq!(failed_gates(&result), [""; 0], "{dialect}: {result:#}");
        assert_eq!(result["deliveries"]["received"], 40 * each, "{dialect}");
        for wrong in ["duplicates", "disorder", "misdelivered", "altered"] {
            assert_eq!(result["deliveries"][wrong], 0, "{dialect}: {wrong}");
        }
        assert_eq!(result["settings"]["tls"], "verified");
        let mean = |step: &str| {
            let step = &result["connections"][step];
            assert_eq!(step["count"], 20, "{dialect}: {step}");
            step["mean_ns"].as_f64().expect("a number")
        };
        assert!(mean("tcp") < mean("tls") && mean("tls") < mean("upgrade"), "{dialect}");
    }
}

#[test]
fn messages_of_many_records_arrive() {
    let certificates = Certificates::of("127.0.0.1");
    let (server, ca) = (secure(&certificates), certificates.path("ca.pem"));
    let arguments = ["--tls-ca", &ca, "--dialect", "echo", "--payload", "100000", "--format", "json"];
    let result = json(&loadgen("wss", server, &arguments));
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    assert_eq!(result["deliveries"]["received"], 40);
}

#[test]
fn a_server_of_tls_1_2_is_measured() {
    let certificates = Certificates::of("127.0.0.1");
    let plain = start(Conduct::default());
    let server = Front::new(certificates.0.path(), plain, &[&version::TLS12]).start(0);
    let ca = certificates.path("ca.pem");
    let result = json(&loadgen("wss", server, &["--tls-ca", &ca, "--dialect", "echo", "--format", "json"]));
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    let check = ["check", "--url", &format!("wss://{server}"), "--tls-ca", &ca, "--dialect", "echo"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(check).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("answers an upgrade over TLSv1_2 TLS_"), "{text}");
}

#[test]
fn clients_leave_and_rejoin_and_stop_reading_over_tls() {
    let certificates = Certificates::of("127.0.0.1");
    let (server, ca) = (secure(&certificates), certificates.path("ca.pem"));
    let arguments = ["--tls-ca", &ca, "--dialect", "raw", "--churn", "10", "--slow-clients", "25"];
    let result = json(&loadgen("wss", server, &[&arguments[..], &["--format", "json"]].concat()));
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    assert_eq!(result["connections"]["slow"], 5);
    assert!(result["connections"]["churn"]["rejoined"].as_u64() >= Some(5), "{result:#}");
    assert_eq!(result["connections"]["lost"], serde_json::json!({}));
}

#[test]
fn a_close_behind_tls_is_reported_with_its_code() {
    let certificates = Certificates::of("127.0.0.1");
    let plain = start(Conduct { close_after: Some(20), ..Conduct::default() });
    let server = Front::new(certificates.0.path(), plain, ALL_VERSIONS).start(0);
    let ca = certificates.path("ca.pem");
    let result = json(&loadgen("wss", server, &["--tls-ca", &ca, "--dialect", "raw", "--format", "json"]));
    let lost = result["connections"]["lost"].as_object().expect("a map");
    assert!(lost.keys().any(|reason| reason.contains("1013")), "{lost:?}");
}

#[test]
fn a_run_that_verifies_nobody_says_so() {
    let certificates = Certificates::of("other.example");
    let output = loadgen("wss", secure(&certificates), &["--tls-insecure", "--dialect", "echo"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("warning: the server's certificate was not verified (--tls-insecure)"), "{text}");
    assert!(text.contains("; tls p50 "), "{text}");
}

#[test]
fn a_certificate_that_is_not_trusted_is_named_with_what_to_do() {
    let (certificates, others) = (Certificates::of("127.0.0.1"), Certificates::of("127.0.0.1"));
    let (code, text) = failure("wss", secure(&certificates), &["--tls-ca", &others.path("ca.pem")]);
    assert_eq!(code, Some(2), "{text}");
    let expected = "/chat: the server has a certificate from none of the trusted authorities: name who has \
                    signed it with --tls-ca FILE, or take any certificate with --tls-insecure\n";
    assert!(text.contains("preflight: wss://127.0.0.1:") && text.ends_with(expected), "{text}");
}

#[test]
fn a_certificate_of_another_name_is_named_with_what_to_do() {
    let certificates = Certificates::of("other.example");
    let (code, text) = failure("wss", secure(&certificates), &["--tls-ca", &certificates.path("ca.pem")]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("other.example") && text.contains("and not for 127.0.0.1: name the server"),
        "{text}"
    );
}

#[test]
fn servers_that_do_not_speak_tls_are_named() {
    let certificates = Certificates::of("127.0.0.1");
    let trust = ["--tls-ca", &certificates.path("ca.pem")];
    let answers = start(Conduct { is_plain_http: true, ..Conduct::default() });
    let (code, text) = failure("wss", answers, &trust);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.ends_with("the server does not speak TLS: write ws:// in --url\n"), "{text}");
    let hangs_up = start(Conduct::default());
    let (code, text) = failure("wss", hangs_up, &trust);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("TLS") && text.contains("ws:// in --url"), "{text}");
}

#[test]
fn a_server_that_speaks_tls_is_named_when_the_url_does_not() {
    let certificates = Certificates::of("127.0.0.1");
    let (code, text) = failure("ws", secure(&certificates), &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.ends_with("the server answered in TLS: write wss:// in --url\n"), "{text}");
}

#[test]
fn a_server_that_dies_in_the_handshake_is_named_before_a_run_and_in_it() {
    let certificates = Certificates::of("127.0.0.1");
    let ca = certificates.path("ca.pem");
    for (handshakes, expected) in [(0, 2), (1, 1)] {
        let front = Front::new(certificates.0.path(), start(Conduct::default()), ALL_VERSIONS);
        let server = Front { handshakes, ..front }.start(0);
        let (code, text) = failure("wss", server, &["--tls-ca", &ca, "--dialect", "echo"]);
        assert_eq!(code, Some(expected), "{text}");
        assert!(text.contains("the server ended the connection in the middle of TLS"), "{text}");
        assert_eq!(text.contains("no client could connect: 20 × "), handshakes == 1, "{text}");
    }
}

#[test]
fn options_for_tls_are_held_against_the_url_and_the_files() {
    let certificates = Certificates::of("127.0.0.1");
    let (ca, key) = (certificates.path("ca.pem"), certificates.path("server.key"));
    let server = start(Conduct::default());
    for (scheme, arguments, expected) in [
        ("ws", &["--tls-ca", &*ca][..], "write wss:// for TLS"),
        ("ws", &["--tls-insecure"], "write wss:// for TLS"),
        ("wss", &["--tls-ca", "/nowhere.pem"], "--tls-ca: cannot read /nowhere.pem: No such file"),
        ("wss", &["--tls-ca", &key], "holds no certificate in PEM form"),
        ("wss", &["--tls-ca", &ca, "--tls-insecure"], "cannot be used with"),
    ] {
        let (code, text) = failure(scheme, server, arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn runs_over_tls_and_without_are_not_compared() {
    let certificates = Certificates::of("127.0.0.1");
    let ca = certificates.path("ca.pem");
    let plain = start(Conduct::default());
    let server = Front::new(certificates.0.path(), plain, ALL_VERSIONS).start(0);
    let directory = tempfile::tempdir().expect("a directory");
    let [a, b] = ["plain", "tls"].map(|name| directory.path().join(name).to_str().expect("UTF-8").to_owned());
    loadgen("ws", plain, &["--dialect", "echo", "--out", &a]);
    loadgen("wss", server, &["--dialect", "echo", "--tls-ca", &ca, "--out", &b]);
    let compare = ["compare", &a, "vs", &b];
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(compare).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("the setting tls differs: \"verified\" in "), "{text}");
}

/// Not a test, but the server that the next one lets `ab` start.
#[test]
#[ignore = "a server; it does not end"]
fn serve() {
    let port = std::env::var(PORT_VARIABLE).expect("a port").parse().expect("a port");
    let directory = PathBuf::from(std::env::var_os(DIRECTORY_VARIABLE).expect("a directory"));
    // Its answers take so long that the lag of a busy machine is small beside it.
    let plain = start(Conduct { delay: Duration::from_millis(60), ..Conduct::default() });
    Front::new(&directory, plain, ALL_VERSIONS).start(port);
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn ab_asks_servers_over_tls_whether_they_are_ready() {
    let (certificates, others) = (Certificates::of("127.0.0.1"), Certificates::of("127.0.0.1"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    drop(listener);
    let server = format!(
        "{PORT_VARIABLE}={} {DIRECTORY_VARIABLE}='{}' '{}' --ignored --exact tls::serve; true",
        address.port(),
        certificates.0.path().display(),
        std::env::current_exe().expect("it runs").display()
    );
    let out = tempfile::tempdir().expect("a directory");
    let ab = |ca: &str, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(["ab", "--a", &server, "--aa", "--pairs", "1", "--out"]).arg(out.path().join(name));
        command.args(["--", "--url", &format!("wss://{address}"), "--tls-ca", ca, "--dialect", "echo"]);
        command.args(["--clients", "5", "--duration", "1s", "--warmup", "100ms", "--drain", "1s"]);
        command.output().expect("loadgen runs")
    };
    let refused = ab(&others.path("ca.pem"), "refused");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot be measured: the server has a certificate from none"), "{text}");
    let measured = ab(&certificates.path("ca.pem"), "measured");
    let text = String::from_utf8_lossy(&measured.stderr);
    // A busy machine may spoil its runs, but they were made.
    assert!(matches!(measured.status.code(), Some(0 | 3)), "{text}");
}
