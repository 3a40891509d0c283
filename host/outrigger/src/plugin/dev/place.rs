//! A folder for as long as this process lives. One that was killed cannot clean up behind itself, so the next one does.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use tempfile::TempDir;

const PREFIX: &str = "outrigger-dev-";

/// In the folder, locked by whoever made it: the lock ends with its process, however that ends.
const LOCK: &str = "lock";

/// The folder; dropping it removes it.
pub(super) struct Place {
    folder: TempDir,
    _lock: File,
}

impl Place {
    /// Makes a folder in `parent`, and removes those of ours there that nobody holds any more.
    pub(super) fn new(parent: &Path) -> anyhow::Result<Self> {
        let attempt = || format!("cannot make a temporary folder in {}", parent.display());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).with_context(attempt)?;
        // Locked before it has its name: another process that starts now finds either no lock or one that is held.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create_new(&unnamed).with_context(attempt)?;
        lock.try_lock().map_err(std::io::Error::from).with_context(attempt)?;
        fs::rename(&unnamed, folder.path().join(LOCK)).with_context(attempt)?;
        remove_left(parent, folder.path());
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What cannot be removed is nobody's business: it is another user's, or it will be tried again.
fn remove_left(parent: &Path, own: &Path) {
    let Ok(user) = own.metadata().map(|metadata| metadata.uid()) else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if is_ours && path != own && File::open(path.join(LOCK)).is_ok_and(|lock| is_free(&lock)) {
            drop(fs::remove_dir_all(path));
        }
    }
}

fn is_free(lock: &File) -> bool {
    !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_removed_and_what_is_held_is_not() {
        let parent = tempfile::tempdir().expect("a folder");
        let left = parent.path().join("outrigger-dev-left");
        fs::create_dir_all(left.join("plugin")).expect("a folder");
        fs::write(left.join(LOCK), "").expect("written");
        for other in ["outrigger-dev-beginning", "somebody-else"] {
            fs::create_dir(parent.path().join(other)).expect("a folder");
        }
        fs::write(parent.path().join("somebody-else/lock"), "").expect("written");

        let one = Place::new(parent.path()).expect("a place");
        assert!(!left.exists());
        let other = Place::new(parent.path()).expect("a place");
        assert!(one.path().is_dir() && other.path().is_dir());
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
        assert!(["outrigger-dev-beginning", "somebody-else"].iter().all(|name| parent.path().join(name).exists()));
    }
}
