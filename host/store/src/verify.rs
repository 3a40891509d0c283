//! Is a file what it should be? Digests, computed in one pass and off the async threads.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hub::{GitSha1, Sha256};
use nix::libc;
use sha1::Sha1;
use sha2::Digest as _;

use crate::layout::Stamp;
use crate::limits::HASH_BUFFER_BYTES;
use crate::{Progress, StoreError};

/// How it is known that a model's files are what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Every byte was hashed, and the digest is the one that the hub, or `hf` on its behalf, recorded.
    Digest {
        /// When, in seconds since 1970: of several files, the one that was longest ago.
        at: u64,
    },
    /// There was neither a record nor a hub to ask: the header is sound and no shard is missing, which finds a broken
    /// download, but no flipped bit.
    HeaderOnly,
}

/// What names the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Of a file in LFS, which all weights are.
    Sha256(Sha256),
    /// Of a file in git itself.
    GitSha1(GitSha1),
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::GitSha1(digest) => digest.fmt(f),
        }
    }
}

impl Content {
    /// Whether both are of the same kind of digest, and so can be compared.
    pub(crate) fn is_same_kind(self, other: Self) -> bool {
        matches!((self, other), (Self::Sha256(_), Self::Sha256(_)) | (Self::GitSha1(_), Self::GitSha1(_)))
    }

    /// The digest that 64 or 40 digits are.
    pub(crate) fn parse(given: &str) -> Option<Self> {
        Sha256::parse(given).map(Self::Sha256).or_else(|| GitSha1::parse(given).map(Self::GitSha1))
    }
}

/// What bytes turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) sha256: Sha256,
    /// Of a file that is in git itself; nobody asks it of the large ones, and it costs as much as the other.
    pub(crate) git_sha1: Option<GitSha1>,
}

impl Digests {
    pub(crate) fn is(&self, content: Content) -> bool {
        match content {
            Content::Sha256(digest) => self.sha256 == digest,
            Content::GitSha1(digest) => self.git_sha1 == Some(digest),
        }
    }

    /// What they are, in the terms in which it was expected.
    pub(crate) fn content(&self) -> Content {
        self.git_sha1.map_or(Content::Sha256(self.sha256), Content::GitSha1)
    }
}

/// What a file turned out to be, and which file it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) digests: Digests,
    pub(crate) stamp: Stamp,
}

/// The digests of bytes that come one piece after the other: always ours, and git's where that is what is known.
pub(crate) struct Hasher {
    sha256: sha2::Sha256,
    git_sha1: Option<Sha1>,
}

impl Hasher {
    /// For a file of this many bytes, of which `expected` is known.
    pub(crate) fn new(size: u64, expected: Content) -> Self {
        let git_sha1 = match expected {
            Content::Sha256(_) => None,
            // Git's digest begins with the length.
            Content::GitSha1(_) => Some(Sha1::new_with_prefix(format!("blob {size}\0"))),
        };
        Self { sha256: sha2::Sha256::new(), git_sha1 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git_sha1) = &mut self.git_sha1 {
            git_sha1.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        let git_sha1 = self.git_sha1.map(|it| GitSha1(it.finalize().into()));
        Digests { sha256: Sha256(self.sha256.finalize().into()), git_sha1 }
    }
}

/// Set by whoever no longer waits for work that runs on another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it when the guard goes, as it does when the future that holds it is dropped.
    pub(crate) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

#[derive(Debug)]
pub(crate) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Hashes a file from its start. That it was the same file throughout, unchanged, is part of the result; and that it is on
/// the disk, as what is recorded of it outlives a loss of power.
pub(crate) fn hash(
    mut file: &File,
    path: &Path,
    expected: Content,
    progress: &Progress,
    stop: &Stop,
) -> Result<Hashed, StoreError> {
    let stamp = || {
        let metadata = file.metadata().map_err(|source| StoreError::io("look at", path, source))?;
        Ok::<_, StoreError>(Stamp::of(&metadata))
    };
    match file.sync_data() {
        // Some file systems, read-only ones among them, have no such call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS | libc::ENOTSUP)) => {}
        synced => synced.map_err(|source| StoreError::io("flush", path, source))?,
    }
    let before = stamp()?;
    progress.expect_hashing(before.size);
    let mut hasher = Hasher::new(before.size, expected);
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut length = 0_u64;
    loop {
        if stop.is_set() {
            return Err(StoreError::Stopped);
        }
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StoreError::io("read", path, source)),
        };
        hasher.update(&buffer[..count]);
        length += count as u64;
        progress.hashed(count as u64);
        if length > before.size {
            break;
        }
    }
    if length != before.size || stamp()? != before {
        return Err(StoreError::Unsteady { path: path.to_owned() });
    }
    Ok(Hashed { digests: hasher.finish(), stamp: before })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    const GIT: Content = Content::GitSha1(GitSha1([0; 20]));

    fn hash_of(content: &[u8], expected: Content) -> Digests {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content).expect("written");
        let progress = Progress::default();
        let file = fs::File::open(file.path()).expect("the file");
        let hashed = hash(&file, Path::new("x"), expected, &progress, &Stop::default()).expect("hashed");
        assert_eq!(progress.snapshot().bytes_hashed, content.len() as u64);
        hashed.digests
    }

    /// The figures are those of `git hash-object --stdin` and `sha256sum`.
    #[test]
    fn both_digests_are_those_of_git_and_sha256sum() {
        let hashed = hash_of(b"hello\n", GIT);
        assert_eq!(hashed.content().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(hashed.sha256.to_string(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(hash_of(b"", GIT).content().to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_hashed_whole() {
        let content = vec![7_u8; HASH_BUFFER_BYTES * 2 + 3];
        let expected = Content::Sha256(Sha256([0; 32]));
        let mut hasher = Hasher::new(content.len() as u64, expected);
        hasher.update(&content);
        assert_eq!(hash_of(&content, expected).sha256, hasher.finish().sha256);
    }

    #[test]
    fn nobody_waiting_ends_the_work() {
        let stop = Stop::default();
        drop(stop.on_drop());
        let file = tempfile::tempfile().expect("a file");
        let ended = hash(&file, Path::new("x"), GIT, &Progress::default(), &stop);
        assert!(matches!(ended, Err(StoreError::Stopped)), "{ended:?}");
    }
}
