//! TLS in memory whose server may encrypt only so many records.
//!
//! A real suite allows 2^24 records (RFC 5246 has no way to go on with new keys), which a test cannot wait for.

use std::sync::Arc;

use rustls::crypto::ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, ring};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::TLS12;
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, Tls12CipherSuite,
};
use tokio_rustls::rustls;
use uproar_protocol::tls::TlsStream;

const NAME: &str = "chat.example";

/// A client and a server behind the handshake.
pub(crate) fn pair(server_records_max: u64) -> [TlsStream; 2] {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut authorities = RootCertStore::empty();
    authorities.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder_with_provider(provider(server_records_max))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut client = TlsStream::client(&Arc::new(client), ServerName::try_from(NAME).unwrap()).unwrap();
    let mut server = TlsStream::server(&Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let to_server = client.poll_transmit().unwrap_or_default();
        server.handle_received(&to_server, &mut Vec::new()).unwrap();
        let to_client = server.poll_transmit().unwrap_or_default();
        client.handle_received(&to_client, &mut Vec::new()).unwrap();
        assert!(!to_server.is_empty() || !to_client.is_empty(), "the handshake stands still");
    }
    [client, server]
}

/// Everything is as usual, but for the only suite's limit.
fn provider(records_max: u64) -> Arc<CryptoProvider> {
    let SupportedCipherSuite::Tls12(usual) = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 else {
        panic!("a suite of {:?}", ProtocolVersion::TLSv1_2)
    };
    let suite = Tls12CipherSuite {
        common: CipherSuiteCommon {
            suite: usual.common.suite,
            hash_provider: usual.common.hash_provider,
            confidentiality_limit: records_max,
        },
        kx: usual.kx,
        sign: usual.sign,
        aead_alg: usual.aead_alg,
        prf_provider: usual.prf_provider,
    };
    let suites = vec![SupportedCipherSuite::Tls12(Box::leak(Box::new(suite)))];
    Arc::new(CryptoProvider { cipher_suites: suites, ..ring::default_provider() })
}
