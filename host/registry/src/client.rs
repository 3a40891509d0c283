//! The story of a push and of a pull.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderValue, Method, StatusCode};
use hub::Endpoint;
use hub::outbound::Outbound;

use crate::artifact::{Artifact, Descriptor, File, MANIFEST_TYPE, Plan};
use crate::conversation::{Asked, Conversation, Scope, Version};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::limits::{CONNECT_TIMEOUT, MANIFEST_BYTES_MAX, SIGNING_ATTEMPTS_MAX, SIGNING_PAUSE};
use crate::login::Login;
use crate::reference::Reference;
use crate::signature::{EMPTY, PublicKey, Signatures};

const BLOB_TYPE: &str = "application/octet-stream";

/// Whose plugins are taken.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The keys of which one must have signed. Empty: a digest must say which plugin is meant.
    pub keys: Vec<PublicKey>,
    /// Take what nobody signed and no digest pins. Where there are keys, they are asked all the same.
    pub allow_unsigned: bool,
}

/// A plugin whose bytes are those that its digest names.
#[derive(Debug)]
pub struct Pulled {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its files, the component first.
    pub files: Vec<File>,
    /// Who signed it, of those who are trusted.
    pub signers: Vec<PublicKey>,
}

impl Trust {
    /// Whether a plugin may be taken, before anything of it is fetched; and who says so.
    pub(crate) fn check(
        &self,
        what: &str,
        is_pinned: bool,
        digest: &Digest,
        signatures: &Signatures,
    ) -> Result<Vec<PublicKey>, RegistryError> {
        let what = || what.to_owned();
        let signers = signatures.signers(digest, &self.keys);
        if !signers.is_empty() {
            return Ok(signers);
        }
        let digest = digest.clone();
        match (self.keys.is_empty(), signatures.len()) {
            (true, _) if is_pinned || self.allow_unsigned => Ok(Vec::new()),
            (true, _) => Err(RegistryError::Unpinned { what: what(), pinned: format!("{}@{digest}", what()) }),
            (false, 0) => Err(RegistryError::Unsigned { what: what(), digest }),
            (false, count) => Err(RegistryError::Untrusted { what: what(), digest, count }),
        }
    }
}

/// A client of registries.
pub struct Registries {
    outbound: Outbound,
    login: Option<Login>,
    token_server: Option<Endpoint>,
}

impl Registries {
    /// A client; nothing is asked of anybody yet. The login goes to the registry that a reference names, and to `token_server`
    /// when that registry says so.
    pub fn new(
        ca_files: &[PathBuf],
        login: Option<Login>,
        token_server: Option<Endpoint>,
    ) -> Result<Self, RegistryError> {
        let outbound = Outbound::new(ca_files.iter().map(AsRef::as_ref), CONNECT_TIMEOUT)?;
        Ok(Self { outbound, login, token_server })
    }

    /// Fetches a plugin: its manifest, who signed it, and only then its files.
    pub async fn pull(&self, reference: &Reference, trust: &Trust) -> Result<Pulled, RegistryError> {
        let name = reference.to_string();
        let mut repository = self.repository(reference, Scope::Pull);
        let manifest = repository.manifest(&name, &place(reference)).await?;
        let digest = Digest::of(&manifest);
        if let Some(expected) = reference.digest.as_ref().filter(|expected| **expected != digest) {
            return Err(RegistryError::Digest { what: name, expected: expected.clone(), actual: digest });
        }
        let plan = Plan::read(&name, &manifest)?;
        // Where nobody is trusted, nobody's word is asked for.
        let signatures = match trust.keys.as_slice() {
            [] => Signatures::default(),
            _ => repository.signatures(&name, &digest).await?.0,
        };
        let signers = trust.check(&name, reference.digest.is_some(), &digest, &signatures)?;
        let mut files = Vec::new();
        for (path, layer) in plan.files {
            let bytes = repository.blob(&format!("{path} of {name}"), &layer).await?;
            files.push(File { path, bytes });
        }
        Ok(Pulled { digest, files, signers })
    }

    /// Sends a plugin, and what signatures it has: its content first, so that nobody ever finds half of it. Signatures that others
    /// put there stay; how many there are then is the result.
    pub async fn push(
        &self,
        reference: &Reference,
        artifact: &Artifact,
        signatures: &Signatures,
    ) -> Result<usize, RegistryError> {
        let name = reference.to_string();
        if let Some(expected) = reference.digest.as_ref().filter(|expected| **expected != artifact.digest) {
            let actual = artifact.digest.clone();
            return Err(RegistryError::Digest { what: name, expected: expected.clone(), actual });
        }
        let mut repository = self.repository(reference, Scope::Push);
        for (digest, bytes) in &artifact.blobs {
            repository.send_blob(&name, digest, bytes).await?;
        }
        let count = repository.sign(&name, artifact, signatures).await?;
        // A digest beside a tag says what is sent, and the tag what it is called.
        let place = reference.tag.clone().unwrap_or_else(|| artifact.digest.to_string());
        repository.send_manifest(&name, &place, &artifact.manifest, None).await?;
        Ok(count)
    }

    fn repository<'a>(&'a self, reference: &'a Reference, scope: Scope) -> Repository<'a> {
        let credentials = (self.login.as_ref(), self.token_server.as_ref());
        Repository(Conversation::new(&self.outbound, credentials, reference, scope))
    }
}

/// What a manifest is asked for by.
fn place(reference: &Reference) -> String {
    let digest = reference.digest.as_ref().map(ToString::to_string);
    digest.or_else(|| reference.tag.clone()).unwrap_or_default()
}

/// The few calls of the distribution specification that this takes.
struct Repository<'a>(Conversation<'a>);

impl Repository<'_> {
    async fn manifest(&mut self, what: &str, place: &str) -> Result<Bytes, RegistryError> {
        Ok(self.manifest_with_tag(what, place).await?.0)
    }

    /// A manifest, and the `ETag` that it came with.
    async fn manifest_with_tag(
        &mut self,
        what: &str,
        place: &str,
    ) -> Result<(Bytes, Option<HeaderValue>), RegistryError> {
        let what = format!("the manifest of {what}");
        let (method, url) = (Method::GET, self.0.url("manifests", place));
        let asked = Asked { what: &what, method, url, media_type: MANIFEST_TYPE, body: None, only_over: None };
        let answer = self.0.ask(&asked).await?;
        let tag = answer.response.headers().get(ETAG).cloned();
        match answer.response.status() {
            StatusCode::OK => Ok((answer.read(&what, MANIFEST_BYTES_MAX as u64).await?, tag)),
            _ => Err(answer.refusal(&what).await),
        }
    }

    /// The signatures of a plugin, and what a write of others is to find still; `None`: the registry does not say.
    async fn signatures(
        &mut self,
        what: &str,
        digest: &Digest,
    ) -> Result<(Signatures, Option<Version>), RegistryError> {
        match self.manifest_with_tag(&format!("the signatures of {what}"), &Signatures::tag(digest)).await {
            Ok((manifest, tag)) => Ok((Signatures::read(what, &manifest)?, tag.map(Version::Tagged))),
            Err(RegistryError::Refused { status: 404, .. }) => Ok((Signatures::default(), Some(Version::Nothing))),
            Err(error) => Err(error),
        }
    }

    /// Puts signatures beside those that are there; how many there are then. Whoever signs at the same time reads what we read
    /// and writes over what we write. A registry that heeds `If-Match` refuses the one who comes second; with others it is
    /// looked a moment later whether ours are still there.
    async fn sign(&mut self, name: &str, artifact: &Artifact, signatures: &Signatures) -> Result<usize, RegistryError> {
        let digest = &artifact.digest;
        for attempt in 0..=SIGNING_ATTEMPTS_MAX {
            let (there, version) = self.signatures(name, digest).await?;
            let all = there.clone().with(signatures, digest)?;
            if all == there {
                return Ok(all.len());
            }
            match attempt {
                0 => {
                    self.send_blob(name, &Digest::of(EMPTY), &Bytes::from_static(EMPTY)).await?;
                    // By digest first: where it has a name, it has its signatures.
                    self.send_manifest(name, &digest.to_string(), &artifact.manifest, None).await?;
                }
                SIGNING_ATTEMPTS_MAX => break,
                _ => {}
            }
            let manifest = all.manifest(&artifact.manifest);
            match self.send_manifest(name, &Signatures::tag(digest), &manifest, version).await {
                Ok(()) | Err(RegistryError::Refused { status: 412, .. }) => tokio::time::sleep(pause()).await,
                Err(error) => return Err(error),
            }
        }
        Err(RegistryError::Contended { what: name.to_owned(), attempts: SIGNING_ATTEMPTS_MAX })
    }

    /// Content of which length and digest are known.
    async fn blob(&mut self, what: &str, wanted: &Descriptor) -> Result<Bytes, RegistryError> {
        let (method, url) = (Method::GET, self.0.url("blobs", &wanted.digest.to_string()));
        let answer =
            self.0.ask(&Asked { what, method, url, media_type: BLOB_TYPE, body: None, only_over: None }).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(answer.refusal(what).await);
        }
        let bytes = answer.read(what, wanted.size).await?;
        let actual = Digest::of(&bytes);
        if actual != wanted.digest {
            return Err(RegistryError::Digest { what: what.to_owned(), expected: wanted.digest.clone(), actual });
        }
        Ok(bytes)
    }

    async fn send_blob(&mut self, what: &str, digest: &Digest, bytes: &Bytes) -> Result<(), RegistryError> {
        let what = &format!("content of {what}");
        let (method, url) = (Method::HEAD, self.0.url("blobs", &digest.to_string()));
        let answer =
            self.0.ask(&Asked { what, method, url, media_type: BLOB_TYPE, body: None, only_over: None }).await?;
        if answer.response.status() == StatusCode::OK {
            return Ok(());
        }
        // Ends in a slash, which is a part of its name.
        let (method, url) = (Method::POST, self.0.url("blobs", "uploads/"));
        let begun = self
            .0
            .ask(&Asked { what, method, url, media_type: BLOB_TYPE, body: Some(Bytes::new()), only_over: None })
            .await?;
        if begun.response.status() != StatusCode::ACCEPTED {
            return Err(begun.refusal(what).await);
        }
        let mut url = self.0.location(what, &begun.url, begun.response.headers()).await?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let (method, body) = (Method::PUT, Some(bytes.clone()));
        let answer = self.0.ask(&Asked { what, method, url, media_type: BLOB_TYPE, body, only_over: None }).await?;
        match answer.response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(answer.refusal(what).await),
        }
    }

    async fn send_manifest(
        &mut self,
        what: &str,
        place: &str,
        manifest: &Bytes,
        only_over: Option<Version>,
    ) -> Result<(), RegistryError> {
        let what = &format!("the manifest of {what}");
        let (method, url) = (Method::PUT, self.0.url("manifests", place));
        let asked = Asked { what, method, url, media_type: MANIFEST_TYPE, body: Some(manifest.clone()), only_over };
        let answer = self.0.ask(&asked).await?;
        match answer.response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(answer.refusal(what).await),
        }
    }
}

/// Not the same for two who write at the same moment, or they would for ever.
fn pause() -> Duration {
    let chance = RandomState::new().build_hasher().finish();
    SIGNING_PAUSE.mul_f64(1.0 + (chance % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SecretKey;

    #[test]
    fn a_plugin_is_taken_on_the_word_of_a_key_or_else_of_a_digest() {
        let folder = tempfile::tempdir().expect("a folder");
        let [key, other] = ["a", "b"].map(|name| SecretKey::generate(&folder.path().join(name)).expect("a key"));
        let digest = Digest::of(b"plugin");
        let mut signed = Signatures::default();
        signed.sign(&digest, &key).expect("room");
        let unsigned = Signatures::default();
        let check = |keys: &[&SecretKey], allow_unsigned, is_pinned, signatures: &Signatures| {
            let trust = Trust { keys: keys.iter().map(|key| key.public()).collect(), allow_unsigned };
            trust.check("x", is_pinned, &digest, signatures)
        };
        assert_eq!(check(&[&other, &key], false, false, &signed).expect("taken"), [key.public()]);
        for pinned in [false, true] {
            // Where there are keys, neither a digest nor the flag stands for them.
            assert!(matches!(check(&[&key], true, pinned, &unsigned), Err(RegistryError::Unsigned { .. })));
            assert!(matches!(check(&[&other], true, pinned, &signed), Err(RegistryError::Untrusted { count: 1, .. })));
        }
        assert!(matches!(check(&[], false, false, &signed), Err(RegistryError::Unpinned { .. })));
        assert_eq!(check(&[], false, true, &unsigned).expect("taken"), []);
        assert_eq!(check(&[], true, false, &unsigned).expect("taken"), []);
    }
}
