//! Who may work on a revision directory, and who is using it.
//!
//! Open-file-description locks on byte ranges: they belong to the opened file and not to the process, end with it however
//! it ends, and file systems that are shared by machines (NFS, GPFS, Lustre) carry them between machines where `flock` is
//! often a local matter. Nothing depends on them: without a lock two pulls may both fetch what one could have, and each
//! still verifies what it has and puts it in place by renaming.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use cap_std::fs::{OpenOptions, OpenOptionsExt};
use model::HubReference;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::layout::{Folder, Layout, Place, Stamp};
use crate::limits::{LOCK_LOG_INTERVAL, LOCK_POLL};
use crate::{Phase, Progress, StoreError};

/// Held while a directory is written.
const WRITER: &str = "lock";
/// Held, shared, while files of a directory are loaded or served. When it was last taken is its modification time.
const IN_USE: &str = "in-use";

/// The right to write to a revision directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct WriterLock {
    /// Absent where the file system has no locks.
    file: Option<File>,
}

impl WriterLock {
    /// Whether no other process can be writing. Without it, part files are not shared between pulls.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

/// A claim on a revision directory by a process that loads or serves its files: `remove` and `prune` leave it alone.
/// It ends when this is dropped, and with the process.
#[derive(Debug)]
pub struct Lease {
    /// Absent where there are no locks, or no file to lock and none can be made.
    file: Option<File>,
}

impl Lease {
    /// Whether other processes can see it. They cannot where the volume takes no locks.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.file.is_some()
    }
}

/// The right to remove a revision directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Removal {
    _locks: [Option<File>; 2],
}

/// What became of a try for a lock.
#[derive(Debug)]
enum Tried {
    Taken(File),
    Held,
    /// There are no locks here, or the directory takes no files.
    Impossible(StoreError),
}

/// Takes the writer's lock of a revision directory, which is created if need be, and waits for whoever holds it.
/// Returns the directory anew: while we waited, it may have been removed and made again.
pub(crate) async fn writer(
    layout: &Layout,
    reference: &HubReference,
    progress: &Progress,
) -> Result<(Place, WriterLock), StoreError> {
    let since = Instant::now();
    let mut said = Instant::now();
    loop {
        let (layout, HubReference { repository, revision, .. }) = (layout.clone(), reference.clone());
        let tried = blocking(move || {
            let place = layout.created(&repository, &revision)?;
            let tried = try_writer(&place);
            Ok((place, tried))
        });
        let (place, tried) = tried.await?;
        match tried {
            Tried::Taken(file) => return Ok((place, WriterLock { file: Some(file) })),
            Tried::Impossible(why) => {
                warn_once(&place.path, &why);
                return Ok((place, WriterLock { file: None }));
            }
            Tried::Held => progress.enter(Phase::WaitingForLock),
        }
        if said.elapsed() >= LOCK_LOG_INTERVAL {
            said = Instant::now();
            let waited_s = since.elapsed().as_secs();
            tracing::info!(directory = %place.path.display(), waited_s, "waiting for another process to finish with this model");
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Takes the writer's lock if nobody has it.
pub(crate) fn writer_now(place: &Place) -> Option<WriterLock> {
    match try_writer(place) {
        Tried::Taken(file) => Some(WriterLock { file: Some(file) }),
        Tried::Impossible(why) => {
            warn_once(&place.path, &why);
            Some(WriterLock { file: None })
        }
        Tried::Held => None,
    }
}

/// Says that a directory is in use from now on; nothing where it is being removed. On a volume that takes no locks the
/// claim is empty.
pub(crate) fn lease(place: &Place) -> Option<Lease> {
    let none = |why: StoreError| {
        tracing::debug!(directory = %place.path.display(), error = %why, "cannot mark the model as in use");
        Some(Lease { file: None })
    };
    let folder = match place.ours_created("") {
        Ok(folder) => folder,
        Err(why) => return none(why),
    };
    match try_lock(&folder, IN_USE, libc::F_RDLCK) {
        Tried::Taken(file) => {
            // The stamp by which `prune` knows what was not used for longest.
            if let Err(error) = file.set_modified(SystemTime::now()) {
                tracing::debug!(directory = %place.path.display(), %error, "cannot note when the model was used");
            }
            Some(Lease { file: Some(file) })
        }
        Tried::Held => None,
        Tried::Impossible(why) => none(why),
    }
}

/// Keeps writers and users off while a directory is removed. An error where there is one, or where that cannot be told.
pub(crate) fn removal(place: &Place) -> Result<Removal, StoreError> {
    let directory = || place.path.clone();
    let take = |name| {
        let tried = place.ours_created("").map_or_else(Tried::Impossible, |it| try_lock(&it, name, libc::F_WRLCK));
        match tried {
            Tried::Taken(file) => Ok(Some(file)),
            Tried::Held => Err(StoreError::InUse { directory: directory() }),
            // There is no room for the file, so there is none that anybody could hold; and room is what is wanted.
            Tried::Impossible(why) if why.is_full() => Ok(None),
            // Where nothing can be written, nothing can be removed.
            Tried::Impossible(why) if why.is_refusal_to_write() => Err(why),
            Tried::Impossible(why) => Err(StoreError::NoLocks { directory: directory(), source: Box::new(why) }),
        }
    };
    Ok(Removal { _locks: [take(WRITER)?, take(IN_USE)?] })
}

/// Whether a process has a lease, and when one was last taken. Writes nothing.
pub(crate) fn use_of(place: &Place) -> (bool, Option<SystemTime>) {
    let Ok(Some(folder)) = place.ours() else { return (false, None) };
    let Ok(file) = open_for_reading(&folder, IN_USE) else { return (false, None) };
    let last = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let mut range = whole_file(libc::F_WRLCK);
    let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut range));
    (asked.is_ok() && i32::from(range.l_type) != libc::F_UNLCK, last)
}

fn try_writer(place: &Place) -> Tried {
    match place.ours_created("") {
        Ok(folder) => try_lock(&folder, WRITER, libc::F_WRLCK),
        Err(why) => Tried::Impossible(why),
    }
}

/// Locks the file `name`, and makes sure that it is still the file of that name.
fn try_lock(folder: &Folder, name: &str, kind: i32) -> Tried {
    let path = folder.path.join(name);
    let opened = folder.dir.open_with(name, OpenOptions::new().read(true).write(true).create(true));
    let file = match opened.map(cap_std::fs::File::into_std) {
        Ok(file) => file,
        // A volume that is read-only here may well be pruned from elsewhere. To share a lock, reading is enough.
        Err(source) => match open_for_reading(folder, name) {
            Ok(file) if kind == libc::F_RDLCK => file,
            _ => return Tried::Impossible(StoreError::io("open", &path, source)),
        },
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => return Tried::Held,
        Err(errno) => return Tried::Impossible(StoreError::io("lock", &path, errno.into())),
    }
    // Whoever removes the directory renames it first: then this is the lock of what is being deleted.
    if is_at(&file, &path) { Tried::Taken(file) } else { Tried::Held }
}

/// Opens a lock's file. A pipe that somebody put there does not hold us up.
fn open_for_reading(folder: &Folder, name: &str) -> std::io::Result<File> {
    let file = folder.dir.open_with(name, OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))?.into_std();
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::ErrorKind::InvalidInput.into()) }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    Stamp::of(&ours).inode == Stamp::of(&there).inode
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        // The constants are 0, 1 and 2; the field is a short.
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Says once per process that there are no locks: each pull would repeat it.
fn warn_once(directory: &Path, why: &StoreError) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            directory = %directory.display(),
            error = %why,
            "cannot lock the model's directory: several processes may fetch the same files, each verifies its own"
        );
    }
}

/// Work on the disk, off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down.
            Err(_) => Err(StoreError::Stopped),
        },
    }
}

/// The `flock` that `hf` holds on `<path>.lock` while it works on a file; taken while we replace that file. `hf` makes the
/// lock's file, and we make none: where there is none, no `hf` is at work. It is waited for a little and never required.
pub(crate) fn of_hf(path: &Path) -> Option<File> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).ok()?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(std::fs::TryLockError::Error(_)) => return None,
            Err(std::fs::TryLockError::WouldBlock) if since.elapsed() >= crate::limits::HF_LOCK_WAIT => {
                tracing::info!(lock = %path.display(), "`hf` is at work on this file; replacing it all the same, whole");
                return None;
            }
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{FileChoice, RepositoryId, Revision};

    use super::*;

    fn place() -> (tempfile::TempDir, Layout, Place) {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(folder.path()).expect("a layout");
        let id = RepositoryId::new("acme", "tiny").expect("an id");
        let place = layout.created(&id, &Revision::main()).expect("a place");
        (folder, layout, place)
    }

    #[test]
    fn one_writer_at_a_time_and_the_lock_ends_with_its_holder() {
        let (_folder, _, place) = place();
        let first = writer_now(&place).expect("nobody has it");
        assert!(first.is_exclusive());
        assert!(writer_now(&place).is_none());
        drop(first);
        assert!(writer_now(&place).is_some());
    }

    #[tokio::test]
    async fn only_who_waits_says_so() {
        let (_folder, layout, place) = place();
        let (repository, revision) = (place.repository.clone(), place.revision.clone());
        let reference = HubReference { repository, revision, choice: FileChoice::Preferred };
        let progress = Progress::default();
        let (_, held) = writer(&layout, &reference, &progress).await.expect("nobody has it");
        assert_eq!(progress.snapshot().phase, Phase::Idle);
        let waiting = writer(&layout, &reference, &progress);
        tokio::time::timeout(LOCK_POLL * 2, waiting).await.expect_err("it is held");
        assert_eq!(progress.snapshot().phase, Phase::WaitingForLock);
        drop(held);
    }

    #[test]
    fn users_share_and_keep_out_whoever_removes() {
        let (_folder, _, place) = place();
        assert!(!use_of(&place).0);
        let users = [lease(&place), lease(&place)];
        assert!(users.iter().flatten().all(Lease::is_visible) && use_of(&place).0);
        assert!(matches!(removal(&place), Err(StoreError::InUse { .. })));
        drop(users);
        assert!(!use_of(&place).0);
        let removing = removal(&place).expect("nobody uses it");
        assert!(lease(&place).is_none() && writer_now(&place).is_none(), "it is about to go");
        drop(removing);
    }

    #[test]
    fn without_locks_a_directory_is_not_taken_for_unused() {
        let (_folder, _, place) = place();
        // As on a file system without locks: the lock cannot be opened.
        std::fs::create_dir_all(place.path.join(".cache/outrigger").join(IN_USE)).expect("a folder");
        assert!(matches!(removal(&place), Err(StoreError::NoLocks { .. })));
    }

    #[test]
    fn a_pipe_in_the_place_of_a_lock_holds_nobody_up() {
        let (_folder, _, place) = place();
        let folder = place.ours_created("").expect("a folder").path;
        nix::unistd::mkfifo(&folder.join(IN_USE), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert_eq!(use_of(&place), (false, None));
    }

    /// Whoever waited for the lock of a directory that was removed meanwhile must not work in the trash.
    #[test]
    fn the_lock_of_a_directory_that_is_gone_is_no_lock() {
        let (folder, layout, place) = place();
        let held = writer_now(&place).expect("nobody has it");
        std::fs::rename(&place.path, folder.path().join("trash")).expect("removed");
        drop(held);
        assert!(writer_now(&place).is_none(), "its folder is another's now");
        let anew = layout.created(&place.repository, &place.revision).expect("a place");
        assert!(writer_now(&anew).is_some());
    }

    #[test]
    fn a_running_hf_is_waited_for() {
        let (_folder, _, place) = place();
        let path = place.path.join("model.gguf.lock");
        assert!(of_hf(&path).is_none() && !path.exists(), "no lock is made where no `hf` is at work");
        let theirs = File::create(&path).expect("a lock");
        theirs.lock().expect("held");
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let other = std::thread::spawn(move || {
            std::thread::sleep(LOCK_POLL * 2);
            done.store(true, Ordering::Relaxed);
            drop(theirs);
        });
        assert!(of_hf(&path).is_some());
        assert!(is_done.load(Ordering::Relaxed), "it was not waited for");
        other.join().expect("the other");
    }
}
