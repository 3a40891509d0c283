//! A folder that is there as a whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::artifact::File;
use crate::error::RegistryError;
use crate::limits::STAGED_AGE_MAX;

const PREFIX: &str = ".outrigger-staged-";

/// A folder that nobody sees yet. Dropping it removes it.
pub struct Staged {
    /// Beside where the folder will be: on the same file system.
    outer: TempDir,
}

impl Staged {
    /// An empty one, in a folder that is made where it is missing.
    pub fn new(parent: &Path) -> Result<Self, RegistryError> {
        let made = fs::create_dir_all(parent).and_then(|()| {
            remove_left(parent, SystemTime::now());
            let outer = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            // Not the outer one, which nobody else may enter.
            fs::create_dir(outer.path().join("it"))?;
            Ok(outer)
        });
        let outer =
            made.map_err(|source| RegistryError::File { what: format!("write to {}", parent.display()), source })?;
        Ok(Self { outer })
    }

    /// Where its files are until it is published.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.outer.path().join("it")
    }

    /// Writes files. Their paths were checked when they were read: they lead below the folder.
    pub fn write(&self, files: &[File]) -> Result<(), RegistryError> {
        for File { path, bytes } in files {
            let path = self.path().join(path);
            let written = || {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
                file.write_all(bytes)?;
                file.sync_all()
            };
            written().map_err(|source| RegistryError::File { what: format!("write {}", path.display()), source })?;
        }
        Ok(())
    }

    /// Gives it its name. What had that name before is removed after that.
    pub fn publish(self, path: &Path) -> Result<(), RegistryError> {
        let replaced = if path.exists() { exchange(&self.path(), path) } else { fs::rename(self.path(), path) };
        let synced = replaced.and_then(|()| {
            fs::File::open(path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
        });
        synced.map_err(|source| RegistryError::File { what: format!("put {} in its place", path.display()), source })
    }
}

/// Removes what was left by processes that were killed. What cannot be removed is somebody else's, or it will be tried again.
fn remove_left(parent: &Path, now: SystemTime) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let metadata = || entry.metadata().ok().filter(fs::Metadata::is_dir);
        let age = || now.duration_since(metadata()?.modified().ok()?).ok();
        if is_ours && age().is_some_and(|age| age > STAGED_AGE_MAX) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Gives each the other's name, at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
        // Some network file systems cannot, and overlayfs (the layers of a container's image) not with a folder of a lower layer.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EXDEV) => one_after_the_other(one, other),
        result => Ok(result?),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    one_after_the_other(one, other)
}

/// For a moment there is nothing; there is never half of the new one, and the old one is there again where that cannot have its name.
fn one_after_the_other(one: &Path, other: &Path) -> io::Result<()> {
    let aside = one.with_extension("old");
    match fs::rename(other, &aside) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(other, &aside)?;
            fs::remove_dir_all(other)?;
        }
        renamed => renamed?,
    }
    fs::rename(one, other).or_else(|error| {
        fs::rename(&aside, other)?;
        Err(error)
    })
}

/// A folder that cannot be renamed, elsewhere. Links stay links.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            copy(&from, &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_folder_is_replaced_as_a_whole_and_leaves_nothing_behind() {
        let parent = tempfile::tempdir().expect("a folder");
        let target = parent.path().join("deeper/mask");
        for content in ["one", "two", "three"] {
            let staged = Staged::new(&parent.path().join("deeper")).expect("a folder");
            let file = File { path: "a/b.wasm".to_owned(), bytes: Bytes::from(content) };
            staged.write(&[file]).expect("written");
            staged.publish(&target).expect("published");
            assert_eq!(fs::read_to_string(target.join("a/b.wasm")).expect("there"), content);
        }
        let staged = Staged::new(&parent.path().join("deeper")).expect("a folder");
        drop(staged);
        assert_eq!(fs::read_dir(parent.path().join("deeper")).expect("a folder").count(), 1);
    }

    #[test]
    fn what_somebody_left_who_was_killed_is_removed() {
        let parent = tempfile::tempdir().expect("a folder");
        let left = Staged::new(parent.path()).expect("a folder").outer.keep();
        let (mask, file) = (parent.path().join("mask"), parent.path().join(".outrigger-staged-file"));
        fs::create_dir(&mask).expect("made");
        fs::write(&file, "").expect("written");
        let at_work = Staged::new(parent.path()).expect("a folder");
        assert!(left.exists(), "somebody may be at work in it");
        remove_left(parent.path(), SystemTime::now() + 2 * STAGED_AGE_MAX);
        assert!(!left.exists() && !at_work.path().exists(), "nobody is that slow");
        assert!(mask.exists() && file.exists(), "what is not ours stays");
    }

    #[test]
    fn where_names_cannot_be_exchanged_one_goes_after_the_other() {
        let parent = tempfile::tempdir().expect("a folder");
        let [one, other, aside] = ["one", "other", "one.old"].map(|name| parent.path().join(name));
        let read = |path: &Path| fs::read_to_string(path.join("a/b")).expect("there");
        for (path, content) in [(&one, "1"), (&other, "2")] {
            fs::create_dir_all(path.join("a")).expect("made");
            fs::write(path.join("a/b"), content).expect("written");
        }
        std::os::unix::fs::symlink("a/b", other.join("link")).expect("made");
        let copied = parent.path().join("copied");
        copy(&other, &copied).expect("copied");
        assert_eq!((read(&copied).as_str(), fs::read_link(copied.join("link")).expect("a link")), ("2", "a/b".into()));
        one_after_the_other(&one, &other).expect("renamed");
        assert_eq!((read(&other).as_str(), read(&aside).as_str()), ("1", "2"));
        // What was there is there again where its successor is not.
        fs::remove_dir_all(&aside).expect("removed");
        one_after_the_other(&one, &other).expect_err("there is no successor");
        assert_eq!((read(&other).as_str(), aside.exists()), ("1", false));
    }
}
