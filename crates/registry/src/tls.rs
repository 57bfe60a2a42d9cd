//! TLS of the server: one certificate chain, TLS 1.2 and 1.3, HTTP/2 or HTTP/1.1 as the client likes.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::StartError;

/// HTTP/2 in the negotiation of a protocol (RFC 9113, section 3.2).
pub(crate) const H2: &[u8] = b"h2";

/// Reads certificate and key. Blocks.
///
/// # Errors
/// [`StartError::Tls`] when a file cannot be read or the two do not belong together.
pub(crate) fn server_config(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, StartError> {
    let bad = |path: &Path, reason: String| StartError::Tls { path: path.display().to_string(), reason };
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(chain).and_then(Iterator::collect).map_err(|e| bad(chain, e.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|e| bad(chain, e.to_string()))?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
