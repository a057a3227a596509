//! A certificate in files, as a server's operator has it, and clients that trust it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// An authority of its own, and what it has signed for 127.0.0.1. The files are removed when it is dropped.
pub(crate) struct Certificate {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    client: Arc<ClientConfig>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "An authority");
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let client = Arc::new(trusting(issuer.der(), &[&TLS13, &TLS12]));
        let certificate = Self { directory: tempfile::tempdir().unwrap(), issuer, client };
        certificate.sign(|_| {});
        certificate
    }

    /// Signs a new certificate, and writes it and its key where those before were.
    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.chain(), own.pem()).unwrap();
        fs::write(self.key(), key.serialize_pem()).unwrap();
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Clients of this certificate, which remember their sessions in common.
    pub(crate) fn usual_client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// Clients that speak this version alone, and have no sessions yet.
    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        trusting(self.issuer.der(), &[version])
    }

    pub(crate) fn name(&self) -> ServerName<'static> {
        ServerName::IpAddress(Ipv4Addr::LOCALHOST.into())
    }
}

fn trusting(
    authority: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut authorities = RootCertStore::empty();
    authorities.add(authority.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authorities)
        .with_no_client_auth()
}
