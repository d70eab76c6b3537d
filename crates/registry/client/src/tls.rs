//! TLS settings for a registry: the system's authorities, the registry's own, or none at all.
//!
//! A registry's own files lie in `certs.d/<host:port>/`: `*.crt` are further authorities, `*.cert`
//! with the `*.key` of the same name prove who we are
//! (<https://docs.docker.com/engine/security/certificates/>).

use crate::config::ConfigError;
use havre_tls::AnyCertificate;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The parts that all registries share.
#[derive(Debug)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    folders: Vec<PathBuf>,
}

impl Tls {
    /// Reads the system's authorities; those that cannot be used are passed over.
    pub(crate) fn new(folders: &[PathBuf]) -> Self {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "an authority of the system is unusable");
        }
        roots.add_parsable_certificates(native.certs);
        let provider = havre_tls::provider();
        Self {
            provider,
            roots,
            folders: folders.to_vec(),
        }
    }

    /// The settings for `host` or `host:port`.
    pub(crate) fn for_registry(
        &self,
        registry: &str,
        verify: bool,
    ) -> Result<Arc<ClientConfig>, ConfigError> {
        let failed = |source| ConfigError::Tls { source };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let files = self.own_files(registry);
        let builder = if verify {
            builder.with_webpki_verifier(self.verifier(&files)?)
        } else {
            // The administrator has named it as insecure: whoever answers is believed.
            let any = AnyCertificate::new(Arc::clone(&self.provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(any))
        };
        let config = match own_identity(&files) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn verifier(&self, files: &[PathBuf]) -> Result<Arc<WebPkiServerVerifier>, ConfigError> {
        let mut roots = self.roots.clone();
        for file in files.iter().filter(|file| has_extension(file, "crt")) {
            roots.add_parsable_certificates(certificates(file));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| ConfigError::Tls {
                source: rustls::Error::General(error.to_string()),
            })
    }

    /// The files of the registry's folder. Its name is one component by the grammar of references.
    fn own_files(&self, registry: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = fs_err::read_dir(folder.join(registry)) else {
                continue;
            };
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        files
    }
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    fs_err::read(file).map_or_else(
        |_unreadable| Vec::new(),
        |bytes| havre_tls::certificates(&bytes).collect(),
    )
}

fn own_identity(
    files: &[PathBuf],
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = files.iter().find(|file| has_extension(file, "cert"))?;
    let key = fs_err::read(certificate.with_extension("key")).ok()?;
    let key = PrivateKeyDer::from_pem_slice(&key).ok()?;
    Some((certificates(certificate), key))
}
