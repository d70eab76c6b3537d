//! Who is believed to be a registry: real handshakes with certificates that OpenSSL makes.

use super::*;
use crate::url::Url;
use havre_testkit::command::{command, run};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server with a certificate of its own, for a name or address; it counts the bytes of requests.
struct Server {
    port: u16,
    heard: Arc<AtomicUsize>,
    certificate: Vec<u8>,
    task: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

impl Server {
    async fn start(subject: &str, days: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = make_certificate(folder.path(), subject, days);
        let chain = CertificateDer::pem_slice_iter(&certificate)
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&heard),
        ));
        Self {
            port,
            heard,
            certificate,
            task,
            _folder: folder,
        }
    }

    /// Asks it; `folders` are as `certs.d`.
    async fn ask(
        &self,
        folders: &[std::path::PathBuf],
        verify: bool,
    ) -> Result<u16, TransportError> {
        let transport = Transport::new(Tls::new(folders), Duration::from_secs(5));
        let origin = Url::parse(&format!("https://127.0.0.1:{}/", self.port))
            .unwrap()
            .origin;
        let endpoint = Endpoint {
            origin,
            prefix: "/".to_owned(),
            verify,
            mirror: false,
        };
        let request = Request::get("/v2/").body(Full::default()).unwrap();
        transport
            .send(&endpoint, request)
            .await
            .map(|response| response.status().as_u16())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, heard: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut buffer = [0; 4096];
        let Ok(count) = stream.read(&mut buffer).await else {
            continue;
        };
        heard.fetch_add(count, Ordering::SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        // A client that does not believe us does not listen either.
        drop(stream.write_all(answer).await);
    }
}

/// A self-signed certificate that is its own authority.
fn make_certificate(folder: &Path, subject: &str, days: &str) -> (Vec<u8>, Vec<u8>) {
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    let mut openssl = command("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    openssl.args([
        "-nodes",
        "-subj",
        "/CN=test",
        "-addext",
        &format!("subjectAltName={subject}"),
    ]);
    openssl.args([
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-days",
        days,
    ]);
    openssl
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    run(&mut openssl).unwrap();
    (
        fs_err::read(certificate).unwrap(),
        fs_err::read(key).unwrap(),
    )
}

/// A folder as `certs.d`, with the certificate as an authority for the server's address.
fn trust(server: &Server) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(format!("127.0.0.1:{}", server.port));
    fs_err::create_dir(&own).unwrap();
    fs_err::write(own.join("ca.crt"), &server.certificate).unwrap();
    folder
}

#[tokio::test]
async fn an_unknown_certificate_ends_it_before_anything_is_said() {
    let server = Server::start("IP:127.0.0.1", "10").await;
    let error = server.ask(&[], true).await.unwrap_err();
    assert!(matches!(error, TransportError::Tls { .. }), "{error}");
    assert_eq!(server.heard.load(Ordering::SeqCst), 0);
    // Only an administrator's word makes it good.
    assert_eq!(server.ask(&[], false).await.unwrap(), 200);
    assert!(server.heard.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_certificate_in_certs_d_is_believed_for_its_name_only() {
    let server = Server::start("IP:127.0.0.1", "10").await;
    let folder = trust(&server);
    assert_eq!(
        server.ask(&[folder.path().to_owned()], true).await.unwrap(),
        200
    );
    let other = Server::start("DNS:elsewhere.example", "10").await;
    let folder = trust(&other);
    let error = other
        .ask(&[folder.path().to_owned()], true)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Tls { .. }), "{error}");
    assert_eq!(other.heard.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_without_tls_is_not_asked_in_plain_text() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 1];
        stream.read_exact(&mut heard).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        heard[0]
    });
    let transport = Transport::new(Tls::new(&[]), Duration::from_secs(5));
    let origin = Url::parse(&format!("https://127.0.0.1:{port}/"))
        .unwrap()
        .origin;
    let endpoint = Endpoint {
        origin,
        prefix: "/".to_owned(),
        verify: true,
        mirror: false,
    };
    let request = Request::get("/v2/").body(Full::default()).unwrap();
    let error = transport.send(&endpoint, request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "http: server gave HTTP response to HTTPS client"
    );
    assert_eq!(
        plain.await.unwrap(),
        22,
        "the first byte of a TLS handshake"
    );
}
