//! TLS of the server: a certificate and its key, and perhaps whose certificates clients must have.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::limits::PEM_FILE_BYTES_MAX;

/// Where TLS's parts are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to an authority.
    pub certificates: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities, by one of which a client's certificate must be signed; `None`: clients need none.
    pub client_authorities: Option<PathBuf>,
}

/// What handshakes are made with.
#[derive(Debug, Clone)]
pub struct TlsSettings(pub(crate) Arc<ServerConfig>);

/// Why there is no TLS. No part of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system does not give a file.
    #[error("failed to read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is something else in it.
    #[error("failed to use {path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What.
        why: String,
    },
    /// Each is fine by itself.
    #[error("failed to use the certificate in {certificates} with the key in {key}")]
    Pair {
        /// The file of the certificate.
        certificates: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with the pair.
        #[source]
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads all of them.
    pub fn load(&self) -> Result<TlsSettings, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |source| TlsError::Pair { certificates: self.certificates.clone(), key: self.key.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, error))?)
            }
        };
        let certificates = certificates(&self.certificates)?;
        let mut config = builder.with_single_cert(certificates, private_key(&self.key)?).map_err(pair)?;
        // The server speaks nothing else, and a client that would is told in the handshake.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsSettings(Arc::new(config)))
    }

    /// All files there are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificates, &self.key].into_iter().chain(&self.client_authorities).map(PathBuf::as_path)
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(path)?) {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(path, format_args!("certificate {number} cannot be an authority ({error})")))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates = (1..).zip(CertificateDer::pem_slice_iter(&pem)).map(|(number, certificate)| {
        certificate.map_err(|error| unusable(path, format_args!("certificate {number} is damaged ({error})")))
    });
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(unusable(path, "it holds no certificate; write it as PEM"));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let is_encrypted = pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
        match error {
            _ if is_encrypted => unusable(
                path,
                "the key is encrypted; write it without a passphrase, in a file that only its owner reads",
            ),
            rustls::pki_types::pem::Error::NoItemsFound => unusable(path, "it holds no private key; write it as PEM"),
            // Its own words may show what stands in the file.
            _ => unusable(path, "the key is damaged"),
        }
    })
}

/// What the first line of a key with a passphrase has.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_FILE_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    if pem.len() as u64 > PEM_FILE_BYTES_MAX {
        return Err(unusable(path, format_args!("it is larger than {PEM_FILE_BYTES_MAX} bytes")));
    }
    Ok(pem)
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), why: why.to_string() }
}
