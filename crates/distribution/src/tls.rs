//! TLS towards registries: the system's authorities, a host's own from the certificate directory,
//! client certificates, and — for hosts configured as insecure only — no check at all.

use crate::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Makes the configuration for one host. Reads files: call it off the async threads.
///
/// # Errors
/// [`Error::Tls`] when a file of the host's directory cannot be used.
pub(crate) fn client_config(authority: &str, certs_dir: &Path, insecure: bool) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Tls(e.to_string()))?;
    let files = HostFiles::find(authority, certs_dir)?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    } else {
        let mut roots = system_roots().clone();
        for path in &files.authorities {
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|e| bad(path, &e.to_string()))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match &files.identity {
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e.to_string()))?;
            builder.with_client_auth_cert(read_certificates(cert)?, private).map_err(|e| bad(cert, &e.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "a system certificate could not be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.certs);
        roots
    })
}

#[derive(Default)]
struct HostFiles {
    authorities: Vec<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl HostFiles {
    fn find(authority: &str, certs_dir: &Path) -> Result<HostFiles, Error> {
        let mut files = HostFiles::default();
        // A host name from a redirect must not walk the file system.
        if authority.starts_with('.') || authority.contains('/') {
            return Ok(files);
        }
        let dir = certs_dir.join(authority);
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(files) };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => files.authorities.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(bad(&path, "its .key file is missing beside it"));
                    }
                    files.identity = Some((path, key));
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e: rustls::pki_types::pem::Error| bad(path, &e.to_string()))
}

fn bad(path: &Path, why: &str) -> Error {
    Error::Tls(format!("cannot use {}: {why}", path.display()))
}

/// Accepts any certificate; signatures are still checked, so that the handshake stays well-formed.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
