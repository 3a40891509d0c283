//! The records that `hf download --local-dir` keeps in `.cache/huggingface/`, read and written.
//!
//! Three generations of it have left three kinds of records, and each says what a file's content is named by, so that a
//! directory that any of them filled is verified without a network:
//!
//! - since 1.22: `trees/<commit>.json`, all files of the commit with their digests;
//! - since 0.23: `download/<path>.metadata`, three lines: commit, `ETag` (SHA-256, or git's SHA-1), time of writing;
//! - up to 0.22: files over 5 MB are links to `…/blobs/<ETag>` of the shared cache.
//!
//! We write what the newest one writes, and it then downloads nothing that we have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use hub::{Entry, GitSha1, Listing, Sha256};
use model::{Commit, RepositoryPath};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::layout::{Place, Stamp};
use crate::limits::{LISTING_BYTES_MAX, METADATA_BYTES_MAX};
use crate::manifest::read_capped;
use crate::verify::Content;

const THEIRS: [&str; 2] = [".cache", "huggingface"];
const FORMAT_VERSION: u32 = 1;
const GITIGNORE: &str = "*";
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This file is a cache directory tag created by huggingface_hub.\n\
# For information about cache directory tags, see:\n\
#\thttps://bford.info/cachedir/\n";

/// What `hf` noted when it had downloaded a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metadata {
    pub(crate) commit: Commit,
    pub(crate) content: Content,
    /// When, in seconds since 1970.
    pub(crate) written_at: f64,
}

impl Metadata {
    /// Whether it was written after the file: the rule of `hf`, with its second of tolerance. What a clock that was set
    /// back makes of it decides only whether a digest is compared with this note or with another record.
    #[expect(clippy::cast_precision_loss, reason = "a quarter of a microsecond, where a second is tolerated")]
    pub(crate) fn is_current(&self, stamp: Stamp) -> bool {
        stamp.mtime_ns as f64 / 1e9 - 1.0 <= self.written_at
    }
}

/// `trees/<commit>.json`, as it is written.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeEntry>,
}

#[derive(Serialize, Deserialize)]
struct TreeEntry {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

/// What an entry's bytes are named by.
pub(crate) fn content_of(entry: &Entry) -> Content {
    entry.sha256.map_or(Content::GitSha1(entry.blob_id), Content::Sha256)
}

/// The listing of a commit, if it was recorded and the record is sound.
pub(crate) fn read_listing(place: &Place, commit: &Commit) -> Option<Listing> {
    let folder = place.below(THEIRS.into_iter().chain(["trees"]), false).ok().flatten()?;
    let name = format!("{commit}.json");
    let text = read_capped(&folder, &name, LISTING_BYTES_MAX)?;
    match serde_json::from_slice(&text).map_err(|error| error.to_string()).and_then(parse_tree) {
        Ok(files) => Some(Listing { commit: commit.clone(), files }),
        Err(why) => {
            let path = folder.path.join(name);
            tracing::warn!(listing = %path.display(), why, "cannot use the recorded listing of the repository");
            None
        }
    }
}

/// The commits of which a listing is recorded.
pub(crate) fn listed_commits(place: &Place) -> Vec<Commit> {
    let Ok(Some(folder)) = place.below(THEIRS.into_iter().chain(["trees"]), false) else { return Vec::new() };
    let names = folder.entries(crate::limits::WALK_ENTRIES_MAX).unwrap_or_default();
    names.iter().filter_map(|(name, _)| Commit::parse(name.strip_suffix(".json")?)).collect()
}

fn parse_tree(tree: Tree) -> Result<BTreeMap<RepositoryPath, Entry>, String> {
    if tree.format_version != FORMAT_VERSION {
        return Err(format!("it has format {}, and {FORMAT_VERSION} is understood", tree.format_version));
    }
    let mut files = BTreeMap::new();
    for (path, entry) in tree.files {
        let path = RepositoryPath::parse(&path).map_err(|error| error.to_string())?;
        let wrong = |what| format!("{what} of {path} is none");
        let blob_id = GitSha1::parse(&entry.blob_id).ok_or_else(|| wrong("the blob"))?;
        let sha256 = match &entry.lfs_sha256 {
            None => None,
            Some(digest) => Some(Sha256::parse(digest).ok_or_else(|| wrong("the digest"))?),
        };
        let size = entry.lfs_size.unwrap_or(entry.size);
        files.insert(path, Entry { size, blob_id, sha256, xet_hash: entry.xet_hash });
    }
    Ok(files)
}

/// Records the listing of a commit.
pub(crate) fn write_listing(place: &Place, listing: &Listing) -> Result<(), StoreError> {
    let files = listing.files.iter().map(|(path, entry)| {
        let written = TreeEntry {
            size: entry.size,
            blob_id: entry.blob_id.to_string(),
            lfs_sha256: entry.sha256.map(|digest| digest.to_string()),
            lfs_size: entry.sha256.map(|_| entry.size),
            xet_hash: entry.xet_hash.clone(),
        };
        (path.to_string(), written)
    });
    let tree = Tree { format_version: FORMAT_VERSION, files: files.collect() };
    let Some(folder) = place.below(THEIRS.into_iter().chain(["trees"]), true)? else { return Ok(()) };
    let name = format!("{}.json", listing.commit);
    let text =
        serde_json::to_vec(&tree).map_err(|error| StoreError::io("write", folder.path.join(&name), error.into()))?;
    folder.write_atomically(&name, &text)?;
    write_marks(place)
}

/// What `hf` noted of a file, whether or not it is still true of what is there.
pub(crate) fn read_metadata(place: &Place, path: &RepositoryPath) -> Option<Metadata> {
    let folder = place.below(download_folder(path), false).ok().flatten()?;
    let text = read_capped(&folder, &format!("{}.metadata", path.file_name()), METADATA_BYTES_MAX)?;
    parse_metadata(std::str::from_utf8(&text).ok()?)
}

fn parse_metadata(text: &str) -> Option<Metadata> {
    let mut lines = text.lines().map(str::trim);
    let commit = Commit::parse(lines.next()?)?;
    let content = Content::parse(lines.next()?)?;
    let written_at = lines.next()?.parse().ok().filter(|it: &f64| it.is_finite())?;
    Some(Metadata { commit, content, written_at })
}

/// Notes that a file is as of `commit`. The file must have its name and its times already: `hf` believes the note only
/// while the file is not younger than it.
pub(crate) fn write_metadata(
    place: &Place,
    path: &RepositoryPath,
    commit: &Commit,
    content: Content,
) -> Result<(), StoreError> {
    let Some(folder) = place.below(download_folder(path), true)? else { return Ok(()) };
    let modified = std::fs::metadata(place.absolute(path)).and_then(|metadata| metadata.modified());
    // With a clock that was set back, `now` would be before the file: then the file's own time is the note's.
    let time = modified.map_or_else(|_| SystemTime::now(), |modified| modified.max(SystemTime::now()));
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let text = format!("{commit}\n{content}\n{seconds}\n");
    folder.write_atomically(&format!("{}.metadata", path.file_name()), text.as_bytes())
}

/// Forgets what was noted of a file that is removed.
pub(crate) fn remove_metadata(place: &Place, path: &RepositoryPath) {
    if let Ok(Some(folder)) = place.below(download_folder(path), false) {
        // `hf` checks what it reads, so a note that stays behind does no harm.
        let _ = folder.dir.remove_file(format!("{}.metadata", path.file_name()));
    }
}

/// Where `hf` keeps its lock of a file.
pub(crate) fn lock_path(place: &Place, path: &RepositoryPath) -> PathBuf {
    let folder = download_folder(path).into_iter().fold(place.path.clone(), |folder, segment| folder.join(segment));
    folder.join(format!("{}.lock", path.file_name()))
}

/// The content that a link of the oldest generation says it leads to: `…/blobs/<ETag>`.
pub(crate) fn linked_content(place: &Place, path: &RepositoryPath) -> Option<Content> {
    let target = std::fs::read_link(place.absolute(path)).ok()?;
    if target.parent()?.file_name()? != "blobs" {
        return None;
    }
    Content::parse(target.file_name()?.to_str()?)
}

fn download_folder(path: &RepositoryPath) -> Vec<&str> {
    let folders = path.folder().split('/').filter(|segment| !segment.is_empty());
    THEIRS.into_iter().chain(["download"]).chain(folders).collect()
}

/// What keeps `.cache/huggingface` out of commits and backups.
fn write_marks(place: &Place) -> Result<(), StoreError> {
    let Some(folder) = place.below(THEIRS, true)? else { return Ok(()) };
    for (name, content) in [(".gitignore", GITIGNORE), ("CACHEDIR.TAG", CACHEDIR_TAG)] {
        if folder.dir.symlink_metadata(name).is_err() {
            folder.write_atomically(name, content.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMIT: &str = "11c5a3d5811f50298f278a704980280950aedb10";
    const SHA1: &str = "a16a55fda99d2f2e7b69cce5cf93ff4ad3049930";
    const SHA256: &str = "7c5d3f4b8b76583b422fcb9189ad6c89d5d97a094541ce8932dce3ecabde1421";

    /// The examples are those of `huggingface_hub/_local_folder.py`.
    #[test]
    fn notes_of_hf_are_read() {
        let note = parse_metadata(&format!("{COMMIT}\n{SHA1}\n1712656091.123\n")).expect("a note");
        assert_eq!((note.content.to_string().as_str(), note.commit.as_str()), (SHA1, COMMIT));
        assert!(matches!(note.content, Content::GitSha1(_)));
        let note = parse_metadata(&format!("{COMMIT}\n{SHA256}\n1712656091\n")).expect("a note");
        assert!(matches!(note.content, Content::Sha256(_)));
        let stamp = |mtime_ns| Stamp { size: 0, mtime_ns, inode: 0 };
        assert!(note.is_current(stamp(1_712_656_091_900_000_000)), "within its second");
        assert!(!note.is_current(stamp(1_712_656_093_000_000_000)), "the file is younger");
    }

    #[test]
    fn what_is_no_note_is_none() {
        let good = format!("{COMMIT}\n{SHA1}\n1.0\n");
        let upper = good.to_uppercase();
        let etag = good.replace(SHA1, "../../../../etc/passwd");
        let time = good.replace("1.0", "NaN");
        let branch = good.replace(COMMIT, "main");
        for bad in ["", "\n\n\n", COMMIT, &good[..good.len() - 5], &upper, &etag, &time, &branch] {
            assert_eq!(parse_metadata(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in any::<String>(), json in "[\\[\\]{}\",:a-z0-9-]{0,80}") {
            let _ = parse_metadata(&text);
            if let Ok(tree) = serde_json::from_str::<Tree>(&json) {
                let _ = parse_tree(tree);
            }
        }
    }
}
