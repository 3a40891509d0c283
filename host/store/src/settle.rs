//! The end of a pull: what was staged gets its names.
//!
//! First the record, then the names. A crash in between leaves files that the record does not cover: they are not taken
//! for the model, the next pull finds the staged ones complete, and goes on here. So files of two commits are never
//! taken for one model, however many shards it has and wherever the power failed.

use std::collections::BTreeMap;
use std::path::Path;

use model::RepositoryPath;

use crate::StoreError;
use crate::examine::{Item, State, pulled};
use crate::knowledge::Knowledge;
use crate::layout::{Folder, Found, Place};
use crate::lock::of_hf;
use crate::manifest::{Manifest, Record};
use crate::sidecars::{content_of, lock_path, read_metadata, write_metadata};
use crate::sources::Ready;

/// What failed verification and is nobody's to delete.
const REJECTED: &str = "rejected";

/// The record of a directory after a pull: all items at the commit that is known, and what else there was.
pub(crate) fn record(
    knowledge: &Knowledge,
    endpoint: Option<String>,
    resolved_at: Option<u64>,
    items: &[Item],
    ready: &BTreeMap<RepositoryPath, Ready>,
) -> Manifest {
    let mut manifest = knowledge.manifest.clone();
    manifest.endpoint = endpoint.or(manifest.endpoint);
    manifest.resolved_at = resolved_at.or(manifest.resolved_at);
    manifest.commit.clone_from(&knowledge.commit);
    // What nobody asked for this time stays what it is; where the commit did not change it, it is of this one too.
    for (path, record) in &mut manifest.files {
        let listed = knowledge.listing.as_ref().and_then(|listing| listing.files.get(path));
        if listed.is_some_and(|entry| content_of(entry) == record.content) {
            record.commit.clone_from(&knowledge.commit);
        }
    }
    for item in items {
        let record = match (&item.state, ready.get(&item.path)) {
            (State::Good(record), _) => record.clone(),
            (_, Some(ready)) => pulled(item, ready.sha256(), ready.stamp(), knowledge),
            _ => continue,
        };
        manifest.files.insert(item.path.clone(), record);
    }
    manifest
}

/// Gives every staged file its name, and makes the names last.
pub(crate) fn publish(
    place: &Place,
    items: &[Item],
    mut ready: BTreeMap<RepositoryPath, Ready>,
) -> Result<(), StoreError> {
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    for item in items {
        let Some(ready) = ready.remove(&item.path) else { continue };
        let folder = place.parent_created(&item.path)?;
        // `hf` removes the old file before it fetches the new one: what is there may have changed since it was examined.
        let hf_lock = of_hf(&lock_path(place, &item.path));
        match (place.look(&item.path)?, &item.state) {
            (Found::Other(found), _) => return Err(StoreError::NoFile { path: place.absolute(&item.path), found }),
            (Found::Nothing | Found::DeadLink, _) => {}
            (Found::File(_) | Found::Link(_), State::Wrong) => set_aside(place, &folder, &item.path)?,
            (found, State::Outdated(stamp)) if found.stamp() == Some(*stamp) => {}
            // Somebody put it there during the download. It is examined before anything takes its place.
            _ => return Err(StoreError::Unsteady { path: place.absolute(&item.path) }),
        }
        put(ready, &folder, &item.path)?;
        drop(hf_lock);
        folders.entry(item.path.folder().to_owned()).or_insert(folder);
    }
    // Innermost folders last: a name is as lasting as the names that lead to it.
    place.folder()?.sync()?;
    for (path, folder) in folders {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            if let Some(parent) = place.below(parent.split('/'), false)? {
                parent.sync()?;
            }
        }
        folder.sync()?;
    }
    Ok(())
}

fn put(ready: Ready, folder: &Folder, path: &RepositoryPath) -> Result<(), StoreError> {
    let name = path.file_name();
    let to = folder.path.join(name);
    match ready {
        Ready::Fetched(staged) => staged.publish(&folder.dir, Path::new(name)).map_err(|error| match error {
            crate::transfer::TransferError::Disk { source, .. } => StoreError::io("put in place", to, source),
            // Where locks lie, whoever was done first swept our part away. What they put there is examined.
            lost => {
                tracing::info!(error = %lost, "looking at the directory again");
                StoreError::Unsteady { path: to }
            }
        }),
        Ready::Copied { folder: from, name: staged, .. } => {
            from.dir.rename(staged, &folder.dir, name).map_err(|source| StoreError::io("put in place", to, source))
        }
    }
}

/// Keeps a file that is not the right one, out of the way: it is somebody's. One per path; an older one makes room.
fn set_aside(place: &Place, folder: &Folder, path: &RepositoryPath) -> Result<(), StoreError> {
    let folders = path.folder().split('/').filter(|segment| !segment.is_empty());
    let below = [".cache", "outrigger", REJECTED].into_iter().chain(folders);
    let Some(aside) = place.below(below, true)? else { return Ok(()) };
    let (from, to) = (place.absolute(path), aside.path.join(path.file_name()));
    match folder.dir.rename(path.file_name(), &aside.dir, path.file_name()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(|source| StoreError::io("set aside", &from, source))?,
    }
    tracing::warn!(from = %from.display(), to = %to.display(), "a file that is not the repository's was set aside");
    Ok(())
}

/// Tells `hf` what is here, so that it fetches none of it. Its notes are a courtesy: no failure of theirs is ours.
pub(crate) fn tell_hf(place: &Place, knowledge: &Knowledge, records: &[(&RepositoryPath, &Record)]) {
    let Some(commit) = &knowledge.commit else { return };
    for (path, record) in records {
        let is_noted = read_metadata(place, path).is_some_and(|note| {
            note.commit == *commit && note.content == record.content && note.is_current(record.stamp)
        });
        // A link is of the oldest `hf`, which keeps no notes and would not read them. And `hf` believes a note, so of a file
        // that somebody changed meanwhile there is none.
        if is_noted || !matches!(place.look(path), Ok(Found::File(stamp)) if stamp == record.stamp) {
            continue;
        }
        if let Err(error) = write_metadata(place, path, commit, record.content) {
            tracing::debug!(%path, %error, "cannot write the note for `hf`");
        }
    }
}
