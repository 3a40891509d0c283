//! Why a file could not be fetched.

use std::io;

use model::RepositoryPath;

use crate::verify::Content;

/// Why a file could not be fetched. Except where it says otherwise, what had landed is kept and the next download
/// goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The hub refused, or nothing came of as many attempts as the limits allow.
    #[error("cannot download {path}: after {attempts} requests, {landed} of its {size} bytes are here, and are kept")]
    Hub { path: RepositoryPath, landed: u64, size: u64, attempts: u64, source: hub::HubError },
    /// Twice the bytes were not those that the hub names. They are thrown away.
    #[error(
        "{path} is not the file that the hub lists: expected {expected}, got {actual}, and a second download in one \
         stream was wrong as well; a proxy on the way may change it, or its storage is damaged; nothing of it was kept"
    )]
    Digest { path: RepositoryPath, expected: Content, actual: Content },
    /// The disk has no room.
    #[error(
        "no space for {path}: {landed} of its {size} bytes are here, and are kept; free {} bytes and start again",
        size - landed
    )]
    NoSpace { path: RepositoryPath, landed: u64, size: u64, source: io::Error },
    /// The disk failed otherwise.
    #[error("cannot {attempted} the part file of {path}")]
    Disk { path: RepositoryPath, attempted: &'static str, source: io::Error },
    /// The part file was taken away.
    #[error(
        "the part file of {path} was removed or replaced by somebody else; another machine may work on the same \
         directory, on a file system that does not show it our locks; start again"
    )]
    Lost { path: RepositoryPath },
}

impl TransferError {
    /// Why the part file of `path` could not be worked on, a full disk told apart.
    pub(super) fn disk(path: &RepositoryPath, landed: u64, size: u64, failure: DiskFailure) -> Self {
        let DiskFailure { attempted, source } = failure;
        let path = path.clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, landed, size, source },
            _ => Self::Disk { path, attempted, source },
        }
    }
}

/// A call to the file system that failed, and what it was for.
#[derive(Debug)]
pub(super) struct DiskFailure {
    pub(super) attempted: &'static str,
    pub(super) source: io::Error,
}

impl DiskFailure {
    pub(super) fn when(attempted: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { attempted, source }
    }
}
