//! Taking models away: one by its name, or what was not used for longest.
//!
//! A directory is renamed into `.trash` first and deleted there, so that it is never half a model under its own name, and
//! so that whoever waits for its lock notices that it is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{FileChoice, HubReference, RepositoryId, RepositoryPath, Revision};

use crate::knowledge::Knowledge;
use crate::layout::{Folder, Layout, Place, TRASH, is_temporary, nonce};
use crate::limits::{ORPHAN_AGE, WALK_DEPTH_MAX, WALK_ENTRIES_MAX};
use crate::list::{StoredRevision, list, places, size};
use crate::sidecars::remove_metadata;
use crate::{StoreError, lock};

/// What was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Whose it was.
    pub repository: RepositoryId,
    /// As of when.
    pub revision: Revision,
    /// Where it was.
    pub directory: PathBuf,
    /// What.
    pub what: RemovedWhat,
    /// Bytes that this gave back to the disk. A file that another revision has as well gives back none.
    pub freed_bytes: u64,
}

/// How much of a revision directory was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedWhat {
    /// The whole directory.
    Directory,
    /// These files of it.
    Files(Vec<RepositoryPath>),
    /// Unfinished downloads and files set aside that nobody came back to.
    Orphans,
}

/// What became of making the store smaller.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What was taken away.
    pub removed: Vec<Removed>,
    /// Why something else that was to go could not be taken away; each names its path.
    pub failures: Vec<StoreError>,
}

/// Removes what a reference names: the revision directory, or of several quantisations in it the one that is named.
pub(crate) fn remove(layout: &Layout, reference: &HubReference, is_forced: bool) -> Result<Removed, StoreError> {
    let not_here =
        || StoreError::NotHere { reference: Box::new(reference.clone()), models_dir: layout.path().to_owned() };
    let place = layout.existing(&reference.repository, &reference.revision)?.ok_or_else(not_here)?;
    // A user or a pull in the middle of its work, each holds its lock for as long as it lives. Before anything is looked
    // at: a pull that has just ended may have put another quantisation there.
    let locks = lock::removal(&place);
    let files = match &reference.choice {
        FileChoice::Preferred => None,
        choice => {
            // Of what is here, not of what the repository has: a name may fit only one of these.
            let here = Knowledge { listing: None, ..Knowledge::read(&place) };
            let files = here.wish(&place, choice).map_err(|_| not_here())?.selection.files;
            let others = here.here.iter().any(|path| !files.contains(path));
            others.then_some(files)
        }
    };
    let _locks = match locks {
        Err(why) if !is_forced => return Err(why),
        locks => locks,
    };
    match files {
        Some(files) => remove_files(layout, &place, files),
        None => remove_directory(layout, &place),
    }
}

fn remove_directory(layout: &Layout, place: &Place) -> Result<Removed, StoreError> {
    let freed_bytes = unshared_bytes(&place.path);
    let root = layout.root()?;
    let gone = || StoreError::io("remove", &place.path, ErrorKind::NotFound.into());
    let owner = root.step(place.repository.org(), false)?.ok_or_else(gone)?;
    let model = owner.step(place.repository.model(), false)?.ok_or_else(gone)?;
    discard(layout, &model, place.revision.as_str())?;
    // Only what is empty goes.
    if owner.dir.remove_dir(place.repository.model()).is_ok() {
        let _ = root.dir.remove_dir(place.repository.org());
    }
    Ok(removed(place, RemovedWhat::Directory, freed_bytes))
}

fn remove_files(layout: &Layout, place: &Place, files: Vec<RepositoryPath>) -> Result<Removed, StoreError> {
    let mut manifest = Knowledge::read(place).manifest;
    manifest.files.retain(|path, _| !files.contains(path));
    manifest.write(place)?;
    let mut freed_bytes = 0_u64;
    for path in &files {
        let metadata = fs::symlink_metadata(place.absolute(path));
        freed_bytes = freed_bytes.saturating_add(metadata.map_or(0, |it| if it.nlink() == 1 { it.len() } else { 0 }));
        let folder = place.parent_created(path)?;
        discard(layout, &folder, path.file_name())?;
        remove_metadata(place, path);
    }
    Ok(removed(place, RemovedWhat::Files(files), freed_bytes))
}

fn removed(place: &Place, what: RemovedWhat, freed_bytes: u64) -> Removed {
    let Place { repository, revision, path, .. } = place.clone();
    Removed { repository, revision, directory: path, what, freed_bytes }
}

/// Renames `name` out of `folder` into the trash, and deletes it there.
fn discard(layout: &Layout, folder: &Folder, name: &str) -> Result<(), StoreError> {
    let path = folder.path.join(name);
    // It stays when it is empty: another process may be about to use it.
    let Some(trash) = layout.root()?.step(TRASH, true)? else { return Ok(()) };
    let doomed = nonce();
    folder.dir.rename(name, &trash.dir, &doomed).map_err(|source| StoreError::io("remove", &path, source))?;
    folder.sync()?;
    delete(&trash, &doomed).map_err(|source| StoreError::io("delete", trash.path.join(&doomed), source))
}

/// Deletes what lies in the trash. Another process may be deleting the same.
fn delete(trash: &Folder, name: &str) -> std::io::Result<()> {
    let deleted = match trash.dir.symlink_metadata(name) {
        Ok(metadata) if metadata.is_dir() => trash.dir.remove_dir_all(name),
        Ok(_) => trash.dir.remove_file(name),
        Err(error) => Err(error),
    };
    match deleted {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}

/// Bytes of the files that have no other name.
fn unshared_bytes(directory: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut folders = vec![(directory.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() && depth < WALK_DEPTH_MAX => folders.push((entry.path(), depth + 1)),
                Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => {
                    bytes = bytes.saturating_add(metadata.len().min(metadata.blocks().saturating_mul(512)));
                }
                _ => {}
            }
        }
    }
    bytes
}

/// Makes the store smaller than `size_bytes_max`: first what nobody came back to for [`ORPHAN_AGE`], then whole revision
/// directories, the one that was not used for longest first, and none that is in use.
pub(crate) fn prune(layout: &Layout, size_bytes_max: u64, now: SystemTime) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned { failures: empty_trash(layout)?, ..Pruned::default() };
    for place in places(layout)? {
        match remove_orphans(&place, now) {
            Ok(orphans) => pruned.removed.extend(orphans),
            Err(error) => pruned.failures.push(error),
        }
    }
    let mut candidates: Vec<StoredRevision> = list(layout)?.into_iter().filter(|it| !it.is_in_use).collect();
    candidates.sort_by_key(|candidate| last_use(candidate, now));
    for candidate in candidates {
        if total_bytes(layout)? <= size_bytes_max {
            break;
        }
        let (repository, revision) = (candidate.repository, candidate.revision);
        let reference = HubReference { repository, revision, choice: FileChoice::Preferred };
        match remove(layout, &reference, false) {
            Ok(removed) => pruned.removed.push(removed),
            // Somebody took it up, or away, since it was listed.
            Err(StoreError::InUse { .. } | StoreError::NotHere { .. }) => {}
            Err(error @ StoreError::NoLocks { .. }) => tracing::warn!(%error, "a model is kept"),
            Err(error) => pruned.failures.push(error),
        }
    }
    Ok(pruned)
}

/// When a revision was last used, else last verified, else put there: somebody may have done so for its first use. A time
/// that is yet to come, by a clock that was wrong, is now: a directory is not kept for ever on its account.
fn last_use(revision: &StoredRevision, now: SystemTime) -> SystemTime {
    let verified = || UNIX_EPOCH.checked_add(Duration::from_secs(revision.verified_at?));
    let put_there = || {
        let files = revision.files.iter().map(|file| file.path.below(&revision.directory));
        let all = files.chain([revision.directory.clone()]);
        all.filter_map(|path| Some(last_change(&fs::metadata(path).ok()?))).max()
    };
    revision.last_used.or_else(verified).or_else(put_there).unwrap_or(UNIX_EPOCH).min(now)
}

/// The last change of name or content: a file that is moved or copied may keep its time of writing.
fn last_change(metadata: &fs::Metadata) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime().max(metadata.mtime())).unwrap_or(0))
}

fn total_bytes(layout: &Layout) -> Result<u64, StoreError> {
    let mut counted = BTreeSet::new();
    let own = |place: &Place| {
        let (size, shared) = size(&place.path, &mut counted);
        size - shared
    };
    Ok(places(layout)?.iter().map(own).fold(0, u64::saturating_add))
}

/// Finishes what a process that was killed had begun to remove, as far as that can be done.
fn empty_trash(layout: &Layout) -> Result<Vec<StoreError>, StoreError> {
    let Some(trash) = layout.root()?.step(TRASH, false)? else { return Ok(Vec::new()) };
    let failure = |(name, _): (String, _)| {
        let source = delete(&trash, &name).err()?;
        Some(StoreError::io("delete", trash.path.join(name), source))
    };
    Ok(trash.entries(WALK_ENTRIES_MAX)?.into_iter().filter_map(failure).collect())
}

/// Removes part files, copies and files set aside that are older than [`ORPHAN_AGE`]; nothing while a pull is at work.
fn remove_orphans(place: &Place, now: SystemTime) -> Result<Option<Removed>, StoreError> {
    let Ok(Some(ours)) = place.ours() else { return Ok(None) };
    let Some(_writer) = lock::writer_now(place) else { return Ok(None) };
    let mut freed_bytes = 0;
    for name in ["parts", "staged", "rejected"] {
        if let Some(folder) = ours.step(name, false)? {
            freed_bytes += remove_old(&folder, now, 0, |_| true)?;
        }
    }
    // Of the records, ours and those for `hf`, what was not whole yet when its writer was killed.
    if let Some(records) = place.below([".cache"], false)? {
        freed_bytes += remove_old(&records, now, 0, is_temporary)?;
    }
    Ok((freed_bytes > 0).then(|| removed(place, RemovedWhat::Orphans, freed_bytes)))
}

fn remove_old(folder: &Folder, now: SystemTime, depth: usize, is_orphan: fn(&str) -> bool) -> Result<u64, StoreError> {
    let mut freed_bytes = 0_u64;
    for (name, kind) in folder.entries(WALK_ENTRIES_MAX)? {
        if kind.is_dir() {
            if let Some(below) = folder.step(&name, false)?.filter(|_| depth < WALK_DEPTH_MAX) {
                freed_bytes = freed_bytes.saturating_add(remove_old(&below, now, depth + 1, is_orphan)?);
            }
            // Only what is empty goes.
            if is_orphan(&name) {
                let _ = folder.dir.remove_dir(&name);
            }
            continue;
        }
        if !is_orphan(&name) {
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(folder.path.join(&name)) else { continue };
        let age = now.duration_since(last_change(&metadata));
        if age.is_ok_and(|age| age >= ORPHAN_AGE) && folder.dir.remove_file(&name).is_ok() {
            freed_bytes = freed_bytes.saturating_add(metadata.len().min(metadata.blocks().saturating_mul(512)));
        }
    }
    Ok(freed_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORPHANS: [&str; 5] = [
        "outrigger/parts/abc.0.part",
        "outrigger/staged/abc.0",
        "outrigger/rejected/sub/model.gguf",
        "outrigger/.0123456789abcdef.tmp",
        "huggingface/trees/.0123456789abcdef.tmp",
    ];

    /// A store with a revision directory in which somebody left things.
    fn left_behind() -> (tempfile::TempDir, Layout, Place) {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(folder.path()).expect("a layout");
        let repository = RepositoryId::new("acme", "tiny").expect("an id");
        let place = layout.created(&repository, &Revision::main()).expect("a place");
        for orphan in ORPHANS {
            let path = place.path.join(".cache").join(orphan);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, "left behind").expect("written");
        }
        (folder, layout, place)
    }

    fn are_there(place: &Place) -> bool {
        ORPHANS.iter().any(|orphan| place.path.join(".cache").join(orphan).exists())
    }

    #[test]
    fn what_nobody_came_back_to_goes_after_a_week() {
        let (_folder, layout, place) = left_behind();
        let hour = Duration::from_hours(1);
        assert_eq!(prune(&layout, u64::MAX, SystemTime::now() + ORPHAN_AGE - hour).expect("pruned").removed, []);
        assert!(ORPHANS.iter().all(|orphan| place.path.join(".cache").join(orphan).exists()));
        let removed = prune(&layout, u64::MAX, SystemTime::now() + ORPHAN_AGE + hour).expect("pruned").removed;
        assert_eq!(removed.len(), 1);
        assert_eq!((&removed[0].what, removed[0].freed_bytes), (&RemovedWhat::Orphans, 55));
        assert!(!are_there(&place));
        assert!(!place.path.join(".cache/outrigger/rejected/sub").exists());
        assert!(place.path.join(".cache/huggingface/trees").exists());
    }

    #[test]
    fn nothing_goes_while_a_pull_is_at_work() {
        let (_folder, layout, place) = left_behind();
        let later = SystemTime::now() + ORPHAN_AGE * 2;
        let writer = lock::writer_now(&place).expect("nobody else");
        assert_eq!(prune(&layout, u64::MAX, later).expect("pruned").removed, []);
        assert!(are_there(&place));
        drop(writer);
        prune(&layout, u64::MAX, later).expect("pruned");
        assert!(!are_there(&place));
    }

    /// Two processes on one volume: the folders that one finds empty and removes are those that the other is about to use.
    #[test]
    fn removals_and_pulls_at_once_do_not_trip_over_empty_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for model in ["one", "two"] {
                let layout = Layout::open(folder.path()).expect("a layout");
                scope.spawn(move || {
                    let repository = RepositoryId::new("acme", model).expect("an id");
                    let reference =
                        HubReference { repository, revision: Revision::main(), choice: FileChoice::Preferred };
                    for _ in 0..200 {
                        layout.created(&reference.repository, &reference.revision).expect("a place");
                        remove(&layout, &reference, false).expect("removed");
                    }
                });
            }
        });
        assert!(list(&Layout::open(folder.path()).expect("a layout")).expect("a list").is_empty());
        assert!(!folder.path().join("acme").exists());
    }

    #[test]
    fn a_last_use_that_is_yet_to_come_is_now() {
        let (_folder, layout, place) = left_behind();
        let lease = lock::lease(&place).expect("nobody removes it");
        let now = SystemTime::now() - Duration::from_hours(5);
        let listed = list(&layout).expect("a list");
        assert!(listed[0].last_used.expect("a stamp") > now);
        assert_eq!(last_use(&listed[0], now), now);
        assert!(last_use(&listed[0], SystemTime::now()) > now);
        drop(lease);
    }
}
