//! The digest of a file while it arrives: whatever lies without a gap from its start is hashed behind the workers, read
//! back from the page cache, so that at the end only the tail is left to hash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hub::{GitSha1, Sha256};
use sha1::Sha1;
use sha2::Digest as _;

use super::board::Board;
use super::error::DiskFailure;
use crate::limits::{FOLLOW_BUFFER_BYTES, FOLLOW_STEP_BYTES};
use crate::verify::Content;

/// What the bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digests {
    pub(super) sha256: Sha256,
    /// Only where git's digest is the one that is wanted: it costs as much again.
    pub(super) git_sha1: Option<GitSha1>,
}

impl Digests {
    /// The digest of the kind of `wanted`.
    pub(super) fn as_for(&self, wanted: Content) -> Content {
        match (wanted, self.git_sha1) {
            (Content::GitSha1(_), Some(digest)) => Content::GitSha1(digest),
            _ => Content::Sha256(self.sha256),
        }
    }
}

struct Hasher {
    hashed: u64,
    sha256: sha2::Sha256,
    git_sha1: Option<Sha1>,
    buffer: Vec<u8>,
}

/// Hashes the file from its start, as its bytes land, to its end.
pub(super) async fn follow(file: &Arc<File>, board: &Board, wanted: Content) -> Result<Digests, DiskFailure> {
    let size = board.size();
    let mut hasher = Hasher::new(size, wanted);
    while hasher.hashed < size {
        let from = hasher.hashed;
        let ready = |frontier: u64| frontier == size || frontier - from >= FOLLOW_STEP_BYTES;
        let frontier = board.when_landed(|landed| Some(landed.frontier()).filter(|frontier| ready(*frontier))).await;
        // Not all that is there at once: whoever drops this waits for no more than a step.
        let to = frontier.min(from + FOLLOW_STEP_BYTES);
        let file = Arc::clone(file);
        let stepped = tokio::task::spawn_blocking(move || hasher.step(&file, to)).await;
        hasher = stepped.map_err(io::Error::other).flatten().map_err(DiskFailure::when("read back"))?;
        board.hashed(hasher.hashed);
    }
    Ok(hasher.finish())
}

impl Hasher {
    fn new(size: u64, wanted: Content) -> Self {
        let git_sha1 = matches!(wanted, Content::GitSha1(_)).then(|| {
            let mut blob = Sha1::new();
            blob.update(format!("blob {size}\0"));
            blob
        });
        let buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(FOLLOW_BUFFER_BYTES)];
        Self { hashed: 0, sha256: sha2::Sha256::new(), git_sha1, buffer }
    }

    fn step(mut self, file: &File, to: u64) -> io::Result<Self> {
        while self.hashed < to {
            let length = usize::try_from(to - self.hashed).unwrap_or(usize::MAX).min(self.buffer.len());
            let bytes = &mut self.buffer[..length];
            file.read_exact_at(bytes, self.hashed)?;
            self.sha256.update(&bytes);
            if let Some(git_sha1) = &mut self.git_sha1 {
                git_sha1.update(&bytes);
            }
            self.hashed += length as u64;
        }
        Ok(self)
    }

    fn finish(self) -> Digests {
        Digests {
            sha256: Sha256(self.sha256.finalize().into()),
            git_sha1: self.git_sha1.map(|digest| GitSha1(digest.finalize().into())),
        }
    }
}
