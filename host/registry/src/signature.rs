//! Who vouches for a plugin: ed25519 signatures of its manifest's digest.
//!
//! They are annotations of a small manifest of their own, under the tag `sha256-….outrigger`: a tag is what every registry has
//! and mirrors copy, where referrers are not, and the plugin's own digest stays what it is when somebody else signs it. It is
//! a referrer too (`subject`), for registries and tools that know those. Removing or changing one makes the plugin unsigned.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::artifact::{Descriptor, MANIFEST_TYPE, Manifest, parse};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::limits::{SECRET_FILE_BYTES_MAX, SIGNATURES_MAX};

const ARTIFACT_TYPE: &str = "application/vnd.outrigger.plugin.signature.v1";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// What an artifact without content has as its configuration and layer.
pub(crate) const EMPTY: &[u8] = b"{}";
const ANNOTATION: &str = "dev.outrigger.signature.";

/// The key of somebody who is trusted, as `ed25519:` and base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A key that signs. It is shown nowhere.
pub struct SecretKey(Ed25519KeyPair);

/// What a key's signature is called: nobody else's stands in its place.
fn annotation(key: &PublicKey) -> String {
    format!("{ANNOTATION}{}", &Digest::of(&key.0).hexadecimal()[..32])
}

/// What is signed: nothing that was made for another purpose passes for it.
fn message(digest: &Digest) -> String {
    format!("outrigger plugin signature v1\n{digest}\n")
}

impl FromStr for PublicKey {
    type Err = RegistryError;

    fn from_str(given: &str) -> Result<Self, RegistryError> {
        let wrong = |why| RegistryError::Key { what: format!("`{}` as a key", crate::error::shown(given)), why };
        let encoded = given.trim().strip_prefix("ed25519:").ok_or_else(|| wrong("a key is written ed25519:BASE64"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| wrong("what follows `ed25519:` is not base64"))?;
        bytes.try_into().map(Self).map_err(|_| wrong("a key has 32 bytes"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", BASE64.encode(self.0))
    }
}

impl SecretKey {
    /// Makes a key and writes it, as PKCS #8 in PEM, to a file that nobody else may read and that must not be there yet.
    pub fn generate(path: &Path) -> Result<Self, RegistryError> {
        let what = || format!("write the key {}", path.display());
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| RegistryError::Key {
            what: path.display().to_string(),
            why: "the system has no random numbers",
        })?;
        let encoded = BASE64.encode(document.as_ref());
        let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        let lines = encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line));
        lines.for_each(|line| text.extend([&line, "\n"]));
        text.push_str("-----END PRIVATE KEY-----\n");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| RegistryError::File { what: what(), source })?;
        Self::read(path)
    }

    /// Reads a key that [`SecretKey::generate`] or `openssl genpkey -algorithm ed25519` wrote.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let failed = |source| RegistryError::File { what: format!("read the key {}", path.display()), source };
        let mut pem = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(SECRET_FILE_BYTES_MAX).read_to_end(&mut pem).map_err(failed)?;
        let wrong = |why| RegistryError::Key { what: format!("the key in {}", path.display()), why };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| wrong("it is not PEM with a PRIVATE KEY; make one with: outrigger plugin keygen FILE"))?;
        // OpenSSL's files do not hold the public half, which the other reader asks for.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(Self).map_err(|_| wrong("it is no ed25519 key"))
    }

    /// The half that others trust.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }
}

/// The signatures of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures(BTreeMap<String, String>);

impl Signatures {
    /// Where the signatures of a plugin are.
    pub(crate) fn tag(digest: &Digest) -> String {
        format!("sha256-{}.outrigger", digest.hexadecimal())
    }

    /// Reads what stands there: all of it, which the size of a manifest bounds, so that nobody's signature is hidden by those of others.
    pub(crate) fn read(what: &str, manifest: &[u8]) -> Result<Self, RegistryError> {
        let what = format!("the signatures of {what}");
        let annotations = parse(&what, manifest)?.annotations;
        let signatures = annotations.into_iter().filter(|(name, _)| name.starts_with(ANNOTATION));
        Ok(Self(signatures.collect()))
    }

    /// Adds one, in place of an older one of the same key.
    pub fn sign(&mut self, digest: &Digest, key: &SecretKey) -> Result<(), RegistryError> {
        let signature = BASE64.encode(key.0.sign(message(digest).as_bytes()));
        *self = self.clone().with(&Self([(annotation(&key.public()), signature)].into()), digest)?;
        Ok(())
    }

    /// These and others, which replace older ones of the same keys. More than there may be are none at all.
    pub(crate) fn with(mut self, others: &Self, digest: &Digest) -> Result<Self, RegistryError> {
        let (before, digest) = (self.len(), digest.clone());
        self.0.extend(others.0.clone());
        match self.len() {
            count if count > SIGNATURES_MAX && count > before => Err(RegistryError::Signatures { digest, count }),
            _ => Ok(self),
        }
    }

    /// Which of these keys signed the plugin.
    #[must_use]
    pub fn signers(&self, digest: &Digest, trusted: &[PublicKey]) -> Vec<PublicKey> {
        let message = message(digest);
        let is_signed = |key: &&PublicKey| {
            let signature = self.0.get(&annotation(key)).and_then(|it| BASE64.decode(it).ok());
            let public = UnparsedPublicKey::new(&ED25519, key.0);
            signature.is_some_and(|signature| public.verify(message.as_bytes(), &signature).is_ok())
        };
        trusted.iter().filter(is_signed).cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody signed it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The manifest that holds them.
    pub(crate) fn manifest(&self, plugin: &[u8]) -> Bytes {
        let empty = Descriptor::of(EMPTY_TYPE, EMPTY);
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            config: empty.clone(),
            layers: vec![empty],
            subject: Some(Descriptor::of(MANIFEST_TYPE, plugin)),
            annotations: self.0.clone(),
        };
        crate::artifact::json(&manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_signed_this_digest_vouches_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SecretKey::generate(&folder.path().join("a.pem")).expect("a key");
        let other = SecretKey::generate(&folder.path().join("b.pem")).expect("a key");
        let (digest, wrong) = (Digest::of(b"one"), Digest::of(b"two"));
        let mut signatures = Signatures::default();
        assert_eq!(signatures.signers(&digest, &[key.public()]), []);
        signatures.sign(&digest, &key).expect("room");
        assert_eq!(signatures.signers(&digest, &[other.public(), key.public()]), [key.public()]);
        assert_eq!(signatures.signers(&wrong, &[key.public()]), []);
        assert_eq!(signatures.signers(&digest, &[other.public()]), []);
        signatures.sign(&digest, &other).expect("room");
        signatures.sign(&digest, &other).expect("room");
        assert_eq!(signatures.len(), 2);
        let again = Signatures::read("x", &signatures.manifest(b"one")).expect("as written");
        assert_eq!(again.signers(&digest, &[other.public(), key.public()]), [other.public(), key.public()]);
        // One that is broken, or is no signature at all, takes nothing from the others.
        let mut spoiled = again.clone();
        spoiled.0.insert(format!("{ANNOTATION}0"), "!".to_owned());
        assert_eq!(spoiled.signers(&digest, &[key.public()]), [key.public()]);
        spoiled.0.values_mut().for_each(|it| *it = BASE64.encode([7; 64]));
        assert_eq!(spoiled.signers(&digest, &[key.public(), other.public()]), []);
    }

    #[test]
    fn no_signature_is_put_where_it_would_be_lost_or_push_out_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = |number: usize| SecretKey::generate(&folder.path().join(number.to_string())).expect("a key");
        let keys: Vec<SecretKey> = (0..=SIGNATURES_MAX).map(key).collect();
        let (digest, mut signatures) = (Digest::of(b"one"), Signatures::default());
        keys[..SIGNATURES_MAX].iter().for_each(|key| signatures.sign(&digest, key).expect("room"));
        let full = signatures.clone();
        let refused = signatures.sign(&digest, &keys[SIGNATURES_MAX]).expect_err("one too many").to_string();
        assert!(refused.contains("17 signatures") && refused.contains("16 are the most"), "{refused}");
        signatures.sign(&digest, &keys[0]).expect("in place of its own");
        assert_eq!(signatures, full, "and nothing was lost");
        // Whoever may write there cannot hide a signature behind others.
        let flood = (0..100).map(|number| (format!("{ANNOTATION}{number:032x}"), "x".to_owned())).collect();
        let flooded = Signatures(flood).with(&Signatures::default(), &digest).expect("nothing is added");
        let mut both = flooded.clone();
        both.0.extend(full.0.clone());
        let read = Signatures::read("x", &both.manifest(b"one")).expect("as written");
        assert_eq!(read.signers(&digest, &[keys[3].public()]), [keys[3].public()]);
        assert!(flooded.with(&full, &digest).is_err());
    }

    #[test]
    fn a_key_is_written_once_for_its_owner_alone_and_read_from_what_openssl_writes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem");
        let key = SecretKey::generate(&path).expect("a key");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(SecretKey::generate(&path).is_err(), "a key is never overwritten");
        assert_eq!(SecretKey::read(&path).expect("the key").public(), key.public());
        assert_eq!(key.public().to_string().parse::<PublicKey>().expect("a key"), key.public());
        // The secret of RFC 8032, test 1, as `openssl pkcs8` writes it.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        fs::write(&path, pem).expect("written");
        let public = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        assert_eq!(SecretKey::read(&path).expect("a key").public().to_string(), public);
        for wrong in ["", "ed25519:", "ed25519:AAAA", "ssh-ed25519 AAAA", &public[..40]] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
        fs::write(&path, "hello").expect("written");
        assert!(SecretKey::read(&path).is_err());
    }
}
