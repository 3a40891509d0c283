//! Where a missing file may come from without a network: another revision of the same model, or the cache that `hf` keeps
//! for everybody.
//!
//! A file of another revision is hard-linked: it is the same file on the same disk, and it was verified as it is now. A
//! file of the shared cache is copied and hashed on the way: that cache is somebody else's, who may delete from it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::OpenOptions;
use hf_hub::{Cache, Repo, RepoType};
use hub::Sha256;
use model::{RepositoryPath, Revision};

use crate::examine::Item;
use crate::layout::{Folder, Found, Layout, Place, Stamp, nonce, open_regular};
use crate::limits::{HASH_BUFFER_BYTES, WALK_ENTRIES_MAX};
use crate::manifest::Manifest;
use crate::transfer;
use crate::verify::{Hasher, Stop};
use crate::{Progress, StoreError};

const STAGED: &str = "staged";

/// Where a file of the right content lies.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In another place of this store, verified.
    Sibling { place: Place, path: RepositoryPath, sha256: Sha256, stamp: Stamp },
    /// In the shared cache, by its name.
    SharedCache(PathBuf),
}

/// A file that is complete, verified and flushed, and only lacks its name.
#[derive(Debug)]
pub(crate) enum Ready {
    Fetched(transfer::Staged),
    Copied { folder: Folder, name: String, sha256: Sha256, stamp: Stamp },
}

impl Ready {
    pub(crate) fn sha256(&self) -> Sha256 {
        match self {
            Self::Fetched(staged) => staged.sha256,
            Self::Copied { sha256, .. } => *sha256,
        }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        match self {
            Self::Fetched(staged) => staged.stamp,
            Self::Copied { stamp, .. } => *stamp,
        }
    }
}

/// Looks for the content of a missing file on this machine.
pub(crate) fn look_for(layout: &Layout, place: &Place, item: &Item, hf_cache: Option<&Path>) -> Option<Source> {
    sibling(layout, place, item).or_else(|| shared_cache(place, item, hf_cache?))
}

fn sibling(layout: &Layout, place: &Place, item: &Item) -> Option<Source> {
    let folder = layout.root().ok()?.step(place.repository.org(), false).ok()??;
    let folder = folder.step(place.repository.model(), false).ok()??;
    let revisions = folder.entries(WALK_ENTRIES_MAX).ok()?;
    revisions.iter().filter_map(|(name, _)| Revision::parse(name).ok()).find_map(|revision| {
        let other = layout.existing(&place.repository, &revision).ok()??;
        let manifest = Manifest::read(&other)?;
        manifest.files.iter().find_map(|(path, record)| {
            // A link is not linked to: the file behind it is not of this store.
            let Ok(Found::File(stamp)) = other.look(path) else { return None };
            let is_it = record.content == item.content && manifest.covers(path, stamp).is_some();
            is_it.then(|| Source::Sibling { place: other.clone(), path: path.clone(), sha256: record.sha256, stamp })
        })
    })
}

fn shared_cache(place: &Place, item: &Item, cache: &Path) -> Option<Source> {
    let repo = Repo::new(place.repository.to_string(), RepoType::Model);
    // `models--org--model/snapshots/x`; the blobs lie beside the snapshots, named by their ETags.
    let snapshot = Cache::new(cache.to_owned()).repo(repo).pointer_path("x");
    let blob = snapshot.parent()?.parent()?.join("blobs").join(item.content.to_string());
    let metadata = std::fs::metadata(&blob).ok()?;
    (metadata.is_file() && metadata.len() == item.size).then_some(Source::SharedCache(blob))
}

/// Removes what a pull that was killed had linked or copied and not put in place. Only under an exclusive lock.
pub(crate) fn sweep(place: &Place) {
    let Ok(Some(folder)) = place.ours().map(|ours| ours.and_then(|ours| ours.step(STAGED, false).ok().flatten()))
    else {
        return;
    };
    for (name, _) in folder.entries(WALK_ENTRIES_MAX).unwrap_or_default() {
        // What stays is found by the next pull, or by `prune`.
        let _ = folder.dir.remove_file(name);
    }
}

/// Makes a missing file of what was found; nothing if it turned out not to be what it seemed.
pub(crate) fn take(
    place: &Place,
    item: &Item,
    source: &Source,
    progress: &Progress,
    stop: &Stop,
) -> Result<Option<Ready>, StoreError> {
    let folder = place.ours_created(STAGED)?;
    let name = format!("{}.{}", item.content, nonce());
    match source {
        Source::Sibling { place: other, path, sha256, stamp } => {
            let folders = path.folder().split('/').filter(|it| !it.is_empty());
            let Ok(Some(from)) = other.below(folders, false) else { return Ok(None) };
            if from.dir.hard_link(path.file_name(), &folder.dir, &name).is_ok() {
                progress.copied(item.size);
                tracing::info!(file = %item.path, from = %other.absolute(path).display(), "the same file is in another revision");
                return Ok(Some(Ready::Copied { folder, name, sha256: *sha256, stamp: *stamp }));
            }
            // A file system without hard links, or two of them.
            copy(&other.absolute(path), item, folder, name, progress, stop)
        }
        Source::SharedCache(blob) => copy(blob, item, folder, name, progress, stop),
    }
}

/// Copies a file, and hashes what is written.
fn copy(
    from: &Path,
    item: &Item,
    folder: Folder,
    name: String,
    progress: &Progress,
    stop: &Stop,
) -> Result<Option<Ready>, StoreError> {
    let Ok(source) = open_regular(from) else { return Ok(None) };
    let to = folder.path.join(&name);
    let target = folder.dir.open_with(&name, OpenOptions::new().write(true).create_new(true));
    let target = target.map_err(|source| StoreError::io("create", &to, source))?.into_std();
    let copied = copy_hashed(&source, &target, item, progress, stop);
    let (sha256, stamp) = match copied {
        Ok(Some(copied)) => copied,
        other => {
            progress.discarded(item.size);
            let _ = folder.dir.remove_file(&name);
            let failed = other.map_err(|error| write_error(&folder.path, &to, item.size, error));
            if matches!(failed, Ok(None)) {
                tracing::warn!(path = %from.display(), "the file in the cache of `hf` is not what its name says; it is fetched");
            }
            return failed.map(|_| None);
        }
    };
    tracing::info!(file = %item.path, from = %from.display(), "copied from the cache of this machine");
    Ok(Some(Ready::Copied { folder, name, sha256, stamp }))
}

fn copy_hashed(
    mut source: &File,
    mut target: &File,
    item: &Item,
    progress: &Progress,
    stop: &Stop,
) -> std::io::Result<Option<(Sha256, Stamp)>> {
    let mut hasher = Hasher::new(item.size, item.content);
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut left = item.size;
    while left > 0 {
        if stop.is_set() {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match source.read(&mut buffer[..most]) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // Whatever is wrong with somebody's cache, the hub has the file.
            Err(error) => {
                tracing::warn!(%error, "cannot read the file that was to be copied");
                return Ok(None);
            }
        };
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
        progress.copied(count as u64);
        left -= count as u64;
    }
    let digests = hasher.finish();
    if !digests.is(item.content) {
        return Ok(None);
    }
    target.sync_all()?;
    Ok(Some((digests.sha256, Stamp::of(&target.metadata()?))))
}

/// A write that failed: a full disk names what is left and what is missing.
fn write_error(directory: &Path, path: &Path, remaining_bytes: u64, source: std::io::Error) -> StoreError {
    match source.kind() {
        std::io::ErrorKind::StorageFull => StoreError::full(directory, remaining_bytes, source),
        std::io::ErrorKind::Interrupted => StoreError::Stopped,
        _ => StoreError::io("write", path, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examine::State;
    use crate::verify::Content;

    #[test]
    fn a_cache_that_cannot_be_read_is_no_source_and_no_error() {
        let (path, content) = (RepositoryPath::parse("a.gguf").expect("a path"), Content::Sha256(Sha256([0; 32])));
        let item = Item { path, size: 9, content, state: State::Absent };
        let folder = tempfile::tempdir().expect("a folder");
        // Opened for writing only: as good as a disk that cannot read it.
        let unreadable = File::create(folder.path().join("blob")).expect("a file");
        let target = tempfile::tempfile().expect("a file");
        let copied = copy_hashed(&unreadable, &target, &item, &Progress::default(), &Stop::default());
        assert!(matches!(copied, Ok(None)), "{copied:?}");
    }
}
