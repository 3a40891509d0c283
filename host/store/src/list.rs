//! What the store holds: every revision directory, how large it is, and what is wrong with it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::{Commit, RepositoryId, RepositoryPath, Revision};

use crate::knowledge::{Knowledge, models_here};
use crate::layout::{Found, Layout, Place, TRASH};
use crate::limits::{WALK_DEPTH_MAX, WALK_ENTRIES_MAX};
use crate::manifest::Manifest;
use crate::{StoreError, lock};

/// A revision directory.
#[derive(Debug, Clone)]
pub struct StoredRevision {
    /// Whose it is.
    pub repository: RepositoryId,
    /// As of when.
    pub revision: Revision,
    /// Where.
    pub directory: PathBuf,
    /// The commit that it holds, where it is known.
    pub commit: Option<Commit>,
    /// Bytes of all its files, records and unfinished downloads included.
    pub size_bytes: u64,
    /// Of those, what a revision listed earlier holds as well: one file on the disk, with a name in each.
    pub shared_bytes: u64,
    /// When its files were hashed, in seconds since 1970: the one that was longest ago. `None` while one was not.
    pub verified_at: Option<u64>,
    /// A process has loaded it, or is about to.
    pub is_in_use: bool,
    /// When that was last so.
    pub last_used: Option<SystemTime>,
    /// The models' files.
    pub files: Vec<StoredFile>,
}

/// A model's file in a revision directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Which.
    pub path: RepositoryPath,
    /// Bytes.
    pub size_bytes: u64,
    /// What is known of it without reading it.
    pub state: FileState,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It is the file that was verified.
    Verified,
    /// Nobody has verified it yet.
    Unverified,
    /// Something wrote to it since it was verified.
    Changed,
    /// It was found to be damaged.
    Damaged,
    /// It was verified, and is gone.
    Missing,
}

impl StoredRevision {
    /// The files that are not what they were.
    pub fn damage(&self) -> impl Iterator<Item = &StoredFile> {
        let is_wrong = |file: &&StoredFile| !matches!(file.state, FileState::Verified | FileState::Unverified);
        self.files.iter().filter(is_wrong)
    }
}

/// Every revision directory, by name.
pub(crate) fn list(layout: &Layout) -> Result<Vec<StoredRevision>, StoreError> {
    let mut counted = BTreeSet::new();
    let places = places(layout)?;
    Ok(places.iter().filter_map(|place| stored(place, &mut counted)).collect())
}

/// Every directory that a reference could mean. What is named otherwise is nobody's business here.
pub(crate) fn places(layout: &Layout) -> Result<Vec<Place>, StoreError> {
    let mut places = Vec::new();
    let root = layout.root()?;
    for (org, kind) in root.entries(WALK_ENTRIES_MAX)? {
        if !kind.is_dir() || org == TRASH {
            continue;
        }
        let Ok(Some(owner)) = root.step(&org, false) else { continue };
        for (model, _) in owner.entries(WALK_ENTRIES_MAX).unwrap_or_default() {
            let Ok(repository) = RepositoryId::new(&org, &model) else { continue };
            let Ok(Some(folder)) = owner.step(&model, false) else { continue };
            for (revision, _) in folder.entries(WALK_ENTRIES_MAX).unwrap_or_default() {
                let Some(revision) = Revision::parse(&revision).ok().filter(|it| it.as_str() == revision) else {
                    continue;
                };
                // A link is not ours, and a directory may go while we look.
                if let Ok(Some(place)) = layout.existing(&repository, &revision) {
                    places.push(place);
                }
            }
        }
    }
    Ok(places)
}

fn stored(place: &Place, counted: &mut BTreeSet<(u64, u64)>) -> Option<StoredRevision> {
    let knowledge = Knowledge::read(place);
    let files = files(place, &knowledge.manifest);
    let has_records = place.ours().is_ok_and(|ours| ours.is_some());
    if files.is_empty() && !has_records {
        return None;
    }
    let (size_bytes, shared_bytes) = size(&place.path, counted);
    let verified_at = files.iter().map(|file| match file.state {
        FileState::Verified => knowledge.manifest.files.get(&file.path).map(|record| record.verified_at),
        _ => None,
    });
    let verified_at = verified_at.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min());
    let (is_in_use, last_used) = lock::use_of(place);
    Some(StoredRevision {
        repository: place.repository.clone(),
        revision: place.revision.clone(),
        directory: place.path.clone(),
        commit: knowledge.commit,
        size_bytes,
        shared_bytes,
        verified_at,
        is_in_use,
        last_used,
        files,
    })
}

fn files(place: &Place, manifest: &Manifest) -> Vec<StoredFile> {
    let mut paths = models_here(&place.path);
    paths.extend(manifest.files.keys().cloned());
    let file = |path: RepositoryPath| {
        let record = manifest.files.get(&path);
        let found = place.look(&path).unwrap_or(Found::Nothing);
        let (size_bytes, state) = match (found.stamp(), record) {
            (Some(stamp), None) => (stamp.size, FileState::Unverified),
            (Some(stamp), Some(record)) if record.stamp != stamp => (stamp.size, FileState::Changed),
            (Some(stamp), Some(record)) if record.is_damaged => (stamp.size, FileState::Damaged),
            (Some(stamp), Some(_)) => (stamp.size, FileState::Verified),
            (None, _) => (0, FileState::Missing),
        };
        StoredFile { path, size_bytes, state }
    };
    paths.into_iter().map(file).collect()
}

/// Bytes of all files below a directory, each once however many names it has, and those of them counted before.
pub(crate) fn size(directory: &Path, counted: &mut BTreeSet<(u64, u64)>) -> (u64, u64) {
    let (mut size, mut shared) = (0_u64, 0_u64);
    let mut own = BTreeSet::new();
    let mut folders = vec![(directory.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && depth < WALK_DEPTH_MAX {
                folders.push((entry.path(), depth + 1));
            }
            let identity = (metadata.dev(), metadata.ino());
            if !metadata.is_file() || !own.insert(identity) {
                continue;
            }
            // A part file has its full length from the start, and holds only what has arrived.
            let bytes = metadata.len().min(metadata.blocks().saturating_mul(512));
            size = size.saturating_add(bytes);
            if !counted.insert(identity) {
                shared = shared.saturating_add(bytes);
            }
        }
    }
    (size, shared)
}
