//! Whom we believe: the system's certificate authorities, and those that the operator names.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::HubError;
use crate::limits::CA_FILE_BYTES_MAX;

/// TLS that trusts the system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and those in `files`. An
/// image without any authorities, as slim containers are, gets Mozilla's.
pub(crate) fn config<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<ClientConfig, HubError> {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "some of the system's certificate authorities cannot be read");
    }
    let mut roots = roots(native.certs);
    for file in files {
        add(&mut roots, file)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| HubError::Client(error.into()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The system's authorities or, where there are none, Mozilla's.
fn roots(native: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native);
    if added == 0 {
        tracing::debug!("the system names no certificate authorities; Mozilla's are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Adds every certificate of a PEM file; one that cannot be used is an error, as is a file without any.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), HubError> {
    let wrong = |why: String| HubError::Certificates { path: path.to_owned(), why };
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|error| wrong(format!("the file cannot be read ({error})")))?;
    if pem.len() as u64 > CA_FILE_BYTES_MAX {
        return Err(wrong("it is larger than 8 MiB".to_owned()));
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        count += 1;
        let certificate = certificate.map_err(|error| wrong(format!("certificate {count} is damaged ({error})")))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(format!("certificate {count} cannot be an authority ({error})")))?;
    }
    if count == 0 { Err(wrong("it holds no certificate".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, content).expect("written");
        let error = config([path.as_path()]).map(|_| ()).expect_err("no certificate in it");
        error.to_string().replace(&folder.path().display().to_string(), "")
    }

    #[test]
    fn an_image_without_authorities_trusts_mozillas_and_no_other_does() {
        assert_eq!(roots(Vec::new()).len(), webpki_roots::TLS_SERVER_ROOTS.len());
        assert_eq!(roots(vec![CertificateDer::from(vec![1, 2, 3])]).len(), webpki_roots::TLS_SERVER_ROOTS.len());
        let hub = test_hub::TestHub::builder().tls().start();
        let own = CertificateDer::pem_file_iter(hub.ca_file()).expect("a file").map(|it| it.expect("a certificate"));
        assert_eq!(roots(own.collect()).len(), 1);
    }

    #[test]
    fn a_file_without_a_usable_authority_is_named() {
        let wrong = |why: &str| format!("cannot use the certificate authorities in /ca.pem: {why}; write them as PEM");
        assert_eq!(refusal(b""), wrong("it holds no certificate"));
        assert_eq!(refusal(&[0x30, 0x82, 1, 2, 3]), wrong("it holds no certificate"));
        let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(refusal(key), wrong("it holds no certificate"));
        let damaged = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        assert!(refusal(damaged).contains("certificate 1 is damaged"), "{}", refusal(damaged));
        let no_certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(
            refusal(no_certificate).contains("certificate 1 cannot be an authority"),
            "{}",
            refusal(no_certificate)
        );
        let missing = config([Path::new("/no/such/ca.pem")]).map(|_| ()).expect_err("missing").to_string();
        assert!(
            missing.starts_with("cannot use the certificate authorities in /no/such/ca.pem: the file cannot be read"),
            "{missing}"
        );
    }
}
