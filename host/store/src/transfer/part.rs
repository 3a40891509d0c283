//! A part file: the bytes of one object while they arrive, under a name that no other writer uses.
//!
//! ```text
//! <object>.<nonce>.part         the bytes, each at its place
//! <object>.<nonce>.part.json    what of them is there (see `record`)
//! ```
//!
//! A file that somebody else may still write to must never become a model. So every writer creates a file of its own and
//! holds a lock on it (`flock`, on the file itself, released by the kernel however the writer ends). What a writer left
//! behind is gone on with in place only if its lock could be taken *and* it was written under this very run of the
//! kernel, which then would know of a living writer. Otherwise (another machine on the same volume, a reboot, a file
//! system without locks) its flushed bytes are copied into a new file. A lock that lies thus costs bandwidth or a copy,
//! never a wrong byte.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::ranges::Ranges;
use super::record::{Record, boot};
use crate::layout::{Stamp, nonce};
use crate::limits::{COPY_BUFFER_BYTES, PARTS_SEEN_MAX};

const PART: &str = ".part";
const RECORD: &str = ".json";

/// A part file that only we write to. The lock lasts as long as any holder of `file`, so that a write that is still
/// under way when its download is dropped ends before anybody else takes the file up.
#[derive(Debug)]
pub(super) struct Part {
    dir: Arc<Dir>,
    object: String,
    size: u64,
    boot: Option<String>,
    name: String,
    pub(super) file: Arc<File>,
    inode: u64,
    /// Counts how often what is in the file stopped being believed. Held while a record is written, so that records do
    /// not overtake each other, and none appears behind the file that it is about.
    epoch: Mutex<u64>,
}

/// What an earlier writer left.
#[derive(Debug)]
pub(super) struct Leftover {
    name: String,
    file: File,
    inode: u64,
    has_lock: bool,
    /// Nobody else can be writing to it.
    is_ours: bool,
    /// What of it can be believed.
    pub(super) landed: Ranges,
    durable: Ranges,
}

/// What lies in the folder for an object.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Of what can be gone on with, the one with most bytes.
    pub(super) best: Option<Leftover>,
    /// Somebody is writing to another one.
    pub(super) has_writer: bool,
}

/// Looks for what earlier writers left. What is dead and of no use is removed on the way.
pub(super) fn survey(dir: &Dir, object: &str, size: u64) -> io::Result<Survey> {
    let boot = boot();
    let mut survey = Survey::default();
    for name in part_names(dir, object)? {
        let Some(leftover) = open(dir, &name) else { continue };
        let Some(has_lock) = try_lock(&leftover)? else {
            survey.has_writer = true;
            continue;
        };
        // Between opening and locking, its writer may have published it: then this is a model's file now.
        let Some(inode) = is_named(dir, &name, &leftover) else { continue };
        let length = leftover.metadata()?.len();
        let record = Record::read(dir, &record_name(&name))
            .filter(|record| record.object == object && record.size == size && record.landed.end() <= length);
        let Some(record) = record else {
            // Without a record nothing of it can be believed, and without a lock it may just have been created.
            if has_lock {
                remove(dir, &name);
            }
            continue;
        };
        let is_ours = has_lock && boot.is_some() && record.boot == boot;
        let landed = if is_ours { record.landed } else { record.durable.clone() };
        let found = Leftover { name, file: leftover, inode, has_lock, is_ours, landed, durable: record.durable };
        let worse = match survey.best.take() {
            Some(best) if best.landed.bytes() >= found.landed.bytes() => {
                survey.best = Some(best);
                Some(found)
            }
            before => {
                survey.best = Some(found);
                before
            }
        };
        if let Some(worse) = worse.filter(|it| it.is_ours) {
            remove(dir, &worse.name);
        }
    }
    Ok(survey)
}

/// Removes every part file of an object that nobody writes to, with its record.
pub(super) fn sweep(dir: &Dir, object: &str) -> io::Result<()> {
    for name in part_names(dir, object)? {
        let Some(file) = open(dir, &name) else { continue };
        if try_lock(&file)? == Some(true) && is_named(dir, &name, &file).is_some() {
            remove(dir, &name);
        }
    }
    Ok(())
}

impl Part {
    /// An empty part file of a new name.
    pub(super) fn create(dir: &Arc<Dir>, object: &str, size: u64) -> io::Result<Self> {
        loop {
            let name = format!("{object}.{}{PART}", nonce());
            let mut options = OpenOptions::new();
            let file = dir.open_with(&name, options.read(true).write(true).create_new(true))?.into_std();
            // Whoever surveys the folder at this moment may be quicker with the lock, and removes what has no record.
            if try_lock(&file)?.is_none() {
                continue;
            }
            let Some(inode) = is_named(dir, &name, &file) else { continue };
            return Ok(Self::new(dir, object, size, name, file, inode));
        }
    }

    /// Goes on with what another writer left, in place if nobody else can be writing to it.
    pub(super) fn take_up(dir: &Arc<Dir>, object: &str, size: u64, leftover: Leftover) -> Result<Self, Leftover> {
        if !leftover.is_ours {
            return Err(leftover);
        }
        let Leftover { name, file, inode, .. } = leftover;
        Ok(Self::new(dir, object, size, name, file, inode))
    }

    fn new(dir: &Arc<Dir>, object: &str, size: u64, name: String, file: File, inode: u64) -> Self {
        let (dir, object) = (Arc::clone(dir), object.to_owned());
        Self { dir, object, size, boot: boot(), name, file: Arc::new(file), inode, epoch: Mutex::new(0) }
    }

    /// Gives the file its size and its place on the disk, so that a full disk shows now.
    pub(super) fn reserve(&self) -> io::Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        let length = i64::try_from(self.size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let volume = fstatfs(&self.file)?;
        if volume.filesystem_type() == TMPFS_MAGIC {
            // Memory has no places, and to reserve it takes as long as to write it: looking must do.
            return self.fits(volume.blocks_available(), volume.block_size());
        }
        // Not posix_fallocate: where a file system has no such call, the C library would write to every block.
        match fallocate(self.file.as_fd(), FallocateFlags::empty(), 0, length) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => self.file.set_len(self.size),
            reserved => reserved.map_err(io::Error::from),
        }
    }

    fn fits(&self, blocks: u64, block_bytes: i64) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;

        let free = blocks.saturating_mul(u64::try_from(block_bytes).unwrap_or(0));
        let held = self.file.metadata()?.blocks().saturating_mul(512);
        if free.saturating_add(held) < self.size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.set_len(self.size)
    }

    /// What a record is about: it is void once the epoch has ended.
    pub(super) fn epoch(&self) -> u64 {
        *self.lock_epoch()
    }

    fn lock_epoch(&self) -> MutexGuard<'_, u64> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what is there. An error costs what the record would have saved, and nothing else.
    pub(super) fn record(&self, epoch: u64, landed: Ranges, durable: Ranges) {
        let (object, boot) = (self.object.clone(), self.boot.clone());
        let record = Record { object, size: self.size, boot, landed, durable };
        let now = self.lock_epoch();
        if *now != epoch {
            return;
        }
        if let Err(error) = record.write(&self.dir, &record_name(&self.name)) {
            tracing::debug!(part = self.name, %error, "cannot record what of a part file is there");
        }
    }

    /// What is in the file is not believed any more.
    pub(super) fn forget(&self) {
        *self.lock_epoch() += 1;
        // Were it to stay, whoever comes after a kill would believe it, and find the digest wrong once more.
        let _ = self.dir.remove_file(record_name(&self.name));
    }

    /// Removes the file and its record.
    pub(super) fn discard(&self) {
        *self.lock_epoch() += 1;
        if is_named(&self.dir, &self.name, &self.file).is_some() {
            remove(&self.dir, &self.name);
        }
    }

    /// What is known of the file without reading it.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.file.metadata()?))
    }

    /// Renames the file to where it belongs, unless the name is no longer its own (`false`), and removes what other dead
    /// writers left of the object.
    pub(super) fn publish(&self, to: &Dir, name: &Path) -> io::Result<bool> {
        *self.lock_epoch() += 1;
        if is_named(&self.dir, &self.name, &self.file) != Some(self.inode) {
            return Ok(false);
        }
        match self.dir.rename(&self.name, to, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed?,
        }
        let _ = self.dir.remove_file(record_name(&self.name));
        // Orphans otherwise, which `prune` removes when they are old.
        let _ = sweep(&self.dir, &self.object);
        Ok(true)
    }
}

impl Leftover {
    /// Copies bytes into a part file of our own, and says up to where: short of the range's end where the source is.
    pub(super) fn copy(&self, range: Range<u64>, to: &File) -> io::Result<u64> {
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.file.read_at(&mut buffer[..length], at)?;
            if read == 0 {
                break;
            }
            to.write_all_at(&buffer[..read], at)?;
            at += read as u64;
        }
        Ok(at)
    }

    /// Removes it, if its lock says that nobody writes to it.
    pub(super) fn discard(&self, dir: &Dir) {
        if self.has_lock && is_named(dir, &self.name, &self.file) == Some(self.inode) {
            remove(dir, &self.name);
        }
    }

    /// What of it is flushed.
    pub(super) fn durable(&self) -> Ranges {
        self.durable.clone()
    }
}

/// The names of an object's part files.
fn part_names(dir: &Dir, object: &str) -> io::Result<Vec<String>> {
    let prefix = format!("{object}.");
    let mut names = Vec::new();
    for entry in dir.entries()?.take(PARTS_SEEN_MAX) {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.starts_with(&prefix) && name.ends_with(PART) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens a regular file, for going on with it.
fn open(dir: &Dir, name: &str) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = dir.open_with(name, &options).ok()?.into_std();
    file.metadata().ok()?.is_file().then_some(file)
}

/// Takes the lock of a part file: whether it is held now, or `None` where somebody else holds it. A file system without
/// locks is `Some(false)`.
fn try_lock(file: &File) -> io::Result<Option<bool>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(true)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => Err(error),
        Err(TryLockError::Error(_)) => Ok(Some(false)),
    }
}

/// The inode of an open file, if the name is still its name.
fn is_named(dir: &Dir, name: &str, file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let named = dir.symlink_metadata(name).ok()?;
    let held = file.metadata().ok()?;
    (named.ino() == held.ino() && named.dev() == held.dev()).then(|| held.ino())
}

fn record_name(part: &str) -> String {
    format!("{part}{RECORD}")
}

/// Removes a part file, then its record: the other way round, a part without a record would look dead for a moment.
fn remove(dir: &Dir, name: &str) {
    let _ = dir.remove_file(name);
    let _ = dir.remove_file(record_name(name));
}
