//! What the disk refused, and the way out.

use std::io;
use std::path::{Path, PathBuf};

use model::{HubReference, SelectionError};

/// Why a model cannot be stored, found or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is too small, found before anything was written.
    #[error(
        "{} has {available_bytes} bytes free, and {needed_bytes} are needed ({missing_bytes} to fetch, the rest is kept free); \
         free some with `outrigger prune --max-size`, choose a smaller quantisation, or set models_dir to a larger disk{}",
        .directory.display(), rejected_hint(*.rejected_bytes)
    )]
    DiskTooSmall {
        /// Where the model goes.
        directory: PathBuf,
        /// What must be free: the missing files and a margin.
        needed_bytes: u64,
        /// What is missing on the disk.
        missing_bytes: u64,
        /// What is free for the user that this process is.
        available_bytes: u64,
        /// What files that failed verification hold of the disk.
        rejected_bytes: u64,
    },
    /// The disk filled up on the way.
    #[error(
        "the disk of {} is full ({available_bytes} bytes free) with {remaining_bytes} bytes still to fetch; what has arrived is \
         kept: free some space and pull again", .directory.display()
    )]
    DiskFull {
        /// Where the model goes.
        directory: PathBuf,
        /// What is left.
        available_bytes: u64,
        /// What is still missing.
        remaining_bytes: u64,
        /// The write that failed.
        source: io::Error,
    },
    /// The quota of this user is used up.
    #[error("the disk quota for {} is used up; what has arrived is kept: free some space and pull again", .path.display())]
    Quota {
        /// What was written.
        path: PathBuf,
        /// The write that failed.
        source: io::Error,
    },
    /// Files have to be written, and the file system takes none.
    #[error(
        "cannot write to {}: it is on a read-only file system; fill it beforehand, mount it writable, or set models_dir to \
         another directory", .path.display()
    )]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// The write that failed.
        source: io::Error,
    },
    /// Files have to be read or written, and this user may not.
    #[error(
        "cannot {attempt} {}: permission denied to user {user_id}; change its owner or mode, or set models_dir to another \
         directory", .path.display()
    )]
    Permission {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Who we are.
        user_id: u32,
        /// The call that failed.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {attempt} {}", .path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The models directory is none, and cannot become one.
    #[error("cannot {attempt} {}; set models_dir to a directory, or to a path where one can be made", .path.display())]
    ModelsDir {
        /// What was attempted.
        attempt: &'static str,
        /// What `models_dir` says.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder of the store is a symbolic link.
    #[error(
        "{} is a symbolic link, and nothing is written through links; move the directory there, bind-mount it, or name the file \
         as file:PATH", .path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Something is where a folder belongs.
    #[error("{} is {found}, and a directory belongs there; move it away", .path.display())]
    NoDirectory {
        /// Where.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },
    /// Something that is no file is where a model's file belongs.
    #[error("{} is {found}, and a model's file belongs there; move it away and pull again", .path.display())]
    NoFile {
        /// Where.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },
    /// A file changed while it was read.
    #[error("{} changed while it was read; wait until whoever writes it is done, and try again", .path.display())]
    Unsteady {
        /// The file.
        path: PathBuf,
    },
    /// The hub did not give what it was asked for.
    #[error("cannot get {reference}")]
    Hub {
        /// What was wanted.
        reference: Box<HubReference>,
        /// Why not.
        #[source]
        source: Box<hub::HubError>,
    },
    /// The commit that a directory holds is no longer on the hub.
    #[error(
        "cannot get {reference} at commit {commit}, which {} was filled with; `outrigger pull --update` takes the newest one",
        .directory.display()
    )]
    CommitGone {
        /// What was wanted.
        reference: Box<HubReference>,
        /// The recorded commit.
        commit: model::Commit,
        /// Where it is recorded.
        directory: PathBuf,
        /// What the hub said.
        #[source]
        source: Box<hub::HubError>,
    },
    /// The hub could not be asked, and what is here does not suffice.
    #[error(
        "{} holds no complete copy of {reference} ({why}), and the hub cannot be asked; go online and pull, or fill the directory \
         with `hf download {} --local-dir {}`", .directory.display(), .reference.repository, .directory.display()
    )]
    Incomplete {
        /// What was wanted.
        reference: Box<HubReference>,
        /// Where it was looked for.
        directory: PathBuf,
        /// What is missing.
        why: String,
        /// Why the hub cannot be asked.
        #[source]
        source: Box<hub::HubError>,
    },
    /// The repository does not have what was asked for, or not only once.
    #[error("cannot choose a file of {reference}")]
    Selection {
        /// What was wanted.
        reference: Box<HubReference>,
        /// Why not.
        source: SelectionError,
    },
    /// A file's bytes could not be fetched.
    #[error("cannot fetch {reference}")]
    Transfer {
        /// What was wanted.
        reference: Box<HubReference>,
        /// Which file of it, how far it is, and why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model that is in use is not removed.
    #[error("{} is in use by a running process; stop it, or use --force", .directory.display())]
    InUse {
        /// The revision directory.
        directory: PathBuf,
    },
    /// Whether a model is in use cannot be told.
    #[error(
        "cannot tell whether {} is in use by a running process; stop whatever may use it, and use --force",
        .directory.display()
    )]
    NoLocks {
        /// The revision directory.
        directory: PathBuf,
        /// Why not.
        source: Box<StoreError>,
    },
    /// There is nothing of this name.
    #[error("{reference} is not in {}; `outrigger list` shows what is", .models_dir.display())]
    NotHere {
        /// What was named.
        reference: Box<HubReference>,
        /// Where it was looked for.
        models_dir: PathBuf,
    },
    /// A file changed between being verified and being loaded.
    #[error("{} changed after it was verified; start again so that it is verified again", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Nobody waits for the result any more.
    #[error("stopped on the way; what has arrived is kept, and the next pull goes on from there")]
    Stopped,
}

fn rejected_hint(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!("; {bytes} bytes are files that failed verification, in .cache/outrigger/rejected")
}

impl StoreError {
    /// A failure of the file system, told apart by what to do about it.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            io::ErrorKind::PermissionDenied => {
                Self::Permission { attempt, path, user_id: nix::unistd::geteuid().as_raw(), source }
            }
            io::ErrorKind::QuotaExceeded => Self::Quota { path, source },
            _ => Self::Io { attempt, path, source },
        }
    }

    /// A failure with the models directory itself, which the operator has named.
    pub(crate) fn models_dir(attempt: &'static str, path: &Path, source: io::Error) -> Self {
        match Self::io(attempt, path, source) {
            Self::Io { attempt, path, source } => Self::ModelsDir { attempt, path, source },
            // These say models_dir themselves, or have another way out.
            other => other,
        }
    }

    /// A full disk, with what is left of it.
    pub(crate) fn full(directory: &Path, remaining_bytes: u64, source: io::Error) -> Self {
        let available_bytes = crate::space::available(directory).unwrap_or(0);
        Self::DiskFull { directory: directory.to_owned(), available_bytes, remaining_bytes, source }
    }

    /// What the hub said, where it is the cause.
    #[must_use]
    pub fn hub(&self) -> Option<&hub::HubError> {
        if let Self::Hub { source, .. } | Self::CommitGone { source, .. } | Self::Incomplete { source, .. } = self {
            return Some(source);
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }

    /// Whether nothing can be written where this happened, so that records have to go unwritten.
    pub(crate) fn is_refusal_to_write(&self) -> bool {
        self.is_full() || matches!(self, Self::ReadOnly { .. } | Self::Permission { .. })
    }

    /// Whether there is no room for another file.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Quota { .. })
            || matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
