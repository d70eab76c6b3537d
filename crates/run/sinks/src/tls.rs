//! Whom an encrypted log is sent to, and who we are.

use std::path::Path;
use std::sync::Arc;

use havre_logs::options::SyslogTls;
use havre_tls::{AnyCertificate, certificates};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{StartError, go_text};

/// The settings for one server.
pub(crate) fn config(asked: &SyslogTls) -> Result<Arc<ClientConfig>, StartError> {
    let refused = |error: rustls::Error| StartError::Tls(format!("tls: {error}"));
    let provider = havre_tls::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = if asked.skip_verify {
        let any = AnyCertificate::new(provider);
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(any))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &asked.authorities {
            let bytes = read("could not read CA certificate", path)?;
            let (added, _) = roots.add_parsable_certificates(certificates(&bytes));
            if added == 0 {
                let text = format!(
                    "failed to append certificates from PEM file: {:?}",
                    path.display()
                );
                return Err(StartError::Tls(text));
            }
        }
        builder.with_root_certificates(roots)
    };
    let config = match (&asked.certificate, &asked.key) {
        (Some(certificate), Some(key)) => {
            let wrong = "could not load X509 key pair";
            let chain = certificates(&read(wrong, certificate)?).collect();
            let key = PrivateKeyDer::from_pem_slice(&read(wrong, key)?)
                .map_err(|error| StartError::Tls(format!("{wrong}: {error}")))?;
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, StartError> {
    let failed = |error: std::io::Error| {
        let path = path.display().to_string();
        // The path is in the text already.
        let kind = std::io::Error::from(error.kind());
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => go_text(&kind),
        };
        StartError::Tls(format!("{what} {path:?}: open {path}: {reason}"))
    };
    fs_err::read(path).map_err(failed)
}
