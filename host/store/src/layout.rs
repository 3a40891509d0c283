//! Where things lie: `<models_dir>/<org>/<model>/<revision>/`, and what may be done there.
//!
//! ```text
//! <revision>/                     the files, by their paths in the repository
//!   .cache/huggingface/           records as `hf download --local-dir` writes them
//!   .cache/outrigger/             ours: manifest.json, lock, in-use, parts/, staged/, rejected/
//! <models_dir>/.trash/            what is being removed
//! ```
//!
//! Every write goes through a [`Dir`] of cap-std that was opened one ordinary folder after the other, so that no symbolic
//! link, whoever put it there, leads a write out of the revision directory. Files are replaced by renaming onto their names,
//! which replaces a link and never what it points to. Reading follows links: what comes of it is verified.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileType, OpenOptionsExt as _};
use model::{HubReference, RepositoryId, RepositoryPath, Revision};

use crate::StoreError;
use crate::limits::CREATE_ATTEMPTS_MAX;

/// Our records in a revision directory.
const OURS: [&str; 2] = [".cache", "outrigger"];
/// What is being removed, in the models directory. No owner's name starts with a dot.
pub(crate) const TRASH: &str = ".trash";

/// The models directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    path: PathBuf,
    dir: Arc<Dir>,
}

/// One revision directory: a repository as of a branch, tag or commit.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) repository: RepositoryId,
    pub(crate) revision: Revision,
    pub(crate) path: PathBuf,
    dir: Arc<Dir>,
}

/// A folder below a [`Place`], with its path for messages.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) dir: Dir,
}

/// What is known of a file without reading it. Equal stamps: the same file, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) inode: u64,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A regular file.
    File(Stamp),
    /// A symbolic link to a regular file, with the file's stamp.
    Link(Stamp),
    /// A symbolic link to nothing, or to something that is no file.
    DeadLink,
    /// Neither: what it is, with its article.
    Other(&'static str),
}

impl Stamp {
    /// The stamp of an open or named file.
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), mtime_ns, inode: metadata.ino() }
    }
}

impl Found {
    /// The stamp of the file that can be read there.
    pub(crate) fn stamp(self) -> Option<Stamp> {
        match self {
            Self::File(stamp) | Self::Link(stamp) => Some(stamp),
            Self::Nothing | Self::DeadLink | Self::Other(_) => None,
        }
    }
}

impl Layout {
    /// Opens the models directory, and creates it. It may be a link itself: the operator named it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path)
            .map_err(|source| StoreError::models_dir("create the models directory", path, source))?;
        let resolved = fs::canonicalize(path)
            .map_err(|source| StoreError::models_dir("resolve the models directory", path, source))?;
        Self::resolved(resolved)
    }

    /// Opens the models directory if it is there.
    pub(crate) fn open_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        match fs::canonicalize(path) {
            Ok(resolved) => Self::resolved(resolved).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::models_dir("resolve the models directory", path, source)),
        }
    }

    fn resolved(path: PathBuf) -> Result<Self, StoreError> {
        match Dir::open_ambient_dir(&path, ambient_authority()) {
            Ok(dir) => Ok(Self { path, dir: Arc::new(dir) }),
            Err(source) => Err(StoreError::models_dir("open the models directory", &path, source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The models directory as a folder.
    pub(crate) fn root(&self) -> Result<Folder, StoreError> {
        let dir = self.dir.try_clone().map_err(|source| StoreError::io("open", &self.path, source))?;
        Ok(Folder { path: self.path.clone(), dir })
    }

    /// Where a reference's files belong.
    pub(crate) fn directory(&self, reference: &HubReference) -> PathBuf {
        let HubReference { repository, revision, .. } = reference;
        self.path.join(repository.org()).join(repository.model()).join(revision.as_str())
    }

    /// The revision directory, if it is there.
    pub(crate) fn existing(&self, repository: &RepositoryId, revision: &Revision) -> Result<Option<Place>, StoreError> {
        self.place(repository, revision, false)
    }

    /// The revision directory, created if it is not there.
    pub(crate) fn created(&self, repository: &RepositoryId, revision: &Revision) -> Result<Place, StoreError> {
        let mut created = self.place(repository, revision, true);
        for _ in 1..CREATE_ATTEMPTS_MAX {
            // Whoever removes the last model of an owner removes the owner's folder, perhaps between two of our steps.
            if !matches!(&created, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound) {
                break;
            }
            created = self.place(repository, revision, true);
        }
        created?.ok_or_else(|| StoreError::io("create", &self.path, io::Error::from(io::ErrorKind::NotFound)))
    }

    fn place(&self, repository: &RepositoryId, revision: &Revision, create: bool) -> Result<Option<Place>, StoreError> {
        let mut folder = self.root()?;
        for segment in [repository.org(), repository.model(), revision.as_str()] {
            match folder.step(segment, create)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        let (repository, revision) = (repository.clone(), revision.clone());
        Ok(Some(Place { repository, revision, path: folder.path, dir: Arc::new(folder.dir) }))
    }
}

impl Place {
    /// The revision directory as a folder.
    pub(crate) fn folder(&self) -> Result<Folder, StoreError> {
        let dir = self.dir.try_clone().map_err(|source| StoreError::io("open", &self.path, source))?;
        Ok(Folder { path: self.path.clone(), dir })
    }

    /// The folder of these segments below, or nothing where it does not exist and is not to be created.
    pub(crate) fn below<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a str>,
        create: bool,
    ) -> Result<Option<Folder>, StoreError> {
        let mut folder = self.folder()?;
        for segment in segments {
            match folder.step(segment, create)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Our records, if there are any.
    pub(crate) fn ours(&self) -> Result<Option<Folder>, StoreError> {
        self.below(OURS, false)
    }

    /// A folder of our records, created if it is not there; `""` is the records' own.
    pub(crate) fn ours_created(&self, name: &str) -> Result<Folder, StoreError> {
        let segments = OURS.into_iter().chain((!name.is_empty()).then_some(name));
        match self.below(segments, true)? {
            Some(folder) => Ok(folder),
            None => Err(StoreError::io("create", &self.path, io::Error::from(io::ErrorKind::NotFound))),
        }
    }

    /// The folder in which `path` is a name, created if it is not there.
    pub(crate) fn parent_created(&self, path: &RepositoryPath) -> Result<Folder, StoreError> {
        match self.below(path.folder().split('/').filter(|it| !it.is_empty()), true)? {
            Some(folder) => Ok(folder),
            None => Err(StoreError::io("create", &self.path, io::Error::from(io::ErrorKind::NotFound))),
        }
    }

    /// Where `path` is, for whoever reads it.
    pub(crate) fn absolute(&self, path: &RepositoryPath) -> PathBuf {
        path.below(&self.path)
    }

    /// What is at `path`. Links are followed: this is for reading.
    pub(crate) fn look(&self, path: &RepositoryPath) -> Result<Found, StoreError> {
        look(&self.absolute(path))
    }

    /// Opens the file at `path` for reading, through links.
    pub(crate) fn read(&self, path: &RepositoryPath) -> Result<File, StoreError> {
        open_regular(&self.absolute(path))
    }
}

impl Folder {
    /// The folder `name` in this one: an ordinary folder, never a link. With `create` it is there afterwards.
    pub(crate) fn step(&self, name: &str, create: bool) -> Result<Option<Self>, StoreError> {
        let path = self.path.join(name);
        let mut metadata = self.dir.symlink_metadata(name);
        if create && matches!(&metadata, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            match self.dir.create_dir(name) {
                // Another process may have been quicker.
                Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", path, source));
                }
                _ => {
                    // What is put into it lasts no longer than its own name.
                    self.sync()?;
                    metadata = self.dir.symlink_metadata(name);
                }
            }
        }
        let kind = match metadata {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
            Err(source) => return Err(StoreError::io("look at", path, source)),
        };
        if kind.is_symlink() {
            return Err(StoreError::Link { path });
        }
        if !kind.is_dir() {
            let found = fs::symlink_metadata(&path).map_or("a file", |it| named(it.file_type()));
            return Err(StoreError::NoDirectory { path, found });
        }
        // Whoever puts a link there at this very moment gains nothing by it.
        let mut options = cap_std::fs::OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW);
        match self.dir.open_with(name, &options) {
            Ok(dir) => Ok(Some(Self { path, dir: Dir::from_std_file(dir.into_std()) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => Ok(None),
            Err(source) => Err(StoreError::io("open", path, source)),
        }
    }

    /// Makes the names in this folder last through a crash.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.dir.open(".").and_then(|file| file.sync_all());
        match synced {
            // Some network file systems have no such call for folders.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EBADF)) => Ok(()),
            other => other.map_err(|source| StoreError::io("sync", &self.path, source)),
        }
    }

    /// Puts `content` under `name`, whole or not at all: written beside it, synced, renamed onto it.
    pub(crate) fn write_atomically(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        use std::io::Write as _;

        let path = self.path.join(name);
        let temporary = format!(".{}.tmp", nonce());
        let written = (|| {
            let mut options = cap_std::fs::OpenOptions::new();
            let mut file = self.dir.open_with(&temporary, options.write(true).create_new(true))?;
            file.write_all(content)?;
            file.sync_all()?;
            self.dir.rename(&temporary, &self.dir, name)
        })();
        if let Err(source) = written {
            // What cannot be removed either is an orphan that `prune` finds.
            let _ = self.dir.remove_file(&temporary);
            return Err(StoreError::io("write", path, source));
        }
        self.sync()
    }

    /// The names in this folder with their kinds, at most `max`. A folder that has gone holds nothing.
    pub(crate) fn entries(&self, max: usize) -> Result<Vec<(String, FileType)>, StoreError> {
        let failed = |source| StoreError::io("list", &self.path, source);
        let mut entries = Vec::new();
        for entry in self.dir.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A name that is no UTF-8 is nothing of ours or of a repository.
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            entries.push((name, kind));
            if entries.len() >= max {
                break;
            }
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }
}

/// What is at a path, links followed.
pub(crate) fn look(path: &Path) -> Result<Found, StoreError> {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let itself = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if absent(&error) => return Ok(Found::Nothing),
        Err(source) => return Err(StoreError::io("look at", path, source)),
    };
    if itself.is_symlink() {
        return match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Found::Link(Stamp::of(&metadata))),
            // A loop of links is an error of its own kind, and as dead.
            Ok(_) | Err(_) => Ok(Found::DeadLink),
        };
    }
    if itself.is_file() {
        return Ok(Found::File(Stamp::of(&itself)));
    }
    Ok(Found::Other(named(itself.file_type())))
}

/// Opens a regular file for reading. A fifo put in its place in between does not hold us up.
pub(crate) fn open_regular(path: &Path) -> Result<File, StoreError> {
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = file.map_err(|source| StoreError::io("open", path, source))?;
    let metadata = file.metadata().map_err(|source| StoreError::io("look at", path, source))?;
    if metadata.is_file() {
        return Ok(file);
    }
    Err(StoreError::NoFile { path: path.to_owned(), found: named(metadata.file_type()) })
}

fn named(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a file"
    }
}

/// Whether a name is one that [`Folder::write_atomically`] writes to first.
pub(crate) fn is_temporary(name: &str) -> bool {
    let nonce = name.strip_prefix('.').and_then(|it| it.strip_suffix(".tmp"));
    nonce.is_some_and(|it| it.len() == 16 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A name part that no other writer uses: of this process, of another one, or of another machine on the same volume.
pub(crate) fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Seeded by the operating system's randomness.
    format!("{:016x}", RandomState::new().hash_one((std::process::id(), count)))
}
