//! Handshakes in memory, with servers that are who they say and servers that are not.

use super::*;
use havre_testkit::command::{command, run};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use std::path::Path;

/// Shows one certificate and signs with one key, whether they belong together or not.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A key and its certificate for a name that nobody asks for.
fn identity(folder: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1"]);
    openssl.args(["-addext", "subjectAltName=DNS:someone.else"]);
    openssl
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    run(&mut openssl).unwrap();
    let certificates = certificates(&fs_err::read(certificate).unwrap()).collect();
    let key = PrivateKeyDer::from_pem_slice(&fs_err::read(key).unwrap()).unwrap();
    (certificates, key)
}

/// What a client that believes whoever answers makes of a server.
fn handshake(
    version: &'static SupportedProtocolVersion,
    shown: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), Error> {
    let signing = provider().key_provider.load_private_key(key.clone_key())?;
    let shown = CertifiedKey::new(shown.to_vec(), signing);
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(shown))));
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider())))
        .with_no_client_auth();
    let name = ServerName::try_from("asked.for").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn anybody_is_believed_who_has_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let (certificates, key) = identity(folder.path());
    let (_, other) = identity(folder.path());
    for version in [&TLS12, &TLS13] {
        handshake(version, &certificates, &key).unwrap();
        let refused = handshake(version, &certificates, &other).unwrap_err();
        assert!(
            matches!(refused, Error::InvalidCertificate(_)),
            "{refused:?}"
        );
    }
}

#[test]
fn what_is_no_certificate_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (shown, _) = identity(folder.path());
    let mut pem = b"text\n-----BEGIN OTHER-----\nAAAA\n-----END OTHER-----\n".to_vec();
    pem.extend(fs_err::read(folder.path().join("c.pem")).unwrap());
    assert_eq!(certificates(&pem).collect::<Vec<_>>(), shown);
    assert_eq!(certificates(b"nothing").count(), 0);
}
