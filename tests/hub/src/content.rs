//! The bytes of a file, without holding them when they are many.

use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A generated file repeats this many pseudo-random bytes, each time with another number in front.
const TILE_BYTES: usize = 1 << 20;
/// How much is read at once for a digest.
const CHUNK_BYTES: usize = 256 << 10;

/// What a file holds. Cheap to clone; the digests are computed once, when first asked for.
#[derive(Clone, Debug)]
pub struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    sha256: OnceLock<String>,
    git_sha1: OnceLock<String>,
}

#[derive(Debug)]
enum Source {
    Bytes(Vec<u8>),
    Generated { tile: Vec<u8>, size_bytes: u64 },
    File { file: File, size_bytes: u64 },
}

impl Content {
    /// `size_bytes` bytes that `seed` determines, none of them in memory. No two megabytes of it are equal.
    #[must_use]
    pub fn generated(seed: u64, size_bytes: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let tile_bytes = TILE_BYTES.min(usize::try_from(size_bytes).unwrap_or(TILE_BYTES));
        let mut tile = Vec::with_capacity(tile_bytes + 8);
        while tile.len() < tile_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            tile.extend_from_slice(&state.to_le_bytes());
        }
        tile.truncate(tile_bytes);
        Self::new(Source::Generated { tile, size_bytes })
    }

    /// The bytes of the file at `path`, read when they are sent.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        let size_bytes = file.metadata().expect("the metadata of an open file").len();
        Self::new(Source::File { file, size_bytes })
    }

    fn new(source: Source) -> Self {
        Self(Arc::new(Inner { source, sha256: OnceLock::new(), git_sha1: OnceLock::new() }))
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.0.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Generated { size_bytes, .. } | Source::File { size_bytes, .. } => *size_bytes,
        }
    }

    /// Fills `into` with the bytes from `offset` on, which must be there.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) {
        match &self.0.source {
            Source::Bytes(bytes) => {
                let start = usize::try_from(offset).expect("an offset in memory");
                into.copy_from_slice(&bytes[start..start + into.len()]);
            }
            Source::Generated { tile, .. } => read_tiles(tile, offset, into),
            Source::File { file, .. } => file.read_exact_at(into, offset).expect("a file that does not shrink"),
        }
    }

    /// All of it, or a part, in memory.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("a part that fits memory")];
        self.read_at(range.start, &mut bytes);
        bytes
    }

    /// The lowercase SHA-256, which the hub calls `lfs.oid`.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| self.digest(Sha256::new()))
    }

    /// What git calls the file's object id when it stores it itself.
    #[must_use]
    pub fn git_sha1(&self) -> &str {
        let header = format!("blob {}\0", self.size_bytes());
        self.0.git_sha1.get_or_init(|| self.digest(Sha1::new_with_prefix(header)))
    }

    fn digest<D: sha2::Digest>(&self, mut hasher: D) -> String {
        let (size, mut offset) = (self.size_bytes(), 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        while offset < size {
            let part = usize::try_from(size - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
            self.read_at(offset, &mut chunk[..part]);
            hasher.update(&chunk[..part]);
            offset += part as u64;
        }
        hex(&hasher.finalize())
    }
}

impl<T: Into<Vec<u8>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::new(Source::Bytes(bytes.into()))
    }
}

fn read_tiles(tile: &[u8], offset: u64, into: &mut [u8]) {
    let mut done = 0;
    while done < into.len() {
        let at = offset + done as u64;
        let number = (at / tile.len() as u64).to_le_bytes();
        let inside = usize::try_from(at % tile.len() as u64).expect("less than a tile");
        let part = (tile.len() - inside).min(into.len() - done);
        into[done..done + part].copy_from_slice(&tile[inside..inside + part]);
        // The first bytes of every tile are its number.
        for position in inside..(inside + part).min(number.len()) {
            into[done + position - inside] = number[position];
        }
        done += part;
    }
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of a text: for identifiers that only have to look like the real ones.
pub(crate) fn sha256_of(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The SHA-1 of a text: for commits and trees, which clients take as they are.
pub(crate) fn sha1_of(text: &str) -> String {
    hex(&Sha1::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let content = Content::from("hello\n");
        assert_eq!(content.git_sha1(), "ce013625030ba8dba906f756967f9e9ca394464a", "git hash-object");
        assert_eq!(content.sha256(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", "sha256sum");
        assert_eq!(Content::from("").git_sha1(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }

    #[test]
    fn generated_bytes_are_the_same_in_any_cut_and_differ_between_megabytes() {
        let content = Content::generated(7, 3 * TILE_BYTES as u64 + 5);
        let whole = content.bytes(0..content.size_bytes());
        let cut = TILE_BYTES as u64 - 3;
        assert_eq!(whole[TILE_BYTES - 3..TILE_BYTES + 9], content.bytes(cut..cut + 12));
        assert_ne!(whole[..TILE_BYTES], whole[TILE_BYTES..2 * TILE_BYTES]);
        assert_ne!(whole, Content::generated(8, content.size_bytes()).bytes(0..content.size_bytes()));
    }
}
