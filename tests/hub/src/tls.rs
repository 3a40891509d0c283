//! A certificate authority of one hub, which nothing else trusts.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) struct Authority {
    pub pem: String,
    pub server: Arc<ServerConfig>,
}

impl Authority {
    /// A new authority and a certificate of its for these names and addresses.
    pub(crate) fn new(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Outrigger test authority");
        let authority = params.self_signed(&key).expect("a certificate of its own");
        let issuer = Issuer::new(params, key);

        let leaf_key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names that certificates can hold");
        params.distinguished_name.push(DnType::CommonName, "Outrigger test hub");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python 3.13 and later refuse a certificate without it.
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&leaf_key, &issuer).expect("a signed certificate");

        let leaf_key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions of TLS that rustls knows")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], leaf_key)
            .expect("a certificate with its key");
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { pem: authority.pem(), server: Arc::new(server) }
    }
}
