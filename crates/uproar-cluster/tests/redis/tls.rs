//! TLS to Redis.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use uproar_cluster::Answer;
use uproar_cluster::client::{ConnectError, inspect};

use crate::client::{Got, Node};
use crate::node::publish;
use crate::sentinel::{Process, free_ports, until};

/// Writes a certification authority of our own, and the certificate of a Redis at this address.
fn write_certificates(directory: &TempDir) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    for (name, text) in
        [("ca.pem", ca.pem()), ("redis.pem", certificate.pem()), ("redis.key", key.serialize_pem())]
    {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_a_certificate_of_our_own_is_trusted_if_its_authority_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_certificates(&directory);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [port] = free_ports();
    let (certificate, key, ca) = (path("redis.pem"), path("redis.key"), path("ca.pem"));
    let tls = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let _redis = Process::start(&directory.path().join("redis"), 0, &tls);
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());

    let address = format!("rediss://127.0.0.1:{port}?ca={ca}");
    let mut a = Node::begin("a", 1, &address).await;
    let room = a.open("general").await;
    assert_eq!(a.decide(publish(&room, "x")).await, Got::Answer(Answer::Sent(1)));

    let refused = |text: String| async move {
        match inspect(&text.parse().unwrap(), 1, 0).await {
            Err(ConnectError::Redis(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let error = refused(format!("rediss://127.0.0.1:{port}")).await;
    assert!(error.contains("certificate"), "the system does not trust it: {error}");
    let error = refused(format!("rediss://localhost:{port}?ca={ca}")).await;
    assert!(error.contains("certificate"), "it is for another host: {error}");
    let error = refused(format!("rediss://127.0.0.1:{port}?ca=/nowhere/ca.pem")).await;
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
    assert!(inspect(&format!("redis://127.0.0.1:{port}").parse().unwrap(), 1, 0).await.is_err());
}
