//! An OCI image layout: an artifact as a folder, as `oras`, `skopeo` and `regctl` read and write it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Descriptor, File, MANIFEST_TYPE, Plan, TITLE, json, parse};
use crate::client::{Pulled, Trust};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::folder::Staged;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::signature::{EMPTY, Signatures};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MARK: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const NAME: &str = "org.opencontainers.image.ref.name";
/// What a layout consists of.
const PARTS: [&str; 3] = ["oci-layout", "index.json", "blobs"];

/// An artifact and its signatures, as a folder holds them.
#[derive(Debug)]
pub struct Layout {
    /// The plugin.
    pub artifact: Artifact,
    /// Who signed it.
    pub signatures: Signatures,
    /// What the plugin's manifest is called in the folder: its version.
    pub version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Whether a folder is one.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.join("oci-layout").is_file()
    }

    /// Writes it, in place of an older one of the same plugin. Anything else that is there is left alone.
    pub fn write(&self, path: &Path) -> Result<(), RegistryError> {
        let failed = |source| RegistryError::File { what: format!("write {}", path.display()), source };
        if path.exists() && !self.is_alone_at(path) {
            return Err(failed(io::Error::other(
                "it is there, and it is not an OCI image layout of this plugin and nothing else; name another folder, or remove it",
            )));
        }
        let plugin = Descriptor::of(MANIFEST_TYPE, &self.artifact.manifest).annotated(NAME, &self.version);
        let mut blobs = self.artifact.blobs.clone();
        let mut manifests = vec![plugin];
        blobs.push((self.artifact.digest.clone(), self.artifact.manifest.clone()));
        if !self.signatures.is_empty() {
            let manifest = self.signatures.manifest(&self.artifact.manifest);
            let tag = Signatures::tag(&self.artifact.digest);
            manifests.push(Descriptor::of(MANIFEST_TYPE, &manifest).annotated(NAME, &tag));
            blobs.extend([(Digest::of(EMPTY), EMPTY.into()), (Digest::of(&manifest), manifest)]);
        }
        let index = json(&Index { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests });
        let mut files = vec![file("oci-layout", Bytes::from_static(MARK)), file("index.json", index)];
        files.extend(blobs.into_iter().map(|(digest, bytes)| file(&blob_path(&digest), bytes)));
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let staged = Staged::new(parent)?;
        staged.write(&files)?;
        staged.publish(path)
    }

    /// Reads one, and believes only what its digests say.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let what = path.display().to_string();
        let refused = |why: &str| RegistryError::Artifact { what: what.clone(), why: why.to_owned() };
        let index = read_file(&path.join("index.json"), MANIFEST_BYTES_MAX as u64)?;
        let index: Index = serde_json::from_slice(&index).map_err(|_| refused("its index.json is none"))?;
        let plugin = index.plugin().ok_or_else(|| refused("it holds no plugin, or more than one"))?;
        let manifest = blob(path, plugin, MANIFEST_BYTES_MAX as u64)?;
        let plan = Plan::read(&what, &manifest)?;
        let blobs = plan.blobs.iter().map(|it| Ok((it.digest.clone(), blob(path, it, it.size)?)));
        let blobs = blobs.collect::<Result<_, RegistryError>>()?;
        let tag = Signatures::tag(&plugin.digest);
        let signatures = match index.manifests.iter().find(|it| named(it) == tag) {
            Some(found) => Signatures::read(&what, &blob(path, found, MANIFEST_BYTES_MAX as u64)?)?,
            None => Signatures::default(),
        };
        let artifact = Artifact { digest: plugin.digest.clone(), manifest, blobs };
        Ok(Self { artifact, signatures, version: named(plugin).to_owned() })
    }

    /// Whether a folder holds a layout of this plugin, of whatever version, and nothing else.
    fn is_alone_at(&self, path: &Path) -> bool {
        let title = |manifest: &[u8]| parse("", manifest).ok()?.annotations.remove(TITLE);
        let there = || {
            let index = read_file(&path.join("index.json"), MANIFEST_BYTES_MAX as u64).ok()?;
            let index: Index = serde_json::from_slice(&index).ok()?;
            let plugin = index.plugin()?;
            let tag = Signatures::tag(&plugin.digest);
            let is_alone = index.manifests.iter().all(|it| it.digest == plugin.digest || named(it) == tag);
            let names = fs::read_dir(path).ok()?.map(|entry| Some(entry.ok()?.file_name()));
            let is_all = names.into_iter().all(|name| name.is_some_and(|name| PARTS.iter().any(|part| name == *part)));
            title(&blob(path, plugin, MANIFEST_BYTES_MAX as u64).ok()?).filter(|_| is_alone && is_all)
        };
        Self::is_at(path) && there().is_some_and(|there| title(&self.artifact.manifest) == Some(there))
    }

    /// The plugin's files, if it may be taken.
    pub fn pull(self, path: &Path, trust: &Trust) -> Result<Pulled, RegistryError> {
        let (what, digest) = (path.display().to_string(), self.artifact.digest);
        // Nobody but this machine's people put it here, as they could have put the plugin's own folder: without keys it is taken.
        let signers = trust.check(&what, true, &digest, &self.signatures)?;
        let paths = Plan::read(&what, &self.artifact.manifest)?.files.into_iter().map(|(path, _)| path);
        // The first is the configuration.
        let files = paths.zip(self.artifact.blobs.into_iter().skip(1)).map(|(path, (_, bytes))| File { path, bytes });
        Ok(Pulled { digest, files: files.collect(), signers })
    }
}

impl Index {
    /// The plugin of a layout that holds one.
    fn plugin(&self) -> Option<&Descriptor> {
        let mut plugins = self.manifests.iter().filter(|it| !named(it).ends_with(".outrigger"));
        plugins.next().filter(|_| plugins.next().is_none())
    }
}

fn named(descriptor: &Descriptor) -> &str {
    descriptor.annotations.get(NAME).map_or("", String::as_str)
}

fn file(path: &str, bytes: Bytes) -> File {
    File { path: path.to_owned(), bytes }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hexadecimal())
}

fn blob(layout: &Path, wanted: &Descriptor, limit: u64) -> Result<Bytes, RegistryError> {
    let path = layout.join(blob_path(&wanted.digest));
    let bytes = read_file(&path, limit)?;
    let actual = Digest::of(&bytes);
    if actual != wanted.digest {
        return Err(RegistryError::Digest {
            what: path.display().to_string(),
            expected: wanted.digest.clone(),
            actual,
        });
    }
    Ok(bytes)
}

fn read_file(path: &PathBuf, limit: u64) -> Result<Bytes, RegistryError> {
    let failed = |source| RegistryError::File { what: format!("read {}", path.display()), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    let size = bytes.len() as u64;
    if size > limit {
        return Err(RegistryError::TooLarge { what: path.display().to_string(), size, limit });
    }
    Ok(bytes.into())
}
