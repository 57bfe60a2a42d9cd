//! TLS towards registries: the system's authorities, a host's own from the certificate directory,
//! client certificates, and — for hosts configured as insecure only — no check at all. HTTP/2 is offered before HTTP/1.1.

use crate::error::Error;
use crate::hosts::{self, Site};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// HTTP/2 in the negotiation of a protocol (RFC 9113, section 3.2).
pub(crate) const H2: &[u8] = b"h2";

/// The files behind the TLS of one host, and how they were: equal when a configuration made from them still counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Material {
    insecure: bool,
    authorities: Vec<PathBuf>,
    /// Certificate and key; one file has both when there is no second.
    identity: Option<(PathBuf, Option<PathBuf>)>,
    stamps: Vec<Stamp>,
}

/// Length, change time and place of a file; nothing when it is not there.
type Stamp = Option<(u64, i64, i64, u64)>;

impl Material {
    /// Finds the files of a host: those of its directories, and those of its rules. Reads directories: call it off the
    /// async threads.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate has no key beside it.
    pub(crate) fn find(authority: &str, dirs: &[PathBuf], site: &Site, insecure: bool) -> Result<Material, Error> {
        let insecure = site.skip_verify.unwrap_or(insecure);
        let mut material = Material { insecure, authorities: Vec::new(), identity: None, stamps: Vec::new() };
        for dir in dirs {
            for name in hosts::directories(authority) {
                material.add(&dir.join(name))?;
            }
        }
        material.authorities.extend(site.authorities.iter().cloned());
        if site.identity.is_some() {
            material.identity = site.identity.clone();
        }
        let identity = material.identity.iter().flat_map(|(cert, key)| std::iter::once(cert).chain(key));
        material.stamps = material.authorities.iter().chain(identity).map(|path| stamp(path)).collect();
        Ok(material)
    }

    /// Adds Docker's files of a directory. The first directory with a certificate of ours counts.
    fn add(&mut self, dir: &Path) -> Result<(), Error> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        let taken = self.identity.is_some();
        for path in paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => self.authorities.push(path),
                Some("cert") if !taken => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(bad(&path, "its .key file is missing beside it"));
                    }
                    self.identity = Some((path, Some(key)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the configuration. Reads files: call it off the async threads.
    ///
    /// # Errors
    /// [`Error::Tls`] when a file cannot be used.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Tls(e.to_string()))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        } else {
            let mut roots = system_roots().clone();
            for path in &self.authorities {
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|e| bad(path, &e.to_string()))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match &self.identity {
            Some((cert, key)) => {
                let key = key.as_ref().unwrap_or(cert);
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e.to_string()))?;
                let chain = read_certificates(cert)?;
                builder.with_client_auth_cert(chain, private).map_err(|e| bad(cert, &e.to_string()))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The configuration for a host that is no registry and is spoken to by HTTP/1.1: the system's authorities and Docker's
/// files of that host below `certs_dir`. Reads files: call it off the async threads.
///
/// # Errors
/// [`Error::Tls`] when a file cannot be used.
pub fn client_config(authority: &str, certs_dir: &Path) -> Result<Arc<ClientConfig>, Error> {
    let material = Material::find(authority, &[certs_dir.to_owned()], &Site::default(), false)?;
    let mut config = Arc::unwrap_or_clone(material.config()?);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.len(), about.mtime(), about.mtime_nsec(), about.ino()))
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
