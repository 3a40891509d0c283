//! A plugin as it lies on disk: a component, and the manifest beside it.
//!
//! `redact.wasm` has its manifest in `redact.plugin.toml`; a folder has `plugin.toml`, which names the component. Files may
//! change at any moment, and a path may name anything: nothing is read without a bound, and only regular files.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::limits::{CONFIG_SCHEMA_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::manifest::{Manifest, ManifestError};

/// What was read.
#[derive(Debug, Clone)]
pub struct Package {
    /// The component's path, or `bundled`.
    pub source: String,
    /// The component, or, of one that is too large, its beginning.
    pub component: Arc<[u8]>,
    /// Bytes of all of it.
    pub component_bytes: usize,
    /// The manifest, where there is one.
    pub manifest: Option<Arc<Manifest>>,
    /// Every file that this was read from, and every one that would have been read had it been there, as they were just before.
    pub files: Vec<FileStamp>,
}

/// A file at a moment, to tell whether it is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    /// The file.
    pub path: PathBuf,
    /// Last change, size and inode; `None`: it was not there.
    seen: Option<(SystemTime, u64, u64)>,
}

impl FileStamp {
    /// The file as it is now. Links are followed.
    #[must_use]
    pub fn of(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let metadata = std::fs::metadata(&path).ok();
        let seen = metadata.and_then(|it| Some((it.modified().ok()?, it.len(), it.ino())));
        Self { path, seen }
    }

    /// Whether the file was written, replaced, removed or made since.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        Self::of(&self.path) != *self
    }
}

/// Why a plugin could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder without a manifest.
    #[error(
        "{} is a folder without a `plugin.toml`; name the component's file, or write one with `component = \"FILE.wasm\"`",
        folder.display()
    )]
    NoManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// A manifest that does not say which file is the component.
    #[error("{} does not name the component; write `component = \"FILE.wasm\"` under [plugin]", manifest.display())]
    NoComponent {
        /// The manifest.
        manifest: PathBuf,
    },
    /// A manifest that cannot be used.
    #[error("the manifest {origin} cannot be used")]
    Manifest {
        /// Where it is.
        origin: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

impl Package {
    /// Reads the plugin at `path`, a component's file or a folder, of which at most a byte more than
    /// `component_bytes_max` is read: whoever judges the size sees that it is too large.
    pub fn read(path: &Path, component_bytes_max: usize) -> Result<Self, PackageError> {
        Self::read_watched(path, component_bytes_max, &mut Vec::new())
    }

    /// Reads it too, and puts each file into `watched` before it is looked at: also where that fails, a change of any of them is a
    /// reason to try again.
    pub fn read_watched(
        path: &Path,
        component_bytes_max: usize,
        watched: &mut Vec<FileStamp>,
    ) -> Result<Self, PackageError> {
        let is_folder = path.is_dir();
        let manifest_path = Self::manifest_path(path);
        // A folder is another one with every file that is written to it.
        let own = (!is_folder).then(|| FileStamp::of(path));
        watched.extend(own.iter().cloned());
        let begun = watched.len();
        let manifest = read_manifest(&manifest_path, watched)?;
        let component = if let Some(own) = own {
            own
        } else {
            let manifest = manifest.as_ref().ok_or_else(|| PackageError::NoManifest { folder: path.to_owned() })?;
            let Some(name) = &manifest.about.component else {
                return Err(PackageError::NoComponent { manifest: manifest_path });
            };
            let path = beside(&manifest_path, name).map_err(|reason| PackageError::Manifest {
                origin: manifest.origin.clone(),
                source: ManifestError::value("plugin.component", reason),
            })?;
            FileStamp::of(path)
        };
        let path = component.path.clone();
        let files = std::iter::once(component.clone()).chain(watched[begun..].iter().cloned()).collect();
        watched.extend(Some(component).filter(|_| is_folder));
        let source = path.display().to_string();
        let component = read_file(&path, component_bytes_max.saturating_add(1))
            .map_err(|source| PackageError::Read { path: path.clone(), source })?;
        let whole = path.metadata().map_or(0, |metadata| metadata.len());
        let component_bytes = component.len().max(usize::try_from(whole).unwrap_or(usize::MAX));
        Ok(Self { source, component: component.into(), component_bytes, manifest: manifest.map(Arc::new), files })
    }

    /// Reads a manifest alone, where there is one.
    pub fn manifest(path: &Path) -> Result<Option<Manifest>, PackageError> {
        read_manifest(path, &mut Vec::new())
    }

    /// Where the manifest of the plugin at `path` is, if it has one.
    #[must_use]
    pub fn manifest_path(path: &Path) -> PathBuf {
        if path.is_dir() { path.join("plugin.toml") } else { path.with_extension("plugin.toml") }
    }

    /// A plugin that travels in the binary; its schema stands in its manifest.
    pub fn bundled(component: &'static [u8], manifest: Option<&str>) -> Result<Self, PackageError> {
        let no_file =
            |_: &str| Err("names a file, and a bundled plugin has none; write the schema into the manifest".to_owned());
        let parse = |text: &str| {
            let origin = "bundled".to_owned();
            Manifest::parse(&origin, text, no_file).map_err(|source| PackageError::Manifest { origin, source })
        };
        let manifest = manifest.map(parse).transpose()?.map(Arc::new);
        let (source, component_bytes) = ("bundled".to_owned(), component.len());
        Ok(Self { source, component: component.into(), component_bytes, manifest, files: Vec::new() })
    }
}

fn read_manifest(path: &Path, watched: &mut Vec<FileStamp>) -> Result<Option<Manifest>, PackageError> {
    watched.push(FileStamp::of(path));
    let text = match read_text(path, MANIFEST_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PackageError::Read { path: path.to_owned(), source }),
    };
    let origin = path.display().to_string();
    let read_schema = |name: &str| {
        let schema = beside(path, name)?;
        watched.push(FileStamp::of(&schema));
        read_text(&schema, CONFIG_SCHEMA_BYTES_MAX)
            .map_err(|error| format!("names `{name}`, which cannot be read: {error}"))
    };
    match Manifest::parse(&origin, &text, read_schema) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(source) => Err(PackageError::Manifest { origin, source }),
    }
}

/// A file that a manifest names: in its folder or below, wherever else the author would like to point.
fn beside(manifest: &Path, name: &str) -> Result<PathBuf, String> {
    let named = Path::new(name);
    if named.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(manifest.with_file_name(named));
    }
    Err(format!("names `{name}`; only a file in the manifest's folder or below can be named"))
}

fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    // One byte more, so that what is too long is seen to be.
    let bytes = read_file(path, bytes_max + 1)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

fn read_file(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
